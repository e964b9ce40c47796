"""A round on some worker processes, and what its graph says of its cost.

::

    rollout w ─► parcel (m, w) ─► update c ─► best m ─► rollout of the next round      4 levels
         2 messages       4 messages    2 messages   4 messages                       12 hops

A task waits for the scheduler to hear of the one before and to send it: two messages. Two more
fetch what is on another worker. Each worker fetches from each other one twice a round: parcels, and
parts of the policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
from problems import THREADS, OnDask
from shaped import Network

from dqlearn.engine.graph import State
from dqlearn.engine.round import round_graph
from dqlearn.envs.problems.torus import torus

STEPS = 32
CHUNKS_PER_THREAD = 2
PAIR_BYTES, STATE_BYTES = 8, 5  # an offset and a target; a value and an action
CORES = psutil.cpu_count() or 1

Floats = npt.NDArray[np.float64]
Size = tuple[int, int, int]
"""Side of the torus, environments, shards of a worker."""


@dataclass(frozen=True)
class Case:
    """A round of some environments on a torus, on some worker processes."""

    workers: int
    side: int
    num_envs: int
    shards_each: int = 1
    """Shards of a worker process."""
    threads: int = 1
    """Of a worker process."""
    work: float = 0.0
    """Seconds of its stages on one worker."""

    @property
    def states(self) -> int:
        return self.side * self.side

    @property
    def batch(self) -> int:
        return self.num_envs * STEPS

    @property
    def size(self) -> Size:
        return self.side, self.num_envs, self.shards_each

    @property
    def name(self) -> str:
        shards = self.workers * self.shards_each
        size = f"{self.states} states, {self.batch} transitions"
        return f"{self.workers} workers, {shards} shards, {size}"

    def settings(self) -> dict[str, Any]:
        chunk = -(-self.states // (CHUNKS_PER_THREAD * self.workers * self.threads))
        common = {"num_envs": self.num_envs, "steps_per_round": STEPS, "policy_lag": 0}
        return {**common, "shards": self.workers * self.shards_each, "chunks": (chunk, -1)}

    @property
    def received(self) -> float:
        """Bytes that a worker receives from the others."""
        others = 1.0 - 1.0 / self.workers
        return others * (self.batch * PAIR_BYTES / self.workers + self.states * STATE_BYTES)

    @property
    def graph(self) -> Shape:
        return shape_of(self.workers, self.shards_each, self.threads)

    def row(self, cores: int = CORES) -> Floats:
        """Factors of (latency, per_task, per_fetch, per_byte)."""
        ends, shape = min(self.workers, cores), self.graph
        nbytes = self.received * self.workers
        return np.array([shape.levels, shape.tasks, shape.fetches / ends, nbytes / ends])

    def on(self, network: Network) -> float:
        """Seconds that a network adds."""
        return self.graph.hops * network.delay + self.received / network.rate


@dataclass(frozen=True)
class Shape:
    """Of a round's graph: its tasks, how many wait for one another, and for how many messages.

    And how often workers fetch from each other.
    """

    tasks: int
    levels: int
    hops: int
    fetches: int


@cache
def shape_of(workers: int, shards_each: int, threads: int = 1) -> Shape:
    """Draw the graph of a round and look at it."""
    case = Case(workers, 128, 64 * workers * shards_each, shards_each, threads)
    plan = OnDask(torus(case.side), THREADS, **case.settings()).learner._plan
    counts = {"best": workers, "chunk": plan.grid.n_chunks, "shard": workers * shards_each}
    keys = (tuple((name, "run", i) for i in range(count)) for name, count in counts.items())
    drawn = round_graph(plan, State(0, ("plan", "run"), *keys), workers)
    reached: dict[Any, tuple[int, int]] = {}

    def reach(key: Any) -> tuple[int, int]:
        """Return the levels and messages until a task is over."""
        if key not in drawn.tasks:
            return 0, 0
        if key not in reached:
            needed = [dep for dep in drawn.tasks[key].dependencies if dep[0] != "plan"]
            levels, hops = zip(*map(reach, needed), strict=True)
            far = (dep[-1] % workers != key[-1] % workers for dep in needed)
            met = max(h + 2 * away for h, away in zip(hops, far, strict=True))
            reached[key] = 1 + max(levels), 2 + met
        return reached[key]

    ends = [reach(key) for key in drawn.state.policy]
    levels, hops = map(max, zip(*ends, strict=True))
    return Shape(len(drawn.tasks), levels, hops, 2 * workers * (workers - 1))
