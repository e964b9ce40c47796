"""Killing, at moments that a seed draws: workers from beside a run, clients from outside.

::

    run ──► Trouble: a thread that kills, adds and retires workers; then it stops the run
    run ──► Killer: SIGKILL to workers, in and after the rounds that it is told of

    client process ──► SIGKILL at a Moment ──► is the repository whole? ──► the next client
                       so many seconds, or the n-th file of a commit

Invariant: a seed draws what is done, and when; nothing here fails because something took long.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import dask
import numpy as np
from distributed import Client, LocalCluster, Status
from kinds import Ending, Kind

from dqlearn import QLearner, resume
from dqlearn.callbacks import Callback, Stop
from dqlearn.errors import NoCheckpointError
from dqlearn.events import Checkpoint, RoundEnd, TrainingStart

FOREVER = 1_000  # rounds; a run that outlives its trouble is stopped long before
AHEAD = 5  # rounds; those under way at a death may still arrive, and tell nothing of it


# Workers


class Loss(NamedTuple):
    """What came of a death: seconds until the run was beyond it; rounds that were made again."""

    seconds: float
    rounds: int


def outlast(learner: QLearner, round: int, rounds: int = 1) -> Loss:
    """Wait until a run is so many rounds of `round` transitions beyond where it is now."""
    began, here = time.monotonic(), learner.num_timesteps
    least = here
    while (now := learner.num_timesteps) < here + rounds * round:
        least = min(least, now)
        time.sleep(0.005)
    return Loss(time.monotonic() - began, (here - least) // round)


@contextmanager
def killed_in_turn(cluster: LocalCluster, most: int) -> Iterator[list[int]]:
    """SIGKILL workers in turn, up to so many, while a block runs; yield the list of the dead."""
    over, killed = threading.Event(), list[int]()

    def kill() -> None:
        while not over.wait(0.3 + 0.3 * len(killed)) and len(killed) < most:
            nannies = list(cluster.workers.values())
            if (pid := nannies[len(killed) % len(nannies)].pid) is not None:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


class Trouble(Callback):
    """Does what is named to the workers, in an order and at moments that a seed draws.

    The run is not waited for. It is stopped after all that, at a checkpoint or a round's end.
    """

    DEEDS = ("kill", "add", "retire")

    def __init__(
        self,
        cluster: LocalCluster,
        client: Client,
        round: int,
        seed: int,
        deeds: Sequence[str] = DEEDS,
        every_rounds: int | None = None,
    ) -> None:
        self.cluster, self.client = cluster, client
        self.round, self.every_rounds = round, every_rounds
        self.draw = random.Random(seed)
        self.deeds = self.draw.sample(deeds, len(deeds))
        self.losses: list[Loss] = []
        self.retired: list[str] = []
        self.thread = ThreadPoolExecutor(1)
        self.over: Future[None] = Future()

    def on_training_start(self, event: TrainingStart) -> None:
        self.over = self.thread.submit(self.trouble, event.learner)

    def on_checkpoint(self, event: Checkpoint) -> Stop | None:
        return self.stop()

    def on_round_end(self, event: RoundEnd) -> Stop | None:
        return self.stop()

    def stop(self) -> Stop | None:
        return Stop("it was troubled enough") if self.over.done() else None

    def trouble(self, learner: QLearner) -> None:
        for deed in self.deeds:
            outlast(learner, self.round, self.draw.randrange(8))
            time.sleep(self.draw.uniform(0.0, 0.2))
            getattr(self, deed)()
            if deed in ("kill", "starve"):
                self.losses.append(outlast(learner, self.round, AHEAD))
        self.client.wait_for_workers(2, timeout=60)
        outlast(learner, self.round, 6)  # with a checkpoint, where a newcomer gets its share

    def kill(self) -> None:
        kill_a_worker(self.cluster, self.draw)

    def add(self) -> None:
        self.cluster.scale(3)

    def retire(self) -> None:
        self.client.wait_for_workers(2, timeout=60)  # the last one cannot hand on what it holds
        names = {nanny.worker_address: name for name, nanny in self.cluster.workers.items()}
        victim = self.draw.choice(sorted(self.client.has_what().keys() & names))
        if self.client.retire_workers([victim]):
            self.retired.append(names[victim])

    def starve(self) -> None:
        """Use up a worker's memory, so that its nanny terminates it."""
        nanny = self.draw.choice(list(self.cluster.workers.values()))
        before = nanny.pid
        hoard = self.client.submit(hoarding, workers=[nanny.worker_address], pure=False)
        while nanny.pid == before:
            time.sleep(0.01)
        hoard.cancel()

    def repair(self) -> None:
        """Wait for the end of the trouble; leave two workers."""
        self.thread.shutdown()
        self.over.result()
        self.cluster.sync(self.cluster.scale_down, self.retired)
        self.cluster.scale(2)
        self.client.wait_for_workers(2, timeout=60)


def hoarding() -> None:
    """Take memory until there is none."""
    hoard = []
    while True:
        hoard.append(np.ones(2**22))
        time.sleep(0.01)


def kill_a_worker(cluster: LocalCluster, draw: random.Random) -> int:
    """Kill a worker process that has begun its work; its nanny starts another.

    Of one that dies while it starts, the nanny gives up.
    """
    begun = [
        n for n in cluster.workers.values() if n.process and n.process.status is Status.running
    ]
    victim = draw.choice([nanny.pid for nanny in begun if nanny.pid])
    os.kill(victim, signal.SIGKILL)
    return victim


class Once(Callback):
    """Does one thing, when a run begins or at the end of a round."""

    def __init__(self, deed: Callable[[], object], rounds: int | None = None) -> None:
        self.deed, self.every_rounds = deed, rounds

    def on_training_start(self, event: TrainingStart) -> None:
        if self.every_rounds is None:
            self.deed()

    def on_round_end(self, event: RoundEnd) -> None:
        if event.report.round + 1 == self.every_rounds:
            self.deed()


class Killer(Callback):
    """Kills workers of a cluster, one at a time, at random moments after certain rounds."""

    def __init__(self, cluster: LocalCluster, kills: int, seed: int, every_rounds: int = 2) -> None:
        self.cluster, self.every_rounds = cluster, every_rounds
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
        self.killed.append(kill_a_worker(self.cluster, self.draw))

    def join(self) -> None:
        """Wait until the last is dead, and its nanny has another."""
        self.timer.join()
        while any(nanny.pid in self.killed for nanny in self.cluster.workers.values()):
            time.sleep(0.01)


@contextmanager
def two_workers(*, fuse: bool = False, **options: Any) -> Iterator[LocalCluster]:
    """Start two worker processes that come back whenever they are killed.

    Runs are spread over both; with `fuse`, one holds those that it has room for.
    """
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"} | options
    # A LocalCluster gives a worker up that is dead 15 s after one of its deaths, be it by another.
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"}),
        dask.config.set({"dqlearn.fuse": fuse}),
        LocalCluster(**options) as cluster,
    ):
        yield cluster


# Clients


@dataclass(frozen=True)
class Job:
    """What a client process does: begin a run, or go on with it, until so many rounds are made."""

    kind: Kind
    store: Path
    rounds: int
    on_cluster: bool = False

    def do(self, answers: Connection) -> None:
        """Be that process."""
        os.setpgid(0, 0)
        with ExitStack() as stack:
            if self.on_cluster:
                stack.enter_context(Client(stack.enter_context(two_workers())))
            else:
                stack.enter_context(dask.config.set(scheduler="threads", num_workers=2))
            answers.send("begun")
            try:
                learner = resume(self.store, env=self.kind.run.make())
            except NoCheckpointError:
                learner = self.kind.learner()
            timesteps = self.rounds * self.kind.round
            answers.send(Ending.of(learner.learn(timesteps, **self.kind.saving(self.store))))


@dataclass(frozen=True)
class Moment:
    """When to kill a client: after so many files of some kind, and some seconds after that.

    Attributes
    ----------
    seconds : float
        After the files.
    files : int
        To appear after the client has begun.
    folders : tuple of str
        Of the repository, in which they appear.
    """

    seconds: float
    files: int = 0
    folders: tuple[str, ...] = ()

    def wait(self, client: BaseProcess, store: Path) -> None:
        """Wait for it, or for the client's end."""
        before, new = set(self.found(store)), set[tuple[int, int]]()
        while client.is_alive() and len(new) < self.files:
            time.sleep(0.0002)
            new |= set(self.found(store)) - before
        client.join(self.seconds)

    def found(self, store: Path) -> Iterator[tuple[int, int]]:
        """Yield what names the files that there are; one that is written again has another name."""
        folders = [store / folder for folder in self.folders]
        while folders:
            with suppress(FileNotFoundError), os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir():
                        folders.append(Path(entry.path))
                    else:
                        yield entry.inode(), entry.stat().st_mtime_ns


class Task(Protocol):
    """What a client process does, and where its repository is."""

    @property
    def store(self) -> Path: ...

    def do(self, answers: Connection) -> None:
        """Be that process: say "begun", then how it ended."""


def live(job: Task, until: Moment | None = None, alone: bool = True) -> Any:
    """Run a client to its end, or kill it at a moment; return the ending, None if it was killed.

    What it has started is killed with it, unless it is to die `alone`.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["dqlearn", "distributed"])  # neither starts a thread
    ours, theirs = context.Pipe(duplex=False)
    client = context.Process(target=job.do, args=(theirs,))
    client.start()
    theirs.close()
    with ours, suppress(EOFError):
        ours.recv()
        if until is not None:
            until.wait(client, job.store)
            if client.is_alive():
                (os.kill if alone else os.killpg)(client.pid or 0, signal.SIGKILL)
        ending = ours.recv()
        client.join()
        return ending
    client.join()
    if client.exitcode != -signal.SIGKILL:
        raise RuntimeError(f"a client of {job} failed; its error is in the output")
    return None
