"""Right values on Gymnasium's own environments, at budgets of seconds to minutes.

``pytest -m slow --durations=0 tests/laws/test_right_values.py`` shows the wall times. CliffWalking
stands for all of them in the default run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest

from dqlearn import QLearner, exact
from dqlearn.envs import from_table
from dqlearn.random import integers
from dqlearn.schedules import Exponential, Linear, VisitCount
from dqlearn.spaces import Bins


def test_cliff_walking() -> None:
    """The shortest safe path has 13 steps."""
    learner = QLearner(
        "CliffWalking-v1",
        num_envs=32,
        shards=2,
        steps_per_round=8,
        gamma=1.0,
        learning_rate=0.5,
        epsilon=0.1,
    )
    assert learner.learn(60_000).evaluate(10, max_steps=1_000).mean == -13.0


@pytest.mark.slow
def test_taxi() -> None:
    """A perfect policy has 7.93 in the mean over all beginnings."""
    learner = QLearner(
        "Taxi-v4",
        num_envs=64,
        shards=1,
        steps_per_round=47,
        learning_rate=0.3,
        epsilon=0.2,
    )
    assert learner.learn(600_000).evaluate(50_000).mean >= 7.9


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_blackjack() -> None:
    """A perfect policy loses between 0.04 and 0.05 a hand."""
    learner = QLearner(
        "Blackjack-v1",
        num_envs=64,
        shards=1,
        steps_per_round=32,
        gamma=1.0,
        learning_rate=VisitCount(0.8),
        epsilon=Linear(1.0, 0.1, 900_000),
    )
    assert learner.learn(1_200_000).evaluate(100_000).mean >= -0.05


@pytest.mark.slow
def test_cart_pole_in_bins() -> None:
    bins = Bins.uniform([-2.4, -3.0, -0.21, -3.0], [2.4, 3.0, 0.21, 3.0], [3, 5, 12, 10])
    learner = QLearner(
        "CartPole-v1",
        bins=bins,
        num_envs=32,
        shards=1,
        steps_per_round=16,
        learning_rate=Linear(0.5, 0.05, 2_000_000),
        epsilon=Linear(0.5, 0.01, 1_500_000),
    )
    assert learner.learn(1_000_000).evaluate(100).mean >= 195.0


def test_frozen_lake() -> None:
    """Q* from the environment's own P. The time limit truncates, and so does not change it.

    After 1,000 visits alone a value has a standard error of about 0.01, and the largest error of
    many is a multiple of that. So the environment's table is compiled, and episodes begin anywhere.
    """
    env = gymnasium.make("FrozenLake8x8-v1")
    learner = QLearner(
        replace(from_table(env), initial=anywhere),
        num_envs=1_024,
        shards=2,
        steps_per_round=16,
        learning_rate=Exponential(0.5, 0.0002, 40_000_000),
        epsilon=1.0,
        initial_value=0.3,
    ).learn(40_000_000)
    assert largest_error(learner, env) <= 0.02


def anywhere(key: np.uint64, params: tuple[Any, ...]) -> int:
    return integers(key, 0, 64)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_frozen_lake_in_python() -> None:
    """The environment itself, at what it can be stepped in a minute or two."""
    env = gymnasium.make("FrozenLake8x8-v1")
    learner = QLearner(
        "FrozenLake8x8-v1",
        compile=False,
        num_envs=64,
        shards=1,
        steps_per_round=32,
        learning_rate=Exponential(0.5, 0.0005, 4_000_000),
        epsilon=0.8,
        initial_value=0.3,
    ).learn(4_000_000)
    assert largest_error(learner, env) <= 0.06


def largest_error(learner: QLearner, env: gymnasium.Env) -> float:
    """Return max |Q - Q*| over the pairs that were visited at least 1,000 times."""
    often = learner.table.visits.compute() >= 1_000
    assert often.sum() > 150
    error = np.abs(learner.table.q.compute() - exact.solve(env, 0.99).q)
    return float(error[often].max())
