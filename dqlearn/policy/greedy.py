r"""The greedy action of every state of a stored table, chunk after chunk, in NumPy.

.. math:: \pi(s) = \arg\max_a \, (\text{score}(Q, s, a), \, \text{hash}(s, a))

::

    stored chunk (i, j) ─► find ─► best score, its action ┐
    stored chunk (i, k) ─► find ─► best score, its action ┴ merge ─► action, a bit if visited

Invariant: the actions are those of :meth:`dqlearn.QLearner.predict`, to the bit, whatever the
chunks; one stored chunk is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.policy.choices import Choices, ChoicesLike, SparseChoices, room
from dqlearn.policy.stored import StoredTable
from dqlearn.policy.ties import tie_hashes

__all__ = ["Best", "Find", "choices_of", "finder"]

Best = tuple[npt.NDArray[Any], npt.NDArray[np.int64]]
"""The best score of each state of a block, and the action that has it."""

Find = Callable[[npt.NDArray[Any], npt.NDArray[np.int64], int], Best]
"""(values (m, members, n), states (m,), first action) -> the best of these actions."""

_PAIRS = 2**20  # that are compared together


def finder(score: Callable[[Any, Any, Any], Any], key: np.uint64, n_actions: int) -> Find:
    """Make the function that finds the best actions of a block.

    Parameters
    ----------
    score : callable
        ``score(q, s, a)``, evaluated for all states and actions of a block at once.
    key : uint64
        The key that breaks ties.
    n_actions : int
        Number of actions of the whole table.

    Returns
    -------
    callable
        The function.
    """

    def find(q: npt.NDArray[Any], states: npt.NDArray[np.int64], first: int) -> Best:
        # One action after another: NumPy compares long rows many times as fast as short ones.
        scores = np.ascontiguousarray(score(q, slice(None), slice(None)).T)
        best = scores.max(axis=0)
        tied = scores == best
        action = tied.argmax(axis=0)
        unsure = np.flatnonzero(np.add.reduce(tied, axis=0, dtype=np.uint32) > 1)
        actions = np.arange(first, first + len(scores))[:, None]
        hashes = tie_hashes(key, states[unsure], actions, n_actions)
        hashes *= tied[:, unsure]
        action[unsure] = hashes.argmax(axis=0)
        return best.astype(q.dtype), first + action

    return find


def choices_of(table: StoredTable, find: Find) -> ChoicesLike:
    """Find the greedy action of every state, and which states are known.

    Parameters
    ----------
    table : StoredTable
        The stored table.
    find : callable
        What finds the best actions of a block.

    Returns
    -------
    Choices or SparseChoices
    """
    return _sparse(table, find) if table.sparse else _dense(table, find)


def _dense(table: StoredTable, find: Find) -> Choices:
    n_states, n_actions = table.states.n, table.actions.n
    action, bits = room(n_states, np.min_scalar_type(n_actions - 1)), room(-(-n_states // 8), "u1")
    for states, blocks in table.rows():
        best, visited = None, np.zeros(len(states), np.bool_)
        for first_action, q, visits in blocks:
            found = _found(q, states, first_action, find)
            best = found if best is None else _merged(table, states, best, found)
            np.logical_or(visited, _any(visits), out=visited)
        if best is not None:
            action[states[0] : states[-1] + 1] = best[1]
            _set(bits, int(states[0]), visited)
    return Choices(action, bits)


def _sparse(table: StoredTable, find: Find) -> SparseChoices:
    dtype = np.min_scalar_type(table.actions.n - 1)
    states, actions = [np.empty(0, np.int64)], [np.empty(0, dtype)]
    for numbers, q, visits in table.listed():
        own = np.flatnonzero(_any(visits))
        states.append(numbers[own])
        actions.append(_found(q[own], numbers[own], 0, find)[1].astype(dtype))
    known, chosen = np.concatenate(states), np.concatenate(actions)
    del states, actions
    if (np.diff(known) <= 0).any():
        order = np.argsort(known)
        known, chosen = known[order], chosen[order]
    return SparseChoices(known, chosen, table.key, table.actions.n)


def _found(
    q: npt.NDArray[Any], states: npt.NDArray[np.int64], first_action: int, find: Find
) -> Best:
    """Find the best of a block some states after others, which bounds what is made meanwhile."""
    score, action = np.empty(len(q), q.dtype), np.empty(len(q), np.int64)
    for part in _parts(len(q), q.shape[-1]):
        score[part], action[part] = find(q[part], states[part], first_action)
    return score, action


def _parts(n_states: int, n_actions: int) -> Iterator[slice]:
    step = max(1, _PAIRS // n_actions)
    return (slice(first, first + step) for first in range(0, n_states, step))


def _merged(table: StoredTable, states: npt.NDArray[np.int64], mine: Best, other: Best) -> Best:
    """Merge the best of other actions of the same states; ties go to the larger hash."""
    wins = other[0] > mine[0]
    equal = np.flatnonzero(other[0] == mine[0])
    own, others = (
        tie_hashes(table.key, states[equal], action[equal], table.actions.n)
        for action in (mine[1], other[1])
    )
    wins[equal] = others > own
    return np.where(wins, other[0], mine[0]), np.where(wins, other[1], mine[1])


def _any(visits: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Whether any action of each state was ever updated, shape ``(m,)``."""
    seen: npt.NDArray[np.bool_] = np.logical_or.reduce(visits != 0, axis=(1, 2))
    return seen


def _set(bits: npt.NDArray[np.uint8], first: int, known: npt.NDArray[np.bool_]) -> None:
    """Set the bits of successive states, of which the first may be in the midst of a byte."""
    byte, before = divmod(first, 8)
    packed = np.packbits(np.concatenate([np.zeros(before, np.bool_), known]), bitorder="little")
    bits[byte : byte + len(packed)] |= packed
