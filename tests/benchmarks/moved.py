"""Bytes that worker processes send each other in a round, by what they are of.

Pieces and maxima have to move; chunks have not: a chunk that moves costs more than what it learned.
The workers' own logs of what they received are read after some rounds.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable
from typing import Any

import click
from distributed import Client, Worker
from harness import Report, json_option
from problems import Problem, cluster_option, problem_options, settings_options, two_workers

CHUNKS = ("update", "learn", "fill", "load", "held")
"""What chunks are the results of; shards that were held have that name too."""


def received(dask_worker: Worker) -> list[dict[Any, int]]:
    """Return what a worker received, and how many bytes; its log has a bounded length."""
    return [dict(entry["keys"]) for entry in dask_worker.transfer_incoming_log]


def kind(key: Any) -> str:
    """Return the name of the task that made a result."""
    parts = ast.literal_eval(key) if isinstance(key, str) and key.startswith("(") else key
    name = parts[0] if isinstance(parts, tuple) else str(parts)
    return str(name).removeprefix("dqlearn-")


def by_kind(logs: Iterable[list[dict[Any, int]]]) -> Counter[str]:
    """Add up bytes by the names of tasks."""
    found: Counter[str] = Counter()
    for log in logs:
        for keys in log:
            for key, nbytes in keys.items():
                found[kind(key)] += nbytes
    return found


def measure(
    report: Report, problem: Problem, client: Client, settings: dict[str, Any], rounds: int
) -> None:
    """Add the megabytes of each kind, and those of chunks."""
    learner = problem.learner({"scheduler": client}, **settings)
    made = learner.advance(1)
    before = by_kind(client.run(received).values())
    learner.advance(rounds * made)
    moved = by_kind(client.run(received).values()) - before
    for name, nbytes in sorted(moved.items()):
        report.add(f"{problem.name} {name}", [nbytes / rounds / 1e6], "MB a round")
    chunks = sum(moved[name] for name in CHUNKS)
    report.add(f"{problem.name} chunks", [chunks / 1e6], "MB in all rounds", at_most=0.0)
    report.add(f"{problem.name} table", [learner.learner.table.nbytes / 1e6], "MB")


@click.command(help="Megabytes that two worker processes send each other in a round.")
@json_option
@problem_options
@settings_options
@cluster_option
@click.option("--rounds", default=50, show_default=True, help="After the first.")
def main(
    problems: list[Problem],
    settings: dict[str, Any],
    cluster: str | None,
    rounds: int,
    json_path: str | None,
) -> None:
    report = Report("moved", rounds=rounds, **settings)
    with two_workers(cluster) as scheduler:
        for problem in problems:
            measure(report, problem, scheduler["scheduler"], settings, rounds)
    report.finish(json_path)


if __name__ == "__main__":
    main()
