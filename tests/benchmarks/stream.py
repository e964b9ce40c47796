"""What the scheduler of a cluster was told of rounds: when each ended, and how long its tasks took.

::

    worker ── (key, began, ended) of every task ──► scheduler ──► Watched

A task's seconds are those of its function, by the worker's own clock: fetching what it needs,
messages and waiting are not among them. A round ends with its report. Invariant: the last copy of
the table, which ends every call of `learn` on a cluster, is in no round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from distributed import Client, get_task_stream
from problems import OnDask

STAGES = ("rollout", "update", "policy", "best")
CUTTING = "parcel"
"""The task that cuts out what is sent: on one worker there is none."""

SETTLING = 2  # rounds: the first are drawn and sent while nothing runs


@dataclass(frozen=True)
class Watched:
    """Some rounds.

    Attributes
    ----------
    seconds : float
        Of a round, the median.
    busy : mapping
        Seconds of tasks in a round, by worker and the task's name.
    """

    seconds: float
    busy: Mapping[tuple[str, str], float]

    def largest(self, *names: str) -> float:
        """Return the seconds of tasks of these names on the worker that has most."""
        return max(self._by_worker(names).values())

    def total(self, *names: str) -> float:
        """Return the seconds of tasks of these names on all workers."""
        return sum(self._by_worker(names).values())

    def _by_worker(self, names: Iterable[str]) -> Counter[str]:
        found: Counter[str] = Counter()
        for (worker, name), seconds in self.busy.items():
            found[worker] += seconds if name in names else 0.0
        return found


def watch(learner: OnDask, client: Client, batch: int, rounds: int) -> Watched:
    """Learn for some rounds of so many transitions, and look at them."""
    with get_task_stream(client) as stream:
        learner.advance((rounds + SETTLING) * batch)
    return watched(stream.data)


def watched(entries: Iterable[Mapping[str, Any]]) -> Watched:
    """Make it of the scheduler's entries, one of each task."""
    ends: list[float] = []
    took: dict[tuple[str, str], Counter[int]] = {}
    for entry in entries:
        name, (began, ended) = str(entry["key"][0]).removeprefix("dqlearn-"), _computed(entry)
        took.setdefault((entry["worker"], name), Counter())[entry["key"][2]] += ended - began
        if name == "report":
            ends.append(ended)
    lengths = [b - a for a, b in pairwise(sorted(ends))]
    busy = {which: median(rounds.values()) for which, rounds in took.items()}
    return Watched(median(lengths[SETTLING - 1 :]), busy)


def _computed(entry: Mapping[str, Any]) -> tuple[float, float]:
    """Return when a task's function began and ended."""
    for part in entry["startstops"]:
        if part["action"] == "compute":
            return part["start"], part["stop"]
    return 0.0, 0.0
