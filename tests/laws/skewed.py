"""Runs with an uneven load: nine of ten transitions lead into a twentieth of the states.

Invariant: the hot states are the first; models differ in their number of states alone.
"""

from __future__ import annotations

from typing import Any

from dqlearn import QLearner, TabularEnv
from dqlearn.random import integers, uniform

N_STATES, N_ACTIONS = 786_432, 4
COMPILED = {"num_envs": 4096, "steps_per_round": 256}
ASKING = {"num_envs": 262_144, "steps_per_round": 1, "exchange": "gather"}
PATHS = {"broadcast": COMPILED, "ahead": COMPILED | {"policy_lag": 1}, "gather": ASKING}


def anywhere(key: Any, params: Any) -> Any:
    return integers(key, 0, params[0])


def skewed(state: Any, action: Any, key: Any, params: Any) -> Any:
    hot = uniform(key, 0) < 0.9
    after = integers(key, 1, params[0] // 20 if hot else params[0])
    return after, (after % 7) / (1 + action), after % 1000 == 0


MODEL = TabularEnv(N_STATES, N_ACTIONS, anywhere, skewed, params=(N_STATES,))


def learner(path: str, **settings: Any) -> QLearner:
    """Make one whose chunks are chosen automatically: three."""
    return QLearner(MODEL, seed=3, shards=3, **(PATHS[path] | settings))


def batch(path: str) -> int:
    """Return the transitions of a round."""
    return PATHS[path]["num_envs"] * PATHS[path]["steps_per_round"]
