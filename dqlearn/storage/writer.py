"""Writing a checkpoint's arrays: what a worker does with what it holds.

::

    fork of the checkpoint's session ─► write ─► its changes, some hundred bytes ─► the client

Invariant: what is written is whole chunks, each by one task; the values never pass the client.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from dqlearn.errors import CheckpointError
from dqlearn.stages.rollout import CompiledShard
from dqlearn.storage.failures import first_line
from dqlearn.storage.schema import Layout
from dqlearn.table.chunk import Chunk
from dqlearn.table.paged import read
from dqlearn.table.transitions import Transitions

__all__ = ["Written", "write_chunk", "write_known", "write_shard"]


@dataclass(frozen=True)
class Written:
    """What a task has written.

    Attributes
    ----------
    changes : bytes, optional
        A fork of the checkpoint's session with the changes, pickled; None without any.
    nbytes : int
        Of the values, before they were compressed.
    tally : dict, optional
        Of a batch.
    """

    changes: bytes | None = None
    nbytes: int = 0
    tally: dict[str, Any] | None = None


def write_chunk(
    fork: bytes, layout: Layout, k: int, chunks: Sequence[Chunk], since: int
) -> Written:
    """Write stored chunk k of the table, if it changed after `since` transitions.

    Parameters
    ----------
    fork : bytes
        A fork of the checkpoint's session, pickled.
    layout : Layout
        Of the table.
    k : int
        Number of the stored chunk.
    chunks : sequence of Chunk
        Those that it overlaps, as :meth:`Layout.owners` names them.
    since : int
        Transitions of the checkpoint before; -1 writes whatever was ever learned.

    Returns
    -------
    Written

    Raises
    ------
    CheckpointError
        If it cannot be written.
    """
    if all(chunk.changed <= since for chunk in chunks):
        return Written()
    values = {}
    for name in ("q", "visits"):
        parts = [read(getattr(chunk, name)) for chunk in chunks]
        values[name] = (layout.region(k), _put_together(layout, k, parts))
    return _write(fork, values)


def write_known(fork: bytes, c: int, chunk: Chunk, since: int) -> Written:
    """Write what chunk c of a sparse table knows, if it changed after `since` transitions.

    Parameters
    ----------
    fork : bytes
        A fork of the checkpoint's session, pickled.
    c : int
        Number of the chunk.
    chunk : Chunk
        A sparse one.
    since : int
        Transitions of the checkpoint before; -1 writes whatever was ever learned.

    Returns
    -------
    Written

    Raises
    ------
    CheckpointError
        If it cannot be written.
    """
    known = chunk.known
    if known is None or chunk.changed <= since:
        return Written()
    states, rows = known.states, slice(1 << known.bits, known.n_rows)
    columns = {"state": states, "q": chunk.q[rows], "visits": chunk.visits[rows]}
    values = {f"known/{name}": _row(c, column) for name, column in columns.items()}
    values["known/n"] = ((slice(c, c + 1),), np.array([len(states)]))
    return _write(fork, values)


def write_shard(
    fork: bytes, w: int, shard: CompiledShard | None, batch: Transitions | None
) -> Written:
    """Write what shard w of the environments is, and the transitions that it is ahead.

    Parameters
    ----------
    fork : bytes
        A fork of the checkpoint's session, pickled.
    w : int
        Number of the shard.
    shard : CompiledShard, optional
        None for Python environments, which are no data.
    batch : Transitions, optional
        With policy_lag 1.

    Returns
    -------
    Written

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
        return _write(fork, values)
    for name in ("state", "action", "reward", "next_state"):
        values[f"batches/{name}"] = _row(w, getattr(batch, name))
    values["batches/length"] = ((row,), np.array([len(batch.state)]))
    return _write(fork, values, asdict(batch.tally))


def _row(w: int, values: npt.NDArray[Any]) -> tuple[tuple[slice, ...], npt.NDArray[Any]]:
    return (slice(w, w + 1), slice(0, len(values))), values[None]


def _put_together(layout: Layout, k: int, parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Make a stored chunk of parts of the grid's."""
    states, actions = layout.region(k)
    shape = (states.stop - states.start, actions.stop - actions.start)
    if len(parts) == 1 and parts[0].shape == shape:
        return parts[0]
    whole = np.empty(shape, parts[0].dtype)
    for part, (_, own, there) in zip(parts, layout.overlaps(k), strict=True):
        whole[there] = part[own]
    return whole


def _write(
    fork: bytes,
    values: Mapping[str, tuple[tuple[slice, ...], npt.NDArray[Any]]],
    tally: dict[str, Any] | None = None,
) -> Written:
    if not values:
        return Written()
    session, failure = pickle.loads(fork), None
    try:
        group: Any = zarr.open_group(session.store, mode="r+")
        for name, (region, value) in values.items():
            group[name][region] = value
    except Exception as error:  # storages raise what they like
        failure = f"{', '.join(values)} could not be written: {first_line(error)}"
    if failure is not None:  # without a cause: not all of them can be sent to the client
        raise CheckpointError(failure)
    nbytes = sum(value.nbytes for _, value in values.values())
    return Written(pickle.dumps(session), nbytes, tally)
