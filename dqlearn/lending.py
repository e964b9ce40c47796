"""Lent results: who waits for one that is lost, outside of the run, gets an error.

::

    learner.table ──► futures of chunks, lent ──► their worker dies; they cannot be made again
                           └── looked at every second: lost, and nobody works at them ──► cancelled

What is kept without its history (see :mod:`dqlearn.holding`) can be made nowhere but on the worker
that has it; for that worker the scheduler would wait for ever, and so would everybody who computes
with it. The run itself goes back to its last cut. Invariant: only what is lost is cancelled, and
nothing while there is no worker that could make it.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

from distributed import Client, Future

from dqlearn.graph import Key

__all__ = ["Lent"]

_LOOK = 1.0  # seconds
_REASON = "it has gone with its worker"
_REMEDY = "Ask the learner for its table again: it is that of the run's last cut, or a newer one."


class Lent:
    """What a client's runs have lent.

    Parameters
    ----------
    client : distributed.Client
        Whose futures they are.
    """

    def __init__(self, client: Client) -> None:
        self._client = weakref.ref(client)
        self._futures: list[weakref.ref[Future]] = []
        self._changing = threading.Lock()
        self._looking = False

    def add(self, future: Future) -> None:
        """Look after a future for as long as somebody has it."""
        with self._changing:
            self._futures.append(weakref.ref(future))
            if not self._looking:
                self._looking = True
                threading.Thread(target=self._look, name="dqlearn-lent", daemon=True).start()

    def _look(self) -> None:
        """Cancel what is lost at two looks in a row; end when there is nothing to look after."""
        before: set[Any] = set()
        while self._pause() and (client := self._client()) is not None:
            with suppress(OSError, ValueError, RuntimeError):  # of a client that closes meanwhile
                lost = self._lost(client)
                _cancel(client, [future for future in lost if future.key in before])
                before = {future.key for future in lost}
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
        """Return what is not there, and nobody works at although there are workers."""
        away = [future for ref in self._futures if (future := ref()) and not future.done()]
        if not away:
            return []
        working: Any = client.processing()
        runs = {key[1] for keys in working.values() for key in keys if _is_ours(key)}
        return [it for it in away if working and runs.isdisjoint(cast("Key", it.key))]


def _is_ours(key: Any) -> bool:
    return isinstance(key, tuple) and len(key) > 1 and str(key[0]).startswith("dqlearn")


def _cancel(client: Client, lost: Sequence[Future]) -> None:
    """Cancel what somebody waits for first: the scheduler loses its way from the other end."""
    if lost:
        keys = client.run_on_scheduler(_waiting_for, [future.key for future in lost])
        waiting: list[Future[Any]] = [Future(key, client) for key in keys]
        client.cancel(waiting, reason=_REASON, msg=_REMEDY)
        client.cancel(list(lost), reason=_REASON, msg=_REMEDY)


def _waiting_for(keys: Sequence[Any], dask_scheduler: Any = None) -> list[Any]:
    """Return what clients want that is made of some results, on the scheduler."""
    found: dict[Any, Any] = {}
    ahead = [dask_scheduler.tasks[key] for key in keys if key in dask_scheduler.tasks]
    while ahead:
        for task in ahead.pop().dependents:
            if task.key not in found:
                found[task.key] = task
                ahead.append(task)
    return [key for key, task in found.items() if task.who_wants]
