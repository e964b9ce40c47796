"""The models that come with dqlearn, and their names at Gymnasium."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from hypothesis import given
from hypothesis import strategies as st

import dqlearn
from dqlearn.envs.faces.gym_view import TabularGymEnv
from dqlearn.envs.faces.vector_view import TabularVectorEnv
from dqlearn.envs.problems.garnet import garnet
from dqlearn.envs.problems.torus import MAX_SIDE, torus
from dqlearn.envs.registry import compiled_model, family, register
from dqlearn.envs.resolve import resolve
from dqlearn.errors import ConfigurationError

register()

UP, DOWN, LEFT, RIGHT = range(4)
SMALL = {
    "dqlearn/Torus-v0": {"side": 4},
    "dqlearn/Garnet-v0": {"n_states": 30, "n_actions": 3, "branching": 2},
}
MOVES = {UP: (-1, 0), DOWN: (1, 0), LEFT: (0, -1), RIGHT: (0, 1)}


@given(st.data())
def test_torus_moves_as_modulo_does(data: st.DataObject) -> None:
    """On a torus of any size, also where a product of floats comes closest to an integer."""
    side = data.draw(
        st.integers(2, MAX_SIDE) | st.sampled_from([2, 3, 1024, MAX_SIDE - 1, MAX_SIDE])
    )
    row, column = (
        data.draw(st.sampled_from([0, 1, side - 2, side - 1]) | st.integers(0, side - 1))
        for _ in range(2)
    )
    walk = torus(side)
    for action, (down, right) in MOVES.items():
        state, reward, terminated = walk.transition(row * side + column, action, 0, walk.params)
        assert state == (row + down) % side * side + (column + right) % side
        assert terminated == (state == 0)
        assert reward == (1.0 if terminated else -0.01)


def test_torus_outcomes_by_hand() -> None:
    """From cell (0, 1) of 3 x 3, left is the goal; a slip goes each way with 0.2 / 4."""
    chance: dict[tuple[int, float, bool], float] = {}
    for p, *outcome in torus(side=3, slip=0.2).outcomes(1, LEFT):
        chance[tuple(outcome)] = chance.get(tuple(outcome), 0.0) + p
    assert chance == pytest.approx(
        {
            (0, 1.0, True): 0.85,
            (7, -0.01, False): 0.05,
            (4, -0.01, False): 0.05,
            (2, -0.01, False): 0.05,
        }
    )


def test_torus_slips_as_often_as_it_says() -> None:
    """Of 40,000 simulated steps up, 0.6 + 0.4 / 4 go up, within 4 standard deviations."""
    n, side = 40_000, 5
    envs = TabularVectorEnv(torus(side, slip=0.4), n)
    before, _ = envs.reset(seed=0)
    after, *_ = envs.step(np.full(n, UP))
    went_up = np.mean(after == (before - side) % side**2)
    assert abs(went_up - 0.7) < 4 * np.sqrt(0.7 * 0.3 / n)


@pytest.mark.parametrize("branching", [1, 2, 4, 8, 16])
def test_garnet_pairs(branching: int) -> None:
    """Each successor has probability 1 / branching, and all carry the pair's one reward."""
    model = garnet(n_states=50, n_actions=3, branching=branching)
    table = model.params[0]
    chance = np.zeros(50)
    for p, state, reward, terminated in model.outcomes(7, 2):
        chance[state] += p
        assert (reward, terminated) == (table["reward"][7, 2, 0], False)
    expected = np.bincount(table["next_state"][7, 2], minlength=50) / branching
    np.testing.assert_allclose(chance, expected)


def test_garnet_is_its_seed() -> None:
    """The same seed makes the same process, another one another; rewards fill [0, 1)."""
    one, same, other = (garnet(100, 4, seed=seed).params[0] for seed in (3, 3, 4))
    assert np.array_equal(one, same)
    assert not np.array_equal(one["next_state"], other["next_state"])
    reward = one["reward"]
    assert 0.0 <= reward.min() < 0.05
    assert 0.95 < reward.max() < 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torus(side=1), "side must be an integer in 2 .. 33554432, got 1"),
        (lambda: torus(side=2.0), "got 2.0"),
        (lambda: torus(slip=1.5), "slip must be a probability"),
        (lambda: garnet(n_states=0), "n_states must be an integer.*got 0"),
        (lambda: garnet(branching=3), "branching must be 1, 2, 4, 8 or 16"),
    ],
)
def test_sizes_out_of_range(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


@pytest.mark.parametrize("name", SMALL)
def test_specification_is_data(name: str) -> None:
    """A specification goes through JSON, and one can register again."""
    register()
    env = gymnasium.make(name, **SMALL[name], max_episode_steps=9)
    again = EnvSpec.from_json(json.dumps(json.loads(env.spec.to_json()))).make()
    assert str(again) == str(env)
    assert [e.reset(seed=5) for e in (env, again)] == [env.reset(seed=5)] * 2
    envs = gymnasium.make_vec(name, num_envs=3, **SMALL[name], max_episode_steps=9)
    assert isinstance(envs, TabularVectorEnv)
    assert envs.model.max_episode_steps == 9


@pytest.mark.parametrize("name", SMALL)
def test_compiled_model_of_plain_environments(name: str) -> None:
    """Gymnasium's own wrappers are looked through; the shortest time limit holds."""
    made = gymnasium.make(name, **SMALL[name])
    model = compiled_model(made)
    assert model is made.unwrapped.model
    assert compiled_model(made.unwrapped) is model
    limited = gymnasium.wrappers.TimeLimit(gymnasium.wrappers.TimeLimit(made, 20), 30)
    inner = compiled_model(limited)
    assert inner is not None
    assert (inner.max_episode_steps, inner.params) == (20, model.params)


LIMITS = [({}, 200), ({"max_episode_steps": None}, 200)] + [
    ({"max_episode_steps": steps}, limit) for steps, limit in ((50, 50), (500, 500), (-1, None))
]


@pytest.mark.parametrize(("given", "limit"), LIMITS)
def test_a_time_limit_is_the_one_that_was_asked_for(given: Any, limit: int | None) -> None:
    """Longer, shorter or none: to a single environment, to many, and to a learner."""
    name = "dqlearn/TrafficGrid-v0"
    single, many = gymnasium.make(name, **given), gymnasium.make_vec(name, num_envs=2, **given)
    model = compiled_model(single)
    assert model is not None
    assert model.max_episode_steps == limit
    assert isinstance(many, TabularVectorEnv)
    assert many.model.max_episode_steps == limit
    single.reset(seed=0)
    many.reset(seed=0)
    for step in range(1, 550):
        ended = [bool(single.step(0)[3]), *many.step(np.array([0, 0]))[3].tolist()]
        assert ended == [step == limit] * 3
        if step == limit:
            break
    assert resolve(name, given).env.max_episode_steps == limit


@pytest.mark.parametrize("name", [name for name in gymnasium.registry if "dqlearn/" in name])
def test_every_model_can_go_on_for_ever(name: str) -> None:
    model = compiled_model(gymnasium.make(name, max_episode_steps=-1))
    assert model is not None
    assert model.max_episode_steps is None


@pytest.mark.parametrize(
    "env",
    [
        lambda: gymnasium.make("FrozenLake-v1"),
        lambda: gymnasium.wrappers.TransformReward(TabularGymEnv(torus(4)), lambda r: 2 * r),
        lambda: type("Own", (TabularGymEnv,), {})(torus(4)),
    ],
    ids=["no model", "a wrapper", "a subclass"],
)
def test_compiled_model_of_others(env: Any) -> None:
    """What may behave otherwise than its model has none."""
    assert compiled_model(env()) is None


FRESH = """
import sys
import dqlearn

families = [name for name in sys.modules if name.startswith("dqlearn.envs.problems.traffic")]
assert not families, families
assert {*dqlearn.envs.__all__} <= {*dir(dqlearn.envs)}
from dqlearn.envs import TrafficGrid
assert dqlearn.envs.TrafficGrid is TrafficGrid
assert "dqlearn.envs.problems.power" not in sys.modules
"""


def test_families_are_imported_when_asked_for() -> None:
    subprocess.run([sys.executable, "-c", FRESH], check=True)
    with pytest.raises(AttributeError, match=r"dqlearn\.envs.*TraficGrid"):
        _ = dqlearn.envs.TraficGrid


FAMILIES = [name for name in dqlearn.envs.__all__ if f"dqlearn/{name}-v0" in gymnasium.registry]


@pytest.mark.parametrize("name", FAMILIES)
def test_gymnasium_knows_a_familys_own_time_limit(name: str) -> None:
    own = getattr(dqlearn.envs, name)
    assert family(name) is own
    assert gymnasium.spec(f"dqlearn/{name}-v0").max_episode_steps == own.max_episode_steps
