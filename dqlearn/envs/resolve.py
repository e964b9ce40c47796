"""Resolving what the user names (an id, a factory or a model) to what shards can open.

::

    "Taxi-v4", kwargs ──► gymnasium.make ──► a TabularEnv underneath? ──► its model, compiled
                                             or nothing but a table P? ──► compiled too
    factory ────────────► one instance  ┘                    └─ no ────► PythonEnv
    TabularEnv ─────────────────────────────────────────────────────────► itself

Invariant: what is kept of an environment is how to make it, never an instance. For an id, that is
the specification that the id has in this process at this time, with arguments that nobody else can
change.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import TimeLimit

from dqlearn.envs.action_names import action_names
from dqlearn.envs.arguments import own, stored
from dqlearn.envs.faces.gym_view import TabularGymEnv
from dqlearn.envs.from_tables import own_table
from dqlearn.envs.problems.recipe import Recipe
from dqlearn.envs.python.distinct import FACTORY, check_new
from dqlearn.envs.python.faults import RAISED
from dqlearn.envs.python.gymnasium_env import PythonEnv, takes_num_envs
from dqlearn.envs.python.masks import says_masks
from dqlearn.envs.registry import compiled_model, plain_kwargs, recipe
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import ConfigurationError, EnvironmentFault
from dqlearn.spaces import BinsLike, Factor, SpaceIndex

__all__ = ["EnvLike", "Resolved", "resolve"]

_log = logging.getLogger("dqlearn")

EnvLike = str | TabularEnv | Callable[..., Any]


@dataclass(frozen=True)
class Resolved:
    """An environment, its spaces, and how a stored table names it.

    Attributes
    ----------
    env : TabularEnv or PythonEnv
        The environment that shards open.
    states, actions : SpaceIndex
        Its observation and action space as indices.
    factors : tuple of Factor
        The factors of a state index.
    action_labels : tuple of str, optional
        Names of the actions.
    spec : dict
        How a stored table names the environment, as JSON. For an id ``{"id", "kwargs",
        "encoded"}``, see :mod:`dqlearn.envs.arguments`, with ``"compiled": true`` if its table was
        compiled; for a model that a module defines ``{"name", "import": "module:name"}``; for
        anything else ``{"name"}``, which is for people only.
    source : TabularEnv or callable
        The model, or the function that makes the environment.
    recipe : Recipe, optional
        The settings with which it is best learned, if known.
    """

    env: TabularEnv | PythonEnv
    states: SpaceIndex
    actions: SpaceIndex
    factors: tuple[Factor, ...]
    action_labels: tuple[str, ...] | None
    spec: dict[str, Any]
    source: TabularEnv | Callable[..., Any]
    recipe: Recipe | None = None

    @property
    def name(self) -> str:
        """Its name, for people to read."""
        return str(self.spec.get("id") or self.spec["name"])

    @property
    def masked(self) -> bool:
        """Whether it is known to say which of its actions are valid."""
        env = self.env
        return env.valid is not None if isinstance(env, TabularEnv) else env.masked

    @property
    def called(self) -> str:
        """Its name, and whether its table was compiled."""
        how = ", compiled from its table" if self.spec.get("compiled") else ""
        return f"{self.name!r}{how}"

    def single(self, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        """Make one environment, for a look at its episodes.

        Parameters
        ----------
        render_mode : str, optional
            One of the environment's render modes.

        Returns
        -------
        gymnasium.Env
            The environment.

        Raises
        ------
        ConfigurationError
            If the environment has no such mode, or a factory, which sets the mode itself, makes it.
        """
        if isinstance(self.source, TabularEnv):
            env = TabularGymEnv(self.source, render_mode)
            limit = self.source.max_episode_steps
            return env if limit is None else TimeLimit(env, int(limit))
        made = _probe(self.source, self.name)
        if not isinstance(made, gymnasium.Env):
            raise ConfigurationError(
                f"{self.name!r} makes vector environments, and no single one to look at"
            )
        if render_mode is None:
            return made
        modes = made.metadata.get("render_modes", [])
        made.close()
        if render_mode not in modes or not isinstance(self.source, Registered):
            by_id = modes if isinstance(self.source, Registered) else "what its factory chooses"
            raise ConfigurationError(
                f"the render modes of {self.name!r} are {by_id}, got {render_mode!r}"
            )
        return self.source.drawn(render_mode)()


@dataclass(frozen=True)
class Registered:
    """A factory of the environment that an id stands for; each gets its own copy of the arguments.

    Attributes
    ----------
    spec : str or EnvSpec
        The id, or its specification, which also serves a process where the id is not registered.
    kwargs : dict
        Arguments of the environment.
    """

    spec: str | EnvSpec
    kwargs: dict[str, Any]

    def __call__(self) -> gymnasium.Env[Any, Any]:
        """Make one environment."""
        return gymnasium.make(self.spec, **own(self.kwargs))

    def drawn(self, render_mode: str) -> Registered:
        """Return the factory of such environments with a render mode."""
        return replace(self, kwargs={**self.kwargs, "render_mode": render_mode})

    def pinned(self, one: gymnasium.Env[Any, Any]) -> Registered:
        """Return a factory that makes such environments in any process, whatever its registry has.

        Parameters
        ----------
        one : gymnasium.Env
            An environment that this factory made.

        Returns
        -------
        Registered
            The factory.
        """
        made = one.unwrapped.spec  # its id has a version, and no module
        known = gymnasium.registry.get(made.id) if made else None
        if known is None:
            return self
        return replace(self, spec=replace(known, kwargs=own(known.kwargs)))


def resolve(
    env: EnvLike,
    kwargs: Mapping[str, Any] | None = None,
    bins: BinsLike = None,
    compile: bool = True,
    masks: bool = True,
) -> Resolved:
    """Find out what an environment is.

    Parameters
    ----------
    env : str, TabularEnv or callable
        A Gymnasium id; a model; ``factory() -> gymnasium.Env``, or
        ``factory(num_envs=n) -> gymnasium.vector.VectorEnv``.
    kwargs : mapping, optional
        Arguments of the environment, for an id.
    bins : optional
        How to cut a `Box` observation; see :meth:`dqlearn.spaces.SpaceIndex.from_space`.
    compile : bool
        Whether to compile an environment, given by its id, that is nothing but a table; see
        :func:`dqlearn.envs.from_tables.own_table`.
    masks : bool
        Whether to use the masks of its actions, if it has some.

    Returns
    -------
    Resolved
        The environment, in a form that shards can open.

    Raises
    ------
    ConfigurationError
        If `env` is none of these.
    EnvironmentFault
        If the environment cannot be made.
    SpaceError
        If its observation or action space cannot be indexed.
    """
    if isinstance(env, TabularEnv):
        _refuse(kwargs, bins)
        return _tabular(env if masks else unmasked(env), _model_spec(env))
    if isinstance(env, str):
        if not isinstance(kwargs, Mapping | None):
            raise ConfigurationError(f"env_kwargs must be a mapping by name, got {kwargs!r}")
        arguments = own(dict(kwargs or {}))
        spec = _id_spec(env, arguments)
        made = _gymnasium(Registered(env, arguments), bins, spec, compile, masks)
        return replace(made, recipe=recipe(env, arguments))
    if callable(env) and not isinstance(env, gymnasium.Env | gymnasium.vector.VectorEnv):
        _refuse(kwargs, None)
        return _gymnasium(env, bins, {"name": getattr(env, "__qualname__", repr(env))}, masks=masks)
    raise ConfigurationError(
        f"expected a Gymnasium id, a TabularEnv or a factory of environments, got {env!r}: "
        "environments are made where they are stepped, so pass an id with env_kwargs=, or "
        f"{FACTORY}"
    )


def _id_spec(env: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spec of an id and its arguments; a family's graphs become lists of edges."""
    arguments = stored(kwargs)
    if "unstored" in arguments and env.startswith("dqlearn/"):
        with suppress(TypeError, ValueError):
            arguments = stored(json.loads(json.dumps(plain_kwargs(env, kwargs))))
    return {"id": env, **arguments}


def _model_spec(env: TabularEnv) -> dict[str, Any]:
    """Return the spec of a model: its name and, if it can be imported, from where."""
    spec, module = {"name": env.called}, env.transition.__module__
    if module in sys.modules and module != "__main__":
        for name, value in vars(sys.modules[module]).items():
            if value is env:
                spec["import"] = f"{module}:{name}"
    return spec


def _refuse(kwargs: Mapping[str, Any] | None, bins: BinsLike) -> None:
    if kwargs or bins is not None:
        raise ConfigurationError(
            "env_kwargs= go with an id and bins= with Box observations; a model has its params, "
            f"and a factory is given its arguments by functools.partial; got {kwargs=}, {bins=}"
        )


def _tabular(model: TabularEnv, spec: dict[str, Any]) -> Resolved:
    _ = model.kernels  # faults of its functions are raised here, not on a worker
    states = SpaceIndex.from_space(gymnasium.spaces.Discrete(model.n_states), name="state")
    actions = SpaceIndex.from_space(gymnasium.spaces.Discrete(model.n_actions), name="action")
    labels = tuple(model.action_labels) if model.action_labels is not None else None
    return Resolved(model, states, actions, model.factors, labels, spec, model)


def _gymnasium(
    make: Callable[..., Any],
    bins: BinsLike,
    spec: dict[str, Any],
    compile: bool = False,
    masks: bool = True,
) -> Resolved:
    one = _probe(make, spec.get("id") or spec["name"])
    try:
        model = compiled_model(one) if isinstance(one, gymnasium.Env) else None
        if model is not None:
            _refuse(None, bins)
            return replace(_tabular(model if masks else unmasked(model), spec), source=make)
        if compile and (model := own_table(one, masks)) is not None:
            _log.info("%s is compiled from its table P; compile=False steps its code", spec["id"])
            states = SpaceIndex.from_space(one.observation_space, bins)  # as those of its code
            made = _tabular(model, spec | {"compiled": True})
            return replace(made, states=states, source=make)
        check_new(one)
        vector = isinstance(one, gymnasium.vector.VectorEnv)
        seen = one.single_observation_space if vector else one.observation_space
        done = one.single_action_space if vector else one.action_space
        states = SpaceIndex.from_space(seen, bins)
        actions = SpaceIndex.from_space(done, name="action")
        names = action_names(one, actions)
    finally:
        one.close()
    if isinstance(make, Registered):
        make = make.pinned(one)
    env = PythonEnv(make, states, actions, masks, masks and says_masks(one))
    return Resolved(env, states, actions, states.factors, names, spec, make)


def unmasked(model: TabularEnv) -> TabularEnv:
    """Return a model without its mask."""
    return model if model.valid is None else replace(model, valid=None)


def _probe(make: Callable[..., Any], name: str) -> Any:
    """Make one environment, to find out what it is."""
    try:
        one = make(num_envs=1) if takes_num_envs(make) else make()
    except RAISED as error:
        raise EnvironmentFault(f"{name!r} could not make an environment: {error!r}") from error
    if not isinstance(one, gymnasium.Env | gymnasium.vector.VectorEnv):
        raise ConfigurationError(
            "a factory must return a gymnasium.Env, or a VectorEnv if it takes num_envs; got "
            f"{one!r}"
        )
    return one
