"""P2: workers die by SIGKILL in mid-run, and the result has the bits of a run without deaths.

The killer lives in the client. When told of a round it waits for a random moment, so that death
comes in whatever the cluster is doing by then: a round, the way back from the last death, a fetch.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dask
import pytest
from cases import RUNS, Run, bits, undisturbed
from distributed import Client, LocalCluster

from dqlearn.callbacks import Callback
from dqlearn.events import RoundEnd

pytestmark = pytest.mark.cluster


class Killer(Callback):
    """Kills workers of a cluster, one at a time, at random moments of a run."""

    every_rounds = 2

    def __init__(self, cluster: LocalCluster, kills: int, seed: int) -> None:
        self.nannies = cluster.workers
        self.draw = random.Random(seed)
        self.to_kill = kills
        self.killed: list[int] = []
        self.timer = threading.Timer(0, lambda: None)

    def on_round_end(self, event: RoundEnd) -> None:
        if not self.timer.is_alive() and self.to_kill:
            self.to_kill -= 1
            self.timer = threading.Timer(self.draw.uniform(0.0, 0.3), self.kill)
            self.timer.start()

    def kill(self) -> None:
        alive = [nanny.pid for nanny in self.nannies.values() if nanny.pid]
        victim = self.draw.choice(alive)
        os.kill(victim, signal.SIGKILL)
        self.killed.append(victim)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two workers that come back whenever they are killed."""
    # A LocalCluster gives a worker up that is dead 15 s after one of its deaths, be it by another.
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
    ):
        yield cluster


def longer(name: str, rounds: int) -> Run:
    return replace(RUNS[name], timesteps=rounds * RUNS[name].settings.round_timesteps)


def survives(cluster: LocalCluster, run: Run, kills: int, seed: int, **changes: Any) -> None:
    with Client(cluster):
        killer = Killer(cluster, kills, seed)
        learner = run.learner(chunks=(-(-run.n_states // 3), -1), **changes)
        learner.learn(run.timesteps, callback=killer)
        killer.timer.join()
        assert len(killer.killed) == kills
        assert learner.timesteps == run.timesteps
        assert bits(learner) == undisturbed(run, **changes)


@pytest.mark.parametrize("name", ["torus", "lake"])
def test_killed_workers_leave_no_trace(cluster: LocalCluster, name: str) -> None:
    survives(cluster, longer(name, rounds=20), kills=2, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("policy_lag", [0, 1])
@pytest.mark.parametrize("name", RUNS)
def test_many_killed_workers_leave_no_trace(
    cluster: LocalCluster, name: str, policy_lag: int
) -> None:
    run = longer(name, rounds=20)
    survives(cluster, run, kills=4, seed=2, policy_lag=policy_lag)
