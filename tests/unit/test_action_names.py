"""What actions are called: as Gymnasium documents them, or by what they are made of."""

from __future__ import annotations

import importlib.util
import re
from functools import partial
from pathlib import Path

import gymnasium
import pytest
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit, TransformAction, TransformReward

from dqlearn import QLearner
from dqlearn.envs import from_table
from dqlearn.envs.action_names import NAMES, action_names, documented_names
from dqlearn.envs.resolve import resolve
from dqlearn.spaces import SpaceIndex

LAKE = ("left", "down", "right", "up")


def documented(module: str) -> list[str]:
    """Return what the documentation in a module says of each action, without importing it."""
    spec = importlib.util.find_spec("gymnasium")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).parents[1].joinpath(*module.split(".")).with_suffix(".py")
    _, part = source.read_text().split("## Action Space", 1)
    part = part.split("## ")[0]
    return [
        text for _, text in re.findall(r"^\s*(?:- |\| )(\d)(?::| *\|)(.*)$", part, re.MULTILINE)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_those_of_the_documentation(name: str) -> None:
    lines = documented(name.partition(":")[0])
    assert len(lines) == len(NAMES[name])
    for line, said in zip(lines, NAMES[name], strict=True):
        assert set(said.split()) <= set(re.sub(r"[()]", " ", line.lower()).split()), line


@pytest.mark.parametrize(
    ("env", "kwargs", "names"),
    [
        ("FrozenLake-v1", {}, LAKE),
        ("FrozenLake8x8-v1", {"is_slippery": False}, LAKE),
        ("CliffWalking-v1", {}, ("up", "right", "down", "left")),
        ("Taxi-v4", {"is_rainy": True}, ("south", "north", "east", "west", "pickup", "drop off")),
        ("Blackjack-v1", {"sab": True}, ("stick", "hit")),
        (partial(gymnasium.make, "FrozenLake-v1"), None, LAKE),
    ],
)
def test_known_environments(env: str, kwargs: dict[str, bool] | None, names: tuple[str]) -> None:
    assert resolve(env, kwargs).action_labels == names


def test_real_observations_and_tables() -> None:
    car = resolve("MountainCar-v0", None, 4)
    assert car.action_labels == NAMES["gymnasium.envs.classic_control.mountain_car:MountainCarEnv"]
    assert (
        from_table(gymnasium.make("Taxi-v4")).action_labels
        == NAMES["gymnasium.envs.toy_text.taxi:TaxiEnv"]
    )


def test_wrappers_that_may_change_actions_leave_no_names() -> None:
    lake = gymnasium.make("FrozenLake-v1")
    turned = TransformAction(lake, lambda action: 3 - action, lake.action_space)
    assert documented_names(turned) is None

    class Turned(gymnasium.Wrapper):  # type: ignore[type-arg]
        def step(self, action: int):  # type: ignore[no-untyped-def]
            return self.env.step(3 - action)

    assert documented_names(Turned(lake)) is None
    kept = TimeLimit(TransformReward(lake, abs), 9)
    assert documented_names(kept) == LAKE
    lake.unwrapped.action_space = spaces.Discrete(5)
    assert documented_names(lake) is None


@pytest.mark.parametrize(
    ("space", "names"),
    [
        (spaces.Discrete(3), None),
        (spaces.Discrete(3, start=-1), ("-1", "0", "1")),
        (spaces.MultiDiscrete([2, 2]), ("0,0", "0,1", "1,0", "1,1")),
        (spaces.MultiBinary(1), None),
        (
            spaces.Dict(a=spaces.Discrete(2), b=spaces.Discrete(2, start=5)),
            ("0,5", "0,6", "1,5", "1,6"),
        ),
        (spaces.MultiDiscrete([100, 100]), None),
    ],
)
def test_actions_made_of_parts(space: spaces.Space, names: tuple[str, ...] | None) -> None:  # type: ignore[type-arg]
    assert action_names(object(), SpaceIndex.from_space(space, name="action")) == names


def test_names_are_the_tables_coordinate() -> None:
    table = QLearner("FrozenLake-v1").table.to_xarray()
    assert table.action.values.tolist() == list(LAKE)
    assert float(table.q.sel(action="up")[0]) == 0.0
