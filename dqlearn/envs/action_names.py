"""The names of an environment's actions.

::

    FrozenLake, Taxi, ...     as their documentation says     left, down, right, up
    MultiDiscrete, Tuple ..   by the values of their parts    "0,0", "0,1", ..
    any other                 by their numbers alone          None

Invariant: names are given only where it is sure what an action does: to exactly the classes below,
with the action space that they document, under wrappers that pass actions on as they are.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import gymnasium

from dqlearn.spaces import Factor, SpaceIndex

__all__ = ["NAMES", "action_names", "documented_names"]

NAMES = {
    "gymnasium.envs.toy_text.frozen_lake:FrozenLakeEnv": ("left", "down", "right", "up"),
    "gymnasium.envs.toy_text.cliffwalking:CliffWalkingEnv": ("up", "right", "down", "left"),
    "gymnasium.envs.toy_text.taxi:TaxiEnv": (
        "south",
        "north",
        "east",
        "west",
        "pickup",
        "drop off",
    ),
    "gymnasium.envs.toy_text.blackjack:BlackjackEnv": ("stick", "hit"),
    "gymnasium.envs.classic_control.cartpole:CartPoleEnv": ("push left", "push right"),
    "gymnasium.envs.classic_control.mountain_car:MountainCarEnv": (
        "accelerate left",
        "don't accelerate",
        "accelerate right",
    ),
    "gymnasium.envs.classic_control.acrobot:AcrobotEnv": ("-1 torque", "0 torque", "1 torque"),
    "gymnasium.envs.box2d.lunar_lander:LunarLander": (
        "do nothing",
        "fire left orientation engine",
        "fire main engine",
        "fire right orientation engine",
    ),
}
"""Names of actions, in order, by the class of the environment, from Gymnasium's documentation."""

_MOST = 4096  # largest number of actions that are named by their parts


def action_names(env: Any, actions: SpaceIndex) -> tuple[str, ...] | None:
    """Name the actions of an environment.

    Parameters
    ----------
    env : gymnasium.Env or gymnasium.vector.VectorEnv
        The environment.
    actions : SpaceIndex
        The action space of a single environment.

    Returns
    -------
    tuple of str or None
        One name for each action; None if they have no names.
    """
    names = documented_names(env) if isinstance(env, gymnasium.Env) else None
    if names is not None:
        return names
    numbered = len(actions.factors) == 1 and actions.factors[0].labels is None
    if numbered or actions.n > _MOST:
        return None
    return tuple(",".join(parts) for parts in product(*map(_values, actions.factors)))


def _values(factor: Factor) -> list[str]:
    labels = range(factor.size) if factor.labels is None else factor.labels
    return [str(label) for label in labels]


def documented_names(env: gymnasium.Env[Any, Any]) -> tuple[str, ...] | None:
    """Return the names that Gymnasium's documentation gives to the actions of an environment.

    Parameters
    ----------
    env : gymnasium.Env
        The environment.

    Returns
    -------
    tuple of str or None
        One name for each action; None for other environments, and for other action spaces.

    Examples
    --------
    >>> documented_names(gymnasium.make("FrozenLake-v1"))
    ('left', 'down', 'right', 'up')
    """
    inner: gymnasium.Env[Any, Any] = env
    while isinstance(inner, gymnasium.Wrapper):
        known = type(inner).__module__.startswith("gymnasium.wrappers.")
        if not known or isinstance(inner, gymnasium.ActionWrapper):
            return None
        inner = inner.env
    names = NAMES.get(f"{type(inner).__module__}:{type(inner).__qualname__}")
    if names is None or env.action_space != gymnasium.spaces.Discrete(len(names)):
        return None
    return names
