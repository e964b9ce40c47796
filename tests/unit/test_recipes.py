"""How the network environments are learned where nobody says how."""

from __future__ import annotations

from typing import Any

import pytest

from dqlearn import QLearner, envs
from dqlearn.envs.registry import recipe
from dqlearn.schedules import Constant, VisitCount

FAMILIES = [
    "NetworkDefence",
    "PacketDispatch",
    "PacketRouting",
    "PowerGrid",
    "ProductionLine",
    "TrafficGrid",
]


def plan(env: str, **settings: Any) -> Any:
    return QLearner(env, **settings)._plan


def test_an_id_is_enough() -> None:
    found = plan("dqlearn/TrafficGrid-v0")
    assert (found.gamma, found.initial_value) == (0.95, -90.0)
    assert found.learning_rate == VisitCount(scale=20.0, offset=20.0)
    assert found.epsilon == Constant(0.5)


def test_what_is_said_goes_before() -> None:
    settings = {"gamma": 0.5, "learning_rate": 0.25, "epsilon": 0.0, "initial_value": 0.0}
    found = plan("dqlearn/TrafficGrid-v0", num_envs=3, steps_per_round=7, shards=1, **settings)
    assert (found.gamma, found.initial_value) == (0.5, 0.0)
    assert (found.learning_rate, found.epsilon) == (Constant(0.25), Constant(0.0))
    assert (found.num_envs, found.steps_per_round) == (3, 7)


def test_a_size_has_its_own() -> None:
    assert plan("dqlearn/TrafficGrid-v0", env_kwargs={"size": "medium"}).initial_value == -110.0


def test_others_have_what_holds_for_all() -> None:
    for env in ("dqlearn/Torus-v0", "Taxi-v4", envs.TrafficGrid.make()):
        found = plan(env)
        assert (found.gamma, found.initial_value) == (0.99, 0.0)
        assert (found.learning_rate, found.epsilon) == (Constant(0.1), Constant(0.1))


@pytest.mark.parametrize("size", ["small", "medium"])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_them(name: str, size: str) -> None:
    known = recipe(f"dqlearn/{name}-v0", {"size": size})
    assert known is not None
    assert known.timesteps >= 1_000_000
    assert known is getattr(envs, name).recipes[size]


@pytest.mark.parametrize("env", ["TrafficGrid-v0", "dqlearn/TrafficGrid-v1", "dqlearn/Garnet-v0"])
def test_other_ids_have_none(env: str) -> None:
    assert recipe(env, {}) is None
