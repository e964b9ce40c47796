"""Shared results: whoever waits, outside of the run, for one that is lost gets an error.

::

    learner.table ──► futures of chunks, shared ──► their worker dies; they cannot be made again
                           └── looked at every second: lost, and nobody works at them ──► cancelled

A result that is pinned without its history (see :mod:`dqlearn.engine.holding`) can only come from
the worker that has it; if that worker dies, the scheduler would wait for ever, and so would
everybody who computes with the result. The run itself goes back to its last recovery point.
Invariant: only what is lost is cancelled, and nothing while there is no worker that could make it.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

from distributed import Client, Future

from dqlearn.engine.graph import Key

__all__ = ["SharedFutures"]

_LOOK = 1.0  # seconds
_REASON = "it has gone with its worker"
_REMEDY = (
    "Ask the learner for its table again: it is that of the run's last recovery point, or a newer "
    "one."
)


class SharedFutures:
    """The futures that a client's runs share with their users.

    Parameters
    ----------
    client : distributed.Client
        The client that the futures belong to.
    """

    def __init__(self, client: Client) -> None:
        self._client = weakref.ref(client)
        self._futures: list[weakref.ref[Future]] = []
        self._changing = threading.Lock()
        self._looking = False

    def add(self, future: Future) -> None:
        """Watch a future for as long as somebody has it."""
        with self._changing:
            self._futures.append(weakref.ref(future))
            if not self._looking:
                self._looking = True
                threading.Thread(target=self._look, name="dqlearn-shared", daemon=True).start()

    def _look(self) -> None:
        """Cancel what is lost at two looks in a row; end when there is nothing to watch."""
        before: set[Any] = set()
        while self._pause() and (client := self._client()) is not None:
            with suppress(OSError, ValueError, RuntimeError):  # the client closes meanwhile
                lost = {future.key for future in self._lost(client)}
                if twice := list(lost & before):
                    client.run_on_scheduler(_give_up, twice)
                before = lost
            del client

    def _pause(self) -> bool:
        """Wait until the next look; return whether there is one."""
        time.sleep(_LOOK)
        client = self._client()
        with self._changing:
            self._futures = [ref for ref in self._futures if ref() is not None]
            running = client is not None and client.status == "running"
            self._looking = running and bool(self._futures)
        return self._looking

    def _lost(self, client: Client) -> list[Future]:
        """Return unfinished futures that no worker works on, although there are workers."""
        away = [future for ref in self._futures if (future := ref()) and not future.done()]
        if not away:
            return []
        working: Any = client.processing()
        runs = {key[1] for keys in working.values() for key in keys if _is_ours(key)}
        return [it for it in away if working and runs.isdisjoint(cast("Key", it.key))]


def _is_ours(key: Any) -> bool:
    return isinstance(key, tuple) and len(key) > 1 and str(key[0]).startswith("dqlearn")


def _give_up(keys: Sequence[Any], dask_scheduler: Any = None) -> None:
    """Cancel results and what is made of them, whoever wants it; this runs on the scheduler.

    `Client.cancel` would ask for the same in messages: a task that somebody submits or forgets
    between two of them breaks the scheduler's connection to the client.
    """
    lost = [dask_scheduler.tasks[key] for key in keys if key in dask_scheduler.tasks]
    for tasks in (_made_of(lost), lost):
        wanted: dict[str, list[Any]] = {}
        for task in tasks:
            for client in task.who_wants or ():
                wanted.setdefault(client.client_key, []).append(task.key)
        for client_key, theirs in wanted.items():
            said = {"op": "cancelled-keys", "keys": theirs, "reason": _REASON, "msg": _REMEDY}
            dask_scheduler.report(said, client=client_key)
            dask_scheduler.client_releases_keys(theirs, client=client_key)


def _made_of(tasks: Sequence[Any]) -> list[Any]:
    """Return the tasks that depend on some tasks."""
    found: dict[Any, Any] = {}
    ahead = list(tasks)
    while ahead:
        for task in ahead.pop().dependents:
            if task.key not in found:
                found[task.key] = task
                ahead.append(task)
    return list(found.values())
