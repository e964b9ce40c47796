"""What environments return: taken over in one form, or refused by name; never guessed."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from dqlearn import QLearner
from dqlearn.envs.python.returned import flags, keeper, rewards
from dqlearn.errors import (
    ConfigurationError,
    EnvironmentFault,
    InterfaceError,
    RewardError,
    SharedEnvironmentError,
    StateRangeError,
)

# The learner says that it has built the environments of a round that failed anew.
pytestmark = pytest.mark.filterwarnings("ignore:round 0 failed:UserWarning")

MODES = list(AutoresetMode)
LAKE = {"is_slippery": False}


def lake() -> gymnasium.Env[Any, Any]:
    return gymnasium.make("FrozenLake-v1", **LAKE)


def learn(make: Callable[..., Any], timesteps: int = 200, **settings: Any) -> QLearner:
    defaults = {"num_envs": 4, "shards": 1, "steps_per_round": 10, "seed": 0}
    return QLearner(make, **(defaults | settings)).learn(timesteps)


# Environments that share their state

ONE = lake()


class Again(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A new wrapper, each time round the same environment."""

    def __init__(self) -> None:
        super().__init__(ONE)


def vectors_of_one(num_envs: int) -> SyncVectorEnv:
    return SyncVectorEnv([lambda: ONE] * num_envs)


def one_vector() -> Callable[[int], SyncVectorEnv]:
    made = SyncVectorEnv([lake] * 2)
    return lambda num_envs: made if num_envs == 2 else SyncVectorEnv([lake] * num_envs)


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (lambda: ONE, {}),
        (lambda: ONE, {"num_envs": 1}),
        (Again, {}),
        (vectors_of_one, {}),
        (one_vector(), {"shards": 2}),
    ],
    ids=["one object", "one object once", "new wrappers", "inside a vector", "one vector twice"],
)
def test_a_factory_that_hands_out_an_environment_again(
    make: Callable[..., Any], settings: dict[str, Any]
) -> None:
    with pytest.raises(SharedEnvironmentError, match=r"new environment each time.*lambda: gymnas"):
        learn(make, **settings)


def test_one_device_that_everything_is_made_of_is_refused_in_evaluations_too() -> None:
    made: list[Any] = []

    def make() -> Any:
        if len(made) < 5:  # one to look at, four to learn with
            made.append(lake())
        return made[-1]

    learner = learn(make)
    with pytest.raises(SharedEnvironmentError, match="again"):
        learner.evaluate(2)


def test_a_new_environment_each_time_may_take_an_old_ones_place() -> None:
    assert learn(lake).evaluate(3).n_episodes == 3
    assert learn(lake, shards=2).num_timesteps >= 200


@pytest.mark.parametrize("made", [ONE, SyncVectorEnv([lake])], ids=["single", "vector"])
def test_an_instance_is_refused_with_the_factory_to_write(made: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r'an id with env_kwargs=, or write a factory.*"\)'
    ):
        QLearner(made)


# Observations that the environment goes on writing to

SPACES = {
    "array": spaces.MultiDiscrete([8]),
    "tuple": spaces.Tuple((spaces.MultiDiscrete([8]), spaces.Discrete(1))),
    "dict": spaces.Dict(where=spaces.Dict(x=spaces.MultiDiscrete([8]))),
}


class Walk(gymnasium.Env[Any, Any]):
    """Goes right, for ever, and shows always the same array."""

    action_space = spaces.Discrete(2)

    def __init__(self, kind: str, copy: bool) -> None:
        self.kind, self.copy, self.place = kind, copy, np.zeros(1, np.int64)
        self.observation_space = SPACES[kind]

    def shown(self) -> Any:
        place = self.place.copy() if self.copy else self.place
        return {"array": place, "tuple": (place, 0), "dict": {"where": {"x": place}}}[self.kind]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place[:] = 0
        return self.shown(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place[0] += 1
        return self.shown(), 0.0, False, self.place[0] >= 4, {}


def walked(kind: str, copy: bool, mode: AutoresetMode | None) -> Any:
    def make() -> gymnasium.Env[Any, Any]:
        return Walk(kind, copy)

    def vector(num_envs: int) -> SyncVectorEnv:
        return SyncVectorEnv([make] * num_envs, autoreset_mode=mode or "NextStep")

    settings = {"steps_per_round": 4, "gamma": 0.5, "learning_rate": 1.0, "initial_value": 1.0}
    learner = learn(vector if mode else make, 64, num_envs=2, **settings)
    return learner.table.q.compute().max(1)[:5]


@pytest.mark.parametrize("mode", [None, *MODES], ids=str)
@pytest.mark.parametrize("kind", SPACES)
def test_truncation_bootstraps_from_the_last_observation(
    kind: str, mode: AutoresetMode | None
) -> None:
    """Q is 1 at the last state and halves with each step before, unless the reset writes to it."""
    q = walked(kind, False, mode)
    np.testing.assert_array_equal(q, walked(kind, True, mode))
    np.testing.assert_array_equal(q, [0.0625, 0.125, 0.25, 0.5, 1.0])


def test_views_from_other_processes_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    def vector(num_envs: int) -> AsyncVectorEnv:
        each = [lambda: Walk("array", False)] * num_envs
        return AsyncVectorEnv(each, autoreset_mode=AutoresetMode.SAME_STEP)

    with caplog.at_level(logging.WARNING, "dqlearn"):
        learn(vector, 400, num_envs=2)
    assert sum("let it return copies" in r.message for r in caplog.records) == 1


# Flags, rewards and observations of vector environments


class Vec(VectorEnv[Any, Any, Any]):
    """Environment e ends after e + 2 steps, each of which pays 1."""

    def __init__(
        self,
        num_envs: int,
        flags: Callable[[Any], Any] = np.asarray,
        rewards: Callable[[Any], Any] = np.asarray,
        observations: Callable[[Any], Any] = np.asarray,
        mode: Any = AutoresetMode.NEXT_STEP,
        info: Callable[[Any], dict[str, Any]] = lambda over: {},
    ) -> None:
        self.num_envs, self.metadata = num_envs, {"autoreset_mode": mode} if mode else {}
        self.single_observation_space = spaces.Discrete(9)
        self.single_action_space = spaces.Discrete(2)
        self.observation_space = spaces.MultiDiscrete([9] * num_envs)
        self.action_space = spaces.MultiDiscrete([2] * num_envs)
        self.flags, self.rewards, self.observations, self.info = flags, rewards, observations, info

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.t, self.over = np.zeros(self.num_envs, int), np.zeros(self.num_envs, bool)
        return self.t.copy(), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        reward = ~self.over * 1.0
        self.t = np.where(self.over, 0, self.t + 1)
        self.over = ~self.over & (self.t == np.arange(self.num_envs) + 2)
        none = np.zeros(self.num_envs, bool)
        return (
            self.observations(self.t.copy()),
            self.rewards(reward),
            self.flags(self.over),
            self.flags(none),
            self.info(self.over),
        )


def counted(num_envs: int = 3, **forms: Any) -> tuple[list[int], int, float]:
    learner = learn(lambda num_envs: Vec(num_envs, **forms), 40 * num_envs, num_envs=num_envs)
    mean = float(learner.history.mean_return.mean())
    return learner.table.visits.compute().sum(1).tolist(), learner.n_episodes, mean


FORMS: dict[str, Callable[[Any], Any]] = {
    "uint8": lambda a: a.astype(np.uint8),
    "int64": lambda a: a.astype(int),
    "float32": lambda a: a.astype(np.float32),
    "list": lambda a: a.tolist(),
    "tuple": lambda a: tuple(a.tolist()),
    "object": lambda a: a.astype(object),
    "column": lambda a: a[:, None],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("what", ["flags", "rewards"])
def test_forms_of_flags_and_rewards_mean_the_same(what: str, form: str) -> None:
    assert counted(**{what: FORMS[form]}) == counted()


@pytest.mark.parametrize("form", ["uint8", "int64", "list", "object"])
def test_forms_of_observations(form: str) -> None:
    form_of = FORMS[form]
    if form == "object":
        with pytest.raises(EnvironmentFault, match="expects integers"):
            counted(observations=form_of)
    else:
        assert counted(observations=form_of) == counted()


@pytest.mark.parametrize("what", ["flags", "rewards"])
def test_a_single_environment_may_return_scalars(what: str) -> None:
    assert counted(1, **{what: lambda a: a[0]}) == counted(1)


@pytest.mark.parametrize(
    ("forms", "kind", "words"),
    [
        ({"flags": lambda a: a[0]}, InterfaceError, r"each of 3 environments, got .* shape \(\)"),
        ({"flags": lambda a: a * 2}, InterfaceError, "true or false"),
        ({"flags": lambda a: a.astype(str)}, InterfaceError, "true or false"),
        ({"flags": lambda a: [None] * 3}, InterfaceError, "true or false"),
        ({"flags": lambda a: a * np.nan}, InterfaceError, "true or false"),
        ({"flags": lambda a: a[:2]}, InterfaceError, r"shape \(2,\)"),
        ({"rewards": lambda a: a[0]}, RewardError, r"each of 3 environments, got .* shape \(\)"),
        ({"rewards": lambda a: a[None]}, RewardError, r"shape \(1, 3\)"),
        ({"rewards": lambda a: ["1"] * 3}, RewardError, "must be one real number"),
        ({"rewards": lambda a: [None] * 3}, RewardError, "must be one real number"),
        ({"rewards": lambda a: a + 1j}, RewardError, "must be one real number"),
        ({"observations": lambda a: a[:1]}, InterfaceError, "of 3 environments, got 1"),
        ({"observations": lambda a: a * 1.0}, StateRangeError, "observation np.float64"),
        ({"observations": lambda a: a + 9}, StateRangeError, "declare a larger space"),
        ({"mode": None}, InterfaceError, r"must say when it resets.*autoreset_mode.*got None"),
        ({"mode": "Sometimes"}, InterfaceError, "got 'Sometimes'"),
        ({"mode": "SameStep"}, InterfaceError, "declares SAME_STEP .* has no final_obs"),
        (
            {"info": lambda over: {"final_obs": np.zeros(len(over), int)} if over.any() else {}},
            InterfaceError,
            "declares NEXT_STEP .* has final_obs",
        ),
        ({"rewards": lambda a: a + 1.0}, InterfaceError, "resets it, pays nothing"),
        ({"flags": np.ones_like}, InterfaceError, "and another end"),
        ({"mode": "Disabled"}, InterfaceError, "must leave an environment that is not in the mask"),
    ],
)
def test_what_a_vector_environment_may_not_return(
    forms: dict[str, Any], kind: type[EnvironmentFault], words: str
) -> None:
    with pytest.raises(kind, match=words):
        counted(**forms)


def test_the_name_of_final_observations_before_gymnasium_1_is_known() -> None:
    class Old(Vec):
        def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
            self.t += 1
            over = self.t == 2
            last, self.t = self.t.copy(), np.where(over, 0, self.t)
            info = {"final_observation": last} if over.any() else {}
            return self.t.copy(), np.ones(self.num_envs), ~over & False, over, info

    learner = learn(lambda num_envs: Old(num_envs, mode="SameStep"), gamma=0.5, learning_rate=1.0)
    assert learner.table.q.compute()[:3].max(1).tolist() == [1.5, 1.0, 0.0]


# Single environments


class Single(gymnasium.Env[Any, Any]):
    """Three steps to the end; returns what it is told to, where that is not None."""

    action_space = spaces.Discrete(2)

    def __init__(
        self, space: spaces.Space[Any] | None = None, reset: Any = None, step: Any = None
    ) -> None:
        self.observation_space = space or spaces.Discrete(4)
        self.on_reset, self.on_step, self.t = reset, step, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self.on_reset or (0, {})

    def step(self, action: Any) -> Any:
        self.t += 1
        return self.on_step(self.t) if self.on_step else (self.t, 1.0, self.t == 3, False, {})


SMALL = spaces.MultiDiscrete([4, 4], dtype=np.int8)


@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        ({"reset": [0]}, InterfaceError, r"reset must return \(observation, info\).*shimmy"),
        ({"reset": (0, 1)}, InterfaceError, "reset must return"),
        ({"step": lambda t: (t, 1.0, t == 3, {})}, InterfaceError, "step must return.*got 4 parts"),
        ({"step": lambda t: t}, InterfaceError, "step must return.*got 1"),
        ({"step": lambda t: (1.0 * t, 1.0, t == 3, False, {})}, InterfaceError, "must be integers"),
        ({"step": lambda t: ([t], 1.0, t == 3, False, {})}, InterfaceError, r"the shape \(\)"),
        ({"step": lambda t: (t, [1.0, 2.0], False, False, {})}, RewardError, "one real number"),
        ({"step": lambda t: (t, "1", False, False, {})}, RewardError, "one real number"),
        ({"step": lambda t: (t, None, False, False, {})}, RewardError, "one real number"),
        ({"step": lambda t: (t, 1.0, None, False, {})}, InterfaceError, "true or false"),
        ({"step": lambda t: (t, 1.0, "no", False, {})}, InterfaceError, "true or false"),
        ({"step": lambda t: (t, 1.0, False, 2, {})}, InterfaceError, "true or false"),
        (
            {
                "space": SMALL,
                "reset": (np.array([0, 0]), {}),
                "step": lambda t: (np.array([256, 0]), 1.0, t == 3, False, {}),
            },
            InterfaceError,
            "must fit int8",
        ),
    ],
)
def test_what_an_environment_may_not_return(
    settings: dict[str, Any], kind: type[EnvironmentFault], words: str
) -> None:
    with pytest.raises(kind, match=f"environment 0 of shard 0 broke its contract.*{words}"):
        learn(lambda: Single(**settings))
    with pytest.raises(EnvironmentFault):
        learn(lambda: Single(**settings), on_env_error="restart")


@pytest.mark.parametrize(
    "step",
    [
        lambda t: (np.int32(t), np.float32(1), np.bool_(t == 3), np.False_, {}),
        lambda t: (np.array(t), np.array([1.0]), int(t == 3), 0, {}),
        lambda t: (t, 1, np.array(t == 3), np.array([0]), {}),
        lambda t: (np.uint8(t), True, 1.0 if t == 3 else 0.0, False, {}),
    ],
)
def test_other_forms_of_the_same_step(step: Callable[[int], Any]) -> None:
    plain, other = learn(Single), learn(lambda: Single(step=step))
    np.testing.assert_array_equal(plain.table.q.compute(), other.table.q.compute())
    assert plain.n_episodes == other.n_episodes == 64
    assert other.evaluate(2).mean == 3.0


@pytest.mark.parametrize("leave", [sys.exit, lambda: sys.exit("bye")], ids=["code", "word"])
def test_an_environment_that_exits_is_a_fault(leave: Callable[[], Any]) -> None:
    def step(t: int) -> Any:
        return leave() if t == 2 else (t, 1.0, False, False, {})

    with pytest.raises(EnvironmentFault, match="environment 0 of shard 0 failed at step 1: Sys"):
        learn(lambda: Single(step=step))
    with pytest.raises(EnvironmentFault, match="could not make an environment: SystemExit"):
        QLearner(lambda: sys.exit())
    learner = learn(lambda: Single(step=step), on_env_error="restart")
    assert learner.history.n_restarts.sum() > 0
    with pytest.raises(EnvironmentFault, match="in an evaluation: SystemExit"):
        learner.evaluate(1)


# Masks


def test_masks_are_said_once_not_to_be_used(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "dqlearn"):
        learner = learn(lambda: gymnasium.make("Taxi-v4"), shards=2, action_masks=False)
        learner.learn(400)
        learner.evaluate(2, max_steps=10)
    assert [r.message for r in caplog.records if "Taxi-v4" in r.message and "mask" in r.message]
    assert len(caplog.records) == 1


def test_masks_of_vector_environments_and_of_methods(caplog: pytest.LogCaptureFixture) -> None:
    class Masked(Single):
        def action_masks(self) -> Any:
            return np.array([True, False])

    with caplog.at_level(logging.WARNING, "dqlearn"):
        unused: dict[str, Any] = {"action_masks": False}
        taxis = [lambda: gymnasium.make("Taxi-v4")]
        learn(lambda num_envs: SyncVectorEnv(taxis * num_envs), **unused)
        learn(Masked, **unused)
        learn(Single, **unused)
    assert ["Taxi" in r.message or "SyncVectorEnv" in r.message for r in caplog.records] == [
        True,
        False,
    ]
    assert "Masked" in caplog.records[1].message


# The pieces


def test_a_copy_is_of_the_same_value_and_shares_no_memory() -> None:
    space = spaces.Dict(a=spaces.Box(-1, 1, (2,), np.float32), b=spaces.Tuple((SMALL,)))
    original = {"a": np.array([0.5, -0.25]), "b": [np.array([1, 2], np.int8)]}
    kept = keeper(space)(original)
    assert space.contains(kept)
    original["a"][:], original["b"][0][:] = 9, 9
    assert kept["a"].tolist() == [0.5, -0.25]
    assert kept["b"][0].tolist() == [1, 2]
    with pytest.raises(InterfaceError, match=r"the parts \['a', 'b'\]"):
        keeper(space)({"a": original["a"]})


def test_flags_and_rewards_of_ragged_lists() -> None:
    with pytest.raises(InterfaceError, match="true or false"):
        flags([[True], []], 2)
    with pytest.raises(RewardError, match="one real number"):
        rewards([[1.0], []], 2)
