"""One reader of chunks, shards and batches: of saved tables and of checkpoints, damaged or not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import zarr

from dqlearn import QLearner
from dqlearn.errors import DamagedChunkError, IncompatibleTableError
from dqlearn.runs import store_of
from dqlearn.storage.origin import Origin
from dqlearn.storage.reader import read_batch, read_chunk, read_known, read_listed, read_shard
from dqlearn.table.grid import ChunkGrid
from dqlearn.table.hash_grid import HashGrid
from dqlearn.table.insert import unsettled
from dqlearn.table.snapshot import Snapshot

KWARGS = {"env_kwargs": {"side": 4}, "num_envs": 16, "shards": 2, "seed": 3, "chunks": (5, 3)}
SPARSE = {"sparse": True, "exchange": "gather", "steps_per_round": 1, "chunks": 3}


def learned(folder: Path, **settings: Any) -> QLearner:
    """Return a learner whose table is saved, and whose run has a checkpoint."""
    learner = QLearner("dqlearn/Torus-v0", **{**KWARGS, **settings})
    learner.learn(800, store=folder / "run").save(folder / "q.zarr")
    return learner


def origin(folder: Path, learner: QLearner) -> Origin:
    return Origin(str(folder / "q.zarr"), learner.table.round, learner.num_timesteps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tables_and_checkpoints_are_read_alike(dtype: str, tmp_path: Path) -> None:
    """By any grid, in the dtype that is asked for."""
    learner = learned(tmp_path)
    q, visits = dask.compute(learner.table.q, learner.table.visits)
    grid = ChunkGrid((7, 9), (1, 3))
    snapshots: list[Snapshot] = [origin(tmp_path, learner), store_of(tmp_path / "run").find()]
    for snapshot in snapshots:
        assert (snapshot.round, snapshot.timesteps) == (learner.table.round, learner.num_timesteps)
        assert snapshot.attributes["timesteps"] == learner.num_timesteps
        for c in range(grid.n_chunks):
            chunk = read_chunk(snapshot, grid, c, np.dtype(dtype))
            assert (chunk.q.dtype, chunk.visits.dtype) == (np.dtype(dtype), np.dtype("uint32"))
            np.testing.assert_array_equal(chunk.q, q[grid.region(c)])
            np.testing.assert_array_equal(chunk.visits, visits[grid.region(c)])
            assert chunk.timesteps == chunk.changed == learner.num_timesteps


def test_sparse_tables_and_checkpoints_are_read_alike(tmp_path: Path) -> None:
    """One lists its states, the other has what each chunk knows; of the chunks they make one."""
    learner = learned(tmp_path, **SPARSE)
    grid = HashGrid(16, 4, 3)
    empty = unsettled(grid, 0.0, np.dtype("float32"))
    saved, version = origin(tmp_path, learner), store_of(tmp_path / "run").find()
    for c in range(grid.n_chunks):
        listed, known = read_listed(saved, grid, c, empty), read_known(version, c, empty)
        assert listed.known is not None
        assert known.known is not None
        states = np.sort(listed.known.states)
        rows = [chunk.known.rows(states) for chunk in (listed, known) if chunk.known]
        for name in listed.columns:
            ours, theirs = listed.columns[name][rows[0]], known.columns[name][rows[1]]
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("settings", [{}, SPARSE])
def test_a_table_that_was_replaced(settings: dict[str, Any], tmp_path: Path) -> None:
    """It is found out whatever is read, and named; also where the other one has another shape."""
    learner = learned(tmp_path, **settings)
    saved = origin(tmp_path, learner)
    other = QLearner("dqlearn/Torus-v0", **{**KWARGS, **settings, "env_kwargs": {"side": 5}})
    other.learn(1600).save(tmp_path / "q.zarr", overwrite=True)
    for use in (
        lambda: saved.read("q", (slice(0, 1), slice(0, 4))),
        lambda: saved.array("q"),
        lambda: saved.attributes,
        lambda: saved.read("nothing", (slice(0, 1),)),
    ):
        with pytest.raises(IncompatibleTableError, match="it was replaced after it was loaded"):
            use()


@pytest.mark.parametrize("settings", [{}, SPARSE])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_table_that_is_not_finite(value: float, settings: dict[str, Any], tmp_path: Path) -> None:
    learner = learned(tmp_path, **settings)
    array: Any = zarr.open_group(tmp_path / "q.zarr", mode="r+")["q"]
    array[1, 1] = value
    with pytest.raises(IncompatibleTableError, match="must have finite values"):
        origin(tmp_path, learner).read("q", (slice(0, 3), slice(0, 4)))


def test_a_table_with_a_part_missing(tmp_path: Path) -> None:
    learner = learned(tmp_path)
    (tmp_path / "q.zarr" / "q" / "c" / "0" / "0").unlink()
    with pytest.raises(IncompatibleTableError, match="a part of it is missing"):
        read_chunk(origin(tmp_path, learner), ChunkGrid((16,), (4,)), 0, np.dtype("float32"))


@dataclass(frozen=True)
class Says:
    """A snapshot that says something else."""

    snapshot: Snapshot
    attributes: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.snapshot, name)


def test_shards_and_batches(tmp_path: Path) -> None:
    """What a batch counts are attributes, which may say anything."""
    learned(tmp_path, policy_lag=1)
    version = store_of(tmp_path / "run").find()
    shard, batch = read_shard(version, 1, 8, 8), read_batch(version, 1)
    assert len(shard.state) == 8
    assert len(batch.state) == batch.tally.n_transitions > 0
    (first, second) = version.attributes["batches/tallies"]
    wrong = [None, [], "no", [first], [first, {}], [first, second | {"more": "1"}], [first, None]]
    wrong += [[first, second | {"n_transitions": text}] for text in ("", "1.5", "x")]
    for tallies in wrong:
        says = Says(version, {**version.attributes, "batches/tallies": tallies})
        with pytest.raises(DamagedChunkError, match="what batch 1 counts cannot be read from"):
            read_batch(says, 1)  # type: ignore[arg-type]
    with pytest.raises(DamagedChunkError, match="array 'batches/nothing' cannot be read"):
        replace(version, number=7).read("batches/nothing", (slice(0, 1),))
