"""Choose: the action of a state, greedily, or epsilon-greedily for environments that step.

::

    all states   action[state]
    sparse       action[row] where the state has a row, else the one that the tie hash draws

Invariant: a state without a row has the action that it would have in a table with a row for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import overload

from dqlearn.jit.compiled import njit
from dqlearn.kernels.hashing import look_up
from dqlearn.kernels.summary import untried
from dqlearn.kernels.ties import choose
from dqlearn.random import step_key

__all__ = ["Lookup", "choose_actions", "choose_greedily", "greedy_action"]

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


@njit(nogil=True, cache=True)
def choose_actions(keys, step, rows, tied, threshold, n_actions, action):
    """Write the epsilon-greedy action of each environment, whose tied actions are in its row."""
    for e in range(len(keys)):
        key = step_key(keys[e], np.uint64(step))
        action[e] = choose(key, tied, np.uint64(rows[e]), threshold, np.uint64(n_actions))
