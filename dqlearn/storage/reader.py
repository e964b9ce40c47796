"""Reading a run's state: chunks, shards and batches from any snapshot.

::

    Snapshot ──► chunk c, shard w, batch w     on the worker that will hold them

A sparse table is stored in two ways: a saved table lists its states, ascending, whatever the chunks
were; a checkpoint has the rows of each chunk, in the chunk's order. Invariant: reading is pure, and
executes nothing that is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.errors import DamagedChunkError
from dqlearn.stages.rollout import CompiledShard
from dqlearn.statistics import RoundStats
from dqlearn.table.chunk import Chunk
from dqlearn.table.columns import COLUMNS, Column
from dqlearn.table.grid import ChunkGrid
from dqlearn.table.hash_grid import HashGrid
from dqlearn.table.insert import filled_with
from dqlearn.table.snapshot import Snapshot
from dqlearn.table.transitions import BATCH, Masks, Transitions

__all__ = [
    "read_batch",
    "read_chunk",
    "read_known",
    "read_listed",
    "read_shard",
    "read_visited",
]


def read_chunk(
    snapshot: Snapshot,
    grid: ChunkGrid,
    c: int,
    dtype: np.dtype[Any],
    columns: Sequence[Column] = COLUMNS,
) -> Chunk:
    """Read chunk c of a dense table.

    Parameters
    ----------
    snapshot : Snapshot
        A snapshot of a run, or a saved table, with any grid.
    grid : ChunkGrid
        The grid of the chunks to make.
    c : int
        Number of the chunk.
    dtype : dtype
        Type of the Q-values to make.
    columns : sequence of Column
        Columns of the chunk.

    Returns
    -------
    Chunk
    """
    region = grid.region(c)
    arrays = {
        column.name: np.ascontiguousarray(
            snapshot.read(column.name, column.region(*region)), column.dtype_in(dtype)
        )
        for column in columns
    }
    tally = RoundStats(snapshot.timesteps, 0.0)
    return Chunk.of(arrays, tally, changed=snapshot.timesteps)


def read_listed(snapshot: Snapshot, grid: HashGrid, c: int, empty: Chunk) -> Chunk:
    """Read chunk c from a sparse table that lists its states, into a chunk without states."""
    states = snapshot.read("state", _whole(snapshot, "state"))
    own = np.flatnonzero(grid.find_rows(states) == c)
    columns = {name: _rows(snapshot, name, own) for name in empty.columns}
    return filled_with(empty, states[own], columns, snapshot.timesteps)


def read_known(snapshot: Snapshot, c: int, empty: Chunk) -> Chunk:
    """Read the rows of chunk c of a sparse table, into a chunk without states."""
    states = _known(snapshot, c, "state")
    columns = {name: _known(snapshot, c, name) for name in empty.columns}
    return filled_with(empty, states, columns, snapshot.timesteps)


def read_visited(snapshot: Snapshot, c: int) -> npt.NDArray[np.int64]:
    """Read the states that chunk c of a sparse table has learned about, ascending."""
    states = _known(snapshot, c, "state")
    visits = _known(snapshot, c, "visits")
    return np.sort(states[visits.any(axis=tuple(range(1, visits.ndim)))])


def read_shard(snapshot: Snapshot, w: int, first_env: int, n_envs: int) -> CompiledShard:
    """Read the environments of shard w, which are compiled."""
    state, elapsed, returns = (
        snapshot.read(f"environments/{name}", (slice(w, w + 1), slice(0, n_envs)))[0]
        for name in ("state", "elapsed", "returns")
    )
    steps = int(snapshot.read("environments/steps", (slice(w, w + 1),))[0])
    return CompiledShard(first_env, state, elapsed, returns, steps)


def read_batch(
    snapshot: Snapshot, w: int, names: Sequence[str] = BATCH, masked: bool = False
) -> Transitions:
    """Read the transitions of shard w that the table has not learned from yet.

    Parameters
    ----------
    snapshot : Snapshot
        The checkpoint.
    w : int
        Number of the shard.
    names : sequence of str
        The columns that the batch has.
    masked : bool
        Whether masks of states may have come with it.

    Returns
    -------
    Transitions

    Raises
    ------
    DamagedChunkError
        If their statistics are not what was written.
    """
    length = int(snapshot.read("batches/length", (slice(w, w + 1),))[0])
    columns = {
        name: snapshot.read(f"batches/{name}", (slice(w, w + 1), slice(0, length)))[0]
        for name in names
    }
    try:
        tally = _tally(snapshot.attributes["batches/tallies"][w])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise DamagedChunkError(
            f"what batch {w} counts cannot be read from {snapshot.name!r}: {error!r}; go back to "
            "an earlier checkpoint with at="
        ) from error
    masks = _read_masks(snapshot, w) if masked else None
    return Transitions(**columns, tally=tally, masks=masks)


def _read_masks(snapshot: Snapshot, w: int) -> Masks | None:
    """Read the masks that came with batch w; None if there are none."""
    n = int(snapshot.read("batches/masks", (slice(w, w + 1),))[0])
    if n == 0:
        return None
    rows = slice(w, w + 1), slice(0, n)
    actions = slice(0, snapshot.array("batches/valid").shape[2])
    states = snapshot.read("batches/masked", rows)[0]
    valid = snapshot.read("batches/valid", (*rows, actions))[0]
    return Masks(states, valid.astype(np.bool_))


def _whole(snapshot: Snapshot, name: str) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in snapshot.array(name).shape)


def _rows(snapshot: Snapshot, name: str, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Read some rows of an array, given in ascending order, one stored chunk after another."""
    array, (whole, *rest) = snapshot.array(name), _whole(snapshot, name)
    size = array.chunks[0]
    edges = [*range(0, whole.stop, size), whole.stop]
    parts = [np.empty((0, *array.shape[1:]), array.dtype)]
    for start, stop in pairwise(edges):
        first, last = np.searchsorted(rows, (start, stop))
        if last > first:
            part = snapshot.read(name, (slice(start, stop), *rest))
            parts.append(part[rows[first:last] - start])
    return np.concatenate(parts)


def _known(snapshot: Snapshot, c: int, name: str) -> npt.NDArray[Any]:
    n = int(snapshot.read("known/n", (slice(c, c + 1),))[0])
    rest = _whole(snapshot, f"known/{name}")[2:]
    known: npt.NDArray[Any] = snapshot.read(f"known/{name}", (slice(c, c + 1), slice(0, n), *rest))[
        0
    ]
    return known


def _tally(texts: dict[str, str]) -> RoundStats:
    """Read the statistics that are stored as text."""
    kinds = {field.name: int if field.type == "int" else float for field in fields(RoundStats)}
    values: dict[str, Any] = {name: kinds[name](text) for name, text in texts.items()}
    return RoundStats(**values)
