"""A model's functions are refused by name: what they take, what they return, what numba cannot."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba.core.errors import NumbaError

import dqlearn
from dqlearn import QLearner, TabularEnv, envs, exact
from dqlearn.envs import TabularGymEnv, TabularVectorEnv
from dqlearn.errors import (
    ConfigurationError,
    EnvironmentFault,
    ProbabilityError,
    RewardError,
    StateRangeError,
)


def initial(key: Any, params: Any) -> Any:
    return 0


def events(state: Any, action: Any, params: Any) -> Any:
    return (0.5,)


def transition(state: Any, action: Any, happened: Any, params: Any) -> Any:
    return (state + 1) % 4, 1.0, False


def model(**changes: Any) -> TabularEnv:
    """A ring of four states."""
    right = {"initial": initial, "transition": transition, "events": events, "n_events": 1}
    return TabularEnv(**{"n_states": 4, "n_actions": 2, **right, **changes})


def learn(env: TabularEnv) -> QLearner:
    return QLearner(env, num_envs=8, shards=1, steps_per_round=4, epsilon=0.0).learn(64)


# What is returned

OTHER_TYPES: dict[str, tuple[dict[str, Any], str]] = {
    "a state that is a float": (
        {"initial": lambda key, params: 0.5},
        r"initial must return a state, an integer in 0 \.\. 3; <lambda> in test_contract.py, line "
        r"\d+ returns float64",
    ),
    "a state that is NaN": ({"initial": lambda key, params: np.nan}, "initial must.*float64"),
    "two states": ({"initial": lambda key, params: (0, 0)}, r"initial must.*int64 x 2"),
    "no state": ({"initial": lambda key, params: None}, "initial must.*returns none"),
    "a next state that is a float": (
        {"transition": lambda s, a, h, params: (2.7, 1.0, False)},
        r"next_state an integer in 0 \.\. 3: int\(\.\.\.\) makes one; .*float64, float64, bool",
    ),
    "a next state that is NaN": (
        {"transition": lambda s, a, h, params: (np.nan, 1.0, False)},
        "next_state an integer",
    ),
    "a next state that is a float in key form": (
        {
            "transition": lambda s, a, key, params: (s / 2, 1.0, False),
            "events": None,
            "n_events": 0,
        },
        "next_state an integer",
    ),
    "a complex reward": (
        {"transition": lambda s, a, h, params: (1, 1j, False)},
        "reward a real number; .*complex128",
    ),
    "a reward in words": (
        {"transition": lambda s, a, h, params: (1, "much", False)},
        "reward a real number; .*unicode",
    ),
    "an end that is a float": (
        {"transition": lambda s, a, h, params: (1, 1.0, 0.5)},
        "terminated a bool: a comparison, or bool",
    ),
    "an end that is an integer": (
        {"transition": lambda s, a, h, params: (1, 1.0, 2)},
        "terminated a bool",
    ),
    "two values": (
        {"transition": lambda s, a, h, params: (1, 1.0)},
        r"must return \(next_state, reward, terminated\); .* returns Tuple\(int64, float64\)",
    ),
    "five values": (
        {"transition": lambda s, a, h, params: (1, 1.0, False, False, 0)},
        r"must return \(next_state, reward, terminated\)",
    ),
    "one value": ({"transition": lambda s, a, h, params: 1}, "must return .*returns int64"),
    "sometimes nothing": (
        {"transition": lambda s, a, h, params: (s, 1.0, False) if s else None},
        "must return .*Optional",
    ),
    "a list of probabilities": (
        {"events": lambda s, a, params: [0.5]},
        r"events must return a tuple of n_events=1 probabilities, all of them floats; .* list",
    ),
    "an array of probabilities": (
        {"events": lambda s, a, params: np.array([0.5])},
        "events must .* array",
    ),
    "a probability": ({"events": lambda s, a, params: 0.5}, "events must .* float64"),
    "probabilities of two types": (
        {"events": lambda s, a, params: (1, 0.5), "n_events": 2},
        r"all of them floats; .*Tuple\(int64, float64\)",
    ),
    "too many probabilities": (
        {"events": lambda s, a, params: (0.5, 0.5)},
        r"n_events=1 .*float64 x 2",
    ),
    "too few probabilities": ({"n_events": 2}, r"n_events=2 .*float64 x 1"),
}


@pytest.mark.parametrize("case", OTHER_TYPES)
def test_what_functions_return(case: str) -> None:
    """It is refused at the first use, whichever that is, and never cut to what fits."""
    changes, message = OTHER_TYPES[case]
    env = model(**changes)
    uses: list[Callable[[], Any]] = [
        lambda: QLearner(env),
        lambda: TabularGymEnv(env).reset(seed=0),
        lambda: TabularVectorEnv(env, 2).reset(seed=0),
        lambda: dqlearn.evaluate_policy(env, lambda states, t: states, n_episodes=1, max_steps=1),
    ]
    if env.events is not None:
        uses += [lambda: env.outcomes(0, 0), lambda: exact.solve(env, 0.9)]
    for use in uses:
        with pytest.raises(ConfigurationError, match=message):
            use()


Pair = namedtuple("Pair", "first second")


@pytest.mark.parametrize(
    "changes",
    [
        {"transition": lambda s, a, h, params: (np.int8(1), 1, s == 2)},
        {"transition": lambda s, a, h, params: (s == 2, np.float32(1), True)},
        {"transition": numba.njit(transition)},
        {"events": lambda s, a, params: (1,)},
        {"events": lambda s, a, params: Pair(0.5, 0.25), "n_events": 2},
        {"events": lambda s, a, params: params, "params": (0.5, 0.25), "n_events": 2},
        {"params": (None, 3, "name", np.zeros(2), (1, (2.0, Pair(1, 2))))},
        {"max_episode_steps": np.int64(3), "n_states": np.int32(4)},
        {"action_labels": np.array(["left", "right"]), "state_dims": {"cell": np.int64(4)}},
    ],
)
def test_what_is_right(changes: dict[str, Any]) -> None:
    assert learn(model(**changes)).num_timesteps == 64


# What numba cannot compile


def plain(x: Any) -> Any:
    return x


@numba.njit
def nested(x: Any) -> Any:
    return x.length


def opens(s: Any, a: Any, h: Any, params: Any) -> Any:
    with open("file"):
        return 0, 0.0, False


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"transition": lambda s, a, h, params: (plain(s), 1.0, False)},
            r"cannot compile transition, at test_contract.py, line \d+: .*'plain'.*; decorate "
            r"plain with @numba.njit",
        ),
        (
            {"events": lambda s, a, params: (plain(0.5),)},
            "cannot compile events, .*decorate plain with @numba.njit",
        ),
        (
            {"initial": lambda key, params: nested(0)},
            rf"cannot compile initial, at test_contract.py, line "
            rf"{nested.py_func.__code__.co_firstlineno + 2}: .*'length'",
        ),
        ({"transition": opens}, "cannot compile transition, .*context manager"),
        (
            {"transition": lambda s, a, h, params: (params["x"], 1.0, False), "params": (1, 2)},
            r"cannot compile transition.*getitem\(UniTuple\(int64 x 2\), .*x",
        ),
    ],
)
def test_what_cannot_be_compiled(changes: dict[str, Any], message: str) -> None:
    """The function, the line and the reason, before a worker has anything to do with it."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        QLearner(model(**changes))
    assert isinstance(caught.value.__cause__, NumbaError)


# What can be seen when the model is made


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"initial": 3}, r"expected a function initial\(key, params\), got 3"),
        ({"initial": int}, r"expected a function initial\(key, params\), got <class 'int'>"),
        ({"initial": lambda key: 0}, r"initial\(key, params\), got <lambda> .*takes \(key\)"),
        ({"events": lambda s: (0.5,)}, r"events\(state, action, params\), got"),
        ({"transition": lambda s, a: 0}, r"transition\(state, action, happened, params\)"),
        ({"transition": numba.njit(lambda s, a: 0)}, r"transition\(state, action, happened"),
        (
            {"transition": lambda s, a: 0, "events": None, "n_events": 0},
            r"transition\(state, action, key, params\)",
        ),
        ({"n_events": "1"}, "n_events in 1 .. 16.*'1'"),
        ({"n_events": True}, "n_events in 1 .. 16.*True"),
        ({"n_states": True}, "n_states must be an integer .*True"),
        ({"params": 5}, r"params must be a tuple of scalars and arrays, got 5: write \(5,\)"),
        ({"params": [1, 2]}, r"params must be a tuple .*got \[1, 2\]"),
        ({"params": None}, "params must be a tuple .*got None"),
        ({"params": ([1, 2],)}, r"params\[0\] must be a scalar, an array .*NumPy array of it"),
        ({"params": (1, (2, {3}))}, r"params\[1\] must be"),
        ({"params": ({"a": 1},)}, r"params\[0\] must be .*'a'"),
        ({"params": (object(),)}, r"params\[0\] must be .*object"),
        ({"params": (np.array([None]),)}, r"params\[0\] must be .*None"),
        ({"max_episode_steps": "100"}, "max_episode_steps.* integer of at least 1, got '100'"),
        ({"max_episode_steps": True}, "max_episode_steps.*got True"),
        ({"max_episode_steps": 1.5}, "max_episode_steps.*got 1.5"),
        ({"max_episode_steps": 0}, "max_episode_steps.*got 0"),
        ({"action_labels": "LR"}, r"action_labels must .*write list\('LR'\) for one a letter"),
        ({"action_labels": 2}, "action_labels must be a sequence of strings, got 2"),
        ({"action_labels": [0, 1]}, "action_labels must be different strings"),
        ({"action_labels": ["a", "a"]}, "action_labels must be different strings"),
        ({"action_labels": ["a"]}, "action_labels must name n_actions=2 actions, got 1"),
        ({"state_dims": 4}, "state_dims must map names to sizes or labels.*got 4"),
        ({"state_dims": [2, 2]}, "state_dims must map names"),
        ({"state_dims": {1: 4}}, "state_dims must map names"),
        ({"state_dims": {"x": -2, "y": -2}}, r"state_dims\['x'\] must be .*at least 1, got -2"),
        ({"state_dims": {"x": 4.0}}, r"state_dims\['x'\] must be an integer"),
        ({"state_dims": {"x": True, "y": 4}}, r"state_dims\['x'\] must be an integer"),
        ({"state_dims": {"x": "abcd"}}, r"state_dims\['x'\].*list\('abcd'\)"),
        ({"state_dims": {"x": None}}, r"state_dims\['x'\].* a sequence of strings, got None"),
        ({"picture": 5}, r"picture must be a function picture\(state, action\), got 5"),
    ],
    ids=lambda value: value if isinstance(value, str) else ", ".join(value),
)
def test_what_a_model_is_made_of(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        model(**changes)


# Values


def chances(state: Any, action: Any, params: Any) -> Any:
    return 0.5, params[0] if state == 2 else 0.5


@pytest.mark.parametrize("p", [1.5, -0.25, np.nan, np.inf, 1.0 + 2**-52, -1e-300])
def test_probabilities(p: float) -> None:
    """Each way to use a model names the event and the pair; those before it are right."""
    env = model(events=chances, n_events=2, params=(p,))
    message = rf"a probability must be in 0 \.\. 1, got {p!r} of event 1 in state 2, action [01]"
    one, many = TabularGymEnv(env), TabularVectorEnv(env, 2)
    for use in (
        lambda: learn(env),
        lambda: env.outcomes(2, 1),
        lambda: exact.solve(env, 0.9),
        lambda: dqlearn.evaluate_policy(env, lambda s, t: s % 2, n_episodes=2, max_steps=9),
        lambda: [one.step(1) for _ in range(9)],
        lambda: [many.step([1, 0]) for _ in range(9)],
    ):
        one.reset(seed=0)
        many.reset(seed=0)
        with pytest.raises(ProbabilityError, match=message.replace("+", r"\+")) as caught:
            use()
        assert isinstance(caught.value, EnvironmentFault)
        assert isinstance(caught.value, ConfigurationError)
    assert env.outcomes(1, 0)
    assert learn(replace(env, params=(1.0,))).num_timesteps == 64


@pytest.mark.parametrize(
    ("at", "params", "error", "message"),
    [
        (
            0,
            (9, 1.0),
            StateRangeError,
            "got 9 after episode [01] of an evaluation in state 0",
        ),
        (0, (1, np.nan), RewardError, "got nan from episode [01] of an evaluation in state 0"),
        (7, (1, 1.0), StateRangeError, r"initial\(\) must .* got 7 for (environment|episode) [01]"),
    ],
)
def test_faults_in_an_evaluation(
    at: int, params: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    """They end it; they are no episodes that were cut off."""

    def goes(state: Any, action: Any, happened: Any, params: Any) -> Any:
        return params[1], params[2], False

    def begins(key: Any, params: Any) -> Any:
        return params[0]

    env = model(transition=goes, initial=begins, params=(at, *params), max_episode_steps=3)
    with pytest.raises(error, match=message):
        QLearner(env, num_envs=8, shards=1).evaluate(2)


def test_outcomes_of_no_pair() -> None:
    for state, action in ((4, 0), (-1, 0), (0, 2), (0.0, 0), (0, True)):
        with pytest.raises(ConfigurationError, match=r"(state|action) must be an integer in 0"):
            model().outcomes(state, action)  # type: ignore[arg-type]


# What was found right is not compiled again

PROGRAM = """
import dqlearn
from dqlearn.envs import torus

model = torus(4)
learner = dqlearn.QLearner(model, num_envs=8, shards=1, steps_per_round=4).learn(64)
functions = [getattr(model.kernels, role) for role in model.functions]
print(sum(len(function.overloads) for function in functions))
"""


@pytest.mark.slow
def test_a_second_process_does_not_check_again(tmp_path: Path) -> None:
    """It loads the kernels, and compiles no function of the model."""
    environment = os.environ | {"DQLEARN_CACHE_DIR": str(tmp_path)}
    done = [
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(PROGRAM)],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for _ in range(2)
    ]
    assert list(map(int, done)) == [3, 0]


def test_families_keep_the_contract() -> None:
    for name in ("PowerGrid", "TrafficGrid", "PacketRouting", "NetworkDefence", "ProductionLine"):
        assert getattr(envs, name).make("medium").kernels
