"""Which modules run in one round: what a reader has to know to follow it.

    python tests/benchmarks/modules.py

A profile function notes each Python function of dqlearn that is called while a learner makes some
rounds, when its kernels are compiled: on the threads of this process, and on a cluster whose
workers are in this process too. Compiled loops are called from the modules that are counted, and
are not seen themselves.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click
import dask
from distributed import Client
from harness import Report, json_option

import dqlearn
from dqlearn.events import RoundEnd

ROOT = Path(dqlearn.__path__[0])
BROADCAST = {"num_envs": 1_024, "steps_per_round": 4, "shards": 2}
GATHER = {"num_envs": 1_024, "exchange": "gather", "shards": 2}


class Notes(dqlearn.callbacks.Callback):
    """The files of functions that any thread calls after one round, and until another."""

    every_rounds = 1

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        self.files: set[str] = set()
        self.open = False

    def on_round_end(self, event: RoundEnd) -> None:
        """Open or close."""
        self.open = self.first <= event.report.round < self.last

    def note(self, frame: FrameType, event: str, arg: Any) -> None:
        """Be told of a call."""
        if self.open and event == "call":
            self.files.add(frame.f_code.co_filename)


@contextmanager
def noted(notes: Notes) -> Iterator[None]:
    """Tell of all calls, also those in threads that begin inside."""
    threading.setprofile(notes.note)
    sys.setprofile(notes.note)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def modules_of(notes: Notes, settings: dict[str, Any]) -> set[str]:
    """Return the modules of dqlearn that run in some rounds, in the middle of a run."""
    n_transitions = settings["num_envs"] * settings.get("steps_per_round", 1)
    learner = dqlearn.QLearner("dqlearn/Torus-v0", env_kwargs={"side": 32}, seed=0, **settings)
    learner.learn((notes.last + 2) * n_transitions, callback=notes)
    inside = (Path(file) for file in notes.files if Path(file).is_relative_to(ROOT))
    return {".".join(file.relative_to(ROOT).with_suffix("").parts) for file in inside}


@click.command(help="Modules whose Python code runs in one round.")
@json_option
def main(json_path: str | None) -> None:
    report = Report("modules")
    cases: dict[str, tuple[dict[str, Any], bool]] = {
        "threads, broadcast": (BROADCAST, False),
        "threads, gather": (GATHER, False),
        "cluster, broadcast": (BROADCAST, True),
        "cluster, gather": (GATHER, True),
    }
    for name, (settings, on_cluster) in cases.items():
        notes = Notes(5, 8)
        with noted(notes), ExitStack() as stack:
            if on_cluster:
                stack.enter_context(Client(processes=False, n_workers=2, dashboard_address=":0"))
            else:
                pool = stack.enter_context(ThreadPoolExecutor(2))
                stack.enter_context(dask.config.set(scheduler="threads", pool=pool))
            found = modules_of(notes, settings)
        click.echo(f"{name}: {', '.join(sorted(found))}")
        report.add(name, [len(found)], "modules", at_most=22)
    report.finish(json_path)


if __name__ == "__main__":
    main()
