"""How much faster the compute part of a round is on two worker processes than on one.

::

    one worker    rollouts, updates, policy of all shards and chunks      their seconds
    two workers   rollout 0, updates of half the chunks, their best   ┐   the larger of both
                  rollout 1, updates of the others, their best        ┘   workers' seconds

The compute part is the time inside the tasks of stages, as the workers measure it. A part of it is
on a processor, in the rest another process has it. Cutting out what is sent to the other worker is
listed by itself: one worker has none of it. Both clusters make the same rounds of the same two
shards and chunks, in turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click
import dask
from distributed import Client, LocalCluster, Worker
from harness import Report, interleave, options, ratios
from problems import Problem, problem_options, settings_of, settings_options
from stream import CUTTING, SETTLING, STAGES, Watched, watch

AT_LEAST = 1.8


@contextmanager
def workers(n: int) -> Iterator[dict[str, Any]]:
    """Start worker processes of one thread each."""
    with (
        dask.config.set({"dqlearn.fuse": False}),
        LocalCluster(n_workers=n, threads_per_worker=1, dashboard_address=":0") as local,
        Client(local, set_as_default=False) as client,
    ):
        yield {"scheduler": client}


def on_processor(dask_worker: Worker) -> float:
    """Return the seconds that tasks of stages were on a processor so far."""
    seconds = 0.0
    for key, value in dask_worker.digests_total.items():
        if key[0] == "execute" and key[-2] == "thread-cpu":
            seconds += value if key[-3].removeprefix("dqlearn-") in STAGES else 0.0
    return seconds


def sampler(
    problem: Problem, client: Client, settings: dict[str, Any], rounds: int
) -> Callable[[], tuple[Watched, float]]:
    """Set up and warm up a learner; return what takes a sample of it.

    A sample is what was seen of its rounds, and the seconds of one on the busiest processor.
    """
    learner = problem.learner({"scheduler": client}, **settings)
    batch = learner.advance(1)
    learner.advance(2 * batch)

    def sample() -> tuple[Watched, float]:
        before = client.run(on_processor)
        seen = watch(learner, client, batch, rounds)
        spent = [after - before[worker] for worker, after in client.run(on_processor).items()]
        return seen, max(spent) / (rounds + SETTLING)

    return sample


def measure(report: Report, name: str, seen: Mapping[int, list[tuple[Watched, float]]]) -> None:
    """Add the seconds of both, and their ratio."""
    compute = {n: [one.largest(*STAGES) for one, _ in some] for n, some in seen.items()}
    for n, seconds in compute.items():
        report.add(f"{name} stages, {n} workers", [1e3 * s for s in seconds], "ms a round")
        busy = [1e3 * spent for _, spent in seen[n]]
        report.add(f"{name} stages, {n} workers: on a processor", busy, "ms a round")
    cutting = [1e3 * one.largest(CUTTING) for one, _ in seen[2]]
    report.add(f"{name} cutting, 2 workers", cutting, "ms a round")
    stages = f"{name} stages, 1 worker / 2 workers"
    report.add(stages, ratios(compute[1], compute[2]), "x", at_least=AT_LEAST)
    whole = {n: [one.seconds for one, _ in some] for n, some in seen.items()}
    report.add(f"{name} rounds, 1 worker / 2 workers", ratios(whole[1], whole[2]), "x")


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
            clusters = {1: one["scheduler"], 2: two["scheduler"]}
            taken = {n: sampler(problem, c, settings, rounds) for n, c in clusters.items()}
            measure(report, problem.name, interleave(taken, repeats))
    report.finish(json_path)


if __name__ == "__main__":
    main()
