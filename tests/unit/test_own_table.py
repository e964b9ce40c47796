"""Gymnasium's toy texts, compiled from the table that each of them carries.

::

    the environment's code, or its compiled table ──► 10^6 steps ──► how often each outcome
                                                                     came: chi-square against P

Invariant: what is compiled is the process that the code makes, and what the table does not say is
stepped.
"""

from __future__ import annotations

import logging
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import xarray as xr
from gymnasium.envs.toy_text.taxi import TaxiEnv
from gymnasium.vector import SyncVectorEnv, VectorEnv
from gymnasium.wrappers import TransformReward
from scipy.stats import chi2

import dqlearn
from dqlearn import QLearner, TabularEnv, exact
from dqlearn.envs import TabularVectorEnv, from_table
from dqlearn.envs.from_tables import own_table
from dqlearn.envs.python.gymnasium_env import PythonEnv
from dqlearn.errors import ConfigurationError

TEXTS: list[tuple[str, dict[str, Any]]] = [
    ("FrozenLake-v1", {}),
    ("FrozenLake8x8-v1", {"success_rate": 0.7, "reward_schedule": (2, -1, -0.5)}),
    ("CliffWalking-v1", {"is_slippery": True}),
    ("Taxi-v4", {}),
    ("Taxi-v4", {"is_rainy": True}),
]


def stepped(env: VectorEnv[Any, Any, Any], steps: int) -> tuple[Counter[Any], Counter[int]]:
    """Count transitions (s, a, s', r, terminated), and first states, under random actions."""
    seen, began = Counter[Any](), Counter[int]()
    rng = np.random.default_rng(0)
    state, _ = env.reset(seed=0)
    over = np.zeros(env.num_envs, bool)
    began.update(state.tolist())
    for _ in range(steps):
        action = rng.integers(env.single_action_space.n, size=env.num_envs)
        after, reward, terminated, truncated, _ = env.step(action)
        columns = (state, action, after, reward, terminated)
        seen.update(zip(*(column[~over].tolist() for column in columns), strict=True))
        began.update(after[over].tolist())
        state, over = after, terminated | truncated
    return seen, began


def assert_follows(env: gymnasium.Env[Any, Any], seen: Counter[Any], began: Counter[int]) -> None:
    """Nothing happens that P leaves out, and the rest as often as it says."""
    base: Any = env.unwrapped
    chances = dict(enumerate(base.initial_state_distrib))
    terms = [(began, {s: p for s, p in chances.items() if p > 0})]
    pairs: dict[tuple[int, int], Counter[Any]] = {}
    for (s, a, *outcome), n in seen.items():
        pairs.setdefault((s, a), Counter())[tuple(outcome)] += n
    for (s, a), counts in pairs.items():
        expected = Counter[Any]()
        for p, after, reward, terminated in base.P[s][a]:
            if p > 0:
                expected[after, float(reward), bool(terminated)] += p
        terms.append((counts, dict(expected)))
    statistic, freedom = 0.0, 0
    for counts, expected in terms:
        assert counts.keys() <= expected.keys()
        n = counts.total()
        if n * min(expected.values()) >= 5:
            statistic += sum((counts[it] - n * p) ** 2 / (n * p) for it, p in expected.items())
            freedom += len(expected) - 1
    assert chi2.sf(statistic, freedom) > 1e-3 or not freedom


@pytest.mark.parametrize(("name", "kwargs"), TEXTS)
def test_the_same_chances(name: str, kwargs: dict[str, Any]) -> None:
    env = gymnasium.make(name, **kwargs)
    model = own_table(env, masks=False)
    assert model is not None
    assert_follows(env, *stepped(TabularVectorEnv(model, 4096), 250))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kwargs"), TEXTS[1:4])
def test_the_chances_of_the_code(name: str, kwargs: dict[str, Any]) -> None:
    """That P is what the code does is Gymnasium's promise; here it is looked at."""
    envs = SyncVectorEnv([partial(gymnasium.make, name, **kwargs)] * 50)
    assert_follows(gymnasium.make(name, **kwargs), *stepped(envs, 20_000))


class Mine(TaxiEnv):
    """What a class of the user's changes, nobody knows."""


def under(wrapper: Any) -> gymnasium.Env[Any, Any]:
    return wrapper(gymnasium.make("Taxi-v4"))


@pytest.mark.parametrize(
    "make",
    [
        partial(gymnasium.make, "Taxi-v4", fickle_passenger=True),
        partial(gymnasium.make, "Taxi-v4", render_mode="ansi"),
        partial(gymnasium.make, "FrozenLake-v1", map_name=None),
        partial(gymnasium.make, "Blackjack-v1"),
        partial(gymnasium.make, "CartPole-v1"),
        partial(under, partial(TransformReward, func=abs)),
        Mine,
    ],
)
def test_what_a_table_does_not_say(make: Any) -> None:
    assert own_table(make()) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(gymnasium.make, "Taxi-v4", fickle_passenger=True), "fickle passenger.*step it"),
        (partial(under, partial(TransformReward, func=abs)), "wrapper TransformReward.*step it"),
    ],
)
def test_no_table_of_less_than_the_environment(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        from_table(make())


def test_chances_that_do_not_add_up() -> None:
    env = gymnasium.make("CliffWalking-v1")
    env.unwrapped.P[3][1] = [(0.9, 4, -1.0, False)]
    with pytest.raises(ConfigurationError, match=r"P\[3\]\[1\] must add up to 1, got 0\.9"):
        from_table(env)


def test_a_random_map_is_drawn_for_each_environment() -> None:
    learner = QLearner("FrozenLake-v1", env_kwargs={"map_name": None})
    assert isinstance(learner._resolved.env, PythonEnv)


@pytest.mark.parametrize(("limit", "expected"), [(None, 200), (17, 17), (-1, None)])
def test_time_limits(limit: int | None, expected: int | None) -> None:
    kwargs = {} if limit is None else {"max_episode_steps": limit}
    env: Any = QLearner("Taxi-v4", env_kwargs=kwargs)._resolved.env
    assert isinstance(env, TabularEnv)
    assert env.max_episode_steps == expected


def test_it_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "dqlearn"):
        learner = QLearner("Taxi-v4")
    assert "Taxi-v4 is compiled from its table" in caplog.text
    assert "'Taxi-v4', compiled from its table" in repr(learner)
    assert "compiled from its table" in learner._repr_html_()
    assert "compiled" not in repr(QLearner("Taxi-v4", compile=False))


def test_factors_have_the_documented_order() -> None:
    """As the environment's own decode has them."""
    taxi: Any = gymnasium.make("Taxi-v4").unwrapped
    table = QLearner("Taxi-v4").table.to_xarray()
    for state in (0, 123, 499):
        row, column, passenger, destination = taxi.decode(state)
        here = table.isel(state=state).compute()
        assert (int(here.row), int(here.column)) == (row, column)
        assert (int(here.passenger), int(here.destination)) == (passenger, destination)
    assert table.passenger.attrs["flag_meanings"] == "red green yellow blue taxi"
    assert table.destination.attrs["flag_meanings"] == "red green yellow blue"


def test_values_are_exact() -> None:
    learner = QLearner(
        "CliffWalking-v1", env_kwargs={"max_episode_steps": 30}, epsilon=1.0, learning_rate=1.0
    )
    learner.learn(2_000_000)
    solution = exact.solve(gymnasium.make("CliffWalking-v1"), gamma=0.99)
    often = learner.table.visits.compute() >= 1_000
    assert often.sum() > 60
    assert np.abs(learner.table.q.compute() - solution.q)[often].max() < 1e-4


@pytest.mark.parametrize(("name", "kwargs"), TEXTS)
def test_models_are_solved_as_the_tables(name: str, kwargs: dict[str, Any]) -> None:
    env = gymnasium.make(name, **kwargs)
    model, expected = from_table(env, masks=False), exact.solve(env, gamma=0.95)
    np.testing.assert_allclose(exact.solve(model, gamma=0.95).q, expected.q, atol=1e-6)


def test_more_outcomes_than_events_are_for() -> None:
    """A pair of six outcomes is drawn by a key."""
    env = gymnasium.make("CliffWalking-v1", is_slippery=True)
    base: Any = env.unwrapped
    base.P[36][0] = [(1 / 6, s, -1.0, False) for s in range(24, 30)]
    model = from_table(env)
    assert model.events is None
    assert_follows(env, *stepped(TabularVectorEnv(model, 4096), 50))


@pytest.mark.parametrize("compile", [True, False])
def test_a_stored_table_says_which(compile: bool, tmp_path: Path) -> None:
    settings = {"num_envs": 8, "shards": 2, "compile": compile}
    learner = QLearner("FrozenLake-v1", **settings).learn(200)
    learner.save(tmp_path / "q.zarr")
    again = dqlearn.load(tmp_path / "q.zarr").learn(400)
    assert isinstance(again._resolved.env, TabularEnv) == compile
    learner.learn(200, store=tmp_path / "run")
    resumed = dqlearn.resume(tmp_path / "run").learn(400)
    assert isinstance(resumed._resolved.env, TabularEnv) == compile
    np.testing.assert_array_equal(xr.open_zarr(tmp_path / "q.zarr").q, learner.table.q.compute())


def test_either_replaces_the_other(tmp_path: Path) -> None:
    for compile in (True, False, True):
        QLearner("FrozenLake-v1", num_envs=8, compile=compile).learn(200).save(tmp_path / "q.zarr")
