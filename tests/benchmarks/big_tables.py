"""Tables much larger than a round: what the gather path costs, and how much memory it takes.

::

    states   a round of the same environments on tables of 10^6, 10^7, ... states
    billion  10^9 pairs, all of whose memory is touched: transitions per second, and memory

Steps of ``states`` stay near, so that the pairs that are touched are as many on a small table as on
a large one; those of ``billion`` go anywhere.
"""

from __future__ import annotations

import resource
from typing import Any

import click
import dask
import numpy as np
from harness import Report, options, timed

from dqlearn import QLearner, TabularEnv
from dqlearn.random import integers

ACTIONS = 8
SPREAD = 0.2  # of the time of a round, over the sizes


def anywhere(key, params):
    return integers(key, 0, params[0])


def near(state, action, key, params):
    """Go some steps along a ring; every 64th place pays."""
    n = params[0]
    there = (state + action + integers(key, 1, ACTIONS) - ACTIONS + n) % n
    return there, 1.0 if there % 64 == 0 else 0.0, False


def far(state, action, key, params):
    """Go anywhere; the reward depends on the action alone."""
    return integers(key, 1, params[0]), float(action) / ACTIONS, False


def learner(transition: Any, n_states: int, num_envs: int) -> QLearner:
    env = TabularEnv(n_states, ACTIONS, anywhere, transition, params=(n_states,))
    return QLearner(env, num_envs=num_envs, shards=2, gamma=0.9, path="gather")


def seconds(here: QLearner, transitions: int) -> float:
    """Learn from so many more."""
    return timed(lambda: here.learn(here.timesteps + transitions))[0]


def states(report: Report, num_envs: int, rounds: int, repeats: int, largest: int) -> None:
    """Time rounds on tables of more and more states."""
    means = []
    for exponent in range(6, largest + 1):
        here = learner(near, 10**exponent, num_envs)
        here.learn(rounds * num_envs)
        samples = []
        samples = [1e3 * seconds(here, rounds * num_envs) / rounds for _ in range(repeats)]
        report.add(f"10^{exponent} states", samples, "ms a round")
        means.append(float(np.median(samples)))
    report.add("slowest / fastest size", [max(means) / min(means)], "x", at_most=1 + SPREAD)


def billion(report: Report, num_envs: int, rounds: int, repeats: int, n_states: int) -> None:
    """Touch all memory of a table, then time rounds."""
    here, table = learner(far, n_states, num_envs), n_states * ACTIONS * 8 / 2**30
    elapsed, _ = timed(lambda: here.learn(n_states // 8))  # 16 visits to each page of 4 KiB
    report.add("first visits", [elapsed], "s")
    made = rounds * num_envs
    rates = [made / seconds(here, made) / 1e6 for _ in range(repeats)]
    report.add("transitions per second", rates, "M/s", at_least=5.0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    report.add("table", [table], "GiB")
    report.add("peak memory", [peak], "GiB", at_most=1.5 * table + 1.0)


@click.command(help=__doc__)
@click.argument("what", type=click.Choice(["states", "billion"]))
@options
@click.option("--num-envs", default=2**18, show_default=True, help="Transitions of a round.")
@click.option("--rounds", default=20, show_default=True, help="Of a sample.")
@click.option("--largest", default=8, show_default=True, help="Power of ten, of states.")
@click.option("--states", "n_states", default=125_000_000, show_default=True, help="Of billion.")
def main(
    what: str,
    num_envs: int,
    rounds: int,
    largest: int,
    n_states: int,
    repeats: int,
    json_path: str | None,
) -> None:
    report = Report(f"big_tables {what}", num_envs=num_envs, rounds=rounds)
    with dask.config.set(scheduler="threads", num_workers=2):
        if what == "states":
            states(report, num_envs, rounds, repeats, largest)
        else:
            billion(report, num_envs, rounds, repeats, n_states)
    report.finish(json_path)


if __name__ == "__main__":
    main()
