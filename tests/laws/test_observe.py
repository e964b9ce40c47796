"""Observed transitions are learned as those of a shard, to the bit, wherever and however."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from distributed import Client
from killing import Killer, Moment, kill_a_worker, live, two_workers
from observing import Resent, Walk, batches, contents, recorded, tell

import dqlearn
from dqlearn import QLearner
from dqlearn.schedules import Linear, VisitCount
from dqlearn.stages.observed.batch import PIECE

SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "schedules": {
        "epsilon": Linear(1.0, 0.1, over=1_500),
        "learning_rate": Linear(0.5, 0.1, over=1_000),
    },
    "visits": {"learning_rate": VisitCount(), "dtype": "float64"},
    "double": {"algorithm": "double_q"},
    "sarsa": {"algorithm": "expected_sarsa", "epsilon": 0.2},
}

GRIDS: dict[str, dict[str, Any]] = {
    "rows": {"chunks": ((7, 9, 9), (4,))},
    "both": {"chunks": ((7, 9, 9), (2, 2))},
    "lag": {"policy_lag": 1},
    "lag, both": {"policy_lag": 1, "chunks": ((7, 9, 9), (2, 2))},
    "gather": {"exchange": "gather"},
    "gather, both": {"exchange": "gather", "chunks": ((7, 9, 9), (2, 2))},
}


def mixed(**settings: Any) -> QLearner:
    """Observe and step in turns."""
    plain = {"seed": 3, "num_envs": 8, "shards": 2, "steps_per_round": 1}
    learner = QLearner("dqlearn/Torus-v0", env_kwargs={"side": 5}, **plain, **settings)
    for i, rows in enumerate(batches(9)):
        learner.observe(**rows)
        if i % 3 == 2:
            learner.learn(learner.num_timesteps + 50)
    return learner


def undisturbed(name: str) -> list[bytes]:
    """What a mixed run must end with: that of one chunk, in tasks of its own."""
    lagged = name.startswith(("lag", "gather"))
    with dask.config.set({"scheduler": "synchronous", "dqlearn.fuse": False}):
        return contents(mixed(**({"policy_lag": 1} if lagged else {}), chunks=(25, 4)))


@pytest.mark.parametrize("name", SETTINGS)
def test_observing_what_an_environment_did_makes_its_table(name: str) -> None:
    log = recorded(**SETTINGS[name])
    for fused in (True, False):
        learner = QLearner(Walk, seed=5, num_envs=1, shards=1, **SETTINGS[name])
        with dask.config.set({"dqlearn.fuse": fused}):
            told = tell(learner, log.rounds)
        assert contents(learner) == contents(log.learner)
        assert [it.learned for it in told] == [len(rows["obs"]) for rows in log.rounds]


def test_the_sources_of_an_ensemble_are_its_environments() -> None:
    rule = {"algorithm": "ensemble:3:sum:own", "seed": 5}
    log = recorded(num_envs=3, steps_per_round=4, **rule)
    named, in_turn = (QLearner(Walk, num_envs=3, shards=1, **rule) for _ in range(2))
    for rows in log.rounds:
        named.observe(**rows, source=np.arange(len(rows["obs"])) % 3)
        in_turn.observe(**rows)
    assert contents(named) == contents(log.learner)
    assert contents(in_turn) == contents(log.learner)


@pytest.mark.parametrize("name", ["fused", *GRIDS])
def test_no_grid_shows_in_what_is_observed_and_stepped_in_turns(name: str) -> None:
    assert contents(mixed(**GRIDS.get(name, {}))) == undisturbed(name)


def test_no_grid_shows_in_a_batch_of_several_pieces() -> None:
    (rows,) = batches(1, n=PIECE + 1_000)

    def observed(fuse: bool, **settings: Any) -> list[bytes]:
        learner = Resent(Path(), settings, 0).learner()
        with dask.config.set({"dqlearn.fuse": fuse}):
            learner.observe(**rows)
        return contents(learner)

    whole = observed(True)
    assert observed(True, chunks=((7, 9, 9), (4,))) == whole
    assert observed(False, chunks=((7, 9, 9), (2, 2))) == whole
    assert observed(False, exchange="gather", chunks=(7, 4)) == whole


def test_a_sparse_table_observes_what_a_dense_one_does() -> None:
    dense, sparse = mixed(exchange="gather").table, mixed(sparse=True).table
    known = sparse.to_xarray()
    assert known.sizes["state"] == 25
    order = np.argsort(known["state"].values)
    assert known["q"].values[order].tobytes() == dense.q.compute().tobytes()
    assert known["visits"].values[order].tobytes() == dense.visits.compute().tobytes()


@pytest.mark.parametrize("name", ["both", "lag, both", "gather, both"])
def test_a_table_out_of_core_observes_what_one_in_memory_does(name: str) -> None:
    maxima = 2 * 25 * 5  # bytes
    with dask.config.set({"dqlearn.memory-limit": f"{maxima + 1} B"}):
        learner = mixed(**GRIDS[name])
        assert learner._placed_plan.out_of_core
        assert contents(learner) == undisturbed(name)


@pytest.mark.cluster
@pytest.mark.parametrize("name", ["fused", "rows", "lag, both", "gather, both"])
def test_a_cluster_observes_what_a_process_does(name: str, client: Client) -> None:
    with dask.config.set({"dqlearn.fuse": name == "fused"}):
        assert contents(mixed(**GRIDS.get(name, {}))) == undisturbed(name)


@pytest.mark.cluster
@pytest.mark.parametrize(
    "settings", [{"steps_per_round": 2}, {"policy_lag": 1}, {"exchange": "gather"}], ids=str
)
def test_python_environments_wait_while_their_learner_observes(
    settings: dict[str, Any], client: Client
) -> None:
    def learned() -> list[bytes]:
        learner = QLearner(Walk, num_envs=4, shards=2, seed=5, **settings)
        learner.learn(16).observe([3, 4], [0, 1], [0.0, 1.0], [4, 5], [False, True])
        return contents(learner.learn(learner.num_timesteps + 32))

    with dask.config.set(scheduler="threads"):
        here = learned()
    assert learned() == here


@pytest.mark.cluster
def test_what_was_observed_outlives_the_workers() -> None:
    draw, log = random.Random(1), batches(30)
    with two_workers() as cluster, Client(cluster):
        learner = Resent(Path(), {"chunks": (7, 4)}, 0).learner()
        for i, rows in enumerate(log):
            if i in (9, 20):
                kill_a_worker(cluster, draw)
            learner.observe(**rows)
        made, sources = contents(learner), learner.sources
    peaceful = Resent(Path(), {}, 0).learner()
    tell(peaceful, log)
    assert (made, sources) == (contents(peaceful), peaceful.sources)


@pytest.mark.cluster
@pytest.mark.parametrize("settings", [{}, {"exchange": "gather"}], ids=["broadcast", "gather"])
def test_a_run_that_goes_back_observes_again_what_lies_between(settings: dict[str, Any]) -> None:
    """Rounds of environments, observed ones, and others, in which workers die."""
    first, second = batches(8)[:4], batches(8)[4:]

    def learned(*killers: Killer) -> tuple[list[bytes], object]:
        learner = Resent(Path(), {"chunks": (7, 4), **settings}, 0).learner().learn(80)
        for log in (first, second):
            tell(learner, log)
            learner.learn(learner.num_timesteps + 240, callback=killers)
        return contents(learner), learner.sources

    here = learned()
    with two_workers() as cluster, Client(cluster):
        killer = Killer(cluster, kills=3, seed=2, every_rounds=5)
        assert learned(killer) == here
        assert killer.killed
        killer.join()


def test_a_saved_table_has_the_numbers_of_its_sources(tmp_path: Path) -> None:
    log = batches(6)
    whole, first = Resent(tmp_path, {}, 0).learner(), Resent(tmp_path, {}, 0).learner()
    tell(whole, log)
    tell(first, log[:4])
    first.save(tmp_path / "q.zarr")
    second = dqlearn.load(tmp_path / "q.zarr")
    told = tell(second, log)
    assert [it.learned for it in told] == [0, 0, 0, 0, 40, 40]
    assert [it.duplicates for it in told] == [40, 40, 40, 40, 0, 0]
    assert contents(second) == contents(whole)
    assert second.sources == whole.sources


def dies_and_is_told_again(store: Path, settings: dict[str, Any], kills: int, seed: int) -> None:
    """Kill so many clients, at moments of their lives; each is told the log from its beginning."""
    draw, peaceful, n = random.Random(seed), Resent(store / "whole", settings, 120), 0
    ending = live(peaceful)
    while kills:
        job, n = Resent(store / str(n), settings, 120), n + 1
        while (found := live(job, moment_of(draw) if kills else None)) is None:
            kills -= 1
        assert found == ending


def moment_of(draw: random.Random) -> Moment:
    """Draw a moment: any, or one while a checkpoint is committed."""
    if draw.random() < 0.5:
        return Moment(draw.uniform(0.0, 1.5))
    return Moment(draw.uniform(0.0, 0.005), draw.randrange(1, 40), ("snapshots", "refs", "chunks"))


def test_a_log_that_is_sent_again_is_learned_once(tmp_path: Path) -> None:
    dies_and_is_told_again(tmp_path, {}, kills=3, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("settings", "kills"),
    [({}, 20), ({"sparse": True}, 5), ({"policy_lag": 1, "chunks": (7, 4)}, 5)],
    ids=["fused", "sparse", "lag"],
)
def test_a_log_that_is_sent_again_and_again_is_learned_once(
    settings: dict[str, Any], kills: int, tmp_path: Path
) -> None:
    dies_and_is_told_again(tmp_path, settings, kills=kills, seed=1)
