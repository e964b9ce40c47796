"""Nanoseconds per transition of each stage, on one core.

The rounds are real ones, run by Dask's synchronous scheduler, and each task is timed by itself, so
that nothing between tasks counts. With ``policy_lag=1`` every stage is a task of its own::

    rollout, route, update, maxima, policy (the maxima joined), and all else: pieces, report
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import click
from dask.callbacks import Callback
from harness import Report, options
from problems import OnDask, Problem, problem_options, settings_of, settings_options

STAGES = ("rollout", "route", "update", "maxima", "policy")
ONE_CORE = {"scheduler": "synchronous"}
WARM_UP = 5


class Stopwatch(Callback):  # type: ignore[misc]
    """Adds up the seconds of tasks by the stage that their keys name."""

    def __init__(self) -> None:
        super().__init__(pretask=self._begin, posttask=self._end)
        self.seconds: Counter[str] = Counter()
        self._began = 0.0

    def _begin(self, key: Any, graph: Any, state: Any) -> None:
        self._began = time.perf_counter()

    def _end(self, key: Any, result: Any, graph: Any, state: Any, worker: Any) -> None:
        stage = key[0].removeprefix("dqlearn-")
        self.seconds[stage if stage in STAGES else "else"] += time.perf_counter() - self._began


def one_round(learner: OnDask) -> dict[str, float]:
    """Return nanoseconds per transition of each stage in one round."""
    with Stopwatch() as watch:
        made = learner.advance(1)
    return {stage: 1e9 * watch.seconds[stage] / made for stage in (*STAGES, "else")}


def measure(report: Report, problem: Problem, settings: dict[str, int], repeats: int) -> None:
    """Add each stage of one problem, and their sum."""
    learner = problem.learner(ONE_CORE, **settings | {"policy_lag": 1})
    for _ in range(WARM_UP):
        learner.advance(1)
    rounds = [one_round(learner) for _ in range(repeats)]
    for stage in rounds[0]:
        report.add(f"{problem.name} {stage}", [r[stage] for r in rounds], "ns")
    report.add(f"{problem.name} all", [sum(r.values()) for r in rounds], "ns")


@click.command(help="Nanoseconds per transition of each stage of a round, on one core.")
@options
@problem_options
@settings_options
def main(
    problems: list[Problem], settings: dict[str, int], repeats: int, json_path: str | None
) -> None:
    report = Report("stages", **settings_of(problems, settings))
    for problem in problems:
        measure(report, problem, settings, repeats)
    report.finish(json_path)


if __name__ == "__main__":
    main()
