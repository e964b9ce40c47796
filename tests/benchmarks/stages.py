"""Nanoseconds per transition of each stage, on one core.

The rounds are real ones, run by Dask's synchronous scheduler; each stage is timed where tasks call
it, and what is left of a round is "else": scheduling, and what lies between the stages. With
``policy_lag=0`` rollout and route are one kernel, with ``policy_lag=1`` they are two::

    lag 0   rollout and route ─► update ─► summary ─► policy (summaries joined)
    lag 1   rollout, route    ─► update ─► summary ─► policy
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import click
import dask
from harness import Report, options, timed
from problems import OnDask, Problem, problem_options, settings_of, settings_options

from dqlearn.engine.tasks import learning

STAGES = {
    "walk_and_route": "rollout and route",
    "rollout": "rollout",
    "route": "route",
    "update": "update",
    "summarize": "summary",
    "reduce_task": "policy",
}
"""What tasks call, and the name of its stage."""

ONE_CORE = {"scheduler": "synchronous"}
WARM_UP = 5


@contextmanager
def stopwatch() -> Iterator[Counter[str]]:
    """Add up the seconds of each stage."""
    seconds: Counter[str] = Counter()
    before = {name: getattr(learning, name) for name in STAGES}

    def watched(stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def timed_call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                seconds[stage] += time.perf_counter() - began

        return timed_call

    for name, call in before.items():
        setattr(learning, name, watched(STAGES[name], call))
    try:
        yield seconds
    finally:
        for name, call in before.items():
            setattr(learning, name, call)


def one_round(learner: OnDask) -> dict[str, float]:
    """Return nanoseconds per transition of each stage in one round, and of all of it."""
    with stopwatch() as seconds:
        elapsed, made = timed(lambda: learner.advance(1))
    seconds["else"] = elapsed - seconds.total()
    return {stage: 1e9 * s / made for stage, s in {**seconds, "all": elapsed}.items()}


def measure(report: Report, problem: Problem, settings: dict[str, int], repeats: int) -> None:
    """Add each stage of one problem, and their sum."""
    for lag in (0, 1):
        learner = problem.learner(ONE_CORE, **settings | {"policy_lag": lag})
        for _ in range(WARM_UP):
            learner.advance(1)
        rounds = [one_round(learner) for _ in range(repeats)]
        for stage in rounds[0]:
            report.add(f"{problem.name} lag {lag}: {stage}", [r[stage] for r in rounds], "ns")


@click.command(help="Nanoseconds per transition of each stage of a round, on one core.")
@options
@problem_options
@settings_options
def main(
    problems: list[Problem], settings: dict[str, int], repeats: int, json_path: str | None
) -> None:
    report = Report("stages", **settings_of(problems, settings))
    with dask.config.set({"dqlearn.fuse": False}):  # fused rounds are one task
        for problem in problems:
            measure(report, problem, settings, repeats)
    report.finish(json_path)


if __name__ == "__main__":
    main()
