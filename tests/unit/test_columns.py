"""A column more, or an axis more, goes wherever q and visits go, and none of that code knows it."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from typing import Any

import dask
import numpy as np
import pytest

from dqlearn import QLearner
from dqlearn.algorithms import Q_LEARNING
from dqlearn.engine.tasks.begin import recut_task
from dqlearn.runs import store_of
from dqlearn.spaces import Factor
from dqlearn.statistics import RoundStats
from dqlearn.storage.protocol import CheckpointStore, Version
from dqlearn.storage.reader import read_chunk, read_known
from dqlearn.storage.reading import _lazy
from dqlearn.storage.schema import Layout, arrays_of
from dqlearn.storage.writer import write_chunk, write_known
from dqlearn.table.chunk import Chunk, filled
from dqlearn.table.columns import COLUMNS, Column
from dqlearn.table.grid import ChunkGrid
from dqlearn.table.hash_grid import HashGrid
from dqlearn.table.insert import filled_with, unsettled
from dqlearn.table.keys import Task
from dqlearn.table.paged import is_paged
from dqlearn.table.views.arrays import Labels, Table
from dqlearn.table.views.sparse import merged

MEMBERS = 2
WIDER = (
    *COLUMNS,
    Column("last", ("state",), {"long_name": "value before", "units": "reward"}, fill=None),
    Column(
        "members",
        ("state", "action", "member"),
        {"long_name": "values of members", "units": "reward"},
        fill=None,
        sizes={"member": MEMBERS},
    ),
    Column("seen", ("state", "member"), {}, np.dtype("uint8"), sizes={"member": MEMBERS}),
)
NAMES = [column.name for column in WIDER]
SHAPES = {"last": (16,), "members": (16, 4, MEMBERS), "seen": (16, MEMBERS)}


def plan(**settings: Any) -> Any:
    kwargs = {"env_kwargs": {"side": 4}, "num_envs": 4, "shards": 1, "initial_value": 0.5}
    return QLearner("dqlearn/Torus-v0", **kwargs, **settings)._plan


def attributes(**more: Any) -> dict[str, Any]:
    factors = json.dumps([{"name": "state", "size": 16, "labels": None}])
    return {"state_factors": factors, "action_labels": "null", **more}


def whole() -> dict[str, np.ndarray[Any, Any]]:
    """Return a table's columns, whose values are all different."""
    found = {}
    for k, column in enumerate(WIDER):
        shape = column.shape(16, 4)
        values = 1 + np.arange(np.prod(shape)).reshape(shape)
        found[column.name] = (values + k).astype(column.dtype_in(np.dtype("float32")))
    return found


def part(grid: ChunkGrid, c: int) -> Chunk:
    """Return chunk c of that table."""
    region = grid.region(c)
    columns = {it.name: whole()[it.name][it.region(*region)].copy() for it in WIDER}
    return Chunk.of(columns, RoundStats(40, 0.0), changed=40)


def assert_columns(chunk: Chunk, expected: dict[str, Any]) -> None:
    assert list(chunk.columns) == NAMES
    for name, values in expected.items():
        assert chunk.columns[name].dtype == values.dtype
        np.testing.assert_array_equal(chunk.columns[name], values)


GRIDS = [
    ChunkGrid((16,), (4,)),
    ChunkGrid((5, 5, 5, 1), (2, 2)),
    ChunkGrid((3, 9, 4), (1, 3)),
]


def committed(store: CheckpointStore, tip: str, results: list[Any], transaction: Any) -> Version:
    counters = {"round": 3, "timesteps": 40}
    return store.commit(transaction, results, counters, {})


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_written_and_read(grid: ChunkGrid) -> None:
    """In chunks of any grid: what is not of actions is stored once, and read by all."""
    store, attrs = store_of(tempfile.mkdtemp()), attributes()
    tip = store.create(arrays_of(replace(plan(), grid=grid), attrs, WIDER), attrs)
    transaction, layout = store.begin(None, tip), Layout.of(grid)
    chunks = [part(grid, c) for c in range(grid.n_chunks)]
    results = [
        write_chunk(transaction.writer, layout, k, [chunks[c] for c in layout.owners(k)], -1, WIDER)
        for k in range(layout.n_chunks)
    ]
    version = committed(store, tip, results, transaction)
    assert sum(each.nbytes for each in results) == sum(it.nbytes for it in whole().values())
    for column in WIDER:
        lazy = _lazy(version, column, grid)
        assert lazy.shape == whole()[column.name].shape
        found = lazy.compute(scheduler="synchronous")
        np.testing.assert_array_equal(found, whole()[column.name])
    for other in GRIDS:
        for c in range(other.n_chunks):
            chunk = read_chunk(version, other, c, np.dtype("float32"), WIDER)
            assert_columns(chunk, part(other, c).columns)


def test_a_sparse_table_is_written_and_read() -> None:
    grid = HashGrid(2**40, 4, 1, 2)
    settings = {"exchange": "gather", "steps_per_round": 1, "sparse": True}
    store, attrs = store_of(tempfile.mkdtemp()), attributes()
    tip = store.create(arrays_of(replace(plan(**settings), grid=grid), attrs, WIDER), attrs)
    empty, states = unsettled(grid, 0.5, np.dtype("float32"), WIDER), np.array([2**39, 7, 6])
    columns = {name: values[:3] for name, values in whole().items()}
    chunk = filled_with(empty, states, columns, 40)
    transaction = store.begin(None, tip)
    version = committed(store, tip, [write_known(transaction.writer, 0, chunk, -1)], transaction)
    again = read_known(version, 0, empty)
    assert again.known is not None
    for found in (chunk, again):
        assert_columns(
            Chunk.of({k: it[found.known.rows(states)] for k, it in found.columns.items()}, None),
            columns,
        )
        nobody = found.columns["members"][found.known.rows(np.array([1000]))]
        assert (nobody == 0.5).all()
    arrays = merged(
        "wider",
        [Task("c", lambda: again)],
        np.sort(states),
        (4, np.dtype("float32"), Q_LEARNING),
        0,
        3,
        WIDER,
    )
    for name, values in columns.items():
        got = arrays[name].compute(scheduler="synchronous")
        assert arrays[name].shape == got.shape
        np.testing.assert_array_equal(got, values[np.argsort(states)])


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_shown(grid: ChunkGrid) -> None:
    labels = Labels((Factor("x", 4), Factor("y", 4)), None, {})
    nodes = [Task(("chunk", c), part, grid, c) for c in range(grid.n_chunks)]
    table = Table(0, grid, np.dtype("float32"), labels, nodes, "run", 0, columns=WIDER)
    with dask.config.set(scheduler="synchronous"):
        dataset = table.to_xarray()
        for name, values in whole().items():
            np.testing.assert_array_equal(dataset[name], values)
            assert dataset[name].dtype == values.dtype
    assert {name: dataset[name].shape for name in SHAPES} == SHAPES
    assert dataset["last"].attrs == {"long_name": "value before", "units": "reward"}


def test_cut_anew() -> None:
    before, after = ChunkGrid((8, 8), (4,)), ChunkGrid((4, 12), (4,))
    recut = replace(plan(), grid=after)
    for c in range(2):
        own = [part(before, i) for i in before.owners(after.region(c))]
        assert_columns(recut_task(recut, before, c, own, 0), part(after, c).columns)


def test_begun_and_paged() -> None:
    chunk = filled((3, 4), 0.5, "float32", columns=WIDER)
    assert (chunk.columns["members"] == 0.5).all()
    assert not chunk.columns["seen"].any()
    paged = chunk.paged()
    assert all(map(is_paged, paged.columns.values()))
    assert_columns(paged, chunk.columns)
    in_memory = sum(array.nbytes for array in chunk.columns.values())
    assert chunk.__sizeof__() - paged.__sizeof__() == in_memory
