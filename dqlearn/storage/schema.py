"""How a run lies in its repository: one Zarr group of arrays and JSON.

::

    q, visits                        (state, action)   chunks all alike, as Zarr wants them
    action                           (action,)         names of the actions, if they have some
    a factor of states, ...          (state,)          if they are made of several, and not too many
    known/        state, q, visits   (chunk, place, .) a sparse table: what each chunk knows, as it
                  n                  (chunk,)          stands there
    environments/ state, elapsed,    (shard, lane)     compiled environments; one chunk a shard
                  returns, steps
    batches/      state, action,     (shard, row)      policy_lag 1: made, not yet learned from
                  reward, next_state
    history/      int, float         (round, column)   what every round reported, by kind
                  int_column, ...    (column,)         names of the columns
    attributes                       settings, spaces, counters

A table that is not sparse is one that ``xarray.open_zarr`` understands alone, and so is a history.
Earlier runs have no names there, and one name for the columns of both kinds. `value` and `policy`
are not stored: they follow from q, and would make a checkpoint by 8 to 33 % larger.

Where the grid's chunks are all alike, but for the last, a stored chunk is a chunk of the grid, and
is written whole by the worker that holds it; else it is put together of those that it overlaps.
Invariant: every chunk has one writer in a checkpoint, and carries a CRC32C.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from dqlearn.envs.tabular import TabularEnv
from dqlearn.kernels.summary import action_dtype
from dqlearn.stages.plan import Plan
from dqlearn.stages.rollout import state_dtype
from dqlearn.table.grid import ChunkGrid, Slices
from dqlearn.table.hash_grid import HashGrid
from dqlearn.table.history import STORED as HISTORY
from dqlearn.table.views.axes import VARIABLES, factors_of, state_coordinates

__all__ = ["FORMAT", "Layout", "define"]

FORMAT = 1
"""Of the repository; another number is another layout."""

_HISTORY_ROWS = 4096
_PLACES = 2**36  # for the states of a sparse chunk; what is not written takes no room
_PLACES_IN_CHUNK = 2**16


@dataclass(frozen=True)
class Layout:
    """A table's grid on Zarr's.

    Attributes
    ----------
    grid : ChunkGrid
        The table's chunks, as they are now.
    rows, columns : int
        States and actions of a stored chunk.
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
        """Stored chunks along the actions."""
        return -(-self.grid.shape[1] // self.columns)

    @property
    def n_chunks(self) -> int:
        """Stored chunks, numbered row by row."""
        return -(-self.grid.shape[0] // self.rows) * self.across

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
        """Iterate over those chunks, what of each belongs to the stored chunk, and where in it."""
        return self.grid.overlaps(self.region(k))


def _alike(sizes: tuple[int, ...]) -> int:
    """Return the size of a stored chunk along one axis."""
    regular = all(size == sizes[0] for size in sizes[:-1]) and sizes[-1] <= sizes[0]
    return sizes[0] if regular else max(sizes)


def define(group: zarr.Group, plan: Plan, attrs: Mapping[str, Any]) -> None:
    """Make a run's arrays, all empty: what is never written takes no room.

    Parameters
    ----------
    group : zarr.Group
        Empty.
    plan : Plan
        Of the run.
    attrs : mapping
        The attributes of its table.
    """
    group.update_attributes({**attrs, "dqlearn_format": FORMAT})
    if isinstance(plan.grid, HashGrid):
        _define_known(group.create_group("known"), plan)
    else:
        _define_table(group, plan, Layout.of(plan.grid), attrs)
    if isinstance(plan.env, TabularEnv):
        _define_environments(group.create_group("environments"), plan)
    if plan.policy_lag:
        _define_batches(group.create_group("batches"), plan)
    history = group.create_group("history")
    for kind, names in HISTORY.items():
        shape, chunk = (0, len(names)), (_HISTORY_ROWS, len(names))
        array = _array(history, kind, shape, chunk, np.dtype(kind), ("round", f"{kind}_column"))
        array.attrs["columns"] = names
        _names(history, f"{kind}_column", names)


def _define_table(group: zarr.Group, plan: Plan, layout: Layout, attrs: Mapping[str, Any]) -> None:
    chunk, n_states = (layout.rows, layout.columns), plan.grid.shape[0]
    states = da.arange(n_states, chunks=layout.rows, dtype=np.int64)
    coordinates = state_coordinates(factors_of(attrs), states)
    for name, dtype, fill in (
        ("q", plan.dtype, plan.initial_value),
        ("visits", np.dtype(np.uint32), 0),
    ):
        dims, about = VARIABLES[name]
        array = _array(group, name, plan.grid.shape, chunk, dtype, dims, fill)
        named = {"coordinates": " ".join(coordinates)} if coordinates else {}
        array.update_attributes({**about, **named})
    for name, variable in coordinates.items():
        array = _array(group, name, (n_states,), chunk[:1], variable.dtype, ("state",))
        array[:] = variable.data.compute(scheduler="synchronous")
        array.update_attributes({k: np.asarray(v).tolist() for k, v in variable.attrs.items()})
    if (labels := json.loads(attrs["action_labels"])) is not None:
        _names(group, "action", labels)


def _names(group: zarr.Group, dim: str, names: Sequence[str]) -> None:
    """Write what the places along a dimension are called."""
    array = group.create_array(
        dim,
        shape=(len(names),),
        chunks=(len(names),),
        dtype="string",
        compressors=[ZstdCodec(level=0), Crc32cCodec()],
        dimension_names=(dim,),
    )
    array[:] = np.array([str(name) for name in names], object)


def _define_known(group: zarr.Group, plan: Plan) -> None:
    (_, n_actions), n = plan.grid.shape, plan.grid.n_chunks
    _array(group, "n", (n,), (1,), np.dtype(np.int64), ("chunk",))
    shape, chunk, dims = (n, _PLACES), (1, _PLACES_IN_CHUNK), ("chunk", "place")
    _array(group, "state", shape, chunk, np.dtype(np.int64), dims)
    for name, dtype, fill in (
        ("q", plan.dtype, plan.initial_value),
        ("visits", np.dtype(np.uint32), 0),
    ):
        whole, own = (*shape, n_actions), (*chunk, n_actions)
        _array(group, name, whole, own, dtype, (*dims, "action"), fill)


def _define_environments(group: zarr.Group, plan: Plan) -> None:
    shape, chunk = (plan.shards, _lanes(plan)), (1, _lanes(plan))
    columns = {"state": state_dtype(plan.grid.shape[0]), "elapsed": np.int64, "returns": np.float64}
    for name, dtype in columns.items():
        _array(group, name, shape, chunk, np.dtype(dtype), ("shard", "lane"))
    _array(group, "steps", (plan.shards,), (1,), np.dtype(np.int64), ("shard",))


def _define_batches(group: zarr.Group, plan: Plan) -> None:
    rows = _lanes(plan) * plan.steps_per_round
    place = np.dtype(state_dtype(plan.grid.shape[0]))
    columns = {
        "state": place,
        "action": np.dtype(action_dtype(plan.n_actions)),
        "reward": plan.dtype,
        "next_state": place,
    }
    for name, dtype in columns.items():
        _array(group, name, (plan.shards, rows), (1, rows), dtype, ("shard", "row"))
    _array(group, "length", (plan.shards,), (1,), np.dtype(np.int64), ("shard",))


def _lanes(plan: Plan) -> int:
    """Environments of the largest shard."""
    return int(np.diff(plan.first_envs).max())


def _array(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: np.dtype[Any],
    dims: tuple[str, ...],
    fill: float = 0,
) -> zarr.Array[Any]:
    # Measured on tables of 6 % and 100 % of drawn values: Zstandard is the faster one on floats,
    # which hardly compress, LZ4 on counts, which do.
    lz4 = BloscCodec(cname="lz4", clevel=3, shuffle="shuffle")
    codecs = [ZstdCodec(level=0) if dtype.kind == "f" else lz4, Crc32cCodec()]
    return group.create_array(
        name,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        fill_value=fill,
        compressors=codecs,
        filters=None,
        dimension_names=dims,
    )
