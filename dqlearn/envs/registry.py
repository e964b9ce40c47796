"""What the Gymnasium ids ``dqlearn/...`` make, and the way from an environment to its model.

::

    gymnasium.make("dqlearn/Torus-v0", side=64) ──► TabularGymEnv ──compiled_model──► TabularEnv
    gymnasium.make_vec(..., num_envs=n) ──────────► TabularVectorEnv

`max_episode_steps` is the only time limit. For a single environment, Gymnasium's wrapper applies
it, so the model inside has none; a vector environment applies it itself. By default it is the
model's own limit; -1 means no limit, as in Gymnasium.

Families of problems are named by strings, and imported when one of their environments is made: no
process needs all of them. Invariant: entry points are strings and arguments are plain values, so a
specification can be stored as JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from inspect import Parameter, signature
from pkgutil import resolve_name
from typing import Any

import gymnasium

from dqlearn.envs.faces.gym_view import TabularGymEnv
from dqlearn.envs.faces.vector_view import TabularVectorEnv
from dqlearn.envs.peeled import peeled
from dqlearn.envs.problems.family import Family
from dqlearn.envs.problems.garnet import garnet
from dqlearn.envs.problems.recipe import Recipe
from dqlearn.envs.problems.torus import torus
from dqlearn.envs.tabular import TabularEnv
from dqlearn.ids import FAMILIES, own_limit, register

__all__ = ["arguments", "compiled_model", "family", "plain_kwargs", "problem", "recipe", "register"]

_GYMNASIUMS = {"max_episode_steps", "render_mode", "disable_env_checker"}  # not a family's own
_FUNCTIONS: dict[str, Callable[..., TabularEnv]] = {"Torus": torus, "Garnet": garnet}


def family(name: str) -> type[Family]:
    """Import a family of problems that comes with dqlearn.

    Parameters
    ----------
    name : str
        Name of the family's class.

    Returns
    -------
    type of Family
        The class.

    Examples
    --------
    >>> from dqlearn.envs.registry import family
    >>> sorted(family("PowerGrid").sizes)
    ['large', 'medium', 'small']
    """
    found: type[Family] = resolve_name(FAMILIES[name][0])
    return found


def recipe(env: str, kwargs: Mapping[str, Any]) -> Recipe | None:
    """Return the recipe of an environment: the settings with which it is best learned, if known.

    Parameters
    ----------
    env : str
        A Gymnasium id.
    kwargs : mapping of str to object
        The arguments that the environment is given.

    Returns
    -------
    Recipe or None
        The recipe; None if there is none.

    Examples
    --------
    >>> from dqlearn.envs.registry import recipe
    >>> recipe("dqlearn/TrafficGrid-v0", {"size": "small"}).timesteps
    20000000
    >>> recipe("Taxi-v4", {}) is None
    True
    """
    found = _family_of(env)
    return None if found is None else found.recipes.get(kwargs.get("size", "small"))


def problem(env: str, kwargs: Mapping[str, Any]) -> Family | None:
    """Return the problem that the id of a network environment stands for.

    Parameters
    ----------
    env : str
        A Gymnasium id.
    kwargs : mapping of str to object
        The arguments that the environment is given.

    Returns
    -------
    Family or None
        The problem; None for other environments.

    Examples
    --------
    >>> from dqlearn.envs.registry import problem
    >>> list(problem("dqlearn/TrafficGrid-v0", {}).baselines())
    ['fixed time', 'longest queue first', 'max pressure']
    """
    found = _family_of(env)
    own = {name: value for name, value in kwargs.items() if name not in _GYMNASIUMS}
    return None if found is None else found.of(**own)


def _family_of(env: str) -> type[Family] | None:
    name = env.removeprefix("dqlearn/").removesuffix("-v0")
    return family(name) if env == f"dqlearn/{name}-v0" and name in FAMILIES else None


def make(model: str, render_mode: str | None = None, **kwargs: Any) -> TabularGymEnv:
    """Make one environment of a registered model, without a time limit."""
    return TabularGymEnv(_model(model, None, kwargs), render_mode)


def make_vec(
    model: str,
    num_envs: int,
    autoreset_mode: str = "NextStep",
    max_episode_steps: int | None = None,
    **kwargs: Any,
) -> TabularVectorEnv:
    """Make a vector environment of a registered model.

    A `max_episode_steps` of None means the model's own time limit, -1 means no limit.
    """
    limit = own_limit(model) if max_episode_steps is None else max_episode_steps
    made = _model(model, None if limit == -1 else limit, kwargs)
    return TabularVectorEnv(made, num_envs, autoreset_mode)


def _model(model: str, limit: int | None, kwargs: dict[str, Any]) -> TabularEnv:
    make = family(model).make if model in FAMILIES else _FUNCTIONS[model]
    return make(**kwargs, max_episode_steps=limit)


def arguments(env: str) -> list[str]:
    """Return the names of the arguments that an environment takes.

    Parameters
    ----------
    env : str
        Id of the environment.

    Returns
    -------
    list of str
        Names of the arguments; empty if it takes any.

    Examples
    --------
    >>> from dqlearn.envs.registry import arguments
    >>> arguments("dqlearn/Torus-v0")
    ['side', 'slip', 'step_reward', 'goal_reward', 'max_episode_steps']
    """
    spec = gymnasium.spec(env)
    ours = spec.entry_point == f"{__name__}:make"
    model = str(spec.kwargs.get("model")) if ours else ""
    if model in FAMILIES:
        return ["size", *(field.name for field in fields(family(model)))]
    made: Any = _FUNCTIONS.get(model) or spec.entry_point
    found = signature(resolve_name(made) if isinstance(made, str) else made).parameters
    open_ended = any(it.kind is Parameter.VAR_KEYWORD for it in found.values())
    return [] if open_ended else list(found)


def plain_kwargs(env: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an environment as plain values, which JSON can hold, if possible.

    Parameters
    ----------
    env : str
        Id of the environment.
    kwargs : mapping
        Arguments with which the environment was made.

    Returns
    -------
    dict
        For a problem of a family, the family's plain values: a graph becomes a tuple of edges. For
        other environments, the arguments as they are.

    Examples
    --------
    >>> import networkx
    >>> from dqlearn.envs.registry import plain_kwargs
    >>> plain_kwargs("dqlearn/PowerGrid-v0", {"size": "small", "topology": networkx.path_graph(3)})
    {'size': 'small', 'topology': ((0, 1), (1, 2))}
    """
    plain = problem(env, kwargs)
    own = () if plain is None else kwargs.keys() - _GYMNASIUMS - {"size"}
    return {name: getattr(plain, name) if name in own else kwargs[name] for name in kwargs}


def compiled_model(env: gymnasium.Env[Any, Any]) -> TabularEnv | None:
    """Return the model of an environment that is nothing but that model.

    Parameters
    ----------
    env : gymnasium.Env
        An environment as `gymnasium.make` returns it.

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
    env, limits = peeled(env)
    if type(env) is not TabularGymEnv:
        return None
    own = env.model.max_episode_steps
    if not limits:
        return env.model
    return replace(env.model, max_episode_steps=min(limits if own is None else [*limits, own]))
