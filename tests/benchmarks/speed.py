"""Transitions per second: dqlearn on two threads and on two worker processes, against the loop.

Worker processes pay a fixed price a round, so they are measured with longer rounds too.

All competitors solve the same problem with the same gamma, epsilon and learning rate, and are
measured at the same number of transitions. Both loops of :mod:`loops`, plain and tuned, run on one
core with their best batch.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import click
from harness import Report, interleave, options, rate, ratios
from loops import WALKERS, WAYS, Loop, fastest
from problems import (
    THREADS,
    Problem,
    cluster_option,
    problem_options,
    settings_of,
    settings_options,
    two_workers,
)

THREADS_TO_LOOP = {"torus": 1.0, "garnet": 2.0}
DISTRIBUTED_TO_THREADS = 0.6
LONGER = 4  # times the steps of a round


def measure(
    report: Report,
    problem: Problem,
    scheduler: dict[str, Any],
    settings: dict[str, Any],
    sample: int,
    repeats: int,
) -> None:
    """Add the rates of one problem, and their ratios."""
    walkers = {way: fastest(problem, way, max(WALKERS[-1], sample // 20)) for way in WAYS}
    steps = settings.get("steps_per_round", problem.settings["steps_per_round"])
    longer = settings | {"steps_per_round": LONGER * steps}
    competitors = {
        **{f"{way} loop": Loop(problem, way, walkers[way]) for way in WAYS},
        "threads": problem.learner(THREADS, **settings),
        "distributed": problem.learner(scheduler, **settings),
        f"distributed, rounds x {LONGER}": problem.learner(scheduler, **longer),
    }
    for competitor in competitors.values():
        competitor.advance(sample)
    cases = {name: partial(rate, partial(c.advance, sample)) for name, c in competitors.items()}
    rates = interleave(cases, repeats)
    for name, samples in rates.items():
        report.add(f"{problem.name} {name}", [r / 1e6 for r in samples], "M/s")
    for way in WAYS:
        report.add(
            f"{problem.name} threads / {way} loop, {walkers[way]} walkers",
            ratios(rates["threads"], rates[f"{way} loop"]),
            "x",
            at_least=THREADS_TO_LOOP[problem.name],
        )
    for name in competitors:
        if name.startswith("distributed"):
            report.add(
                f"{problem.name} {name} / threads",
                ratios(rates[name], rates["threads"]),
                "x",
                at_least=DISTRIBUTED_TO_THREADS,
            )


@click.command(help="Transitions per second of dqlearn, against a hand-written one-core loop.")
@options
@problem_options
@settings_options
@cluster_option
@click.option("--transitions", default=40_000_000, show_default=True, help="In a sample.")
def main(
    problems: list[Problem],
    settings: dict[str, Any],
    cluster: str | None,
    transitions: int,
    repeats: int,
    json_path: str | None,
) -> None:
    report = Report("speed", transitions=transitions, **settings_of(problems, settings))
    with two_workers(cluster) as scheduler:
        for problem in problems:
            measure(report, problem, scheduler, settings, transitions, repeats)
    report.finish(json_path)


if __name__ == "__main__":
    main()
