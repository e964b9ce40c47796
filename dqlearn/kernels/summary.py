"""Summary: the best action of each state of a block of values, and sums over its actions.

Values are ``q[state, member, action]``; what is compared and added are scalar functions of them,
such as :func:`dqlearn.algorithms.scores.own`, for which each kernel is compiled. Ties go to the
largest hash(tie key, state, action): states of which nothing is known yet get evenly spread
actions, and any grid of chunks gives the same winner. Invariant: `merge_best` is associative and
commutative.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import overload

from dqlearn.jit.compiled import njit
from dqlearn.random import TIES, stream, word

__all__ = [
    "Scalar",
    "action_dtype",
    "find_best",
    "find_sums",
    "merge_best",
    "ties",
    "unroll",
    "untried",
]

Scalar = Callable[[Any, Any, Any], Any]
"""A function (q, state, action) -> number, to be compiled; q is (states, members, actions)."""

_UNROLLED = 16  # actions


@cache
def action_dtype(n_actions: int) -> np.dtype[Any]:
    """Return the smallest unsigned dtype that holds every action."""
    return np.min_scalar_type(n_actions - 1)


def ties(seed: int, round_: int) -> np.uint64:
    """Return the key that breaks a round's ties."""
    return np.uint64(stream(np.uint64(seed), TIES, np.uint64(round_)))


def unroll(width: int) -> int:
    """Return the number of actions to unroll loops for; 0 where there are too many to unroll."""
    return width if width <= _UNROLLED else 0


@njit(nogil=True, cache=True, inline="always")
def _tie_hash(tie_key, state, action, n_actions):
    return word(tie_key, state * n_actions + action)


@cache
def _compiled(scalar):
    return numba.njit(inline="always")(scalar)


@cache
def find_best(width, score, value=None):
    """Make the kernel that finds the best action of each state.

    `width`, the number of actions of a chunk, is a constant in it, so that its loops are unrolled;
    0 stands for any number. For each state it writes the greatest score, the action that has it,
    and, where `value` is given, the value of that action.
    """
    score, value = _compiled(score), None if value is None else _compiled(value)

    @njit(nogil=True, cache=True)
    def best_of_each(
        q, states, rows, first_state, first_action, n_actions, tie_key, top, action, worth
    ):
        n = width if width else q.shape[2]
        for t in range(len(top)):
            s = rows[t] if rows is not None else t if states is None else states[t] - first_state
            best = score(q, s, 0)
            for a in range(1, n):
                best = max(best, score(q, s, a))
            winner, count = 0, 0
            for a in range(n):
                tied = score(q, s, a) == best
                winner = a if tied else winner
                count += tied
            if count > 1:
                largest = np.uint64(0)
                state = first_state + t if states is None else np.int64(states[t])
                for a in range(n):
                    if score(q, s, a) == best:
                        h = _tie_hash(tie_key, state, first_action + a, n_actions)
                        if h >= largest:
                            largest, winner = h, a
            top[t], action[t] = score(q, s, winner), first_action + winner
            if value is not None:
                worth[t] = value(q, s, winner)

    return best_of_each


@cache
def find_sums(term):
    """Make the kernel that adds a term over the actions, in their order, in double precision."""
    term = _compiled(term)

    @njit(nogil=True, cache=True)
    def sum_of_each(q, states, rows, first_state, total):
        for t in range(len(total)):
            s = rows[t] if rows is not None else t if states is None else states[t] - first_state
            sum_ = 0.0
            for a in range(q.shape[2]):
                sum_ += term(q, s, a)
            total[t] = sum_

    return sum_of_each


@njit(cache=True)
def untried(tie_key, state, n_actions):
    """Return the greedy action of a state whose values are all equal: the tie hash decides."""
    top, winner = np.uint64(0), 0
    for a in range(n_actions):
        h = _tie_hash(tie_key, state, a, n_actions)
        if h >= top:
            top, winner = h, a
    return winner


@njit(nogil=True, cache=True)
def merge_best(mine, others, states, n_actions, tie_key):
    """Merge the best (score, action, ...) over other actions of the same states into `mine`.

    `states` is an array of the states, or the first of successive states.
    """
    score, action, other_score, other_action = mine[0], mine[1], others[0], others[1]
    for t in range(len(score)):
        wins = other_score[t] > score[t]
        if other_score[t] == score[t]:
            s = _state(states, t)
            own = _tie_hash(tie_key, s, np.int64(action[t]), n_actions)
            other = _tie_hash(tie_key, s, np.int64(other_action[t]), n_actions)
            wins = other > own
        if wins:
            score[t], action[t] = other_score[t], other_action[t]
            _take(mine, others, t)


def _take(mine, others, t):
    """Copy the value of the winning action of state t, if there is a column of values."""


@overload(_take, inline="always")
def _take_along(mine, others, t):
    if len(mine) == 2:
        return lambda mine, others, t: None

    def take(mine, others, t):
        mine[2][t] = others[2][t]

    return take


def _state(states, t):
    """Return state t of an array, or t states after the first of successive ones."""


@overload(_state, inline="always")
def _state_of(states, t):
    if isinstance(states, types.Integer):
        return lambda states, t: states + t
    return lambda states, t: np.int64(states[t])
