"""The cluster: the one module that knows about ``distributed``.

::

    current_executor() ──► the active Client ? ClusterExecutor : LocalExecutor

Every chunk and shard has a home, a worker; homes are dealt over the workers in turn, so that a
round moves pieces and policies and never a chunk. Tasks may run elsewhere when their home has
gone; donated shards may not (their home's death sends the run back to its last recovery point).

Invariant: no result is fetched that nobody asked for; lost work raises :class:`LostWork`, which
the run answers by going back to its last recovery point.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Any

import dask.base
import dask.threaded
from dask.base import get_annotations
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from distributed import (
    Client,
    Future,
    KilledWorker,
    Worker,
    WorkerPlugin,
    get_client,
    get_worker,
    span,
)
from distributed.system import MEMORY_LIMIT

from dqlearn.engine.executor import Executor, local_executor
from dqlearn.engine.graph import Drawn, Key, State
from dqlearn.engine.holding import hold, take
from dqlearn.engine.sharing import SharedFutures
from dqlearn.envs.python import marks
from dqlearn.envs.python.gymnasium_env import close_open_shards
from dqlearn.errors import (
    ClusterError,
    ClusterLostError,
    DQLearnError,
    StaleShardError,
    VersionMismatchError,
)
from dqlearn.kernels.buffers import keep_freed_pages
from dqlearn.table import paged
from dqlearn.table.keys import Task, TaskRef

__all__ = ["ClusterExecutor", "LostWork", "current_executor"]

_MUST_AGREE = ("dqlearn", "dask", "distributed", "numpy", "numba", "gymnasium", "zarr", "icechunk")
_LOSSES = (CancelledError, KilledWorker, StaleShardError, OSError)
_SWITCH = 5e-4  # seconds until a Python environment lets messages through; Python's default is 5e-3
_FETCH = 10.0  # seconds for a first attempt
_LEAVING = "closing_gracefully"  # a state without new tasks, which may last long
_BEFORE_SPILLING = 0.6  # share of a worker's memory limit at which Dask spills by default
_POLL = 1.0  # seconds between looks at whether the homes are still there
_SECOND_LOOK = 0.5  # seconds; by then a result that was on its way to the client has come
_HERE = "go on in this process with dask.config.set(scheduler='threads')"
_of_the_parent: weakref.WeakSet[Client] = weakref.WeakSet()
_NOTICED = 2.0  # seconds until the scheduler knows of a death whose effects are here already


class _SetUp(WorkerPlugin):
    """Sets up every worker process that a nanny keeps, and those that join.

    Invariant: processes without a nanny, which may be the user's own, stay as they are.
    """

    name, idempotent = "dqlearn-set-up", True

    def setup(self, worker: Worker) -> None:
        if worker.nanny is not None:
            keep_freed_pages(worker.memory_manager.memory_limit)
            paged.live_in(worker.local_directory)
            marks.live_in(os.path.dirname(worker.local_directory))  # outlives the worker
            sys.setswitchinterval(_SWITCH)
            _ignore_interrupts()

    async def teardown(self, worker: Worker) -> None:
        if worker.nanny is not None:
            await asyncio.to_thread(close_open_shards)


def _ignore_interrupts() -> None:
    """Leave Ctrl-C to the client: terminals and Jupyter send it to the workers of a machine too.

    A nanny ends its worker by other means.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


class LostWork(ClusterError):
    """Results that a run needs have gone with their worker; its last recovery point has them."""


def current_executor(here: Executor | None = None) -> Executor:
    """Return where Dask would run now: the active Client's cluster, or this process.

    Inside a task of a cluster the answer is the worker's process: on the cluster, the task would
    wait for the cluster, and the cluster for the task.

    `here` is returned if it belongs to the same Client: its cluster has been looked at already.

    Raises
    ------
    ConfigurationError
        If Dask is set to a scheduler that cannot hold a table.
    ClusterLostError, VersionMismatchError
        If there is a Client whose cluster cannot be used.
    """
    if (worker := _this_task_s_worker()) is not None:
        return local_executor(dask.threaded.get, _limit(worker), worker.state.nthreads)
    try:
        get = dask.base.get_scheduler() or dask.threaded.get
    except RuntimeError as error:
        raise _unusable(error) from error
    client = getattr(get, "__self__", None)
    if not isinstance(client, Client):
        return local_executor(get, MEMORY_LIMIT)
    if client in _of_the_parent:
        raise ClusterLostError(
            f"this process was forked from the one that {client!r} works in: connect a Client of "
            f"its own, start processes by 'spawn', or {_HERE}"
        )
    if isinstance(here, ClusterExecutor) and here.client is client and here.alive:
        return here
    return ClusterExecutor(client)


def _this_task_s_worker() -> Worker | None:
    """Return the worker whose task this is; a learner in a task stays in the process it is in."""
    try:
        return get_worker()
    except ValueError:
        return None


def _limit(worker: Worker) -> int:
    return worker.memory_manager.memory_limit or MEMORY_LIMIT


def _unusable(error: RuntimeError) -> ClusterLostError:
    """Return the error that says why Dask has a Client, and nothing can be run on it."""
    with suppress(ValueError):
        if get_client().asynchronous:
            return ClusterLostError(
                "an asynchronous Client cannot be waited for in its own event loop: make the "
                "learner, and let it learn, in a thread (await asyncio.to_thread(function)), or "
                + _HERE
            )
    return ClusterLostError(f"{error} Connect a new Client, or {_HERE}")  # its scheduler has gone


def _note_fork() -> None:
    """Note which Client does not work in a fork of its process: threads are not copied."""
    with suppress(ValueError):
        _of_the_parent.add(Client.current())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


class ClusterExecutor:
    """A ``distributed`` cluster.

    Parameters
    ----------
    client : distributed.Client
        A client that is connected to the cluster.

    Raises
    ------
    ClusterLostError
        If the cluster has no scheduler, or no workers.
    VersionMismatchError
        If workers run other versions than the client of packages whose results must agree.
    """

    shares_memory = False
    depth, uneven = 4, 1_000_000

    def __init__(self, client: Client) -> None:
        self.client = client
        self._futures: dict[Key, Future] = {}
        self._chunks_pinned = False  # to their homes, as donated shards are
        self._bound: set[str] = set()  # workers on which a state was pinned
        self._moves = 0  # how often homes were dealt anew
        self._shared = SharedFutures(client)
        # One span for all rounds: else each makes its own, whose metrics are kept for ever.
        with span("dqlearn"):
            self._span = get_annotations()["span"]
        self.spread = True
        self._turn = random.randrange(2**20)  # so that several runs take different workers
        self._homes = self._workers()
        self._check_versions()
        with suppress(OSError):  # a worker has gone meanwhile; the others have it then
            client.register_plugin(_SetUp())

    @property
    def settled_in(self) -> bool:
        """Whether the homes are the workers that there are now."""
        return set(self._homes) == set(self._present())

    @property
    def memories(self) -> int:
        """Number of homes: each has its own memory."""
        return len(self._homes) if self.spread else 1

    def _home(self, key: Key) -> str:
        """Return the worker where a task belongs; where the run is not spread, always the same."""
        n = _place(key) if self.spread else self._turn
        return self._homes[n % len(self._homes)]

    @property
    def alive(self) -> bool:
        """Whether the scheduler answers."""
        return bool(self.client.status == "running")

    @property
    def intact(self) -> bool:
        """Whether all homes are there."""
        return self.alive and not self._gone()

    def _gone(self) -> set[str]:
        return self._bound.union(self._homes) - set(self._present())

    def _present(self) -> dict[str, Any]:
        """Return the workers that the scheduler knows now, and that stay; none without an answer.

        `Client.scheduler_info` does not serve: a timer of the client empties what it returns.
        """
        if self.client.scheduler is None:
            return {}
        try:
            identity = self.client.sync(self.client.scheduler.identity, n_workers=-1)
        except OSError:
            return {}
        workers: dict[str, Any] = identity["workers"]
        return {at: worker for at, worker in workers.items() if worker["status"] != _LEAVING}

    def rehome(
        self,
        timeout: float = 60.0,
        patience: float = 0.0,
        interrupted: threading.Event | None = None,
    ) -> None:
        """Deal homes anew over the workers there are; wait for one if there is none.

        With `patience`, seconds, wait first until there are as many as before. No wait goes on when
        it is `interrupted`.

        Raises
        ------
        ClusterLostError
            If none comes within `timeout` seconds.
        VersionMismatchError
            If a new one runs other versions of the packages whose results must agree.
        """
        hurried = interrupted or threading.Event()
        deadline = time.monotonic() + timeout
        self._await_as_many(time.monotonic() + patience, hurried)
        while True:
            try:
                homes = self._workers()
                break
            except ClusterLostError:
                if not self.alive or time.monotonic() > deadline or hurried.wait(0.2):
                    raise
        if not {*self._homes}.issuperset(homes):
            self._check_versions()  # before they are homes: those are not looked at again
        self._homes, self._moves = homes, self._moves + 1
        self._bound.clear()

    def _await_as_many(self, deadline: float, hurried: threading.Event) -> None:
        """Wait for the successors of workers that have gone."""
        while self.alive and time.monotonic() < deadline:
            if len(self._present()) >= len(self._homes) or hurried.wait(0.2):
                return

    def scenes(self, run: str) -> list[marks.Scene]:
        """Return where environments of a run have ended the processes that they were in."""
        found = self.client.run(marks.left, run, on_error="ignore")
        return list(chain.from_iterable(found.values()))

    def put(self, values: Mapping[Key, Any]) -> None:
        """Place data at their homes, from where others fetch what they need.

        Dask's own copying to all workers never ends if one of them goes meanwhile.

        Raises
        ------
        LostWork
            If a worker goes meanwhile.
        ClusterLostError
            If the scheduler has gone.
        """
        try:
            for home in self._homes:
                mine = {k: v for k, v in values.items() if self._home(k) == home}
                if mine:
                    self._futures.update(self.client.scatter(mine, workers=[home]))
        except (KeyError, OSError, ValueError) as error:  # what the scheduler raises for it
            if not self.alive:
                raise self._lost() from error
            raise LostWork(f"a worker has gone while it was sent data: {error!r}") from error

    def submit(self, drawn: Drawn, keep: Sequence[Key]) -> None:
        """Send a graph to the scheduler; do not wait."""
        if not self.alive:
            raise self._lost()
        self._send(self._layers(drawn), keep)

    def _send(self, layers: Mapping[str, MaterializedLayer], keep: Sequence[Key]) -> None:
        graph = HighLevelGraph(dict(layers), {name: set() for name in layers})
        futures = self.client.get(graph, list(keep), sync=False, fifo_timeout="0s")
        self._futures.update(zip(keep, futures, strict=True))

    def background(self, drawn: Drawn, keys: Sequence[Key]) -> Callable[[], list[Any]]:
        """Send a graph; return what waits for its results, and then forgets them."""
        moves = self._moves
        self.submit(drawn, keys)

        def results() -> list[Any]:
            try:
                return list(self.gather(keys, moves).values())
            finally:
                self.drop(keys)

        return results

    def hold(self, state: State) -> State:
        """Give a state new keys that no task led to; each value stays where it is.

        Raises
        ------
        LostWork
            If a part of it is lost meanwhile.
        """
        ticket = uuid.uuid4().hex[:8]
        held = state.mapped(lambda key: ("dqlearn-held", ticket, *key))
        where = self._where(state.keys)
        pairs = list(zip(state.keys, held.keys, strict=True))
        puts = {("dqlearn-hold", ticket, *key): (key, where[key]) for key in state.keys}
        names = {key: repr(key) for key in state.keys}
        run = str(state.plan[1])
        self._send_there(
            {put: (hold, TaskRef(key), run, ticket, names[key]) for put, (key, _) in puts.items()},
            {put: home for put, (_, home) in puts.items()},
        )
        self._bound = set(where.values())
        try:
            self.gather(list(puts))
        finally:
            self.drop(puts)
        self._send_there(
            {new: (take, run, ticket, names[old]) for old, new in pairs},
            {new: where[old] for old, new in pairs},
        )
        return held

    def _where(self, keys: Sequence[Key]) -> dict[Key, str]:
        """Return a worker that has each result."""
        futures = self._settle(keys)
        with self.losses():
            found = self.client.who_has(futures)
        homes = {key: found.get(self._futures[key].key) for key in keys}
        if not all(homes.values()):
            raise LostWork("a result of this run has gone with its worker")
        return {key: sorted(workers)[0] for key, workers in homes.items() if workers}

    def _send_there(self, calls: Mapping[Key, tuple[Any, ...]], where: Mapping[Key, str]) -> None:
        """Run small tasks, each on a worker of its own."""
        layers = {}
        for home in sorted(set(where.values())):
            mine = {key: Task(key, *call) for key, call in calls.items() if where[key] == home}
            there = {"workers": [home], "allow_other_workers": False, "span": self._span}
            layers[f"there-{home}"] = MaterializedLayer(mine, annotations=there)
        self._send(layers, list(calls))

    def _layers(self, drawn: Drawn) -> dict[str, MaterializedLayer]:
        """Group a graph's tasks by home, with the annotation that sends them there."""
        by_home: dict[tuple[str, bool], dict[Key, Task]] = {}
        for key, task in drawn.tasks.items():
            free = not self._chunks_pinned and key not in drawn.pinned
            by_home.setdefault((self._home(key), free), {})[key] = task
        return {
            f"home-{home}-{free}": MaterializedLayer(
                tasks,
                annotations={"workers": [home], "allow_other_workers": free, "span": self._span},
            )
            for (home, free), tasks in by_home.items()
        }

    def result(self, key: Key) -> Any:
        """Wait for one result.

        Raises
        ------
        LostWork
            If it can no longer be computed, or a home has gone.
        ClusterLostError
            If the scheduler has gone.
        """
        return self.gather([key])[key]

    def gather(self, keys: Sequence[Key], moves: int | None = None) -> dict[Key, Any]:
        """Wait for results and fetch them, as :meth:`result`; they were asked for after `moves`."""
        timeout, moves = _FETCH, self._moves if moves is None else moves
        while True:
            futures = self._settle(keys, moves)
            with self.losses(), suppress(TimeoutError), _named(futures):
                fetch = self.client._gather
                values = self.client.sync(fetch, futures, callback_timeout=timeout)
                return dict(zip(keys, values, strict=True))
            timeout *= 2  # the results are large, or one was lost on its way: look again

    def _settle(self, keys: Sequence[Key], moves: int | None = None) -> list[Future]:
        """Wait until results are there."""
        moves = self._moves if moves is None else moves
        if not self.alive:
            raise self._lost()
        try:
            futures = [self._futures[key] for key in keys]
        except KeyError as error:
            raise LostWork(f"the run has given up {error}") from error
        with self.losses():
            for future in futures:
                self._wait(future, moves)
        return futures

    @contextmanager
    def losses(self) -> Iterator[None]:
        """Turn an error into a loss if a home has gone; an error of another cause comes again."""
        try:
            yield
        except (LostWork, ClusterLostError):
            raise
        except Exception as error:
            self._release_failed()
            if not self.alive:
                raise self._lost() from error
            if isinstance(error, _LOSSES) or self._goes(error):
                raise LostWork(f"a result of this run is lost: {error!r}") from error
            raise

    def _release_failed(self) -> None:
        """Release results that failed: their errors would keep the learner, and with it its table.

        The client keeps a result's error, which keeps its traceback, whose frames keep the result.
        """
        for future in tuple(self._futures.values()):
            if future.status in ("error", "cancelled"):
                future.release()

    def _goes(self, error: Exception) -> bool:
        """Whether a home has gone; for an error that is not one of ours, or goes within moments."""
        patience = 0.0 if isinstance(error, DQLearnError) else _NOTICED
        deadline = time.monotonic() + patience
        while not self._gone():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.1)
        return True

    def _wait(self, future: Future, moves: int) -> None:
        """Wait for one future; watch for dead workers that had what cannot be made again.

        While a thread waits that only reads, the thread that learns may go back to a recovery
        point, and deal homes anew: then nobody makes what was asked for before.
        """
        idle = False
        while not future.done():
            try:  # `distributed.wait` would want a default client
                future.exception(timeout=_SECOND_LOOK if idle else _POLL)
            except TimeoutError:
                if not self.alive:
                    raise self._lost() from None
                if self._moves != moves:
                    raise LostWork("the run has gone back meanwhile") from None
                gone, was_idle = self._gone(), idle
                idle = bool(gone) and self._idle()
                if was_idle and idle:
                    raise LostWork(f"workers {sorted(gone)} have gone") from None

    def _idle(self) -> bool:
        """Whether no worker has a task that leads to a result of this run."""
        runs = {key[1] for key in tuple(self._futures)}
        tasks = chain.from_iterable(self.client.processing().values())
        return not any(isinstance(key, tuple) and key[1:2] and key[1] in runs for key in tasks)

    def drop(self, keys: Iterable[Key]) -> None:
        """Release results."""
        for key in keys:
            self._futures.pop(key, None)

    def node(self, key: Key) -> TaskRef:
        """Return a kept result as a future, which is a reference that keeps it alive.

        Raises
        ------
        LostWork
            If it has gone, and can no longer be computed.
        """
        future = self._settle([key])[0]
        if future.status != "finished":  # somebody else has asked for it, in vain
            raise LostWork(f"{key} has gone with its worker")
        self._shared.add(future)
        node: TaskRef = future
        return node

    def adopt(self, other: Executor) -> bool:
        """Return whether the other one is of the same client."""
        return isinstance(other, ClusterExecutor) and other.client is self.client

    @property
    def width(self) -> int:
        """Number of threads of all workers."""
        workers = self._present().values()
        return max(1, sum(int(worker["nthreads"]) for worker in workers))

    @property
    def threads(self) -> int:
        """Least number of threads of a home."""
        return self._of_one[0]

    @property
    def memory_of_one(self) -> int:
        """Least bytes that a home may have; one without a limit has those of this machine."""
        return self._of_one[1]

    def bind(self) -> None:
        """Pin tasks to their chunks' homes: Dask takes chunks on disk for small, and moves them."""
        self.depth, self._chunks_pinned = 1, True

    @property
    def memory(self) -> int:
        """Bytes that two tables may have before Dask writes to disk; rounds work on copies.

        A worker without a limit counts as having the memory of this machine.
        """
        workers = self._present().values()
        limits = (int(worker["memory_limit"]) or MEMORY_LIMIT for worker in workers)
        return int(_BEFORE_SPILLING * sum(limits) / 2)

    @property
    def disk(self) -> int:
        """Bytes that are free where the workers spill to; those on one disk share them."""
        return sum(dict(self.client.run(paged.disk, on_error="ignore").values()).values())

    @property
    def name(self) -> str:
        """The scheduler's address, and the workers behind it."""
        return (
            f"cluster at {self.client.scheduler.address if self.client.scheduler else '?'}, "
            f"{len(self._homes)} workers"
        )

    def _workers(self) -> list[str]:
        if not self.alive:
            raise self._lost()
        workers = self._present()
        if not workers:
            raise ClusterLostError(
                f"the cluster of {self.client!r} has no workers: start some, or wait for them "
                "with client.wait_for_workers(1)"
            )
        self._of_one = (
            min(int(worker["nthreads"]) for worker in workers.values()),
            min(int(worker["memory_limit"]) or MEMORY_LIMIT for worker in workers.values()),
        )
        return sorted(workers)

    def _lost(self) -> ClusterLostError:
        return ClusterLostError(
            f"the scheduler of {self.client!r} has gone: connect a new Client, or close this one "
            "to go on in this process; the learner keeps what its last recovery point holds"
        )

    def _check_versions(self) -> None:
        """Compare the packages that decide the bits of a result."""
        versions: Any = self.client.get_versions(packages=list(_MUST_AGREE))
        mine = versions["client"]["packages"]
        for address, info in versions["workers"].items():
            theirs = info["packages"]
            differ = {p: theirs.get(p) for p in _MUST_AGREE if theirs.get(p) != mine.get(p)}
            if differ:
                raise VersionMismatchError(
                    f"worker {address} must run the client's versions "
                    f"{ {p: mine.get(p) for p in differ} }, got {differ}: install them there"
                )


@contextmanager
def _named(futures: Sequence[Future]) -> Iterator[None]:
    """Name an error that came without its exception, which has been forgotten since.

    The scheduler reports such errors when workers go one after another; Dask's client fails then,
    as it has no exception to raise.
    """
    try:
        yield
    except AttributeError as error:
        if any(f.exception() is error for f in futures if f.status == "error"):
            raise  # an error of the task itself
        raise LostWork("a result failed, and nobody knows why any more") from error


def _place(key: Key) -> int:
    """Return the number of the shard or chunk that a task is about: the last part of its key."""
    return int(key[-1]) if isinstance(key[-1], int) else 0
