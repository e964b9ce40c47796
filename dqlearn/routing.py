r"""Route: targets are computed and sorted by the chunk that owns their pair.

.. math:: y = r + \gamma \, [s' \text{ not terminal}] \, \max_{a'} Q_r(s', a')

A stable counting sort: each transition is located (owner, offset, target) and its owner counted;
then all are put in place. Invariant: among the transitions of one chunk the order of the batch is
kept, so the updates of a pair happen in the same order whatever the grid.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from dqlearn.grid import ChunkGrid, Locator
from dqlearn.memory import empty
from dqlearn.transitions import Routed, Tally, Transitions

__all__ = ["Located", "count_owners", "find_owners", "owner_dtype", "route"]


def route(
    transitions: Transitions, value: npt.NDArray[Any], gamma: float, grid: ChunkGrid
) -> Routed:
    """Compute targets and sort them by owner.

    Parameters
    ----------
    transitions : Transitions
        A shard's transitions of round r.
    value : float (n_states,)
        ``max_a Q_r(s, a)``.
    gamma : float
        Discount factor.
    grid : ChunkGrid
        Who owns what.

    Returns
    -------
    Routed
        Offsets (int32) and targets (the table's dtype), sorted by chunk.

    Examples
    --------
    >>> import numpy as np
    >>> from dqlearn.transitions import Tally
    >>> batch = Transitions(np.array([3, 0]), np.array([1, 0]), np.array([1.0, 2.0]),
    ...                     np.array([-1, 3]), Tally(0, 0.1))
    >>> routed = route(batch, np.array([0.0, 0.0, 0.0, 10.0]), 0.5, ChunkGrid((2, 2), (2,)))
    >>> routed.piece(0).target, routed.piece(1).offset
    (array([7.]), array([3], dtype=int32))
    """
    located = Located(len(transitions.state), value, gamma, grid)
    located.add(transitions.state, transitions.action, transitions.reward, transitions.next_state)
    return located.sorted(transitions.tally)


class Located:
    """Transitions of a batch with their owners, offsets and targets, in the order of the batch.

    Parameters
    ----------
    n : int
        How many there will be.
    value : float (n_states,)
        Bootstrap of every state.
    gamma : float
        Discount factor.
    grid : ChunkGrid
        Who owns what.
    """

    def __init__(self, n: int, value: npt.NDArray[Any], gamma: float, grid: ChunkGrid) -> None:
        self._value, self._gamma, self._grid = value, value.dtype.type(gamma), grid
        self._rows, self._columns = Locator.of(grid.row_edges), Locator.of(grid.column_edges)
        self._owner = empty(n if grid.n_chunks > 1 else 0, owner_dtype(grid.n_chunks))
        self._offset, self._target = empty(n, np.int32), empty(n, value.dtype)
        self._counts = np.zeros(grid.n_chunks, np.int64)
        self._n = 0

    def add(
        self,
        state: npt.NDArray[Any],
        action: npt.NDArray[Any],
        reward: npt.NDArray[Any],
        next_state: npt.NDArray[Any],
    ) -> None:
        """Locate the transitions that come next."""
        own = slice(self._n, self._n + len(state))
        self._n = own.stop
        owner, offset = self._owner[own], self._offset[own]
        _targets(reward, next_state, self._value, self._gamma, self._target[own])
        if self._grid.n_chunks == 1:
            _offsets_in_one(state, action, self._grid.shape[1], offset)
            return
        find_owners(state, self._rows.arrays, owner)
        if len(self._grid.columns) == 1:
            _offsets_in_rows(state, action, owner, self._grid.bases, self._grid.shape[1], offset)
        else:
            _refine_owners(action, self._columns.arrays, owner)
            _offsets(state, action, owner, self._grid.bases, self._grid.widths, offset)
        count_owners(owner, self._counts)

    def sorted(self, tally: Tally) -> Routed:
        """Sort by owner, stably."""
        starts = np.zeros(self._grid.n_chunks + 1, np.int64)
        if self._grid.n_chunks == 1:
            starts[1] = self._n
            return Routed(self._offset, self._target, starts, tally)
        np.cumsum(self._counts, out=starts[1:])
        offset, target = empty(self._n, np.int32), empty(self._n, self._target.dtype)
        _scatter(self._owner, starts[:-1].copy(), self._offset, self._target, offset, target)
        return Routed(offset, target, starts, tally)


def owner_dtype(n_chunks: int) -> np.dtype[Any]:
    """Return the smallest unsigned dtype that holds the number of every chunk."""
    return np.min_scalar_type(n_chunks - 1)


# Loops of their own, free of branches, so that they vectorise; fused into one they would not.


@njit(nogil=True, cache=True)
def _targets(reward, next_state, value, gamma, target):
    nothing = gamma - gamma
    for t in range(len(reward)):
        s = next_state[t]
        future = gamma * value[max(s, 0)]
        target[t] = reward[t] + (future if s >= 0 else nothing)


@njit(nogil=True, cache=True)
def find_owners(state, rows, owner):
    """Write the row of chunks of each state: a guess, and a search where a block spans chunks."""
    edges, guess, shift, exact = rows
    for t in range(len(state)):
        owner[t] = guess[state[t] >> shift]
    if not exact:
        for t in range(len(state)):
            i = np.int64(owner[t])
            while edges[i + 1] <= state[t]:
                i += 1
            owner[t] = i


@njit(nogil=True, cache=True)
def _refine_owners(action, columns, owner):
    """Turn rows of chunks into chunks, by the column of each action."""
    edges, guess, shift, _ = columns
    n_columns = len(edges) - 1
    for t in range(len(action)):
        j = guess[action[t] >> shift]
        while edges[j + 1] <= action[t]:
            j += 1
        owner[t] = owner[t] * n_columns + j


@njit(nogil=True, cache=True)
def _offsets_in_one(state, action, width, offset):
    for t in range(len(state)):
        offset[t] = state[t] * width + action[t]


@njit(nogil=True, cache=True)
def _offsets_in_rows(state, action, owner, bases, width, offset):
    for t in range(len(state)):
        offset[t] = state[t] * width + action[t] - bases[owner[t]]


@njit(nogil=True, cache=True)
def _offsets(state, action, owner, bases, widths, offset):
    for t in range(len(state)):
        c = owner[t]
        offset[t] = state[t] * widths[c] + action[t] - bases[c]


@njit(nogil=True, cache=True)
def count_owners(owner, counts):
    """Count in four places: successive owners are often equal, and would wait for each other."""
    parts = np.zeros((4, len(counts)), np.int64)
    whole = len(owner) // 4 * 4
    for t in range(0, whole, 4):
        for k in range(4):
            parts[k, owner[t + k]] += 1
    for t in range(whole, len(owner)):
        parts[0, owner[t]] += 1
    counts += parts.sum(axis=0)


@njit(nogil=True, cache=True)
def _scatter(owner, cursor, located_offset, located_target, offset, target):
    for t in range(len(owner)):
        c = owner[t]
        to = cursor[c]
        cursor[c] = to + 1
        offset[to], target[to] = located_offset[t], located_target[t]
