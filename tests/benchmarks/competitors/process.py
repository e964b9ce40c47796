"""A competitor in a process of its own: its memory, its threads and its settings are its own.

::

    Remote ──── start ────► serve: make the problem
           ◄─── ready ─────
           ──── (method, arguments) ────► learner.method(*arguments)
           ◄─── answer ────

Memory is that of the process and of all that it has started, shared pages counted once where the
system tells (Linux), at its highest while someone looks. Invariant: nobody looks while a sample is
timed.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any, Self

import click
import numpy as np
import numpy.typing as npt
import psutil
from problems import problem_named

from competitors.catalogue import Competitor, Learner

LOOK_EVERY = 0.1  # seconds
PATIENCE = 20.0  # seconds that a process gets to end


def serve(pipe: Connection, competitor: Competitor, problem: str, tiny: bool) -> None:
    """Answer in the competitor's process, until the other end is closed."""
    made = problem_named(problem, tiny)
    learner: Learner | None = None
    pipe.send(None)
    with suppress(EOFError):
        while True:
            method, *arguments = pipe.recv()
            if method == "make":
                learner = competitor.learner(made, *arguments)
            pipe.send(None if method == "make" else getattr(learner, method)(*arguments))


class Remote:
    """A competitor, as if it were here.

    Parameters
    ----------
    name : str
        What to call it.
    competitor : Competitor
        Who.
    problem : str
        Name of what it learns.
    tiny : bool
        Whether that is very small.
    """

    def __init__(self, name: str, competitor: Competitor, problem: str, tiny: bool) -> None:
        self.name = name
        processes = multiprocessing.get_context("spawn")
        self._pipe, theirs = processes.Pipe()
        self._process = processes.Process(target=serve, args=(theirs, competitor, problem, tiny))
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """End the process, and whatever it leaves behind."""
        tree = self._tree()
        self._pipe.close()
        for process in psutil.wait_procs(tree, PATIENCE)[1]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.join()

    def ready(self) -> None:
        """Wait until the process has made its problem."""
        self._answer()

    def make(self, seed: int) -> None:
        """Make the learner."""
        self._ask("make", seed)

    def advance(self, transitions: int) -> int:
        """Learn from at least so many transitions more; return how many they were."""
        made: int = self._ask("advance", transitions)
        return made

    def value(self) -> npt.NDArray[np.floating[Any]]:
        """Return the largest Q-value of each state."""
        value: npt.NDArray[np.floating[Any]] = self._ask("value")
        return value

    def memory(self) -> int:
        """Bytes that the process and those it started have now."""
        return sum(map(_bytes, self._tree()))

    @contextmanager
    def watched(self) -> Iterator[list[int]]:
        """Look at the memory again and again; the list holds what was seen."""
        seen, done = [self.memory()], threading.Event()

        def look() -> None:
            while not done.wait(LOOK_EVERY):
                seen.append(self.memory())

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            yield seen
        finally:
            done.set()
            watcher.join()

    def _tree(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            own = psutil.Process(self._process.pid)
            return [own, *own.children(recursive=True)]
        return []

    def _ask(self, *question: Any) -> Any:
        self._pipe.send(question)
        return self._answer()

    def _answer(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            raise click.ClickException(f"{self.name} has failed; see above for why") from None


def _bytes(process: psutil.Process) -> int:
    """Bytes of one process; none if it has ended."""
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        facts = process.memory_full_info()
        return int(getattr(facts, "pss", facts.rss))
    return 0
