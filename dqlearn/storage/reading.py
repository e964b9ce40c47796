"""Reading a run: its table as a lazy Dataset, its history, its checkpoints.

::

    open_table(path, at=...) ──► q, visits      read chunk by chunk, where they are computed
                             ──► value, policy  derived from q, as the run derives them

Invariant: only arrays and JSON are read, nothing that is stored is executed, no environment is
made, and a run in progress is not disturbed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.highlevelgraph import HighLevelGraph

from dqlearn.checks import check_count
from dqlearn.errors import ConfigurationError, IncompatibleTableError
from dqlearn.spaces import SpaceIndex
from dqlearn.stages.settings import loaded
from dqlearn.storage.attributes import understood
from dqlearn.storage.location import StoreLike, store_of
from dqlearn.storage.names import LATEST, At, CheckpointInfo
from dqlearn.storage.paths import PathLike
from dqlearn.storage.protocol import CheckpointStore, Version
from dqlearn.storage.reader import read_known, read_visited
from dqlearn.storage.schema import Layout
from dqlearn.storage.zarr_table import write_dataset
from dqlearn.table.columns import Column, columns_of
from dqlearn.table.grid import ChunkGrid
from dqlearn.table.hash_grid import Grid, HashGrid
from dqlearn.table.history import STORED as HISTORY
from dqlearn.table.history import History
from dqlearn.table.insert import unsettled
from dqlearn.table.keys import Task
from dqlearn.table.views.arrays import derived
from dqlearn.table.views.axes import DERIVED, dataset, factors_of
from dqlearn.table.views.sparse import merged
from dqlearn.text import shortened

__all__ = [
    "checkpoints",
    "expire",
    "history_of",
    "open_history",
    "open_table",
    "table_of",
    "tag",
    "untag",
]

_SPACES = ("observation", "action")


def open_table(store: StoreLike, at: At = LATEST) -> xr.Dataset:
    """Open the table of a run's checkpoint, lazily.

    Parameters
    ----------
    store : str, path-like, icechunk.Storage or CheckpointStore
        The run's repository.
    at : str or int
        "latest", "previous", "best", a checkpoint's number, or a tag.

    Returns
    -------
    xarray.Dataset
        The Dataset that :meth:`Table.to_xarray` returns: ``q`` and ``visits`` over (state, action),
        ``value`` and ``policy`` over state; :func:`dqlearn.unfold` gives it one dimension per
        factor.

    Raises
    ------
    NoCheckpointError
        If there is no such checkpoint.
    IncompatibleTableError
        If something else is there, or a run of another format.
    DamagedChunkError
        If a chunk that is computed is not what was written.

    Examples
    --------
    >>> import dqlearn, tempfile
    >>> run = tempfile.mkdtemp()
    >>> learner = dqlearn.QLearner("Taxi-v4").learn(10_000, store=run)
    >>> dqlearn.open_table(run)["q"].shape
    (500, 6)
    """
    return table_of(store_of(store).find(at))


def table_of(version: Version) -> xr.Dataset:
    """Open the table of a checkpoint, lazily; see `open_table`."""
    attrs = {name: it for name, it in version.attributes.items() if "/" not in name}
    with understood(version.name):
        grid = _grid(attrs)
        factors_of(attrs)
        labels = _action_labels(json.loads(attrs["action_labels"]), grid.shape[1])
        seed, initial = loaded(attrs, ["seed", "initial_value"]).values()
    if isinstance(grid, HashGrid):
        return _sparse(version, grid, labels, attrs, (seed, initial))
    columns, rule = columns_of(grid.members), loaded(attrs, ["algorithm"])["algorithm"]
    arrays = {column.name: _lazy(version, column, grid) for column in columns}
    derive = partial(derived, arrays["q"], seed=seed, rule=rule)
    arrays |= {column.name: derive(column.name) for column in DERIVED}
    return dataset(arrays, labels, attrs, columns=columns)


def _grid(attrs: Mapping[str, Any]) -> Grid:
    """Return the grid of a run."""
    cut = loaded(attrs, ["chunks", "sparse", "sparse_block", "algorithm"])
    chunks, members = cut["chunks"], cut["algorithm"].members
    if not cut["sparse"]:
        rows, columns = chunks
        return ChunkGrid(rows, columns, members)
    spaces = (SpaceIndex.from_spec(json.loads(attrs[f"{kind}_space"])) for kind in _SPACES)
    n_states, n_actions = (space.n for space in spaces)
    return HashGrid(n_states, n_actions, chunks, cut["sparse_block"], members)


def _action_labels(labels: Any, n_actions: int) -> list[str] | None:
    if labels is None:
        return None
    texts = [str(label) for label in labels]
    if texts != labels or len(texts) != n_actions:
        raise ValueError(f"expected {n_actions} texts as action_labels, got {shortened(labels)}")
    return texts


def _check_shape(version: Version, name: str, expected: tuple[int, ...]) -> None:
    """Refuse attributes that do not fit the arrays."""
    if (found := version.array(name).shape) != expected:
        raise IncompatibleTableError(
            f"expected the shape {expected} of {name!r} at {version.name!r}, as its attributes "
            f"have it, got {found}"
        )


def _sparse(
    version: Version,
    grid: HashGrid,
    labels: list[str] | None,
    attrs: dict[str, Any],
    begun: tuple[int, float],
) -> xr.Dataset:
    """Open a sparse table: its states are read now, their values lazily."""
    name, dtype = f"dqlearn-stored-{version.snapshot}", version.array("known/q").dtype
    _check_shape(version, "known/n", (grid.n_chunks,))
    states = np.sort(np.concatenate([read_visited(version, c) for c in range(grid.n_chunks)]))
    (seed, initial), rule = begun, loaded(attrs, ["algorithm"])["algorithm"]
    empty = unsettled(grid, initial, dtype, columns_of(grid.members))
    like = (grid.n_actions, dtype, rule)
    nodes = [Task((name, "chunk", c), read_known, version, c, empty) for c in range(grid.n_chunks)]
    columns = columns_of(grid.members)
    arrays = merged(name, nodes, states, like, seed, version.round, columns)
    return dataset(arrays, labels, attrs, states, columns)


def open_history(store: StoreLike, at: At = LATEST) -> xr.Dataset:
    """Read the history of a run until a checkpoint: what every round did.

    Parameters
    ----------
    store : str, path-like, icechunk.Storage or CheckpointStore
        The run's repository.
    at : str or int
        "latest", "previous", "best", a checkpoint's number, or a tag.

    Returns
    -------
    xarray.Dataset
        A Dataset like :attr:`QLearner.history`.

    Raises
    ------
    NoCheckpointError
        If there is no such checkpoint.
    """
    return history_of(store_of(store).find(at)).to_xarray()


def export(store: StoreLike, path: PathLike, at: At = LATEST, overwrite: bool = False) -> None:
    """Write a checkpoint's table and its history, as :meth:`QLearner.save` does.

    Parameters
    ----------
    store : str, path-like, icechunk.Storage or CheckpointStore
        The run's repository.
    path : str or path-like
        A folder or URL. A table of the same environment that is there already is replaced.
    at : str or int
        "latest", "previous", "best", a checkpoint's number, or a tag.
    overwrite : bool
        Whether to replace a table of another environment too.

    Raises
    ------
    NoCheckpointError
        If there is no such checkpoint.
    IncompatibleTableError
        If a table of another environment is at `path`, or something else.
    TableTooLargeError
        If the disk has no room for it.
    """
    version = store_of(store).find(at)
    write_dataset(table_of(version), path, history_of(version).saved(version.round), overwrite)


def history_of(version: Version) -> History:
    """Read the history of a checkpoint."""
    shapes = {kind: version.array(f"history/{kind}").shape for kind in HISTORY}
    wholes = {kind: tuple(slice(0, n) for n in shape) for kind, shape in shapes.items()}
    return History.of({kind: version.read(f"history/{kind}", at) for kind, at in wholes.items()})


def checkpoints(store: StoreLike) -> list[CheckpointInfo]:
    """List the checkpoints of a run.

    Parameters
    ----------
    store : str, path-like, icechunk.Storage or CheckpointStore
        The run's repository.

    Returns
    -------
    list of CheckpointInfo
        The checkpoints, the newest first.

    Raises
    ------
    NoCheckpointError
        If there is no run.
    """
    return store_of(store).checkpoints()


def tag(store: StoreLike, name: str, at: At = LATEST) -> None:
    """Give a checkpoint a name; a checkpoint with a name does not expire.

    Parameters
    ----------
    store : str, path-like, icechunk.Storage or CheckpointStore
        The run's repository.
    name : str
        The name, which must neither be in use nor have been used before.
    at : str or int
        The checkpoint.

    Raises
    ------
    StoreError
        If the name is taken.
    NoCheckpointError
        If there is no such checkpoint.
    """
    run = store_of(store)
    run.tag(name, run.find(at))


def untag(store: StoreLike, name: str) -> None:
    """Remove a checkpoint's name.

    Parameters
    ----------
    store : str, path-like, icechunk.Storage or CheckpointStore
        The run's repository.
    name : str
        A tag.

    Raises
    ------
    NoCheckpointError
        If there is no such tag.
    """
    store_of(store).untag(name)


def expire(
    store: StoreLike, *, keep_last: int | None = None, older_than: timedelta | None = None
) -> int:
    """Delete old checkpoints, and the data that only they needed.

    The latest and the one before it are kept, and so are those with names.

    Parameters
    ----------
    store : str, path-like, icechunk.Storage or CheckpointStore
        The run's repository; no run may write to it meanwhile.
    keep_last : int, optional
        Number of the newest checkpoints to keep.
    older_than : timedelta, optional
        Age up to which checkpoints are kept.

    Returns
    -------
    int
        Number of bytes that were freed.

    Raises
    ------
    RunInUseError
        If a run writes to the store.
    ConfigurationError
        If not exactly one of the two is given.
    """
    if (keep_last is None) == (older_than is None):
        raise ConfigurationError(f"expected one of {keep_last=} and {older_than=}")
    run = store_of(store)
    run.open()  # first, so that no lock is made beside what is no run
    with _locked(run):
        if older_than is not None:
            return run.expire(_before(older_than))
        return run.keep_last(check_count("keep_last", keep_last or 0))


def _before(age: timedelta) -> datetime:
    """Return the time that is so long ago; the earliest possible, if that is longer."""
    now = datetime.now(UTC)
    return now - min(age, now - datetime.fromtimestamp(0, UTC))


@contextmanager
def _locked(run: CheckpointStore) -> Iterator[None]:
    release = run.lock()
    try:
        yield
    finally:
        release()


def _lazy(version: Version, column: Column, grid: ChunkGrid) -> da.Array:
    """Make a lazy array of the chunks that are stored."""
    name, layout = column.name, Layout.of(grid)
    _check_shape(version, name, column.shape(*grid.shape))
    array, none = f"dqlearn-stored-{name}-{version.snapshot}", dict.fromkeys(column.sizes, 0)
    tasks: dict[Any, Task] = {}
    for k in filter(partial(layout.keeps, column), range(layout.n_chunks)):
        key = (array, *column.along(*divmod(k, layout.across), none))
        tasks[key] = Task(key, version.read, name, column.region(*layout.region(k)))
    graph = HighLevelGraph.from_collections(array, tasks)
    others = {dim: (n,) for dim, n in column.sizes.items()}
    rows, columns = _chunks(grid.shape, (layout.rows, layout.columns))
    chunks = column.along(rows, columns, others)
    return da.Array(graph, array, chunks, np.dtype(version.array(name).dtype))


def _chunks(shape: tuple[int, int], chunk: tuple[int, int]) -> tuple[tuple[int, ...], ...]:
    return tuple(
        tuple(min(size, n - first) for first in range(0, n, size))
        for n, size in zip(shape, chunk, strict=True)
    )
