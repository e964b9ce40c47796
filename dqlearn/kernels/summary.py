"""Summary: the best actions of each state of a block of values, and sums over its actions.

Values are ``q[state, member, action]``; what is compared and added are scalar functions of them,
such as :func:`dqlearn.algorithms.scores.own`, for which each kernel is compiled. Equally good
actions are all kept, as a set (:mod:`dqlearn.kernels.ties`). Invariant: a summary depends on the
values of its state alone, so it stays while they stay; and `merge_best` is associative and
commutative.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from numba.extending import overload

from dqlearn.jit.compiled import njit
from dqlearn.kernels.ties import merge_sets, nth_state, tie_hash, winner_of, write_set

__all__ = [
    "Scalar",
    "action_dtype",
    "best_in_row",
    "find_best",
    "find_sums",
    "find_worth",
    "merge_best",
    "sum_in_row",
    "unroll",
    "untried",
    "write_row",
]

Scalar = Callable[[Any, Any, Any], Any]
"""A function (q, state, action) -> number, to be compiled; q is (states, members, actions)."""

_UNROLLED = 16  # actions


@cache
def action_dtype(n_actions: int) -> np.dtype[Any]:
    """Return the smallest unsigned dtype that holds every action."""
    return np.min_scalar_type(n_actions - 1)


def unroll(width: int) -> int:
    """Return the number of actions to unroll loops for; 0 where there are too many to unroll."""
    return width if width <= _UNROLLED else 0


@cache
def compiled(function: Any) -> Any:
    """Return a scalar function, compiled into whatever calls it."""
    return numba.njit(inline="always")(function)


@cache
def best_in_row(width, score, value=None):
    """Make the function that finds the best actions of one state.

    `width`, the number of actions of a chunk, is a constant in it, so that its loops are unrolled;
    0 stands for any number. It writes the set of the actions with the greatest score, and returns
    that score and, where `value` is given, the value of the action that stands for the set.
    """
    score, value = compiled(score), None if value is None else compiled(value)

    @numba.njit(nogil=True, inline="always")
    def best(q, s, first_action, n_actions, tie_key, state, tied, row):
        n = width if width else q.shape[2]
        top = score(q, s, 0)
        for a in range(1, n):
            top = max(top, score(q, s, a))
        several = write_set(tied, row, q, s, score, top, first_action, n)
        if value is None:
            return top, top
        winner = 0
        if several:
            winner = winner_of(tied, row, tie_key, state, n_actions)[1] - first_action
        else:
            for a in range(n):
                winner = a if score(q, s, a) == top else winner
        return top, value(q, s, winner)

    return best


@cache
def find_best(width, score, value=None):
    """Make the kernel that finds the best actions of each state; see :func:`best_in_row`."""
    best_of = best_in_row(width, score, value)

    @njit(nogil=True, cache=True)
    def best_of_each(
        q, states, rows, first_state, first_action, n_actions, tie_key, top, tied, worth
    ):
        for t in range(len(top)):
            s = rows[t] if rows is not None else t if states is None else states[t] - first_state
            state = first_state + t if states is None else np.int64(states[t])
            found = best_of(q, s, first_action, n_actions, tie_key, state, tied, t)
            top[t] = found[0]
            if worth is not None:
                worth[t] = found[1]

    return best_of_each


@cache
def sum_in_row(term):
    """Make the function that adds a term over the actions of one state, in double precision."""
    term = compiled(term)

    @numba.njit(nogil=True, inline="always")
    def total(q, s):
        sum_ = 0.0
        for a in range(q.shape[2]):
            sum_ += term(q, s, a)
        return sum_

    return total


@cache
def find_sums(term):
    """Make the kernel that adds a term over the actions, in their order, in double precision."""
    sum_of = sum_in_row(term)

    @njit(nogil=True, cache=True)
    def sum_of_each(q, states, rows, first_state, total):
        for t in range(len(total)):
            s = rows[t] if rows is not None else t if states is None else states[t] - first_state
            total[t] = sum_of(q, s)

    return sum_of_each


@cache
def find_worth(target):
    """Make the kernel that says what each state is worth to each member.

    ``values[s]`` are the numbers of the fields of state s; ``worth[s * members + m]`` is written.
    """
    target = compiled(target)

    @njit(nogil=True, cache=True)
    def worth_of_each(values, epsilon, n_actions, members, worth):
        for s in range(len(values)):
            for m in range(members):
                worth[s * members + m] = target(values[s], epsilon, n_actions, m)

    return worth_of_each


@cache
def write_row(width, fields, behaviour, k=0):
    """Make the function that writes the numbers of one state, whose actions are all in a block.

    `fields` are pairs (score, value) or single terms, as :func:`best_in_row` and
    :func:`sum_in_row` take them; ``values[row]`` is written field by field, and the set of the
    field `behaviour`. Of the other fields the sets come into `spare`, which is for nothing else.
    Only the first field's function is inlined: of several that are the same code, nested in each
    other, Numba loses some.
    """
    inline: Any = "never" if k else "always"
    if k == len(fields):

        @numba.njit(nogil=True, inline="always")
        def nothing(q, s, ties, state, values, tied, spare, row):
            pass

        return nothing
    others = write_row(width, fields, behaviour, k + 1)
    if len(fields[k]) == 1:
        total = sum_in_row(*fields[k])

        @numba.njit(nogil=True, inline=inline)
        def write(q, s, ties, state, values, tied, spare, row):
            values[row, k] = total(q, s)
            others(q, s, ties, state, values, tied, spare, row)

        return write
    best, greedy = best_in_row(width, *fields[k]), k == behaviour

    @numba.njit(nogil=True, inline=inline)
    def write_best(q, s, ties, state, values, tied, spare, row):
        if greedy:
            found = best(q, s, 0, ties[0], ties[1], state, tied, row)
        else:
            found = best(q, s, 0, ties[0], ties[1], state, spare, 0)
        values[row, k] = found[1]
        others(q, s, ties, state, values, tied, spare, row)

    return write_best


@njit(cache=True)
def untried(tie_key, state, n_actions):
    """Return the action that stands for a state whose values are all equal."""
    top, winner = np.uint64(0), 0
    for a in range(n_actions):
        h = tie_hash(tie_key, state, a, n_actions)
        if h >= top:
            top, winner = h, a
    return winner


@njit(nogil=True, cache=True)
def merge_best(mine, others, states, n_actions, tie_key):
    """Merge the best (score, set, ...) over other actions of the same states into `mine`.

    `states` is an array of the states, or the first of successive states.
    """
    score, tied, other_score, other_tied = mine[0], mine[1], others[0], others[1]
    for t in range(len(score)):
        if other_score[t] > score[t]:
            score[t] = other_score[t]
            _take(mine, others, t)
            merge_sets(tied, other_tied, t, True)
        elif other_score[t] == score[t]:
            _take_stronger(mine, others, t, nth_state(states, t), n_actions, tie_key)
            merge_sets(tied, other_tied, t, False)


def _take(mine, others, t):
    """Copy the value of the winning action of state t, if there is a column of values."""


@overload(_take, inline="always")
def _take_along(mine, others, t):
    if len(mine) == 2:
        return lambda mine, others, t: None

    def take(mine, others, t):
        mine[2][t] = others[2][t]

    return take


def _take_stronger(mine, others, t, state, n_actions, tie_key):
    """Copy the value of state t if the action that stands for the other set has the larger hash."""


@overload(_take_stronger, inline="always")
def _take_stronger_along(mine, others, t, state, n_actions, tie_key):
    if len(mine) == 2:
        return lambda mine, others, t, state, n_actions, tie_key: None

    def take(mine, others, t, state, n_actions, tie_key):
        own = winner_of(mine[1], t, tie_key, state, n_actions)[0]
        if winner_of(others[1], t, tie_key, state, n_actions)[0] > own:
            mine[2][t] = others[2][t]

    return take
