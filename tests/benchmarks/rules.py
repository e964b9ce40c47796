"""The rules' numbers: published or exact, and ours; and what a rule costs beside Q-learning.

::

    walks      19 states: error of n-step returns and of lambda-returns, at given step sizes
    vectors    errors of Q(lambda) on arrays of rlax's tests
    cliff      what Expected SARSA and Q-learning learn beside it
    corridor   50 states: transitions until all know the way to its end
    deep sea   episodes until the treasure is found, on optimistic values
    speed      transitions in a second, over those of Q-learning

It prints a table in Markdown. Published numbers are from Sutton and Barto (2018), figures 7.2 and
12.3, computed anew with many runs, and from rlax. Nothing but speed depends on the machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import click
import numpy as np
from harness import interleave, json_option, rate, ratios
from problems import THREADS, chosen_problems
from seas import episodes_to_treasure, transitions_to_the_end
from walks import walk_error

from dqlearn import QLearner
from dqlearn.kernels.windows.links import ENDS, link
from dqlearn.kernels.windows.returns import find_returns
from dqlearn.schedules import Linear

AHEAD = ("n_step:4", "watkins:0.9:16", "peng:0.9:16", "tree_backup:16")


class Row(NamedTuple):
    """A number; `known` is the published or exact one, and empty where there is none."""

    rule: str
    number: str
    known: str
    ours: float


def walks(runs: int) -> Iterator[Row]:
    """Figures 7.2 and 12.3: root mean squared error over the first ten episodes."""
    known = (
        *(("n_step:1", 0.8, 0.3458), ("n_step:2", 0.6, 0.2781), ("n_step:4", 0.4, 0.2650)),
        *(("n_step:8", 0.25, 0.2780), ("n_step:16", 0.15, 0.3129)),
        ("peng:0.8:1024", 0.4, 0.2660),  # windows of whole episodes: the off-line lambda-return
    )
    for rule, alpha, published in known:
        ours, deviation = walk_error(rule, alpha, runs)
        number = f"19-state walk, alpha {alpha:g}, +- {deviation:.1g}"
        yield Row(rule, number, f"{published:.4f}", ours)


def vectors() -> Iterator[Row]:
    """rlax's QLambdaTest, lambda 0.75: temporal-difference errors; Watkins's by hand."""
    reward = np.array([-1.3, -1.3, 2.3, 1.3, 5.3, -3.3])
    discount = np.array([0.0, 0.89, 0.85, 0.88, 1.0, 0.83])
    worth = np.array([2.2, 0.2, 2.2, 4.2, 1.2, -1.2])
    value = np.array([1.1, 1.1, 3.1, 3.1, -1.1, -2.1])
    followed = {"peng": np.full(6, 0.75), "watkins": 0.75 * np.array([1, 1, 0, 1, 1, 1])}
    known = {"peng": {1: 0.427975, 3: 0.69348, 4: 3.478}, "watkins": {1: -2.222, 3: 0.69348}}
    edge = np.array([0, 0, ENDS] * 2, np.uint8)
    after, whole, y = np.empty(6, np.int64), np.empty(6, np.bool_), np.empty(6)
    link(np.repeat([0, 1], 3), edge, 2, 3, after, whole)
    for rule, trace in followed.items():
        rows = reward, discount, np.zeros(6, np.int64)
        find_returns(rows, worth[:, None], trace, after, whole, 3, y)
        for t, published in known[rule].items():
            number = f"rlax's vectors, row {t // 3}, step {t % 3}"
            yield Row(f"{rule}:0.75:3", number, f"{published:g}", float(y[t] - value[t]))


def cliff(timesteps: int) -> Iterator[Row]:
    """Cliff walking, epsilon 0.1: what the policy expects, and steps of its greedy path."""
    settings: dict[str, Any] = {"gamma": 1.0, "learning_rate": 1.0, "seed": 1, "dtype": "float64"}
    settings |= {"num_envs": 64, "steps_per_round": 4, "epsilon": Linear(1.0, 0.1, timesteps // 15)}
    for rule, value, length in (("expected_sarsa", -20.70768, 15), ("q_learning", -13.0, 13)):
        learner = QLearner("CliffWalking-v1", algorithm=rule, **settings).learn(timesteps)
        q = learner.table.q[36].compute()
        epsilon = 0.1 if rule == "expected_sarsa" else 0.0
        ours = (1 - epsilon) * q.max() + epsilon * q.mean()
        yield Row(rule, "cliff walking, value of the start", f"{value:g}", float(ours))
        steps = learner.evaluate(1, max_steps=200).mean_length
        yield Row(rule, "cliff walking, steps of the greedy path", f"{length}", steps)


def corridor(length: int, seeds: int) -> Iterator[Row]:
    """Transitions until each state of a corridor knows the way, at epsilon 0.1."""
    for rule in ("q_learning", *AHEAD):
        needed = mean(transitions_to_the_end(rule, length, seed) for seed in range(seeds))
        yield Row(rule, f"corridor of {length}, thousand transitions", "", needed / 1000)


def deep_sea(side: int, seeds: int) -> Iterator[Row]:
    """Episodes until the treasure, values 2 at first, alpha 1: .92 N^2 for Q-learning."""
    for rule in ("q_learning", "watkins:0.5:8"):
        known = f"{0.92 * side**2:.0f}" if rule == "q_learning" else ""
        found = mean(episodes_to_treasure(rule, side, seed) for seed in range(seeds))
        yield Row(rule, f"deep sea {side} x {side}, episodes", known, found)


def speed(tiny: bool, repeats: int) -> Iterator[Row]:
    """Transitions in a second over those of Q-learning, in rounds of many transitions."""
    for problem in chosen_problems("both", tiny):
        runs: dict[str, Callable[[], float]] = {}
        size = problem.settings["num_envs"] * problem.settings["steps_per_round"]
        for rule in ("q_learning", "expected_sarsa", "double_q", *AHEAD):
            learner = problem.learner(THREADS, algorithm=rule)
            learner.advance(2 * size)
            runs[rule] = partial(rate, partial(learner.advance, 4 * size))
        samples = interleave(runs, repeats)
        for rule, rates in samples.items():
            ours = float(np.median(ratios(rates, samples["q_learning"])))
            yield Row(rule, f"speed over Q-learning's, {problem.name}", "", ours)


def numbers(tiny: bool, runs: int, repeats: int) -> Iterator[Row]:
    """Every number of every rule."""
    yield from vectors()
    yield from cliff(300_000 if tiny else 3_000_000)
    yield from corridor(10 if tiny else 50, 1 if tiny else 5)
    yield from deep_sea(5 if tiny else 20, 1 if tiny else 5)
    yield from walks(20 if tiny else runs)
    yield from speed(tiny, repeats)


@click.command()
@click.option("--tiny", is_flag=True, help="Very small problems.")
@click.option("--runs", default=1_000, show_default=True, help="Random walks for each number.")
@click.option("--repeats", default=3, show_default=True, help="Samples of each speed.")
@json_option
def main(tiny: bool, runs: int, repeats: int, json_path: str | None) -> None:
    """Print the numbers of all rules beside those that are known."""
    click.echo("| Rule | Number | Published / exact | Ours |\n| --- | --- | ---: | ---: |")
    figures = []
    for row in numbers(tiny, runs, repeats):
        click.echo(f"| `{row.rule}` | {row.number} | {row.known} | {row.ours:.4g} |")
        name = f"{row.rule}, {row.number.partition(', +-')[0]}"
        figures.append({"name": name, "samples": [row.ours], "median": row.ours})
    if json_path is not None:
        Path(json_path).write_text(json.dumps({"figures": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
