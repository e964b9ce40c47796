r"""Route: targets are computed and sorted by the chunk that owns their pair.

.. math:: y = r + \gamma \, [s' \text{ not terminal}] \, \max_{a'} Q_r(s', a')

A stable counting sort of each tile of a batch, which a cache holds: its transitions are located
(owner, offset, target), their owners counted, and then they are put in place. A chunk owns a run of
each tile. Invariant: among the transitions of one chunk the order of the batch is kept, so the
updates of a pair happen in the same order whatever the grid and the tiles.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.compiled import njit
from dqlearn.grid import ChunkGrid, find_owners, owner_dtype
from dqlearn.hashgrid import HashGrid
from dqlearn.memory import empty
from dqlearn.transitions import Routed, Tally, Transitions

__all__ = ["TILE", "Router", "count_owners", "route", "route_pairs", "route_tile"]

TILE = 32_768
"""Transitions: some hundred KiB, which an L2 cache holds."""


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
        Offsets (int32) and targets (the table's dtype).

    Examples
    --------
    >>> import numpy as np
    >>> from dqlearn.transitions import Tally
    >>> batch = Transitions(np.array([3, 0]), np.array([1, 0]), np.array([1.0, 2.0]),
    ...                     np.array([-1, 3]), Tally(0, 0.1))
    >>> routed = route(batch, np.array([0.0, 0.0, 0.0, 10.0]), 0.5, ChunkGrid((2, 2), (2,)))
    >>> routed.piece(0).columns[1], routed.piece(1).columns[0]
    (array([7.]), array([3], dtype=int32))
    """
    router = Router(len(transitions.state), TILE, value, gamma, grid)
    columns = (transitions.state, transitions.action, transitions.reward, transitions.next_state)
    _route_tiles(columns, TILE, *router.arguments)
    return router.routed(transitions.tally)


def route_pairs(
    transitions: Transitions, value: npt.NDArray[Any], gamma: float, grid: HashGrid
) -> Routed:
    """Compute targets and sort them by owner, who is left to find where its pairs stand.

    Parameters
    ----------
    transitions : Transitions
        A shard's transitions of round r.
    value : float (m,)
        Bootstraps; `next_state` says which is whose.
    gamma : float
        Discount factor.
    grid : HashGrid
        Who owns what.

    Returns
    -------
    Routed
        States, actions and targets, in one tile.
    """
    state, action = transitions.state, transitions.action
    n, bootstrap = len(state), (value, value.dtype.type(gamma))
    target = empty(n, value.dtype)
    _targets(transitions.reward, transitions.next_state, *bootstrap, target)
    starts = np.zeros((1, grid.n_chunks + 1), np.int64)
    if grid.n_chunks == 1:
        starts[0, 1] = n
        return Routed((state, action, target), starts, transitions.tally)
    owner = grid.find_rows(state)
    count_owners(owner, starts[0, 1:])
    np.cumsum(starts[0], out=starts[0])
    out = tuple(empty(n, column.dtype) for column in (state, action, target))
    _scatter_pairs(owner, starts[0, :-1].copy(), (state, action, target), out)
    return Routed(out, starts, transitions.tally)


class Router:
    """Room for a batch that is being routed, and what routes it, as kernels take them.

    Parameters
    ----------
    n : int
        Transitions of the batch.
    tile : int
        Transitions in each tile of it; the last may have fewer.
    value : float (n_states,)
        Bootstrap of every state.
    gamma : float
        Discount factor.
    grid : ChunkGrid
        Who owns what.
    """

    def __init__(
        self, n: int, tile: int, value: npt.NDArray[Any], gamma: float, grid: ChunkGrid
    ) -> None:
        axes = (locator.arrays for locator in grid.locators)
        m = min(tile, n) if grid.n_chunks > 1 else 0
        room = empty(m, owner_dtype(grid.n_chunks)), empty(m, np.int32), empty(m, value.dtype)
        starts = np.zeros((max(1, -(-n // tile)), grid.n_chunks + 1), np.int64)
        self._out = empty(n, np.int32), empty(n, value.dtype), starts
        bootstrap = value, value.dtype.type(gamma)
        self.arguments = bootstrap, (*axes, grid.bases, grid.widths), room, self._out

    def routed(self, tally: Tally) -> Routed:
        """Return the batch; kernels must have routed all of it."""
        return Routed(self._out[:2], self._out[2], tally)


@njit(nogil=True, cache=True)
def _route_tiles(columns, tile, bootstrap, grid, room, out):
    state, action, reward, next_state = columns
    for i in range(len(out[2])):
        own = slice(i * tile, min((i + 1) * tile, len(state)))
        part = state[own], action[own], reward[own], next_state[own]
        route_tile(part, own.stop - own.start, i, own.start, bootstrap, grid, room, out)


@njit(nogil=True, cache=True)
def route_tile(columns, n, i, first, bootstrap, grid, room, out):
    """Route a tile of a batch.

    Parameters
    ----------
    columns : tuple of arrays
        (state, action, reward, next_state), of which the first `n` are the tile.
    n, i, first : int
        Transitions in the tile, its number, and where it begins in the batch.
    bootstrap : tuple
        (value of every state, gamma).
    grid : tuple
        (locators of rows and of columns, bases, widths).
    room : tuple of arrays
        (owner, offset, target) of a tile, written to.
    out : tuple of arrays
        (offset, target, starts) of the batch, written to; see :class:`Routed`.
    """
    state, action = columns[0][:n], columns[1][:n]
    reward, next_state = columns[2][:n], columns[3][:n]
    rows, across, bases, widths = grid
    starts = out[2][i]
    starts[0] = first
    if len(bases) == 1:
        own = slice(first, first + n)
        _targets(reward, next_state, bootstrap[0], bootstrap[1], out[1][own])
        _offsets_in_one(state, action, widths[0], out[0][own])
        starts[1] = first + n
        return
    owner, offset, target = room[0][:n], room[1][:n], room[2][:n]
    _targets(reward, next_state, bootstrap[0], bootstrap[1], target)
    find_owners(state, rows, owner)
    if len(across[0]) == 2:
        _offsets_in_rows(state, action, owner, bases, widths[0], offset)
    else:
        _refine_owners(action, across, owner)
        _offsets(state, action, owner, bases, widths, offset)
    count_owners(owner, starts[1:])
    for c in range(len(bases)):
        starts[c + 1] += starts[c]
    _scatter(owner, starts[:-1].copy(), offset, target, out[0], out[1])


# Loops of their own, free of branches, so that they vectorise; fused into one they would not.
# Indices that are unsigned need not be tested for being negative.


@njit(nogil=True, cache=True)
def _targets(reward, next_state, value, gamma, target):
    nothing = gamma - gamma
    for t in range(len(reward)):
        s = next_state[t]
        future = gamma * value[np.uint64(max(s, 0))]
        target[t] = reward[t] + (future if s >= 0 else nothing)


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
        to = np.uint64(cursor[c])
        cursor[c] += 1
        offset[to], target[to] = located_offset[t], located_target[t]


@njit(nogil=True, cache=True)
def _scatter_pairs(owner, cursor, columns, out):
    for t in range(len(owner)):
        c = owner[t]
        to = cursor[c]
        cursor[c] += 1
        out[0][to], out[1][to], out[2][to] = columns[0][t], columns[1][t], columns[2][t]
