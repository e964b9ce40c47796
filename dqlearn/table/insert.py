r"""Insert: a sparse chunk makes rows for the states that it is to learn about.

::

    pieces (state, action, target) ─► rows of the states, new ones at the end ─► (offset, target)

The rest of an update is as for any chunk. Rows are found for a whole piece at once, so that what
one look-up misses in the cache is fetched while the next begins. Invariant: a chunk that is not
owned is never written to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.kernels.buffers import empty
from dqlearn.kernels.hashing import offsets_of_rows, states_without_row
from dqlearn.statistics import RoundStats
from dqlearn.table.chunk import Chunk, filled
from dqlearn.table.columns import COLUMNS, Column
from dqlearn.table.hash_grid import HashGrid
from dqlearn.table.row_index import Known
from dqlearn.table.transitions import Piece

__all__ = ["filled_with", "settle", "unsettled", "visited"]


def unsettled(
    grid: HashGrid,
    value: float,
    dtype: np.dtype[Any],
    columns: Sequence[Column] = COLUMNS,
) -> Chunk:
    """Make a sparse chunk before any learning.

    Parameters
    ----------
    grid : HashGrid
        The grid of the table.
    value : float
        Value of every pair.
    dtype : dtype
        Type of the Q-values.
    columns : sequence of Column
        Columns that the chunk has.

    Returns
    -------
    Chunk
        A chunk without rows of any state.
    """
    blank = filled((grid.block, grid.n_actions), value, dtype, columns=columns)
    return replace(blank, known=Known.nothing(grid.bits))


def visited(chunk: Chunk) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the states that a sparse chunk has learned of, ascending, and their rows."""
    known = _index(chunk)
    first = 1 << known.bits
    visits = chunk.visits[first : known.n_rows]
    learned = visits.any(axis=tuple(range(1, visits.ndim)))
    states, rows = known.states[learned], np.flatnonzero(learned) + first
    order = np.argsort(states)
    return states[order], rows[order]


def filled_with(
    chunk: Chunk,
    states: npt.NDArray[np.int64],
    columns: Mapping[str, npt.NDArray[Any]],
    timesteps: int,
) -> Chunk:
    """Insert stored values of some states, all different, into a sparse chunk without states."""
    known = _index(chunk).with_states(states, owned=False)
    rows, sizes = known.rows(states), (1 << known.bits, known.n_rows)
    whole = {name: _room(array, *sizes, owned=False) for name, array in chunk.columns.items()}
    for name, values in columns.items():
        whole[name][rows] = values
    return Chunk.of(whole, RoundStats(timesteps, 0.0), changed=timesteps, known=known)


def _index(chunk: Chunk) -> Known:
    if chunk.known is None:
        raise TypeError("expected a sparse chunk")
    return chunk.known


def settle(
    chunk: Chunk,
    pieces: Sequence[Piece],
    owned: bool,
    forbid: Callable[[npt.NDArray[Any], npt.NDArray[Any]], None] | None = None,
) -> tuple[Chunk, list[Piece]]:
    """Insert rows for all pairs that are to be updated, and find their offsets.

    Parameters
    ----------
    chunk : Chunk
        A sparse chunk of round r.
    pieces : sequence of Piece
        Pieces that the chunk receives from the shards: states, actions and targets.
    owned : bool
        Whether the chunk's own arrays may be written to.
    forbid : callable, optional
        ``forbid(q, states)``, which masks new rows in place.

    Returns
    -------
    Chunk
        The chunk of round r, with all rows, in arrays that the caller owns.
    list of Piece
        The pieces as offsets and targets.

    Examples
    --------
    >>> empty_chunk = unsettled(HashGrid(10**12, 2, 1), 0.0, np.dtype("float32"))
    >>> columns = np.array([10**11, 5]), np.array([1, 0]), np.array([0.5, 1.0], "float32")
    >>> chunk, (piece,) = settle(
    ...     empty_chunk, [Piece(columns, RoundStats(0, 0.0))], owned=False
    ... )
    >>> chunk.known.states, piece.columns[0]
    (array([100000000000,            5]), array([3, 4]))
    """
    known, columns = _index(chunk), [piece.alone().columns for piece in pieces]
    rows = [known.rows(state) for state, _, _ in columns]
    before, block = known.n_rows, 1 << known.bits
    fresh = [
        states_without_row(state, at, block)
        for (state, _, _), at in zip(columns, rows, strict=True)
    ]
    new = np.concatenate(fresh)
    if len(new) or not owned:
        known = known.with_states(new, owned=owned)
    rows = [
        known.rows(state) if len(unknown) else at
        for (state, _, _), at, unknown in zip(columns, rows, fresh, strict=True)
    ]
    sizes = before, known.n_rows
    arrays = {name: _room(array, *sizes, owned) for name, array in chunk.columns.items()}
    if forbid is not None and known.n_rows > before:
        forbid(arrays["q"][before : known.n_rows], known.states[before - block :])
    located = []
    for (_, action, target), at, piece in zip(columns, rows, pieces, strict=True):
        offsets_of_rows(at, action, arrays["q"][0].size)
        located.append(Piece((at, target), piece.tally, masks=piece.masks))
    return chunk.with_columns(arrays, known=known), located


def _room(rows: npt.NDArray[Any], used: int, wanted: int, owned: bool) -> npt.NDArray[Any]:
    """Return an array with so many rows in use; new rows get the initial value."""
    value = rows.flat[0]
    if not owned or wanted > len(rows):
        # Rows that are not in use take no memory if it is fresh from the system. A copy, which may
        # be sent elsewhere, has no such rows, and reuses memory.
        size, make = (max(2 * used, wanted), np.empty) if owned else (wanted, empty)
        larger = make((size, *rows.shape[1:]), rows.dtype)
        larger[:used] = rows[:used]
        rows = larger
    rows[used:wanted] = value
    return rows
