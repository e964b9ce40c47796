"""P2: workers die by SIGKILL in mid-run, come and go, and no bit of the result is another one.

Whoever does it lives in the client, in a thread of its own, and waits for random moments, so that
death comes in whatever the cluster is doing by then: a round, a checkpoint, the way back from the
last death, a fetch.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from cases import ALL_RUNS, RUNS, Run, bits
from cases import undisturbed as in_peace
from distributed import Client, LocalCluster
from killing import FOREVER, Killer, Once, Trouble, kill_a_worker, two_workers
from kinds import Ending, Kind, undisturbed

from dqlearn.errors import ClusterLostError

pytestmark = pytest.mark.cluster

LAKE = Kind("lake", restart=True, keep=3)
EVALUATED = Kind("lake", restart=True, evaluated=True)
TORUS = Kind("torus")
LAGGED = Kind("torus", policy_lag=1, keep=3)
ASKING = [
    Kind("asking torus", keep=3),
    Kind("asking lake", restart=True),
    Kind("sparse torus", keep=3),
    Kind("sparse lake", restart=True),
]
RULES = [
    Kind("torus, double_q", policy_lag=1, keep=3),
    Kind("taxi, expected_sarsa", restart=True),
    Kind("short torus, watkins:0.9:16", keep=3),
    Kind("short torus, watkins:0.9:16", policy_lag=1),
    Kind("taxi, watkins:0.9:4", restart=True),
]
KINDS = [
    *(Kind("taxi"), Kind("taxi", restart=True), Kind("lake"), LAKE, EVALUATED, TORUS, LAGGED),
    *RULES,
]
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.soak) for seed in (1, 2))]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with two_workers() as cluster:
        yield cluster


def longer(name: str, rounds: int) -> Run:
    run = ALL_RUNS[name]
    return replace(run, timesteps=rounds * run.settings.round_timesteps)


def survives(cluster: LocalCluster, run: Run, kills: int, seed: int, **changes: Any) -> None:
    with Client(cluster):
        killer = Killer(cluster, kills, seed)
        learner = run.learner(chunks=run.chunks("three" if run.sparse else "states"), **changes)
        learner.learn(run.timesteps, callback=killer)
        killer.join()
        assert len(killer.killed) == kills
        assert learner.num_timesteps >= run.timesteps
        if run.settings.returns[0] == 1:  # else some transitions wait for those that follow
            assert learner.num_timesteps == int(learner.table.visits.sum())
        assert bits(learner) == in_peace(run, **changes)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("asking torus", "asking lake", "sparse torus", "torus, double_q", "taxi, expected_sarsa"),
        *("asking lake, double_q", "sparse torus, double_q", "asking torus, expected_sarsa"),
        *("short torus, watkins:0.9:16", "taxi, watkins:0.9:4"),
    ],
)
def test_killed_workers_leave_no_trace(cluster: LocalCluster, name: str) -> None:
    survives(cluster, longer(name, rounds=40), kills=2, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("policy_lag", [0, 1])
@pytest.mark.parametrize("name", RUNS)
def test_many_killed_workers_leave_no_trace(
    cluster: LocalCluster, name: str, policy_lag: int
) -> None:
    run = longer(name, rounds=40)
    survives(cluster, run, kills=4, seed=2, policy_lag=policy_lag)


# With checkpoints


def lives_through(
    cluster: LocalCluster,
    kind: Kind,
    store: Path,
    seed: int,
    deeds: tuple[str, ...] = Trouble.DEEDS,
) -> None:
    """Do that to the workers while a run with checkpoints goes on."""
    with Client(cluster) as client:
        trouble = Trouble(cluster, client, kind.round, seed, deeds)
        learner = kind.learner()
        learner.learn(FOREVER * kind.round, **kind.saving(store, trouble))
        trouble.repair()
        print(f"{kind}, seed {seed}: {trouble.losses}")  # pytest -rP shows it
        assert learner.num_timesteps < FOREVER * kind.round
        assert Ending.of(learner) == undisturbed(kind, learner.num_timesteps)


def test_workers_come_and_go(cluster: LocalCluster, tmp_path: Path) -> None:
    lives_through(cluster, LAGGED, tmp_path / "run", 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_workers_come_and_go_often(
    cluster: LocalCluster, kind: Kind, seed: int, tmp_path: Path
) -> None:
    lives_through(cluster, kind, tmp_path / "run", 1 + seed)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ASKING, ids=str)
def test_workers_come_and_go_while_shards_ask(
    cluster: LocalCluster, kind: Kind, tmp_path: Path
) -> None:
    lives_through(cluster, kind, tmp_path / "run", 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [LAKE, TORUS], ids=str)
def test_a_worker_runs_out_of_memory(kind: Kind, tmp_path: Path) -> None:
    with two_workers(memory_limit="1 GB") as small:
        lives_through(small, kind, tmp_path / "run", 0, ("starve",))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Kind("taxi"), TORUS], ids=str)
def test_workers_are_exchanged_in_a_run_without_store(cluster: LocalCluster, kind: Kind) -> None:
    with Client(cluster) as client:
        trouble = Trouble(cluster, client, kind.round, 0, ("add", "retire"), every_rounds=5)
        learner = kind.learner().learn(FOREVER * kind.round, callback=trouble)
        trouble.repair()
        assert trouble.retired
        assert Ending.of(learner) == undisturbed(kind, learner.num_timesteps)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Kind("taxi"), TORUS], ids=str)
def test_a_worker_that_joins_gets_its_share(kind: Kind, tmp_path: Path) -> None:
    """After the next checkpoint it holds chunks and shards."""
    shares = []

    def join() -> None:
        cluster.scale(2)
        client.wait_for_workers(2, timeout=60)

    def look() -> None:
        state, executor = learner._run.ownership.state, learner._run.executor
        kept = [[executor._futures[key] for key in keys] for keys in (state.chunks, state.shards)]
        held = [client.who_has(futures) for futures in kept]
        shares.append([set().union(*where.values()) for where in held])

    with (
        dask.config.set({"dqlearn.fuse": False}),
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        learner = kind.learner()
        todo = Once(join, 5), Once(look, 10)  # with a checkpoint after round 8
        learner.learn(11 * kind.round, **kind.saving(tmp_path / "run", *todo))
        assert [[len(workers) for workers in share] for share in shares] == [[2, 2]]
        assert Ending.of(learner) == undisturbed(kind, 11 * kind.round)


@pytest.mark.parametrize(
    "kind", [Kind("taxi"), pytest.param(LAGGED, marks=pytest.mark.slow)], ids=str
)
def test_all_workers_die(cluster: LocalCluster, kind: Kind, tmp_path: Path) -> None:
    """At the same moment; they come back, and hold nothing."""

    def kill_all() -> None:
        for nanny in cluster.workers.values():
            os.kill(nanny.pid, signal.SIGKILL)

    with Client(cluster) as client:
        client.wait_for_workers(2, timeout=60)
        learner = kind.learner()
        learner.learn(11 * kind.round, **kind.saving(tmp_path / "run", Once(kill_all, 6)))
        assert Ending.of(learner) == undisturbed(kind, 11 * kind.round)


@pytest.mark.slow
def test_workers_die_as_runs_begin(cluster: LocalCluster, tmp_path: Path) -> None:
    """While the plan and the first state are placed."""
    draw = random.Random(0)
    with Client(cluster) as client:
        for n in range(8):
            client.wait_for_workers(2, timeout=60)
            timer = threading.Timer(draw.uniform(0, 0.15), kill_a_worker, (cluster, draw))
            timer.start()
            learner = TORUS.learner().learn(6 * TORUS.round, **TORUS.saving(tmp_path / str(n)))
            timer.join()
            assert Ending.of(learner) == undisturbed(TORUS, 6 * TORUS.round)


def test_nothing_is_left_of_a_run_that_lost_a_worker(cluster: LocalCluster, tmp_path: Path) -> None:
    """Neither with the scheduler nor on a worker: its errors do not keep it."""
    with Client(cluster) as client:
        client.wait_for_workers(2, timeout=60)
        kill = Once(partial(kill_a_worker, cluster, random.Random(0)), 6)
        learner = TORUS.learner().learn(11 * TORUS.round, **TORUS.saving(tmp_path / "run", kill))
        assert Ending.of(learner) == undisturbed(TORUS, 11 * TORUS.round)
        del learner
        deadline = time.monotonic() + 20
        while cluster.scheduler.tasks:
            assert time.monotonic() < deadline, list(cluster.scheduler.tasks)
            gc.collect()
            time.sleep(0.1)


def test_a_worker_dies_just_before_what_is_held_is_let_go(cluster: LocalCluster) -> None:
    """What it had can be made again of held results only, and the next report lets those go."""
    with Client(cluster) as client:
        client.wait_for_workers(2, timeout=60)
        learner = TORUS.learner().learn(TORUS.round)
        run = learner._run
        run.points.hold()
        run.submit()
        while not run.executor._futures[run._pending[0].report].done():
            time.sleep(0.01)
        _, without_report = run.executor._homes
        os.kill(client.run(os.getpid)[without_report], signal.SIGKILL)
        while run.executor.intact:
            time.sleep(0.01)
        assert [some[0].round for some in run.collect(wait=True)] == [1]
        learner.learn(8 * TORUS.round)
        assert Ending.of(learner) == undisturbed(TORUS, 8 * TORUS.round)


@pytest.mark.parametrize(
    "kind", [TORUS, pytest.param(Kind("taxi"), marks=pytest.mark.slow)], ids=str
)
def test_a_cluster_goes_and_another_one_goes_on(
    cluster: LocalCluster, kind: Kind, tmp_path: Path
) -> None:
    """From the last checkpoint, in the same process."""
    learner = kind.learner()
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as first:
        saving = kind.saving(tmp_path / "run", Once(first.close, 6))
        with Client(first), pytest.raises(ClusterLostError):
            learner.learn(FOREVER * kind.round, **saving)
    with Client(cluster):
        with pytest.warns(UserWarning, match=r"going back to round [04]"):
            learner.learn(11 * kind.round)
        assert Ending.of(learner) == undisturbed(kind, 11 * kind.round)


def loses_one(cluster: LocalCluster, kind: Kind, store: Path, rounds: int, at: int | None) -> None:
    """Kill a worker at the end of a round, before the other callbacks; or at the very beginning."""
    kill = Once(partial(kill_a_worker, cluster, random.Random(0)), at)
    with Client(cluster):
        learner = kind.learner()
        assert learner.table.round == 0  # its tasks are with the workers by now
        learner.learn(rounds * kind.round, **kind.saving(store, kill))
        assert Ending.of(learner) == undisturbed(kind, rounds * kind.round)


def test_a_worker_dies_before_the_first_checkpoint(cluster: LocalCluster, tmp_path: Path) -> None:
    loses_one(cluster, LAKE, tmp_path / "run", rounds=5, at=None)


@pytest.mark.slow
def test_a_worker_dies_before_an_evaluation(cluster: LocalCluster, tmp_path: Path) -> None:
    loses_one(cluster, EVALUATED, tmp_path / "run", rounds=9, at=6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [LAKE, TORUS, *ASKING], ids=str)
def test_a_worker_dies_between_two_calls(cluster: LocalCluster, kind: Kind, tmp_path: Path) -> None:
    """What is asked of the learner next, it answers as if nothing had happened; so it goes on."""
    alone = kind.learner().learn(8 * kind.round, **kind.saving(tmp_path / "alone"))
    expected = alone.evaluate(20, seed=3).returns.tolist()
    with Client(cluster):
        learner = kind.learner().learn(8 * kind.round, **kind.saving(tmp_path / "run"))
        kill_a_worker(cluster, random.Random(1))
        assert learner.evaluate(20, seed=3).returns.tolist() == expected
        kill_a_worker(cluster, random.Random(2))
        states = np.arange(kind.run.n_states)
        assert learner.predict(states)[0].tolist() == alone.predict(states)[0].tolist()
        learner.learn(12 * kind.round)
        assert Ending.of(learner) == undisturbed(kind, 12 * kind.round)


def interrupted() -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_a_worker_dies_after_a_run_came_from_threads(cluster: LocalCluster, tmp_path: Path) -> None:
    """There it was interrupted with a checkpoint under way, which is older than the move."""
    kind, store = Kind("lake"), tmp_path / "run"
    learner = kind.learner()
    with pytest.raises(KeyboardInterrupt):
        learner.learn(9 * kind.round, **kind.saving(store, Once(interrupted, 5)))
    with Client(cluster):
        kill = Once(partial(kill_a_worker, cluster, random.Random(0)))
        learner.learn(9 * kind.round, **kind.saving(store, kill))
        assert Ending.of(learner) == undisturbed(kind, 9 * kind.round)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS[:2])
@pytest.mark.parametrize("kind", [EVALUATED, LAKE, TORUS, LAGGED], ids=str)
def test_a_worker_dies_at_the_end(
    cluster: LocalCluster, kind: Kind, seed: int, tmp_path: Path
) -> None:
    """In the last round but one, in the last, in the last checkpoint, in the fetch of the table."""
    rounds = 9
    with Client(cluster):
        killer = Killer(cluster, 1, seed, every_rounds=rounds - 2)
        learner = kind.learner()
        learner.learn(rounds * kind.round, **kind.saving(tmp_path / "run", killer))
        killer.join()
        assert len(killer.killed) == 1
        assert Ending.of(learner) == undisturbed(kind, rounds * kind.round)
