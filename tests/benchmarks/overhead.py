"""Milliseconds that a round costs besides its work: 2 shards of 1 environment, 1 step, 4 chunks.

On a cluster rounds are submitted ahead, so this is the time between the ends of successive rounds,
not the time that one round takes from end to end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import click
from harness import Report, interleave, options, timed
from problems import THREADS, OnDask, cluster_option, smallest_rounds, two_workers

AT_MOST = {"threads": 2.0, "distributed": 50.0}
LAGS = (0, 1)


def milliseconds_per_round(learner: OnDask, rounds: int) -> float:
    elapsed, made = timed(lambda: learner.advance(2 * rounds))
    return 1000 * elapsed / (made // 2)


def cases(name: str, scheduler: Mapping[str, Any], rounds: int) -> dict[str, Callable[[], float]]:
    """Set up and warm up one learner for each lag."""
    made: dict[str, Callable[[], float]] = {}
    for lag in LAGS:
        learner = smallest_rounds(scheduler, lag)
        learner.advance(2 * min(rounds, 20))
        made[f"{name}, lag {lag}"] = partial(milliseconds_per_round, learner, rounds)
    return made


@click.command(help="Milliseconds a round with next to no work in it.")
@options
@cluster_option
@click.option("--rounds", default=100, show_default=True, help="In a sample.")
def main(cluster: str | None, rounds: int, repeats: int, json_path: str | None) -> None:
    report = Report("overhead", rounds=rounds)

    def measure(name: str, scheduler: Mapping[str, Any]) -> None:
        for case, samples in interleave(cases(name, scheduler, rounds), repeats).items():
            report.add(case, samples, "ms", at_most=AT_MOST[name])

    measure("threads", THREADS)  # before there is a client, whose event loop wants the interpreter
    with two_workers(cluster) as workers:
        measure("distributed", workers)
    report.finish(json_path)


if __name__ == "__main__":
    main()
