"""The greedy action of a state, as a kernel looks it up: in an array of all, or among those known.

::

    all states:  action[state]                     sparse: known? action[row]: drawn by the tie hash

Invariant: a state that is not known has the action that a table with room for it would say.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import overload

from dqlearn.compiled import njit
from dqlearn.known import look_up
from dqlearn.maxima import untried

__all__ = ["Lookup", "choose_greedily", "greedy_action"]

Lookup = npt.NDArray[Any] | tuple[Any, ...]
"""Actions of all states; or (actions by row, bits, blocks, slots, tie key, number of actions)."""


def greedy_action(greedy, state):
    """Return the greedy action of a state, in a kernel."""


@overload(greedy_action)
def _greedy_action(greedy, state):
    if isinstance(greedy, types.Array):
        return lambda greedy, state: np.int64(greedy[state])

    def among_known(greedy, state):
        action, bits, blocks, slots, tie_key, n_actions = greedy
        place, _ = look_up(state >> bits, blocks, slots)
        if place == 0:
            return np.int64(untried(tie_key, state, n_actions))
        return np.int64(action[(place << bits) | (state & ((1 << bits) - 1))])

    return among_known


@njit(nogil=True, cache=True)
def choose_greedily(greedy, states, actions):
    """Write the greedy action of each state."""
    for t in range(len(states)):
        actions[t] = greedy_action(greedy, np.int64(states[t]))
