"""How fast a learner observes: transitions a second in batches, and what one transition costs.

    python tests/benchmarks/observe.py

A table of 10^6 states x 4 actions, integer observations; best of several, as noise only adds. Then
the same on a table that a small problem has, and beside `predict`, as a live loop calls both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import dask
import gymnasium
import numpy as np
from gymnasium import spaces

from dqlearn import QLearner

BATCHES = (1_000, 10_000, 100_000, 1_000_000)
SEEN = 4_000_000  # transitions for each size
REPEATS = 3


class Live(gymnasium.Env[Any, Any]):
    """The spaces of a system that somebody else steps."""

    action_space = spaces.Discrete(4)

    def __init__(self, n_states: int) -> None:
        self.observation_space = spaces.Discrete(n_states)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        """Begin in a state that stands for all."""
        return 0, {}


def learner_of(n_states: int) -> QLearner:
    """Make a learner that only observes."""
    return QLearner(partial(Live, n_states), num_envs=1, shards=1, gamma=0.9, learning_rate=0.1)


def batch_of(n: int, n_states: int) -> dict[str, Any]:
    """Draw transitions, as they lie in memory."""
    draw = np.random.default_rng(0)
    return {
        "obs": draw.integers(n_states, size=n),
        "action": draw.integers(4, size=n),
        "reward": draw.random(n),
        "next_obs": draw.integers(n_states, size=n),
        "terminated": draw.random(n) < 0.01,
        "truncated": np.zeros(n, np.bool_),
    }


def best(work: Callable[[], object], n: int) -> float:
    """Return seconds a call: the best of several times n calls, after one."""
    work()
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        for _ in range(n):
            work()
        seconds.append((time.perf_counter() - began) / n)
    return min(seconds)


def in_batches(n_states: int) -> None:
    """Print rates in batches, with and without numbers of a source."""
    learner = learner_of(n_states)
    for n in BATCHES:
        rows, calls = batch_of(n, n_states), max(SEEN // n // REPEATS, 1)
        plain = best(lambda rows=rows: learner.observe(**rows), calls)
        seq, source = np.arange(n), f"log {n}"

        def numbered(rows: Any = rows, seq: Any = seq, source: str = source) -> None:
            seq += len(seq)
            learner.observe(**rows, source=source, seq=seq)

        told = best(numbered, calls)
        print(
            f"{n_states:>9,} states, batches of {n:>9,}: {n / plain / 1e6:6.2f} M/s, "
            f"with source and seq {n / told / 1e6:6.2f} M/s"
        )


def one_by_one(n_states: int) -> None:
    """Print what one transition costs, alone and after a `predict`."""
    learner = learner_of(n_states)

    def live() -> None:
        action, _ = learner.predict(7)
        learner.observe(7, int(action), 0.5, 3, False, False)

    alone = best(lambda: learner.observe(7, 1, 0.5, 3, False, False), 300)
    both = best(live, 100)
    print(
        f"{n_states:>9,} states, one transition: {alone * 1e6:6.0f} us, "
        f"with predict {both * 1e6:6.0f} us"
    )


def main() -> None:
    """Measure on two threads."""
    with dask.config.set(scheduler="threads", num_workers=2):
        in_batches(1_000_000)
        for n_states in (1_000, 1_000_000):
            one_by_one(n_states)


if __name__ == "__main__":
    main()
