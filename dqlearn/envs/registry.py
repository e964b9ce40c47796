"""Names: the models that Gymnasium knows as ``dqlearn/...``, and the way back from an environment.

::

    gymnasium.make("dqlearn/Torus-v0", side=64) ──► TabularGymEnv ──compiled_model──► TabularEnv
    gymnasium.make_vec(..., num_envs=n) ──────────► TabularVectorEnv

Invariant: entry points are strings and arguments are plain values, so a specification can be stored
as JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

from dqlearn.envs.defence import NetworkDefence
from dqlearn.envs.garnet import garnet
from dqlearn.envs.gym_view import TabularGymEnv
from dqlearn.envs.power import PowerGrid
from dqlearn.envs.production import ProductionLine
from dqlearn.envs.routing import PacketDispatch, PacketRouting
from dqlearn.envs.tabular import TabularEnv
from dqlearn.envs.torus import torus
from dqlearn.envs.traffic import TrafficGrid
from dqlearn.envs.vector_view import TabularVectorEnv

__all__ = ["compiled_model", "register"]

_MODELS: dict[str, Callable[..., TabularEnv]] = {
    "Torus": torus,
    "Garnet": garnet,
    "NetworkDefence": NetworkDefence.make,
    "PacketDispatch": PacketDispatch.make,
    "PacketRouting": PacketRouting.make,
    "PowerGrid": PowerGrid.make,
    "ProductionLine": ProductionLine.make,
    "TrafficGrid": TrafficGrid.make,
}


def register() -> None:
    """Register dqlearn's environments with Gymnasium; again does nothing.

    Examples
    --------
    >>> import gymnasium
    >>> from dqlearn.envs.registry import register
    >>> register()
    >>> gymnasium.spec("dqlearn/Torus-v0").vector_entry_point
    'dqlearn.envs.registry:make_vec'
    """
    for model in _MODELS:
        if f"dqlearn/{model}-v0" not in gymnasium.registry:
            gymnasium.register(
                f"dqlearn/{model}-v0",
                entry_point=f"{__name__}:make",
                vector_entry_point=f"{__name__}:make_vec",
                kwargs={"model": model},
            )


def make(model: str, render_mode: str | None = None, **kwargs: Any) -> TabularGymEnv:
    """Make one environment of a registered model."""
    return TabularGymEnv(_MODELS[model](**kwargs), render_mode)


def make_vec(
    model: str, num_envs: int, autoreset_mode: str = "NextStep", **kwargs: Any
) -> TabularVectorEnv:
    """Make environments of a registered model."""
    return TabularVectorEnv(_MODELS[model](**kwargs), num_envs, autoreset_mode)


def compiled_model(env: gymnasium.Env[Any, Any]) -> TabularEnv | None:
    """Return the model of an environment that is nothing but that model.

    Parameters
    ----------
    env : gymnasium.Env
        As `gymnasium.make` returns it.

    Returns
    -------
    TabularEnv or None
        The model, with the time limit of a `TimeLimit` around it; None if `env` is not a
        `TabularGymEnv`, or a wrapper may change what it does.

    Examples
    --------
    >>> import gymnasium
    >>> from dqlearn.envs.registry import compiled_model, register
    >>> register()
    >>> model = compiled_model(gymnasium.make("dqlearn/Torus-v0", side=4, max_episode_steps=50))
    >>> model.n_states, model.max_episode_steps
    (16, 50)
    >>> compiled_model(gymnasium.make("FrozenLake-v1")) is None
    True
    """
    limits = []
    while isinstance(env, gymnasium.Wrapper):
        if type(env) is TimeLimit:
            limits.append(env._max_episode_steps)
        elif type(env) not in (PassiveEnvChecker, OrderEnforcing):
            return None
        env = env.env
    if type(env) is not TabularGymEnv:
        return None
    own = env.model.max_episode_steps
    if not limits:
        return env.model
    return replace(env.model, max_episode_steps=min(limits if own is None else [*limits, own]))
