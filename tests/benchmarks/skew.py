"""Rounds of a table nine of ten transitions of which are in a twentieth of its states.

::

    stays      the chunks that were chosen without knowing the load; it is all in one of them
    cut anew   the same, left to the learner, which has looked at the load when samples begin
    spread     the same load, but the hot states lie all over the table

A sample is the time of a round. All learners make the same rounds of the same transitions, but for
where the states are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import click
from harness import Report, interleave, options, ratios, timed
from problems import THREADS, OnDask, cluster_option, two_workers

from dqlearn import TabularEnv
from dqlearn.random import integers, uniform

COLD = 20  # states to a hot one
PATHS: Mapping[str, Mapping[str, Any]] = {
    "broadcast": {"exchange": "broadcast", "num_envs": 4096, "steps_per_round": 1024},
    "gather": {"exchange": "gather", "num_envs": 262_144, "steps_per_round": 1},
}
TINY = {"num_envs": 64, "steps_per_round": 1}
WARM = 10  # rounds; the learner looks at the load after 8


def _initial(key: Any, params: Any) -> Any:
    return integers(key, 0, params[0])


def _transition(state: Any, action: Any, key: Any, params: Any) -> Any:
    n_states, stride = params
    if uniform(key, 0) < 0.9:
        return integers(key, 1, n_states // COLD) * stride, 1.0, False
    return integers(key, 1, n_states), 1.0, False


def skewed(n_states: int, stride: int) -> TabularEnv:
    """Return a process whose hot states are so far apart."""
    return TabularEnv(n_states, 4, _initial, _transition, params=(n_states, stride))


def cases(
    scheduler: Mapping[str, Any], settings: Mapping[str, Any], n_states: int, rounds: int
) -> dict[str, Callable[[], float]]:
    """Set up and warm up one learner for each case."""
    batch = settings["num_envs"] * settings["steps_per_round"]

    def learner(stride: int, chunks: Any = "auto") -> OnDask:
        env = skewed(n_states, stride)
        return OnDask(env, scheduler, shards=2, chunks=chunks, **settings)

    anew = learner(1)
    chosen = anew.learner.table.grid.chunks
    made = {"stays": learner(1, chosen), "cut anew": anew, "spread": learner(COLD)}
    for one in made.values():
        one.advance(WARM * batch)
    return {name: partial(milliseconds, one, rounds * batch, rounds) for name, one in made.items()}


def milliseconds(learner: OnDask, transitions: int, rounds: int) -> float:
    elapsed, _ = timed(lambda: learner.advance(transitions))
    return 1000 * elapsed / rounds


@click.command(help=__doc__)
@options
@cluster_option
@click.option("--states", default=2**20, show_default=True, help="Of the table.")
@click.option("--rounds", default=24, show_default=True, help="Of a sample.")
@click.option("--tiny", is_flag=True, help="Very small rounds, to try the script out.")
def main(
    cluster: str | None, states: int, rounds: int, tiny: bool, repeats: int, json_path: str | None
) -> None:
    report = Report("skew", states=states, rounds=rounds)

    def measure(place: str, scheduler: Mapping[str, Any]) -> None:
        for path, own in PATHS.items():
            settings = {**own, **(TINY if tiny else {})}
            taken = interleave(cases(scheduler, settings, states, rounds), repeats)
            for name, samples in taken.items():
                report.add(f"{place}, {path}, {name}", samples, "ms a round")
            gain = ratios(taken["stays"], taken["cut anew"])
            report.add(f"{place}, {path}, stays / cut anew", gain, "x")

    measure("threads", THREADS)
    with two_workers(cluster) as workers:
        measure("two workers", workers)
    report.finish(json_path)


if __name__ == "__main__":
    main()
