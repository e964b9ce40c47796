"""Chunks that are cut anew by their loads: no bit of any result tells of it."""

from __future__ import annotations

import functools
import json
import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import numpy as np
import psutil
import pytest
import xarray as xr
import zarr
from cases import Bits, bits, read_beside
from distributed import Client, LocalCluster
from killing import kill_a_worker, two_workers
from skewed import COMPILED, MODEL, N_ACTIONS, N_STATES, PATHS, anywhere, batch, learner, skewed

import dqlearn
from dqlearn import QLearner, TabularEnv
from dqlearn.schedules import Constant
from dqlearn.table.views.arrays import Table

each_path = pytest.mark.parametrize("exchange", PATHS)
LARGE = COMPILED | {"steps_per_round": 1024}  # rounds that pay for other chunks on a cluster
LOOK = 8  # rounds


@functools.cache
def at_round(exchange: str, rounds: int) -> Bits:
    """Hash what one thread learns, which has nobody to share a load with."""
    with dask.config.set(scheduler="synchronous"):
        alone = learner(exchange).learn(rounds * batch(exchange))
    assert len(set(alone.table.grid.rows)) == 1
    return bits(alone)


@functools.cache
def undisturbed(rounds: int) -> Bits:
    """Hash what one thread learns in large rounds."""
    with dask.config.set(scheduler="synchronous"):
        return bits(learner("broadcast", **LARGE).learn(rounds * 4 * batch("broadcast")))


def hashed(table: Table | xr.Dataset) -> Bits:
    arrays = [
        table[name].data if isinstance(table, xr.Dataset) else getattr(table, name)
        for name in ("q", "visits")
    ]
    return Bits.of(*dask.compute(*arrays))


def is_cut_anew(here: QLearner) -> bool:
    """Whether the largest share of the visits that a chunk has is about that of one of three."""
    visits, grid = here.table.visits.sum(axis=1).compute(), here.table.grid
    shares = np.add.reduceat(visits, grid.row_edges[:-1]) / visits.sum()
    assert grid.shape == (N_STATES, N_ACTIONS)
    return bool(shares.max() < 0.6)


@each_path
def test_the_bits_are_those_of_chunks_that_stay(exchange: str) -> None:
    """Those of tables too that were taken before, whose arrays the new chunks may be, and after."""
    here, kept = learner(exchange), {}
    here.learn(
        10 * batch(exchange),
        callback=lambda event: kept.setdefault(event.report.round + 1, here.table) and None,
    )
    assert is_cut_anew(here)
    assert bits(here) == at_round(exchange, 10)
    for rounds in (LOOK - 1, LOOK, LOOK + 1):
        assert hashed(kept[rounds]) == at_round(exchange, rounds)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["double_q", "watkins:0.9:4"])
def test_other_rules_are_cut_anew(algorithm: str) -> None:
    """Two tables side by side, or windows, in chunks that are cut anew, and in three that stay."""
    here = learner("broadcast", algorithm=algorithm).learn(10 * batch("broadcast"))
    stay = learner("broadcast", algorithm=algorithm, chunks=(-(-N_STATES // 3), -1))
    stay.learn(10 * batch("broadcast"))
    assert here.table.grid.rows != stay.table.grid.rows
    assert bits(here) == bits(stay)


def test_another_thread_sees_whole_rounds() -> None:
    here = learner("gather").learn(batch("gather"))
    seen = read_beside(here, 20 * batch("gather"), hashed)
    assert is_cut_anew(here)
    for rounds in sorted(seen)[:: max(1, len(seen) // 3)]:
        assert at_round("gather", rounds) == seen[rounds]


@pytest.mark.parametrize("exchange", ["broadcast", "gather"])
def test_checkpoints_go_on_in_the_same_arrays(exchange: str, tmp_path: Path) -> None:
    store = tmp_path / "run"
    here = learner(exchange).learn(
        10 * batch(exchange), store=store, checkpoint_every=dqlearn.Every(rounds=5)
    )
    assert is_cut_anew(here)
    for info in dqlearn.runs.checkpoints(store):
        if info.round:
            assert hashed(dqlearn.open_table(store, at=info.number)) == at_round(
                exchange, info.round
            )
    resumed = dqlearn.resume(store, env=MODEL).learn(12 * batch(exchange))
    assert is_cut_anew(resumed)
    assert bits(resumed) == at_round(exchange, 12)
    assert hashed(dqlearn.open_table(store)) == at_round(exchange, 12)


def test_a_saved_table_is_cut_anew_again(tmp_path: Path) -> None:
    path = str(tmp_path / "q.zarr")
    learner("broadcast").learn(LOOK * batch("broadcast")).save(path)
    assert hashed(xr.open_zarr(path)) == at_round("broadcast", LOOK)
    loaded = dqlearn.load(path, env=MODEL)
    assert bits(loaded) == at_round("broadcast", LOOK)
    more = loaded.num_timesteps + batch("broadcast")
    assert is_cut_anew(loaded.learn(more))
    assert not is_cut_anew(dqlearn.load(path, env=MODEL, chunks=(300_000, -1)).learn(more))


def test_a_stored_grid_of_other_blocks_stays(tmp_path: Path) -> None:
    """As another version of dqlearn may have chosen it."""
    path = str(tmp_path / "q.zarr")
    learner("broadcast").learn(batch("broadcast")).save(path)
    rows = [300_001, N_STATES - 300_001]
    zarr.open_group(path).update_attributes({"chunks": json.dumps([rows, [N_ACTIONS]])})
    loaded = dqlearn.load(path, env=MODEL).learn(10 * batch("broadcast"))
    assert loaded.table.grid.rows == tuple(rows)


def test_chunks_that_were_chosen_stay() -> None:
    chunks = (N_STATES // 3, -1)
    here = learner("broadcast", chunks=chunks).learn(10 * batch("broadcast"))
    assert here.table.grid.rows == (N_STATES // 3,) * 3
    assert bits(here) == at_round("broadcast", 10)


def test_what_is_not_touched_takes_no_memory() -> None:
    """Of a table of 3 GiB only the first states are ever entered."""
    n_states, n_actions = 50_000_000, 8
    model = TabularEnv(n_states, n_actions, anywhere, skewed, params=(1_000_000,))
    before = psutil.Process().memory_info().rss
    here = QLearner(model, **PATHS["gather"], shards=2).learn(LOOK * batch("gather"))
    assert here.table.grid.rows[0] < 1_000_000
    assert here.table.nbytes == n_states * n_actions * 8
    assert psutil.Process().memory_info().rss - before < 0.4 * 2**30


class Breaking(Constant):
    """A learning rate that cannot be computed once, after ten rounds: its chunks are torn."""

    broken = False

    def __call__(self, transitions: int) -> float:
        if transitions == 10 * batch("broadcast") and not self.broken:
            type(self).broken = True
            raise RuntimeError("no rate")
        return super().__call__(transitions)


@pytest.mark.cluster
@pytest.mark.usefixtures("single_rounds")
def test_a_run_goes_back_to_the_chunks_of_its_cut(local_cluster: LocalCluster) -> None:
    """It has moved with other chunks than those that were torn."""
    Breaking.broken, n = False, batch("broadcast")
    here = learner("broadcast")
    here._plan = replace(here._plan, learning_rate=Breaking(0.1))
    with Client(local_cluster):
        here.learn(6 * n)
    with (
        pytest.warns(UserWarning, match="10 failed while it wrote.* is back at round 6"),
        pytest.raises(RuntimeError, match="no rate"),
    ):
        here.learn(12 * n)
    assert not is_cut_anew(here)
    assert hashed(here.table) == at_round("broadcast", 6)
    assert bits(here.learn(12 * n)) == at_round("broadcast", 12)
    assert is_cut_anew(here)


# On clusters


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with two_workers() as cluster:
        yield cluster


@pytest.mark.cluster
@pytest.mark.slow
def test_a_worker_dies_after_chunks_were_cut_anew(cluster: LocalCluster) -> None:
    """Before anything else than their history could bring them back."""
    n, died = 4 * batch("broadcast"), []

    def kill(event: Any) -> None:
        if event.report.round == LOOK + 1:
            died.append(kill_a_worker(cluster, random.Random(0)))

    with Client(cluster):
        here = learner("broadcast", **LARGE).learn(11 * n, callback=kill)
        assert is_cut_anew(here)
    assert died
    assert bits(here) == undisturbed(11)  # here, with what the cluster has learned
    assert bits(here.learn(13 * n)) == undisturbed(13)


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("round_", [LOOK - 1, LOOK])
def test_a_worker_dies_while_chunks_are_cut_anew(cluster: LocalCluster, round_: int) -> None:
    n = 4 * batch("broadcast")
    timers = []

    def kill(event: Any) -> None:
        if event.report.round == round_ - 1 and not timers:
            timers.append(threading.Timer(0.05, kill_a_worker, [cluster, random.Random(0)]))
            timers[0].start()

    with Client(cluster):
        here = learner("broadcast", **LARGE).learn(12 * n, callback=kill)
        timers[0].join()
        assert bits(here) == undisturbed(12)
