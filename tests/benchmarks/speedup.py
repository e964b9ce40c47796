"""How much faster the compute part of a round is on two worker processes than on one.

::

    one worker    rollouts, updates, policy of all shards and chunks      their seconds
    two workers   rollout 0, updates of half the chunks, their best   ┐   the larger of both
                  rollout 1, updates of the others, their best        ┘   workers' seconds

The compute part is the time inside the tasks of stages, as the workers measure it. Cutting out what
is sent to the other worker is listed by itself: one worker has none of it. Both clusters make the
same rounds of the same two shards and chunks, in turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import click
from distributed import Client, LocalCluster
from harness import Report, interleave, options, ratios
from problems import Problem, problem_options, settings_of, settings_options
from stream import CUTTING, STAGES, watch

WORKERS = (1, 2)
AT_LEAST = 1.8


@contextmanager
def workers(n: int) -> Iterator[dict[str, Any]]:
    """Start worker processes of one thread each."""
    with (
        LocalCluster(n_workers=n, threads_per_worker=1, dashboard_address=":0") as local,
        Client(local, set_as_default=False) as client,
    ):
        yield {"scheduler": client}


def samples(
    problem: Problem, clusters: Mapping[int, dict[str, Any]], settings: dict[str, Any], rounds: int
) -> dict[int, Any]:
    """Set up and warm up a learner on each cluster; return what takes a sample of it."""
    taken: dict[int, Any] = {}
    for n, scheduler in clusters.items():
        learner = problem.learner(scheduler, **settings)
        batch = learner.advance(1)
        learner.advance(2 * batch)
        taken[n] = partial(watch, learner, scheduler["scheduler"], batch, rounds)
    return taken


def measure(report: Report, problem: Problem, taken: Mapping[int, Any], repeats: int) -> None:
    """Add the seconds of both, and their ratio."""
    seen = interleave(taken, repeats)
    compute = {n: [one.largest(*STAGES) for one in some] for n, some in seen.items()}
    for n, seconds in compute.items():
        report.add(f"{problem.name} stages, {n} workers", [1e3 * s for s in seconds], "ms a round")
    cutting = [1e3 * one.largest(CUTTING) for one in seen[2]]
    report.add(f"{problem.name} cutting, 2 workers", cutting, "ms a round")
    name = f"{problem.name} stages, 1 worker / 2 workers"
    report.add(name, ratios(compute[1], compute[2]), "x", at_least=AT_LEAST)
    whole = {n: [one.seconds for one in some] for n, some in seen.items()}
    report.add(f"{problem.name} rounds, 1 worker / 2 workers", ratios(whole[1], whole[2]), "x")


@click.command(help=__doc__)
@options
@problem_options
@settings_options
@click.option("--rounds", default=10, show_default=True, help="Of a sample.")
def main(
    problems: list[Problem],
    settings: dict[str, Any],
    rounds: int,
    repeats: int,
    json_path: str | None,
) -> None:
    report = Report("speedup", rounds=rounds, **settings_of(problems, settings))
    with workers(1) as one, workers(2) as two:
        for problem in problems:
            taken = samples(problem, {1: one, 2: two}, settings, rounds)
            measure(report, problem, taken, repeats)
    report.finish(json_path)


if __name__ == "__main__":
    main()
