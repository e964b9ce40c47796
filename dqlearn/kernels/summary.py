"""Summary: the best action of each row of a block of values, and of two sets of actions.

Ties go to the largest hash(tie key, state, action): states that nothing is known of are explored
evenly, and any grid of chunks gives the same winner. Invariant: `merge` is associative and
commutative.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import overload

from dqlearn.jit.compiled import njit
from dqlearn.kernels.buffers import empty
from dqlearn.random import TIES, stream, word

__all__ = ["action_dtype", "greedy", "merge", "ties", "untried"]

_UNROLLED = 16  # actions


@cache
def action_dtype(n_actions: int) -> np.dtype[Any]:
    """Return the smallest unsigned dtype that holds every action."""
    return np.min_scalar_type(n_actions - 1)


def ties(seed: int, round_: int) -> np.uint64:
    """Return the key that breaks a round's ties."""
    return np.uint64(stream(np.uint64(seed), TIES, np.uint64(round_)))


def greedy(
    q: npt.NDArray[Any],
    origin: tuple[int, int],
    n_actions: int,
    tie_key: np.uint64,
    states: npt.NDArray[Any] | None = None,
    rows: npt.NDArray[Any] | None = None,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the greatest value of rows of a block, and its action.

    All rows, or those of some `states` of it; `rows` says where these stand, if not in order.
    """
    width = q.shape[1]
    n = len(q) if states is None else len(states)
    value, action = empty(n, q.dtype), empty(n, action_dtype(n_actions))
    kernel = _kernel(width if width <= _UNROLLED else 0)
    kernel(q, states, rows, *origin, n_actions, tie_key, value, action)
    return value, action


def merge(
    best: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    others: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    n_actions: int,
    tie_key: np.uint64,
    states: int | npt.NDArray[Any],
) -> None:
    """Take (values, actions) of other actions into those of the same states, in place.

    `states` are the states themselves, or the first of successive ones.
    """
    _merge(*best, *others, states, n_actions, tie_key)


@njit(nogil=True, cache=True, inline="always")
def _tie_hash(tie_key, state, action, n_actions):
    return word(tie_key, state * n_actions + action)


@cache
def _kernel(width):
    """Make the kernel for chunks of so many actions: a constant, so that its loops are unrolled."""

    @njit(nogil=True, cache=True)
    def best_of_each(q, states, rows, first_state, first_action, n_actions, tie_key, value, action):
        n = width if width else q.shape[1]
        for t in range(len(value)):
            s = rows[t] if rows is not None else t if states is None else states[t] - first_state
            best = q[s, 0]
            for a in range(1, n):
                best = max(best, q[s, a])
            winner, count = 0, 0
            for a in range(n):
                tied = q[s, a] == best
                winner = a if tied else winner
                count += tied
            if count > 1:
                top = np.uint64(0)
                state = first_state + t if states is None else np.int64(states[t])
                for a in range(n):
                    if q[s, a] == best:
                        h = _tie_hash(tie_key, state, first_action + a, n_actions)
                        if h >= top:
                            top, winner = h, a
            value[t], action[t] = q[s, winner], first_action + winner

    return best_of_each


@njit(cache=True)
def untried(tie_key, state, n_actions):
    """Return the action of a state of which nothing is known: all its values are alike."""
    top, winner = np.uint64(0), 0
    for a in range(n_actions):
        h = _tie_hash(tie_key, state, a, n_actions)
        if h >= top:
            top, winner = h, a
    return winner


@njit(nogil=True, cache=True)
def _merge(value, action, other_value, other_action, states, n_actions, tie_key):
    """Take the (value, action) of other actions into those of the same states, in place."""
    for t in range(len(value)):
        wins = other_value[t] > value[t]
        if other_value[t] == value[t]:
            s = _state(states, t)
            mine = _tie_hash(tie_key, s, np.int64(action[t]), n_actions)
            others = _tie_hash(tie_key, s, np.int64(other_action[t]), n_actions)
            wins = others > mine
        if wins:
            value[t], action[t] = other_value[t], other_action[t]


def _state(states, t):
    """Return state t of an array, or of successive states from the first."""


@overload(_state, inline="always")
def _state_of(states, t):
    if isinstance(states, types.Integer):
        return lambda states, t: states + t
    return lambda states, t: np.int64(states[t])
