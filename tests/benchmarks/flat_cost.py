"""Round 10,000 costs what round 10 costs: time, scheduler tasks and memory of a long run.

Rounds are as small as they can be, on two worker processes. The run is cut into ten equal parts;
the last is compared with the second, for the first one warms up.
"""

from __future__ import annotations

from typing import Any

import click
import psutil
from distributed import Client
from harness import Report, json_option, timed
from problems import cluster_option, smallest_rounds, two_workers

PARTS = 10
AT_MOST = 1.1


def scheduler_tasks(client: Client) -> int:
    """Count the tasks that the scheduler knows."""
    return client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))


def worker_mebibytes(client: Client) -> float:
    """Resident memory of the largest worker process."""
    sizes = client.run(lambda: psutil.Process().memory_info().rss)
    return max(sizes.values()) / 2**20


@click.command(help="Time, tasks and memory of a run of many small rounds.")
@json_option
@cluster_option
@click.option(
    "--rounds",
    type=click.IntRange(PARTS),
    default=10_000,
    show_default=True,
    help="Of the whole run.",
)
@click.option("--policy-lag", default=1, show_default=True, help="Of QLearner.")
def main(cluster: str | None, rounds: int, policy_lag: int, json_path: str | None) -> None:
    report = Report("flat_cost", rounds=rounds, policy_lag=policy_lag)
    with two_workers(cluster) as scheduler:
        parts = run(scheduler, rounds // PARTS, policy_lag)
    for n, (elapsed, tasks, memory) in enumerate(parts, start=1):
        report.add(f"part {n}: time a round", [elapsed], "ms")
        report.add(f"part {n}: scheduler tasks", [tasks], "")
        report.add(f"part {n}: worker memory", [memory], "MiB")
    for column, name in enumerate(("time", "tasks", "memory")):
        report.add(
            f"last / second part: {name}",
            [parts[-1][column] / parts[1][column]],
            "x",
            at_most=AT_MOST,
        )
    report.finish(json_path)


def run(scheduler: dict[str, Any], rounds: int, policy_lag: int) -> list[tuple[float, int, float]]:
    """Return (milliseconds a round, tasks, MiB) of each part."""
    learner, client = smallest_rounds(scheduler, policy_lag), scheduler["scheduler"]
    parts = []
    for _ in range(PARTS):
        elapsed, made = timed(lambda: learner.advance(2 * rounds))
        milliseconds = 1000 * elapsed / (made // 2)
        parts.append((milliseconds, scheduler_tasks(client), worker_mebibytes(client)))
    return parts


if __name__ == "__main__":
    main()
