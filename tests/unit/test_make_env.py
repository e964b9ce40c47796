"""An environment to look at, made by a learner."""

from __future__ import annotations

from typing import Any

import gymnasium
import pytest
from gymnasium.vector import SyncVectorEnv

from dqlearn import QLearner
from dqlearn.envs import TrafficGrid, torus
from dqlearn.errors import ConfigurationError

LAKE = {"is_slippery": False}


def lake() -> Any:
    return gymnasium.make("FrozenLake-v1", **LAKE)


@pytest.mark.parametrize("compile", [True, False])
def test_an_id_is_made_with_its_arguments(compile: bool) -> None:
    learner = QLearner(
        "FrozenLake-v1", env_kwargs={**LAKE, "max_episode_steps": 2}, compile=compile
    )
    env: Any = learner.make_env("ansi")
    env.reset(seed=0)
    assert [env.step(2)[:4] for _ in range(2)] == [(1, 0, False, False), (2, 0, False, True)]
    assert "SFFF" not in env.render()  # a colour marks where one is
    assert learner.make_env() is not learner.make_env()
    assert learner.make_env().render_mode is None


def test_a_model_has_its_time_limit() -> None:
    env = QLearner(torus(side=4, max_episode_steps=3)).make_env("ansi")
    env.reset(seed=0)
    assert [env.step(0)[3] for _ in range(3)] == [False, False, True]
    assert str(env.render()).startswith("row=")


def test_pictures_are_those_of_the_problem() -> None:
    env = QLearner(TrafficGrid.make()).make_env("rgb_array")
    env.reset(seed=0)
    assert env.render().shape[2] == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QLearner(lake).make_env("ansi"), "are what its factory chooses, got 'ansi'"),
        (lambda: QLearner("FrozenLake-v1").make_env("oil"), "'ansi', 'rgb_array'.*got 'oil'"),
        (lambda: QLearner(torus(side=4)).make_env("oil"), "render_mode must be .*got 'oil'"),
        (lambda: QLearner(lakes).make_env(), "makes vector environments"),
    ],
)
def test_what_cannot_be_made(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


def lakes(num_envs: int) -> SyncVectorEnv:
    return SyncVectorEnv([lake] * num_envs)


def test_a_factory_makes_what_it_makes() -> None:
    env = QLearner(lake, num_envs=1).make_env()
    assert env.reset(seed=0)[0] == 0
