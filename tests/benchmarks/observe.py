"""How fast a learner observes, on two threads.

::

    batches     transitions a second, in batches of several sizes, without and with source and seq
    one         what a call with one transition takes, and one with `predict` before it

Observations are integers, which lie in arrays. The best of some calls is a sample.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import click
import dask
import gymnasium
import numpy as np
from gymnasium import spaces
from harness import Report, interleave, options

from dqlearn import QLearner

BATCHES = (1_000, 10_000, 100_000, 1_000_000)
AT_LEAST = 5.0  # millions a second, in large batches


class Live(gymnasium.Env[Any, Any]):
    """The spaces of a system that somebody else steps."""

    action_space = spaces.Discrete(4)

    def __init__(self, n_states: int) -> None:
        self.observation_space = spaces.Discrete(n_states)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        return 0, {}


def learner_of(n_states: int) -> QLearner:
    """Make a learner that only observes."""
    return QLearner(partial(Live, n_states), num_envs=1, shards=1, gamma=0.9, learning_rate=0.1)


def rows_of(n: int, n_states: int) -> dict[str, Any]:
    """Draw transitions."""
    draw = np.random.default_rng(0)
    return {
        "obs": draw.integers(n_states, size=n),
        "action": draw.integers(4, size=n),
        "reward": draw.random(n),
        "next_obs": draw.integers(n_states, size=n),
        "terminated": draw.random(n) < 0.01,
        "truncated": np.zeros(n, np.bool_),
    }


def best(work: Callable[[], object], calls: int) -> float:
    """Return the seconds of the fastest of some calls."""
    seconds = []
    for _ in range(calls):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


class Batches:
    """Batches of one size, which a learner observes again and again.

    Parameters
    ----------
    learner : QLearner
        The learner.
    n, n_states : int
        Rows of a batch, and states that they are of.
    calls : int
        Calls of a sample.
    """

    def __init__(self, learner: QLearner, n: int, n_states: int, calls: int) -> None:
        self.learner, self.rows, self.n, self.calls = learner, rows_of(n, n_states), n, calls
        self.seq = np.arange(n)
        self.plain(), self.numbered()

    def plain(self) -> float:
        """Millions of transitions a second."""
        return self.n / best(lambda: self.learner.observe(**self.rows), self.calls) / 1e6

    def numbered(self) -> float:
        """As many, with a source and numbers that rise."""

        def observe() -> None:
            self.learner.observe(**self.rows, source=f"log {self.n}", seq=self.seq)
            self.seq += self.n

        return self.n / best(observe, self.calls) / 1e6


def add_batches(report: Report, n_states: int, transitions: int, repeats: int) -> None:
    """Measure batches."""
    learner = learner_of(n_states)
    cases: dict[str, Callable[[], float]] = {}
    for n in BATCHES:
        if n <= transitions:
            batches = Batches(learner, n, n_states, transitions // n)
            cases[f"batches of {n:,}"] = batches.plain
            cases[f"batches of {n:,}, source and seq"] = batches.numbered
    for name, samples in interleave(cases, repeats).items():
        large = max(BATCHES) <= transitions and f"{max(BATCHES):,}" in name
        report.add(name, samples, "M/s", **({"at_least": AT_LEAST} if large else {}))


def add_singles(report: Report, n_states: int, calls: int, repeats: int) -> None:
    """Measure calls with one transition."""
    learner = learner_of(n_states)

    def observe() -> None:
        learner.observe(7, 1, 0.5, 3, False, False)

    def live() -> None:
        action, _ = learner.predict(7)
        learner.observe(7, int(action), 0.5, 3, False, False)

    live()
    cases = {
        "one transition": lambda: best(observe, calls) * 1e6,
        "predict and one": lambda: best(live, calls) * 1e6,
    }
    for name, samples in interleave(cases, repeats).items():
        report.add(name, samples, "us")


@click.command()
@click.option("--states", default=1_000_000, show_default=True, help="States of the table.")
@click.option("--transitions", default=2_000_000, show_default=True, help="Of a sample of batches.")
@click.option("--calls", default=300, show_default=True, help="Calls of a sample of single ones.")
@options
def main(states: int, transitions: int, calls: int, repeats: int, json_path: str | None) -> None:
    """Measure how fast a learner observes."""
    report = Report("observe", states=states, transitions=transitions, repeats=repeats)
    with dask.config.set(scheduler="threads", num_workers=2):
        add_batches(report, states, transitions, repeats)
        add_singles(report, states, calls, repeats)
    report.finish(json_path)


if __name__ == "__main__":
    main()
