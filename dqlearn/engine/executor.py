"""Where graphs run: the threads of this process, or a cluster, behind one interface.

::

    graph of a round ──► Executor.submit ──► handles of the new state, kept by key
                         Executor.result ──► a small value
                         Executor.gather ──► a copy of the state on the client

Invariant: an executor decides where and when tasks run, never what they compute.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Protocol

import dask
import dask.local
import dask.threaded
import psutil

from dqlearn.engine.graph import Drawn, Key, State
from dqlearn.envs.python.marks import Scene
from dqlearn.errors import ConfigurationError
from dqlearn.table import paged
from dqlearn.table.keys import DataNode, GraphNode, TaskRef

__all__ = ["Executor", "LocalExecutor", "local_executor", "this_machine"]


class Executor(Protocol):
    """Runs graphs, and keeps the results that it is told to keep."""

    shares_memory: bool
    """Whether tasks run in the client's own memory, where nothing is copied and nothing is lost."""

    depth: int
    """Rounds that may be under way before the client waits for the oldest."""

    spread: bool
    """Whether a run is spread over all memories; else one of them holds it."""

    uneven: int
    """Updates by which a new grid must make the heaviest chunk lighter to be worth its tasks."""

    def put(self, values: Mapping[Key, Any]) -> None:
        """Place data under their keys."""

    def submit(self, drawn: Drawn, keep: Sequence[Key]) -> None:
        """Run a graph and keep some of its results."""

    def result(self, key: Key) -> Any:
        """Wait for one kept result and return it."""

    def gather(self, keys: Sequence[Key]) -> dict[Key, Any]:
        """Wait for kept results and return them."""

    def background(self, drawn: Drawn, keys: Sequence[Key]) -> Callable[[], list[Any]]:
        """Begin to run a graph; return a function that waits for its results, in any thread."""

    def hold(self, state: State) -> State:
        """Keep a state without its history; what is lost of it is not made again."""

    def drop(self, keys: Iterable[Key]) -> None:
        """Forget results that are no longer needed."""

    def node(self, key: Key) -> GraphNode | TaskRef:
        """Return a kept result as something that a graph can hold."""

    def losses(self) -> AbstractContextManager[None]:
        """Give a name to errors inside that are losses of work."""

    def adopt(self, other: Executor) -> bool:
        """Go on in the place of another executor; return False if it holds other results."""

    def rehome(
        self,
        timeout: float = 60.0,
        patience: float = 0.0,
        interrupted: threading.Event | None = None,
    ) -> None:
        """Place new work where there are workers; wait for a worker if there is none."""

    def scenes(self, run: str) -> list[Scene]:
        """Return where environments of a run have ended the processes that they were in."""

    @property
    def intact(self) -> bool:
        """Whether all places that hold results are there."""

    @property
    def settled_in(self) -> bool:
        """Whether the homes of chunks and shards are the workers that there are now."""

    @property
    def memories(self) -> int:
        """Number of memories that tasks run in; shard or chunk n is in memory ``n % memories``."""

    @property
    def width(self) -> int:
        """Tasks that can run at the same time."""

    @property
    def threads(self) -> int:
        """Threads of a single memory."""

    @property
    def memory_of_one(self) -> int:
        """Bytes of the smallest single memory."""

    def bind(self) -> None:
        """Pin tasks to where their chunks are, and have at most one round under way."""

    @property
    def memory(self) -> int:
        """Bytes of memory that a table may have."""

    @property
    def disk(self) -> int:
        """Bytes that are free for tables out of core."""

    @property
    def name(self) -> str:
        """Name of the executor, for people."""


class LocalExecutor:
    """Dask's synchronous or threaded scheduler, in this process.

    Parameters
    ----------
    get : callable
        A scheduler's ``get(graph, keys)``.
    memory : int, optional
        Bytes that this process may have; by default all of this machine's.
    threads : int, optional
        Number of threads; by default as many as Dask would use.
    """

    shares_memory, intact, spread = True, True, True
    depth, memories, uneven = 1, 1, 50_000

    def __init__(
        self,
        get: Callable[..., Any] = dask.threaded.get,
        memory: int | None = None,
        threads: int | None = None,
    ) -> None:
        self.get = partial(get, num_workers=threads) if threads else get
        self._memory, self._threads = memory, threads
        self._values: dict[Key, Any] = {}

    def adopt(self, other: Executor) -> bool:
        """Go on in the place of another executor of this process."""
        if isinstance(other, LocalExecutor):
            self.get, self._memory, self._threads = other.get, other._memory, other._threads
        return other.shares_memory

    def rehome(
        self,
        timeout: float = 60.0,
        patience: float = 0.0,
        interrupted: threading.Event | None = None,
    ) -> None:
        """Do nothing: no worker of this executor can go."""

    def scenes(self, run: str) -> list[Scene]:
        """Return no scenes: this process ends together with an environment that ends it."""
        return []

    def put(self, values: Mapping[Key, Any]) -> None:
        """Keep data."""
        self._values.update(values)

    def submit(self, drawn: Drawn, keep: Sequence[Key]) -> None:
        """Run a graph to its end. A task that raises leaves what was kept before as it was."""
        if drawn.serial:
            self._values.update(self._one_by_one(drawn, keep))
            return
        results = self.get(self._whole(drawn), list(keep))
        self._values.update(zip(keep, results, strict=True))

    def _one_by_one(self, drawn: Drawn, keep: Sequence[Key]) -> dict[Key, Any]:
        """Run tasks in the order in which they were drawn, in this thread; return some results."""
        made: dict[Key, Any] = {}
        for key, task in drawn.tasks.items():
            needed = task.dependencies
            made[key] = task({it: made[it] if it in made else self._values[it] for it in needed})
        return {key: made[key] for key in keep}

    def background(self, drawn: Drawn, keys: Sequence[Key]) -> Callable[[], list[Any]]:
        """Fetch what a graph needs; return a function that runs it, beside later rounds."""
        return partial(self.get, self._whole(drawn), list(keys))

    def _whole(self, drawn: Drawn) -> dict[Key, GraphNode]:
        """Return a graph with the kept results that it needs."""
        wanted = {key for task in drawn.tasks.values() for key in task.dependencies}
        return {key: self.node(key) for key in wanted - drawn.tasks.keys()} | drawn.tasks

    def hold(self, state: State) -> State:
        """Return the state: here nothing has a history."""
        return state

    def result(self, key: Key) -> Any:
        """Return a kept result."""
        return self._values[key]

    def gather(self, keys: Sequence[Key]) -> dict[Key, Any]:
        """Return kept results."""
        return {key: self._values[key] for key in keys}

    def drop(self, keys: Iterable[Key]) -> None:
        """Forget results."""
        for key in keys:
            self._values.pop(key, None)

    def node(self, key: Key) -> GraphNode:
        """Return a kept result as a node of data."""
        return DataNode(key, self._values[key])

    @property
    def settled_in(self) -> bool:
        """Always true: this process is the only home."""
        return True

    def losses(self) -> AbstractContextManager[None]:
        """Return a context that does nothing: here nothing is lost."""
        return nullcontext()

    @property
    def width(self) -> int:
        """Number of threads of the scheduler."""
        if self.get is dask.local.get_sync:
            return 1
        if self._threads:
            return self._threads
        pool = dask.config.get("pool", None)
        workers = getattr(pool, "_max_workers", None) or dask.config.get("num_workers", None)
        return int(workers or os.cpu_count() or 1)

    @property
    def threads(self) -> int:
        """Number of threads of the scheduler."""
        return self.width

    @property
    def memory_of_one(self) -> int:
        """Bytes that this process may have."""
        return self.memory

    def bind(self) -> None:
        """Do nothing: tasks cannot leave this process."""

    @property
    def memory(self) -> int:
        """Bytes that this process may have."""
        return self._memory or this_machine()

    @property
    def disk(self) -> int:
        """Bytes that are free in Dask's temporary folder."""
        return paged.disk()[1]

    @property
    def name(self) -> str:
        """Name of the scheduler."""
        kind = "synchronous" if self.get is dask.local.get_sync else f"{self.width} threads"
        return f"this process, {kind}"


def this_machine() -> int:
    """Return the bytes of memory of this machine."""
    return int(psutil.virtual_memory().total)


def _forget_pools() -> None:
    """Make Dask start new threads in a fork, which has none of its pools' threads."""
    dask.threaded.default_pool = None
    dask.threaded.pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pools)


def local_executor(
    get: Callable[..., Any], memory: int, threads: int | None = None
) -> LocalExecutor:
    """Return the executor for a scheduler that runs in this process, which has so much memory.

    Raises
    ------
    ConfigurationError
        If the scheduler runs in other processes, which cannot hold the table between rounds.
    """
    if getattr(get, "__module__", "").startswith("dask.multiprocessing"):
        raise ConfigurationError(
            "Dask's 'processes' scheduler cannot keep a table between rounds; expected "
            "scheduler='threads' or 'synchronous', or a distributed.Client for processes"
        )
    return LocalExecutor(get, memory, threads)
