"""What small rounds cost: transitions per second by the transitions of a round, on two threads.

Each size is measured beside the others in turn. A ratio is the rate at 16,384 transitions a round
to that at 4 million, and to that of single rounds, each of which is a graph of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import click
import dask
from harness import Report, interleave, options, rate, ratios
from problems import garnet_problem, torus_problem

from dqlearn import QLearner
from dqlearn.envs import ProductionLine

SIZES = {4_096: (1_024, 4), 16_384: (4_096, 4), 65_536: (4_096, 16), 4_194_304: (4_096, 1_024)}
SMALL, LARGE = 16_384, 4_194_304
AT_LEAST = {"torus": 0.7, "garnet": 0.0, "production": 0.8}


def models(tiny: bool) -> dict[str, Any]:
    return {
        "torus": torus_problem(32 if tiny else 1024).env,
        "garnet": garnet_problem(256 if tiny else 131_072).env,
        "production": ProductionLine.make("small"),
    }


def case(model: Any, size: int, sample: int, fuse: bool) -> Callable[[], float]:
    """Warm up a learner; return what measures its rate over a sample."""
    envs, steps = SIZES[size]
    learner = QLearner(model, num_envs=envs, steps_per_round=steps, shards=2, seed=0)

    def advance() -> int:
        before = learner.num_timesteps
        with dask.config.set({"dqlearn.fuse": fuse}):
            learner.learn(before + sample)
        return learner.num_timesteps - before

    advance()
    return partial(rate, advance)


@click.command(help=__doc__)
@options
@click.option("--problem", "names", multiple=True, type=click.Choice(list(AT_LEAST)))
@click.option("--transitions", default=30_000_000, show_default=True, help="In a sample.")
@click.option("--tiny", is_flag=True, help="Very small problems, to try the script out.")
def main(
    names: tuple[str, ...], transitions: int, tiny: bool, repeats: int, json_path: str | None
) -> None:
    report = Report("small_rounds", transitions=transitions, repeats=repeats)
    for name, model in models(tiny).items():
        if name not in (names or AT_LEAST):
            continue
        with dask.config.set({"dqlearn.fuse": True}):
            cases = {str(n): case(model, n, transitions, True) for n in SIZES}
        with dask.config.set({"dqlearn.fuse": False}):
            cases["single"] = case(model, SMALL, transitions // 8, False)
        rates = interleave(cases, repeats)
        for label, samples in rates.items():
            report.add(f"{name} {label}", [r / 1e6 for r in samples], "M/s")
        small = rates[str(SMALL)]
        target = {"at_least": AT_LEAST[name]} if AT_LEAST[name] else {}
        report.add(f"{name} small / large", ratios(small, rates[str(LARGE)]), "x", **target)
        report.add(f"{name} fused / single", ratios(small, rates["single"]), "x")
    report.finish(json_path)


if __name__ == "__main__":
    main()
