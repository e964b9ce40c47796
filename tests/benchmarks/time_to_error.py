"""Seconds until the table is as good as asked for: dqlearn on two threads, against the loop.

The error is the mean of ``|max_a Q - V*|`` over all states, in units of the mean of ``|V*|``; it is
looked at after every step of the race, while the clock stands. Both learn in turn, step by step,
with the same constant epsilon and learning rate, so that what else the machine does falls on both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import click
import numpy as np
import numpy.typing as npt
from harness import Report, options, ratios, timed
from loops import WAYS, Loop, fastest
from problems import THREADS, OnDask, Problem, problem_options, settings_of, settings_options

from dqlearn import exact

ERROR = {"torus": 0.20, "garnet": 0.05}


@dataclass
class Runner:
    """One competitor of a race, and what it has used so far."""

    competitor: Loop | OnDask
    seconds: float = 0.0
    transitions: int = 0
    error: float = 1.0

    def step(self, transitions: int, exact_value: npt.NDArray[np.float64]) -> None:
        """Learn on the clock, then look at the error off it."""
        elapsed, made = timed(lambda: self.competitor.advance(transitions))
        self.seconds += elapsed
        self.transitions += made
        off = np.abs(self.competitor.value() - exact_value).mean()
        self.error = float(off / np.abs(exact_value).mean())


def race(
    competitors: Mapping[str, Loop | OnDask],
    exact_value: npt.NDArray[np.float64],
    error: float,
    step: int,
    limit: int,
) -> dict[str, Runner]:
    """Let all learn in turn until each has reached the error."""
    runners = {name: Runner(competitor) for name, competitor in competitors.items()}
    while late := {name: r for name, r in runners.items() if r.error > error}:
        for name, runner in late.items():
            runner.step(step, exact_value)
            if runner.transitions > limit and runner.error > error:
                raise click.ClickException(
                    f"{name} has an error of {runner.error:.1%} after {runner.transitions:,} "
                    f"transitions, wanted {error:.1%}: pass a larger --error or --limit"
                )
    return runners


def measure(
    report: Report,
    problem: Problem,
    settings: dict[str, int],
    walkers: int | None,
    error: float,
    step: int,
    limit: int,
) -> None:
    """Race once for each seed, and add times, transitions and the ratio of the times."""
    repeats = report.parameters["repeats"]
    exact_value = exact.solve(problem.env, problem.gamma, tolerance=1e-6).value
    batches = {way: walkers or fastest(problem, way, max(4096, step // 2)) for way in WAYS}
    for way, batch in batches.items():
        Loop(problem, way, batch).advance(1)
    problem.learner(THREADS, **settings).advance(1)
    races = [
        race(
            {
                **{
                    f"{way} loop, {batch} walkers": Loop(problem, way, batch, seed)
                    for way, batch in batches.items()
                },
                "threads": problem.learner(THREADS, seed=seed, **settings),
            },
            exact_value,
            error,
            step,
            limit,
        )
        for seed in range(repeats)
    ]
    times = {name: [r[name].seconds for r in races] for name in races[0]}
    for name, samples in times.items():
        report.add(f"{problem.name} {name}: to {error:.0%}", samples, "s")
        report.add(f"{problem.name} {name}: made", [r[name].transitions / 1e6 for r in races], "M")
    threads = times.pop("threads")
    for name, samples in times.items():
        report.add(f"{problem.name} {name} / threads", ratios(samples, threads), "x")


@click.command(help="Seconds to the same error: dqlearn on threads, against a one-core loop.")
@options
@problem_options
@settings_options
@click.option("--walkers", type=int, help="Batch of the loops; by default the fastest of each.")
@click.option("--error", type=float, help="Share of mean |V*|; by default 20 % and 5 %.")
@click.option("--step", default=8_000_000, show_default=True, help="Transitions between looks.")
@click.option("--limit", default=2_000_000_000, show_default=True, help="Transitions at most.")
def main(
    problems: list[Problem],
    settings: dict[str, int],
    walkers: int | None,
    error: float | None,
    step: int,
    limit: int,
    repeats: int,
    json_path: str | None,
) -> None:
    report = Report("time_to_error", repeats=repeats, step=step, **settings_of(problems, settings))
    for problem in problems:
        wanted = ERROR[problem.name] if error is None else error
        measure(report, problem, settings, walkers, wanted, step, limit)
    report.finish(json_path)


if __name__ == "__main__":
    main()
