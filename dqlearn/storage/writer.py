"""Writing a checkpoint: each worker writes what it holds.

::

    Transaction.writer ─► write ─► its changes, some hundred bytes ─► the client

Invariant: tasks write whole chunks, one task each; the values never pass through the client.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.errors import CheckpointError
from dqlearn.stages.rollout import CompiledShard
from dqlearn.storage.protocol import Values, Writer, WriteResult
from dqlearn.storage.schema import Layout
from dqlearn.table.chunk import Chunk
from dqlearn.table.columns import Column, columns_of
from dqlearn.table.paged import read
from dqlearn.table.snapshot import Region
from dqlearn.table.transitions import BATCH, TRACED, Transitions

__all__ = ["counted", "write_chunk", "write_known", "write_shard"]


def write_chunk(
    writer: Writer,
    layout: Layout,
    k: int,
    chunks: Sequence[Chunk],
    since: int,
    columns: Sequence[Column] | None = None,
) -> WriteResult:
    """Write stored chunk k of the table, if it changed after `since` transitions.

    Parameters
    ----------
    writer : Writer
        The checkpoint's writer.
    layout : Layout
        Layout of the table.
    k : int
        Number of the stored chunk.
    chunks : sequence of Chunk
        Chunks that it overlaps, in the order of :meth:`Layout.owners`.
    since : int
        Transitions of the checkpoint before; -1 writes everything that was ever learned.
    columns : sequence of Column, optional
        Columns of the chunks; by default those of a table with as many members.

    Returns
    -------
    WriteResult

    Raises
    ------
    CheckpointError
        If the chunk cannot be written.
    """
    if all(chunk.changed <= since for chunk in chunks):
        return WriteResult()
    values = {}
    for column in columns or columns_of(layout.grid.members):
        if layout.keeps(column, k):
            parts = [read(chunk.columns[column.name]) for chunk in chunks]
            values[column.name] = _put_together(layout, k, column, parts)
    return _write(writer, values)


def write_known(writer: Writer, c: int, chunk: Chunk, since: int) -> WriteResult:
    """Write the rows of chunk c of a sparse table, if it changed after `since` transitions.

    Parameters
    ----------
    writer : Writer
        The checkpoint's writer.
    c : int
        Number of the chunk.
    chunk : Chunk
        A sparse chunk.
    since : int
        Transitions of the checkpoint before; -1 writes everything that was ever learned.

    Returns
    -------
    WriteResult

    Raises
    ------
    CheckpointError
        If the chunk cannot be written.
    """
    known = chunk.known
    if known is None or chunk.changed <= since:
        return WriteResult()
    states, rows = known.states, slice(1 << known.bits, known.n_rows)
    columns = {"state": states, **{name: it[rows] for name, it in chunk.columns.items()}}
    values = {f"known/{name}": _row(c, column) for name, column in columns.items()}
    values["known/n"] = ((slice(c, c + 1),), np.array([len(states)]))
    return _write(writer, values)


def write_shard(
    writer: Writer, w: int, shard: CompiledShard | None, batch: Transitions | None
) -> WriteResult:
    """Write the state of shard w's environments, and its transitions that are not learned from.

    Parameters
    ----------
    writer : Writer
        The checkpoint's writer.
    w : int
        Number of the shard.
    shard : CompiledShard, optional
        The shard; None for Python environments, which are no data.
    batch : Transitions, optional
        The batch of the shard: with policy_lag 1, or where transitions wait for others.

    Returns
    -------
    WriteResult

    Raises
    ------
    CheckpointError
        If the shard cannot be written.
    """
    row, values = slice(w, w + 1), {}
    if shard is not None:
        for name in ("state", "elapsed", "returns"):
            values[f"environments/{name}"] = _row(w, getattr(shard, name))
        values["environments/steps"] = ((row,), np.array([shard.steps]))
    if batch is None:
        return _write(writer, values)
    n = len(batch.state)
    for name in (BATCH if batch.lane is None else TRACED) if n else ():
        values[f"batches/{name}"] = _row(w, getattr(batch, name))
    values["batches/length"] = ((row,), np.array([n]))
    if (masks := batch.masks) is not None:
        values["batches/masks"] = ((row,), np.array([len(masks.states)]))
        if len(masks.states):
            values["batches/masked"] = _row(w, masks.states)
            values["batches/valid"] = _row(w, masks.valid.astype(np.uint8))
    return _write(writer, values, asdict(batch.tally))


def counted(results: Iterable[WriteResult]) -> dict[str, Any]:
    """Return the attributes with the statistics of the batches.

    Parameters
    ----------
    results : iterable of WriteResult
        The results of the tasks that write shards, in order.

    Returns
    -------
    dict
        Numbers as text: JSON has no infinity, and its readers have no 64-bit integers.
    """
    tallies = [each.tally for each in results if each.tally is not None]
    texts = [{name: repr(value) for name, value in tally.items()} for tally in tallies]
    return {"batches/tallies": texts} if texts else {}


def _row(w: int, values: npt.NDArray[Any]) -> tuple[Region, npt.NDArray[Any]]:
    return (slice(w, w + 1), *(slice(0, n) for n in values.shape)), values[None]


def _put_together(
    layout: Layout, k: int, column: Column, parts: Sequence[npt.NDArray[Any]]
) -> tuple[Region, npt.NDArray[Any]]:
    """Assemble a stored chunk of a column from parts of the grid's; return its region too."""
    region = column.region(*layout.region(k))
    shape = tuple(part.stop - part.start for part in region)
    if len(parts) == 1 and parts[0].shape == shape:
        return region, parts[0]
    whole = np.empty(shape, parts[0].dtype)
    for part, (_, own, there) in zip(parts, layout.overlaps(k), strict=True):
        whole[column.region(*there)] = part[column.region(*own)]
    return region, whole


def _write(writer: Writer, values: Values, tally: dict[str, Any] | None = None) -> WriteResult:
    if not values:
        return WriteResult()
    changes, failure = None, None
    try:
        changes = writer.write(values)
    except Exception as error:  # stores raise errors of any class
        failure = f"{', '.join(values)} could not be written: {_said(error)}"
    if failure is not None:  # without a cause: not every cause can be sent to the client
        raise CheckpointError(failure)
    nbytes = sum(value.nbytes for _, value in values.values())
    return WriteResult(changes, nbytes, tally)


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or repr(error)
