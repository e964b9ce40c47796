"""The schema of a run in its store: named arrays and JSON.

::

    q, visits                        (state, action)   chunks all alike, as Zarr wants them;
                                                       so is any column of table/columns.py
    action                           (action,)         names of the actions, if they have some
    a factor of states, ...          (state,)          if states have several, and are not too many
    known/        state, q, visits   (chunk, place, .) a sparse table: the rows of each chunk, in
                  n                  (chunk,)          the chunk's order
    environments/ state, elapsed,    (shard, lane)     compiled environments; one chunk a shard
                  returns, steps
    batches/      state, action,     (shard, row)      policy_lag 1: made, not yet learned from
                  reward, next_state
                  masked, valid      (shard, row, .)  masks of Python environments
    history/      int, float         (round, column)   what every round reported, by kind
                  int_column, ...    (column,)         names of the columns
    attributes                       settings, spaces, counters

``xarray.open_zarr`` can open a table that is not sparse, and a history, by itself. Stores of
earlier versions have no arrays of names, and one dimension for the columns of both kinds. `value`
and `policy` are not stored: they follow from q, and would make a checkpoint 8 to 33 % larger.

Where all chunks of the grid but the last have one size, a stored chunk is a chunk of the grid, and
is written whole by the worker that holds it; else it is assembled from the chunks it overlaps.
Invariant: every chunk has one writer in a checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt

from dqlearn.envs.python.gymnasium_env import PythonEnv
from dqlearn.envs.tabular import TabularEnv
from dqlearn.kernels.summary import action_dtype
from dqlearn.stages.plan import Plan
from dqlearn.stages.rollout import state_dtype
from dqlearn.storage.protocol import Version
from dqlearn.table.columns import COLUMNS, Column
from dqlearn.table.grid import ChunkGrid, Slices
from dqlearn.table.hash_grid import HashGrid
from dqlearn.table.history import STORED as HISTORY
from dqlearn.table.history import History
from dqlearn.table.snapshot import ArraySpec
from dqlearn.table.views.axes import factors_of, state_coordinates

__all__ = ["Layout", "arrays_of", "new_rows"]

_HISTORY_ROWS = 4096
_PLACES = 2**36  # for the states of a sparse chunk; what is not written takes no room
_PLACES_IN_CHUNK = 2**16


@dataclass(frozen=True)
class Layout:
    """A table's grid, mapped to the chunks of Zarr.

    Attributes
    ----------
    grid : ChunkGrid
        The grid of the table's chunks, as they are now.
    rows, columns : int
        Numbers of states and of actions of a stored chunk.
    """

    grid: ChunkGrid
    rows: int
    columns: int

    @classmethod
    def of(cls, grid: ChunkGrid, at_rest: ChunkGrid | None = None) -> Layout:
        """Lay out a grid: its own chunks, or those of the grid that the arrays were made for."""
        stored = at_rest or grid
        return cls(grid, _alike(stored.rows), _alike(stored.columns))

    @property
    def across(self) -> int:
        """Number of stored chunks along the actions."""
        return -(-self.grid.shape[1] // self.columns)

    @property
    def n_chunks(self) -> int:
        """Number of stored chunks; they are numbered row by row."""
        return -(-self.grid.shape[0] // self.rows) * self.across

    def keeps(self, column: Column, k: int) -> bool:
        """Whether a stored chunk has a part of a column; without actions, one in each row has."""
        return "action" in column.dims or k % self.across == 0

    def region(self, k: int) -> Slices:
        """Return the states and the actions of a stored chunk."""
        i, j = divmod(k, self.across)
        n_states, n_actions = self.grid.shape
        return (
            slice(i * self.rows, min((i + 1) * self.rows, n_states)),
            slice(j * self.columns, min((j + 1) * self.columns, n_actions)),
        )

    def owners(self, k: int) -> list[int]:
        """Return the chunks of the grid that a stored chunk overlaps."""
        return self.grid.owners(self.region(k))

    def overlaps(self, k: int) -> Iterator[tuple[int, Slices, Slices]]:
        """Iterate over those chunks, the part of each in the stored chunk, and where in it."""
        return self.grid.overlaps(self.region(k))


def _alike(sizes: tuple[int, ...]) -> int:
    """Return the size of a stored chunk along one axis."""
    regular = all(size == sizes[0] for size in sizes[:-1]) and sizes[-1] <= sizes[0]
    return sizes[0] if regular else max(sizes)


def arrays_of(
    plan: Plan, attrs: Mapping[str, Any], columns: Sequence[Column] = COLUMNS
) -> Iterator[ArraySpec]:
    """Yield a run's arrays, all empty but for coordinates: what is never written takes no room.

    Parameters
    ----------
    plan : Plan
        The run's plan.
    attrs : mapping
        The attributes of its table.
    columns : sequence of Column
        Columns of the table's chunks.

    Yields
    ------
    ArraySpec
    """
    if isinstance(plan.grid, HashGrid):
        yield from _within("known", _known(plan, columns))
    else:
        yield from _table(plan, Layout.of(plan.grid), attrs, columns)
    if isinstance(plan.env, TabularEnv):
        yield from _within("environments", _environments(plan))
    if plan.policy_lag or plan.waits:
        yield from _within("batches", _batches(plan))
    for kind, names in HISTORY.items():
        yield from _within("history", _history(kind, names))


def _within(group: str, arrays: Iterator[ArraySpec]) -> Iterator[ArraySpec]:
    return (replace(spec, name=f"{group}/{spec.name}") for spec in arrays)


def _table(
    plan: Plan, layout: Layout, attrs: Mapping[str, Any], columns: Sequence[Column]
) -> Iterator[ArraySpec]:
    n_states, sizes = plan.grid.shape[0], (layout.rows, layout.columns)
    states = da.arange(n_states, chunks=layout.rows, dtype=np.int64)
    coordinates = state_coordinates(factors_of(attrs), states)
    named = {"coordinates": " ".join(coordinates)} if coordinates else {}
    for column in columns:
        whole, chunk = column.shape(*plan.grid.shape), column.shape(*sizes)
        yield _column(column, column.dims, whole, chunk, plan, {**column.about, **named})
    for name, variable in coordinates.items():
        values = variable.data.compute(scheduler="synchronous")
        about = {k: np.asarray(v).tolist() for k, v in variable.attrs.items()}
        yield ArraySpec(
            name, ("state",), (n_states,), sizes[:1], values.dtype, attributes=about, values=values
        )
    if (labels := json.loads(attrs["action_labels"])) is not None:
        yield _names("action", labels)


def _column(
    column: Column,
    dims: tuple[str, ...],
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    plan: Plan,
    about: Mapping[str, Any],
) -> ArraySpec:
    dtype, fill = column.dtype_in(plan.dtype), column.fill_in(plan.initial_value)
    return ArraySpec(column.name, dims, shape, chunks, dtype, fill, about)


def _names(dim: str, names: Sequence[str]) -> ArraySpec:
    """Return a coordinate with the names of the places along a dimension."""
    texts, n = np.array([str(name) for name in names], object), (len(names),)
    return ArraySpec(dim, (dim,), n, n, texts.dtype, values=texts)


def _known(plan: Plan, columns: Sequence[Column]) -> Iterator[ArraySpec]:
    (_, n_actions), n = plan.grid.shape, plan.grid.n_chunks
    yield ArraySpec("n", ("chunk",), (n,), (1,), np.dtype(np.int64))
    shape, chunk, dims = (n, _PLACES), (1, _PLACES_IN_CHUNK), ("chunk", "place")
    yield ArraySpec("state", dims, shape, chunk, np.dtype(np.int64))
    for column in columns:
        rest = column.shape(1, n_actions)[1:]
        whole = (*dims, *column.dims[1:])
        yield _column(column, whole, (*shape, *rest), (*chunk, *rest), plan, {})


def _environments(plan: Plan) -> Iterator[ArraySpec]:
    shape, chunk = (plan.shards, _lanes(plan)), (1, _lanes(plan))
    fields = {"state": state_dtype(plan.grid.shape[0]), "elapsed": np.int64, "returns": np.float64}
    for name, dtype in fields.items():
        yield ArraySpec(name, ("shard", "lane"), shape, chunk, np.dtype(dtype))
    yield ArraySpec("steps", ("shard",), (plan.shards,), (1,), np.dtype(np.int64))


def _batches(plan: Plan) -> Iterator[ArraySpec]:
    rows = _lanes(plan) * plan.most_learned
    place = np.dtype(state_dtype(plan.grid.shape[0]))
    fields = {
        "state": place,
        "action": np.dtype(action_dtype(plan.n_actions * plan.grid.members)),
        "reward": plan.dtype,
        "next_state": place,
    }
    if plan.waits:
        fields |= {"lane": np.dtype(np.int32), "edge": np.dtype(np.uint8)}
    for name, dtype in fields.items():
        yield ArraySpec(name, ("shard", "row"), (plan.shards, rows), (1, rows), dtype)
    yield ArraySpec("length", ("shard",), (plan.shards,), (1,), np.dtype(np.int64))
    if isinstance(plan.env, PythonEnv) and plan.env.masks:
        yield from _masks(plan, rows)


def _masks(plan: Plan, rows: int) -> Iterator[ArraySpec]:
    """Yield the masks that come with a batch: states, their valid actions, and how many."""
    dims, shape, chunk = ("shard", "row"), (plan.shards, rows), (1, rows)
    n = plan.n_actions
    yield ArraySpec("masked", dims, shape, chunk, np.dtype(np.int64))
    yield ArraySpec("valid", (*dims, "action"), (*shape, n), (*chunk, n), np.dtype(np.uint8))
    yield ArraySpec("masks", ("shard",), (plan.shards,), (1,), np.dtype(np.int64))


def _history(kind: str, names: Sequence[str]) -> Iterator[ArraySpec]:
    n, dims = len(names), ("round", f"{kind}_column")
    about = {"columns": names}
    yield ArraySpec(kind, dims, (0, n), (_HISTORY_ROWS, n), np.dtype(kind), attributes=about)
    yield _names(dims[1], names)


def _lanes(plan: Plan) -> int:
    """Return the number of environments in the largest shard."""
    return int(np.diff(plan.first_envs).max())


def new_rows(history: History, base: Version | None) -> dict[str, npt.NDArray[Any]]:
    """Return the rows of a history that are not stored yet, by the names of the arrays.

    Parameters
    ----------
    history : History
        The run's history.
    base : Version, optional
        The checkpoint that has the first rows of the history.

    Returns
    -------
    dict
        The rows to append.
    """
    known = base.array("history/int").shape[0] if base else 0
    return {f"history/{kind}": rows for kind, rows in history.stored(known).items()}
