"""Writing a checkpoint: what a worker does with what it holds.

::

    Transaction.writer ─► write ─► its changes, some hundred bytes ─► the client

Invariant: what is written is whole chunks, each by one task; the values never pass the client.
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
from dqlearn.table.transitions import Transitions

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
        Of the checkpoint.
    layout : Layout
        Of the table.
    k : int
        Number of the stored chunk.
    chunks : sequence of Chunk
        Those that it overlaps, as :meth:`Layout.owners` names them.
    since : int
        Transitions of the checkpoint before; -1 writes whatever was ever learned.
    columns : sequence of Column, optional
        Of the chunks; by default those of a table of as many members.

    Returns
    -------
    WriteResult

    Raises
    ------
    CheckpointError
        If it cannot be written.
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
    """Write what chunk c of a sparse table knows, if it changed after `since` transitions.

    Parameters
    ----------
    writer : Writer
        Of the checkpoint.
    c : int
        Number of the chunk.
    chunk : Chunk
        A sparse one.
    since : int
        Transitions of the checkpoint before; -1 writes whatever was ever learned.

    Returns
    -------
    WriteResult

    Raises
    ------
    CheckpointError
        If it cannot be written.
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
    """Write what shard w of the environments is, and the transitions that it is ahead.

    Parameters
    ----------
    writer : Writer
        Of the checkpoint.
    w : int
        Number of the shard.
    shard : CompiledShard, optional
        None for Python environments, which are no data.
    batch : Transitions, optional
        With policy_lag 1.

    Returns
    -------
    WriteResult

    Raises
    ------
    CheckpointError
        If it cannot be written.
    """
    row, values = slice(w, w + 1), {}
    if shard is not None:
        for name in ("state", "elapsed", "returns"):
            values[f"environments/{name}"] = _row(w, getattr(shard, name))
        values["environments/steps"] = ((row,), np.array([shard.steps]))
    if batch is None:
        return _write(writer, values)
    for name in ("state", "action", "reward", "next_state"):
        values[f"batches/{name}"] = _row(w, getattr(batch, name))
    values["batches/length"] = ((row,), np.array([len(batch.state)]))
    return _write(writer, values, asdict(batch.tally))


def counted(results: Iterable[WriteResult]) -> dict[str, Any]:
    """Return the attributes that say what the batches count.

    Parameters
    ----------
    results : iterable of WriteResult
        The shards' in order.

    Returns
    -------
    dict
        Numbers as text: JSON has no infinity, and its readers no 64-bit integers.
    """
    tallies = [each.tally for each in results if each.tally is not None]
    texts = [{name: repr(value) for name, value in tally.items()} for tally in tallies]
    return {"batches/tallies": texts} if texts else {}


def _row(w: int, values: npt.NDArray[Any]) -> tuple[Region, npt.NDArray[Any]]:
    return (slice(w, w + 1), *(slice(0, n) for n in values.shape)), values[None]


def _put_together(
    layout: Layout, k: int, column: Column, parts: Sequence[npt.NDArray[Any]]
) -> tuple[Region, npt.NDArray[Any]]:
    """Make a stored chunk of a column of parts of the grid's; return where it is, too."""
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
    except Exception as error:  # stores raise what they like
        failure = f"{', '.join(values)} could not be written: {_said(error)}"
    if failure is not None:  # without a cause: not all of them can be sent to the client
        raise CheckpointError(failure)
    nbytes = sum(value.nbytes for _, value in values.values())
    return WriteResult(changes, nbytes, tally)


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or repr(error)
