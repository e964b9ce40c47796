r"""Route: targets are computed and sorted by the chunk that owns their pair.

.. math:: y = r + \gamma \, [s' \text{ not terminal}] \, v_r(s')

Each tile of a batch, small enough for a cache, is sorted by a stable counting sort: its transitions
are located (owner, offset, target), their owners are counted, and then they are put in place. A
chunk owns a run of each tile. Invariant: among the transitions of one chunk the order of the batch
is kept, so the updates of a pair happen in the same order whatever the grid and the tiles.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.kernels.buffers import empty
from dqlearn.kernels.members import bootstrap_rows
from dqlearn.kernels.route import count_owners, find_targets, route_tiles, scatter_pairs
from dqlearn.statistics import RoundStats
from dqlearn.table.grid import ChunkGrid, owner_dtype
from dqlearn.table.hash_grid import Grid, HashGrid
from dqlearn.table.transitions import Masks, Routed, Transitions

__all__ = ["TILE", "Router", "route", "route_pairs"]

TILE = 32_768
"""Transitions in a tile: a few hundred KiB, which an L2 cache holds."""


def route(
    transitions: Transitions, value: npt.NDArray[Any], gamma: float, grid: ChunkGrid
) -> Routed:
    """Compute targets and sort them by owner.

    Parameters
    ----------
    transitions : Transitions
        A shard's transitions of round r.
    value : float (n_states * members,)
        The bootstrap of each state for each member; in Q-learning ``max_a Q_r(s, a)``.
    gamma : float
        Discount factor.
    grid : ChunkGrid
        The chunks, which own the pairs.

    Returns
    -------
    Routed
        Offsets (int32) and targets (the table's dtype).

    Examples
    --------
    >>> import numpy as np
    >>> from dqlearn.statistics import RoundStats
    >>> batch = Transitions(np.array([3, 0]), np.array([1, 0]), np.array([1.0, 2.0]),
    ...                     np.array([-1, 3]), RoundStats(0, 0.1))
    >>> routed = route(batch, np.array([0.0, 0.0, 0.0, 10.0]), 0.5, ChunkGrid((2, 2), (2,)))
    >>> routed.piece(0).columns[1], routed.piece(1).columns[0]
    (array([7.]), array([3], dtype=int32))
    """
    router = Router(len(transitions.state), TILE, value, gamma, grid)
    after = _bootstrap_rows(transitions, grid)
    columns = (transitions.state, transitions.action, transitions.reward, after)
    route_tiles(columns, TILE, *router.arguments)
    return router.routed(transitions.tally, transitions.masks)


def route_pairs(
    transitions: Transitions, value: npt.NDArray[Any], gamma: float, grid: HashGrid
) -> Routed:
    """Compute targets and sort them by owner; the owner itself looks up where its pairs stand.

    Parameters
    ----------
    transitions : Transitions
        A shard's transitions of round r.
    value : float (m * members,)
        The bootstraps of the m states asked for; ``transitions.next_state`` holds indices into
        them.
    gamma : float
        Discount factor.
    grid : HashGrid
        The chunks, which own the pairs.

    Returns
    -------
    Routed
        States, actions and targets, in one tile.
    """
    state, action = transitions.state, transitions.action
    n, bootstrap = len(state), (value, value.dtype.type(gamma))
    target = empty(n, value.dtype)
    find_targets(transitions.reward, _bootstrap_rows(transitions, grid), *bootstrap, target)
    starts = np.zeros((1, grid.n_chunks + 1), np.int64)
    if grid.n_chunks == 1:
        starts[0, 1] = n
        return Routed((state, action, target), starts, transitions.tally, transitions.masks)
    owner = grid.find_rows(state)
    count_owners(owner, starts[0, 1:])
    np.cumsum(starts[0], out=starts[0])
    out = tuple(empty(n, column.dtype) for column in (state, action, target))
    scatter_pairs(owner, starts[0, :-1].copy(), (state, action, target), out)
    return Routed(out, starts, transitions.tally, transitions.masks)


def _bootstrap_rows(transitions: Transitions, grid: Grid) -> npt.NDArray[Any]:
    """Return where the bootstrap of each transition stands, for the member that learns from it."""
    if grid.members == 1:
        return transitions.next_state
    rows = empty(len(transitions.state), np.int64)
    pairs = transitions.action, transitions.next_state
    bootstrap_rows(*pairs, grid.members, grid.shape[1], rows)
    return rows


class Router:
    """The arrays that a batch is routed into, and the arguments of the kernels that route it.

    Parameters
    ----------
    n : int
        Transitions in the batch.
    tile : int
        Transitions in each tile of the batch; the last tile may have fewer.
    value : float (n_states,)
        Bootstrap of every state.
    gamma : float
        Discount factor.
    grid : ChunkGrid
        The chunks, which own the pairs.
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
        shape = grid.bases, grid.widths, grid.members, grid.shape[1]
        self.arguments = bootstrap, (*axes, *shape), room, self._out

    def routed(self, tally: RoundStats, masks: Masks | None = None) -> Routed:
        """Return the batch; kernels must have routed all of it."""
        return Routed(self._out[:2], self._out[2], tally, masks)
