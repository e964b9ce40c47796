"""What a death costs: how much longer a run with checkpoints takes than the same run in peace.

worker
    SIGKILL to one of two worker processes, at a random moment; its nanny starts another.
client
    SIGKILL to the one process of a run on threads, at a random moment; a new process resumes it.

    killed    begin ── checkpoint ── checkpoint ── X ─► back to the last checkpoint ─► ... ─► end
    in peace  begin ── checkpoint ── checkpoint ── checkpoint ── ... ─► end

Rounds are the same time, in rounds of the run in peace. A death between two checkpoints makes half
an interval again, on average; what is lost besides is for noticing, processes that start, reading.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import dask
from distributed import Client, LocalCluster
from harness import Report, interleave, options, timed
from problems import EPSILON, LEARNING_RATE, THREADS, torus_problem

from dqlearn import Every, QLearner, resume
from dqlearn.errors import NoCheckpointError

# Of dqlearn: rounds of about a tenth of a second on two cores.
SETTINGS = {"num_envs": 16_384, "steps_per_round": 64, "shards": 2, "chunks": (2**17, -1)}
TINY = {"num_envs": 64, "steps_per_round": 16, "shards": 2, "chunks": (512, -1)}
CLIENT = "import sys, time_lost; time_lost.Run(*map(int, sys.argv[2:])).go_on(sys.argv[1])"


@dataclass(frozen=True)
class Run:
    """A run with checkpoints.

    Attributes
    ----------
    rounds, every : int
        Its rounds, and those from one checkpoint to the next.
    side : int
        Of its torus.
    """

    rounds: int
    every: int
    side: int

    @property
    def settings(self) -> dict[str, Any]:
        return TINY if self.side < 100 else SETTINGS

    def learner(self) -> QLearner:
        problem = torus_problem(self.side)
        rates: Any = {"epsilon": EPSILON, "learning_rate": LEARNING_RATE, "gamma": problem.gamma}
        return QLearner(problem.env, **self.settings, **rates)

    def learn(self, learner: QLearner, store: str) -> None:
        transitions = self.rounds * self.settings["num_envs"] * self.settings["steps_per_round"]
        learner.learn(transitions, store=store, checkpoint_every=Every(rounds=self.every))

    def go_on(self, store: str) -> None:
        """Be a client: begin the run, or resume it; say when."""
        click.echo("begun")
        with dask.config.set(THREADS):
            try:
                learner = resume(store, env=torus_problem(self.side).env)
            except NoCheckpointError:
                learner = self.learner()
            self.learn(learner, store)


class Deaths:
    """Times runs in peace and runs that are killed, in turn.

    Attributes
    ----------
    peace : list of float
        Seconds from the beginning of a run in peace to its end; processes are started before.
    """

    def __init__(self, run: Run, folder: str, seed: int) -> None:
        self.run, self.folder, self.draw = run, folder, random.Random(seed)
        self.peace: list[float] = []

    def place(self) -> str:
        return tempfile.mkdtemp(dir=self.folder) + "/run"

    def moment(self) -> float:
        """Draw seconds after the beginning."""
        return self.draw.uniform(0.1, 0.9) * self.peace[-1]


class Workers(Deaths):
    """Of a worker process."""

    def __init__(self, cluster: LocalCluster, client: Client, *args: Any) -> None:
        super().__init__(*args)
        self.cluster, self.client = cluster, client

    def learn(self) -> float:
        self.client.wait_for_workers(2, timeout=60)
        learner, store = self.run.learner(), self.place()
        return timed(lambda: self.run.learn(learner, store))[0]

    def in_peace(self) -> float:
        self.peace.append(self.learn())
        return self.peace[-1]

    def killed(self) -> float:
        timer = threading.Timer(self.moment(), self.kill)
        timer.start()
        try:
            return self.learn()
        finally:
            timer.join()

    def kill(self) -> None:
        victim = self.draw.choice([nanny.pid for nanny in self.cluster.workers.values()])
        os.kill(victim, signal.SIGKILL)


class Clients(Deaths):
    """Of the process of a run on threads."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.starts: list[float] = []

    @contextmanager
    def client(self, store: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start a client; yield it when it begins, and wait for it."""
        numbers = map(str, (self.run.rounds, self.run.every, self.run.side))
        command = [sys.executable, "-c", CLIENT, store, *numbers]
        folder, began = Path(__file__).parent, time.perf_counter()
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE) as client:
            if client.stdout is None or not client.stdout.readline():
                raise click.ClickException(f"a client did not begin: {command}")
            self.starts.append(time.perf_counter() - began)
            yield client

    def learn(self, store: str) -> None:
        with self.client(store) as client:
            pass
        if client.returncode:
            raise click.ClickException(f"a client failed: {client.args!r}")

    def in_peace(self) -> float:
        elapsed, _ = timed(lambda: self.learn(self.place()))
        self.peace.append(elapsed - self.starts[-1])
        return elapsed

    def killed(self) -> float:
        return timed(lambda: self.die_and_resume(self.place()))[0]

    def die_and_resume(self, store: str) -> None:
        with self.client(store) as client:
            time.sleep(self.moment())
            client.kill()
        self.learn(store)


def add(report: Report, who: str, deaths: Workers | Clients, repeats: int) -> None:
    """Measure, and add what was lost to a report."""
    deaths.in_peace()  # warms up
    cases = {"peace": deaths.in_peace, "killed": deaths.killed}
    peace, killed = interleave(cases, repeats).values()
    lost = [b - a for a, b in zip(peace, killed, strict=True)]
    rounds = [s * deaths.run.rounds / a for s, a in zip(lost, deaths.peace[1:], strict=True)]
    report.add(f"{who}: a run in peace", peace, "s")
    report.add(f"{who}: lost by a kill", lost, "s")
    report.add(f"{who}: lost by a kill, in rounds", rounds, "rounds")


@click.command(help="Seconds and rounds lost when a worker is killed, and when the client is.")
@options
@click.option("--rounds", default=60, show_default=True, help="Of a run.")
@click.option("--every", default=10, show_default=True, help="Rounds between checkpoints.")
@click.option(
    "--side", default=1024, show_default=True, help="Of the torus; below 100: tiny rounds."
)
@click.option("--seed", default=0, show_default=True, help="Of the moments of death.")
def main(
    rounds: int, every: int, side: int, seed: int, repeats: int, json_path: str | None
) -> None:
    report, run = (
        Report("time_lost", rounds=rounds, every=every, side=side),
        Run(rounds, every, side),
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"}),
        dask.config.set({"dqlearn.fuse": False}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        add(report, "worker", Workers(cluster, client, run, folder, seed), repeats)
    with tempfile.TemporaryDirectory() as folder:
        clients = Clients(run, folder, seed)
        add(report, "client", clients, repeats)
        report.add("client: start of a process", clients.starts, "s")
    report.finish(json_path)


if __name__ == "__main__":
    main()
