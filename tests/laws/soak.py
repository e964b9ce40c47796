"""A soak: runs on three workers while others kill, interrupt, read and save, at random moments.

::

    main thread     learn ─ learn ─ learn ... ─► the undisturbed bits?  ─► the next run
    trouble         SIGKILL to a worker │ Ctrl-C │ a table is read │ saved │ predict │ evaluate

It ends at the first thing that is wrong: bits, a private error, or a call that does not come back,
of which it shows the stacks. ``PYTHONPATH=tests python tests/laws/soak.py --minutes 30``

Invariant: a seed draws what is done, and the pauses between; what comes of it must not depend on
when it comes.
"""

from __future__ import annotations

import faulthandler
import itertools
import os
import random
import signal
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from pathlib import Path

import click
import dask
from distributed import Client, KilledWorker, LocalCluster
from killing import kill_a_worker
from kinds import Ending, Kind, undisturbed

import dqlearn
from dqlearn import QLearner
from dqlearn.errors import StaleShardError

KINDS = [
    Kind("torus", keep=3),
    Kind("torus", policy_lag=1, keep=3),
    Kind("taxi", keep=3),
    Kind("asking torus", keep=3),
    Kind("sparse torus", keep=3),
]
ROUNDS = 150
HANGS = 180.0  # seconds
# What Dask says to whoever computes with chunks that have gone.
LOST = (CancelledError, KilledWorker, StaleShardError)


class Soak:
    """Runs, and what happened to them.

    Parameters
    ----------
    cluster : LocalCluster
        Whose workers are killed.
    seed : int
        Draws what is done.
    folder : Path
        For stores and tables.
    """

    def __init__(self, cluster: LocalCluster, seed: int, folder: Path) -> None:
        self.cluster, self.draw, self.folder = cluster, random.Random(seed), folder
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []
        self.now: tuple[Kind, QLearner] | None = None
        self.learning, self.over = threading.Event(), threading.Event()

    # what is done to a run

    def kill(self) -> None:
        """Kill a worker, while another is there: for any at all a run waits a minute, no longer."""
        if len(self.cluster.scheduler_info["workers"]) > 1:
            with suppress(IndexError):  # none is running just now
                kill_a_worker(self.cluster, self.draw)

    def interrupt(self) -> None:
        """Press Ctrl-C once: a second one does not wait for the round, and its environments go."""
        if self.learning.is_set():
            self.learning.clear()
            os.kill(os.getpid(), signal.SIGINT)

    def read(self) -> None:
        if now := self.now:
            table = now[1].table
            try:
                table.q.sum().compute()
                table.to_xarray()["policy"].compute()
            except LOST:
                self.counts["reads that were lost"] += 1

    def save(self) -> None:
        if now := self.now:
            kind, learner = now
            path = self.folder / "saved.zarr"
            learner.save(path, overwrite=True)
            dqlearn.load(path, env=kind.run.make())

    def predict(self) -> None:
        if now := self.now:
            now[1].predict(0)

    def evaluate(self) -> None:
        if now := self.now:
            now[1].evaluate(2, max_steps=20)

    def trouble(self) -> None:
        """Do something, again and again."""
        deeds: list[Callable[[], None]] = [
            self.kill,
            self.interrupt,
            self.read,
            self.read,
            self.save,
            self.predict,
            self.evaluate,
        ]
        while not self.over.wait(self.draw.uniform(0.0, 2.0)):
            deed = self.draw.choice(deeds)
            self.counts[deed.__name__] += 1
            with self.comes_back(deed.__name__):
                deed()

    @contextmanager
    def comes_back(self, what: str) -> Iterator[None]:
        """Note an error; show where everybody is if it does not come back."""
        watch = threading.Timer(HANGS, self.hangs, [what])
        watch.daemon = True
        watch.start()
        try:
            yield
        except Exception:
            self.errors.append(f"{what}\n{traceback.format_exc()}")
            self.over.set()
        finally:
            watch.cancel()

    def hangs(self, what: str) -> None:
        click.echo(f"HANGS: {what}; {self}")
        faulthandler.dump_traceback(all_threads=True)
        os._exit(2)

    # runs

    def run(self, kind: Kind, number: int, stored: bool) -> None:
        """Make a run to its end, whatever is done to it, and look at what it has learned."""
        learner, target = kind.learner(), ROUNDS * kind.round
        saving = kind.saving(self.folder / str(number)) if stored else {}
        self.now = kind, learner
        ending = None
        while ending is None and not self.over.is_set():
            with self.comes_back("learn"):
                try:
                    self.learning.set()
                    learner.learn(target, **saving)
                except KeyboardInterrupt:
                    self.counts["interrupted"] += 1
                self.learning.clear()
                ending = self.ending(learner, target)
        self.now = None
        if ending is not None and ending != undisturbed(kind, target):
            self.errors.append(f"other bits: {kind}, {stored=}")
            self.over.set()
        self.counts["runs"] += 1

    def ending(self, learner: QLearner, target: int) -> Ending | None:
        """Return what was learned; None if the run is not at its end, or goes back just now."""
        try:
            found = Ending.of(learner)
        except LOST:
            self.counts["endings that were lost"] += 1
            return None
        return found if learner.num_timesteps >= target else None

    def soak(self, seconds: float) -> None:
        """Make runs for so long."""
        for kind in KINDS:  # beforehand: it changes Dask's scheduler, for all threads
            undisturbed(kind, ROUNDS * kind.round)
        deadline, thread = time.monotonic() + seconds, threading.Thread(target=self.trouble)
        thread.start()
        try:
            self.runs(deadline)
        finally:
            self.over.set()
            thread.join()

    def runs(self, deadline: float) -> None:
        """Make one run after another."""
        for number, (kind, stored) in enumerate(itertools.cycle(itertools.product(KINDS, (1, 0)))):
            if time.monotonic() > deadline or self.over.is_set():
                return
            with suppress(KeyboardInterrupt):  # just after the end of a learn
                self.run(kind, number, bool(stored))
            self.learning.clear()

    def __str__(self) -> str:
        return ", ".join(f"{name}: {n}" for name, n in sorted(self.counts.items()))


@click.command()
@click.option("--minutes", default=30.0, show_default=True, help="For how long.")
@click.option("--seed", default=0, show_default=True, help="Draws what is done.")
def main(minutes: float, seed: int) -> None:
    """Trouble runs on three workers; fail at the first thing that is wrong."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a background job ignores
    dask.config.set({"distributed.deploy.lost-worker-timeout": "10m"})
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster),
    ):
        soak = Soak(cluster, seed, Path(folder))
        soak.soak(60 * minutes)
    click.echo(str(soak))
    if soak.errors:
        raise click.ClickException("\n".join(soak.errors))
    click.echo("No hang, no private error, the undisturbed bits.")


if __name__ == "__main__":
    main()
