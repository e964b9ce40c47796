"""Choose: the action of a state, greedily, or epsilon-greedily for environments that step.

::

    all states   action[state]
    sparse       action[row] where the state has a row, else the one that the tie hash draws

Invariant: a state without a row has the action that it would have in a table with a row for it; an
action is chosen among the valid ones alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import overload

from dqlearn.jit.compiled import njit
from dqlearn.kernels.codes import NO_ACTION
from dqlearn.kernels.hashing import look_up
from dqlearn.kernels.summary import untried
from dqlearn.kernels.ties import choose, in_set
from dqlearn.random import explores, low_half, share, step_key

__all__ = [
    "Lookup",
    "choose_actions",
    "choose_among",
    "choose_greedily",
    "choose_valid_actions",
    "greedy_action",
    "untried_key",
]

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


def untried_key(greedy):
    """Return (tie key, number of actions) of states without a row; (0, 0) if all have one."""


@overload(untried_key)
def _untried_key(greedy):
    if isinstance(greedy, types.Array):
        return lambda greedy: (np.uint64(0), 0)
    return lambda greedy: (greedy[4], greedy[5])


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


@njit(nogil=True, cache=True)
def choose_among(key, tied, row, threshold, valid):
    """Choose epsilon-greedily among the valid actions; without any, NO_ACTION.

    All have the same chances: the greedy ones that are valid, or, where none of them is, as in a
    table that was learned without masks, all that are valid.
    """
    greedy, n = not explores(key, threshold), 0
    for a in range(len(valid)):
        n += valid[a] and (not greedy or in_set(tied, row, a))
    if greedy and n == 0:
        greedy, n = False, valid.sum()
    left, chosen = share(low_half(key), np.uint64(n)), np.int64(NO_ACTION)
    for a in range(len(valid)):
        if valid[a] and (not greedy or in_set(tied, row, a)):
            if left == 0:
                chosen = np.int64(a)
            left -= 1
    return chosen


@njit(nogil=True, cache=True)
def choose_valid_actions(keys, step, rows, tied, threshold, valid, action):
    """Do what :func:`choose_actions` does, among the valid actions (environments, actions)."""
    for e in range(len(keys)):
        key = step_key(keys[e], np.uint64(step))
        action[e] = choose_among(key, tied, np.uint64(rows[e]), threshold, valid[e])
