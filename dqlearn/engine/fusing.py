"""Fusing: when many rounds are made in one task, how many, and by how many threads.

::

    dense, broadcast, lag 0,                  ─► fused: about 0.15 s of rounds in a task
    rounds small enough, and one memory
    with room for the table                      all other rounds ─► a graph for each

On a cluster, where a round costs some 30 ms of messages, one worker makes the fused rounds of a
run, on copies; large rounds and large tables are spread over all workers. A thread may not pay:
rounds are short, or other programs keep the processors busy. So now and then some rounds are made
by one thread, and others by all, and the faster way is gone on with. Invariant: the bits do not
depend on what is decided here.
"""

from __future__ import annotations

from collections import deque

import dask

from dqlearn.engine.executor import Executor
from dqlearn.stages.plan import Plan

__all__ = ["Pace", "fuses"]

_LARGEST = 2**21  # transitions in a round; the tasks of a larger one cost nothing beside them
_LARGEST_AWAY = 2**19  # on a cluster, whose workers would share a larger one
_TABLE_AWAY = 2**28  # bytes of a table of which each task makes a copy
_SHARE_AWAY = 1 / 8  # of a worker's memory
_SECONDS = 0.15  # of a task: an interrupt, or a reader, waits for its end
_MOST = 2**13  # rounds in a task, each of which has a row in the history
_GROWTH = 4
_TRIAL = 32  # tasks between trials of another number of threads
_LOOKS = 2  # last tasks with a number of threads that count


def fuses(plan: Plan, executor: Executor) -> bool:
    """Whether the rounds of a plan are fused where an executor runs them.

    ``dask.config.set({"dqlearn.fuse": False})`` says that none are.
    """
    plain = plan.exchange == "broadcast" and not (plan.policy_lag or plan.federated)
    whole = not plan.out_of_core and plan.grid.n_columns == 1
    if not (plain and whole and dask.config.get("dqlearn.fuse", True)):
        return False
    n = plan.num_envs * plan.steps_per_round
    if plan.donated:  # its tasks learn on a copy; several processes step side by side
        return executor.memories == 1 and n <= _LARGEST and plan.nbytes <= _TABLE_AWAY
    if executor.shares_memory:  # tasks learn on a copy where transitions wait for others
        return n <= _LARGEST and (not plan.waits or plan.nbytes <= _TABLE_AWAY)
    room = min(_TABLE_AWAY, int(_SHARE_AWAY * executor.memory_of_one))
    return n <= _LARGEST_AWAY and plan.nbytes <= room


class Pace:
    """How long rounds take, and what follows for the next task."""

    def __init__(self) -> None:
        self._seconds: dict[int, deque[float]] = {}  # of a round, by the number of threads
        self._tasks, self._last = 0, 0

    def threads(self, width: int) -> int:
        """Return how many of `width` threads are to make the next rounds."""
        choice = sorted({width, 1}, key=self._of)
        for n in (width, 1):
            if len(self._seconds.get(n, ())) < _LOOKS:
                return n
        return choice[-1 if self._tasks % _TRIAL == 0 else 0]

    def rounds(self, threads: int, most: int) -> int:
        """Return how many rounds to make in the next task, at most `most`."""
        wanted = min(int(_SECONDS / self._of(threads)), _GROWTH * max(self._last, 1), _MOST)
        return max(1, min(wanted, most))

    def note(self, rounds: int, threads: int, seconds: float) -> None:
        """Note what a task took; the first, which may have compiled, says nothing."""
        self._tasks, self._last = self._tasks + 1, rounds
        if self._tasks > 1:
            looks = self._seconds.setdefault(threads, deque(maxlen=_LOOKS))
            looks.append(max(seconds / rounds, 1e-9))

    def _of(self, threads: int) -> float:
        """Return the seconds of a round: the least of the last looks, as noise only adds."""
        seen = self._seconds.get(threads) or [max(map(max, self._seconds.values()), default=0.01)]
        return min(seen)
