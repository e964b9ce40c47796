"""Round 10,000 costs what round 10 costs: time, scheduler tasks and memory of a long run.

Rounds are as small as they can be, on two worker processes. The run is cut into ten equal parts;
the last is compared with the second, for the first one warms up. With ``--checkpoint-rounds`` the
run has a store, in which ten checkpoints are kept; its size is a figure too.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import psutil
from distributed import Client
from harness import Report, json_option, timed
from problems import OnDask, cluster_option, smallest_rounds, two_workers

from dqlearn import Every

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
@click.option("--checkpoint-rounds", type=click.IntRange(1), help="Rounds to the next checkpoint.")
def main(
    cluster: str | None,
    rounds: int,
    policy_lag: int,
    checkpoint_rounds: int | None,
    json_path: str | None,
) -> None:
    report = Report(
        "flat_cost", rounds=rounds, policy_lag=policy_lag, checkpoint_rounds=checkpoint_rounds
    )
    with two_workers(cluster) as scheduler, tempfile.TemporaryDirectory() as folder:
        learner = smallest_rounds(scheduler, policy_lag)
        if checkpoint_rounds:
            every = Every(rounds=checkpoint_rounds)
            learner.learn_options = {
                "store": folder,
                "checkpoint_every": every,
                "keep_checkpoints": 10,
            }
        parts = run(learner, scheduler["scheduler"], rounds // PARTS, Path(folder))
    columns = (("time", "ms"), ("tasks", ""), ("memory", "MiB"))
    columns += (("store", "MiB"),) if checkpoint_rounds else ()
    for n, part in enumerate(parts, start=1):
        for (name, unit), value in zip(columns, part, strict=False):
            report.add(f"part {n}: {name}", [value], unit)
    for column, (name, _) in enumerate(columns):
        # The store's sawtooth has no second part; it holds the history, some bytes a round.
        target = {} if name == "store" else {"at_most": AT_MOST}
        ratio = parts[-1][column] / parts[1][column]
        report.add(f"last / second part: {name}", [ratio], "x", **target)
    report.finish(json_path)


def run(
    learner: OnDask, client: Client, rounds: int, store: Path
) -> list[tuple[float, int, float, float]]:
    """Return (milliseconds a round, tasks, MiB of a worker, MiB of the store) of each part."""
    parts = []
    for _ in range(PARTS):
        elapsed, made = timed(lambda: learner.advance(2 * rounds))
        milliseconds = 1000 * elapsed / (made // 2)
        size = sum(file.stat().st_size for file in store.rglob("*") if file.is_file()) / 2**20
        parts.append((milliseconds, scheduler_tasks(client), worker_mebibytes(client), size))
    return parts


if __name__ == "__main__":
    main()
