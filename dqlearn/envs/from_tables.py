"""A Gymnasium environment that carries its own transition table, compiled.

``env.unwrapped.P[s][a]`` is a list of (probability, next state, reward, terminated), as Gymnasium's
toy-text environments have it (FrozenLake, CliffWalking, Taxi)::

    P, initial_state_distrib ──► chances, outcomes ──► TabularEnv

Where pairs have at most four outcomes, these are drawn by up to three events: outcome k is the one
whose event is the first to happen, so event k has probability p_k / (1 - p_0 - .. - p_k-1). Where
there are more outcomes, the model is in key form.

Invariant: the model has the same probabilities, rewards, ends and time limit as the environment,
but other random numbers. An environment that does more than its table says, such as a Taxi whose
passenger may change his mind, is not compiled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.envs.toy_text.cliffwalking import CliffWalkingEnv
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv
from gymnasium.envs.toy_text.taxi import TaxiEnv

from dqlearn.envs.action_names import documented_names
from dqlearn.envs.peeled import peeled
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import ConfigurationError
from dqlearn.random import uniform

__all__ = ["from_table", "own_table"]

_OPTIONS: dict[type, set[str]] = {  # options that the table reflects, or that change nothing
    FrozenLakeEnv: {"desc", "map_name", "is_slippery", "success_rate", "reward_schedule"},
    CliffWalkingEnv: {"is_slippery"},
    TaxiEnv: {"is_rainy", "rainy_probability", "fickle_passenger", "fickle_probability"},
}
_CORNERS = ("red", "green", "yellow", "blue")


def from_table(env: str | gymnasium.Env[Any, Any], masks: bool = True) -> TabularEnv:
    """Compile an environment that has a table ``P``: thousands of times faster than stepping it.

    Parameters
    ----------
    env : str or gymnasium.Env
        A Gymnasium id, or an environment. It must have ``P`` and ``initial_state_distrib``, and no
        wrapper that changes what it does.
    masks : bool
        Whether the model has the mask of actions that Taxi has, ``action_mask(state)``.

    Returns
    -------
    TabularEnv
        The same decision process, with the time limit of the environment's specification.

    Raises
    ------
    ConfigurationError
        If there is no such id, or the environment has no such table, or does not follow it alone.

    Examples
    --------
    >>> import gymnasium
    >>> from dqlearn.envs import from_table
    >>> model = from_table(gymnasium.make("FrozenLake8x8-v1"))
    >>> model.n_states, model.action_labels, model.max_episode_steps
    (64, ('left', 'down', 'right', 'up'), 200)
    """
    if isinstance(env, str):
        try:
            env = gymnasium.make(env)
        except gymnasium.error.Error as error:
            raise ConfigurationError(f"{env!r} could not make an environment: {error}") from error
    base: Any = getattr(env, "unwrapped", env)
    if not all(hasattr(base, name) for name in ("P", "initial_state_distrib")):
        raise ConfigurationError(
            "expected a Gymnasium id, or an environment, with P and initial_state_distrib, got "
            f"{env!r}: step it as it is, or write a TabularEnv"
        )
    if beyond := _beyond_the_table(env):
        raise ConfigurationError(
            f"expected an environment that follows its table P alone, got {env!r} with {beyond}: "
            "step it as it is, or write a TabularEnv"
        )
    chance, *outcomes = _arrays(base.P)
    n_events = max(chance.shape[2] - 1, 1)
    events = _EVENTS.get(n_events)
    cumulated = np.cumsum(chance, axis=2)
    left = 1.0 - cumulated + chance  # probability that is left before each outcome
    mask = _masks(base) if masks else None
    split = np.minimum(np.divide(chance, left, out=np.ones_like(chance), where=left > 0.0), 1.0)
    return TabularEnv(
        len(base.P),
        len(base.P[0]),
        _initial,
        _by_events if events else _by_key,
        events,
        n_events=n_events if events else 0,
        params=(
            np.cumsum(base.initial_state_distrib),
            split if events else cumulated,
            *outcomes,
            *(() if mask is None else (mask,)),
        ),
        max_episode_steps=min(peeled(env)[1], default=None),
        state_dims=_state_dims(base),
        action_labels=documented_names(env),
        valid=None if mask is None else _valid,
    )


def own_table(env: gymnasium.Env[Any, Any], masks: bool = True) -> TabularEnv | None:
    """Compile an environment if its id stands for exactly the process that its table describes.

    Parameters
    ----------
    env : gymnasium.Env
        An environment that was made by its id.
    masks : bool
        Whether the model has the mask that the environment may have.

    Returns
    -------
    TabularEnv or None
        The model. None if the environment is not one of Gymnasium's own toy-text environments; if
        it deviates from its table, has a render mode, or draws a random map for each instance; or
        if this version of Gymnasium gives it options that are not known here.

    Examples
    --------
    >>> own_table(gymnasium.make("CliffWalking-v1")).n_states
    48
    >>> own_table(gymnasium.make("FrozenLake-v1", map_name=None)) is None  # a random map
    True
    """
    base: Any = env.unwrapped
    known = _OPTIONS.get(type(base))
    if known is None or _beyond_the_table(env) or base.render_mode is not None:
        return None
    if set(signature(type(base)).parameters) - known != {"render_mode"}:
        return None
    chosen = base.spec.kwargs if base.spec else {}
    drawn = type(base) is FrozenLakeEnv and not (chosen.get("desc") or chosen.get("map_name"))
    return None if drawn else from_table(env, masks)


def _beyond_the_table(env: gymnasium.Env[Any, Any]) -> str | None:
    """Name what makes an environment deviate from its table; None if nothing does."""
    inner, _ = peeled(env)
    if isinstance(inner, gymnasium.Wrapper):
        return f"the wrapper {type(inner).__name__}"
    return "a fickle passenger" if getattr(inner, "fickle_passenger", False) else None


def _arrays(table: Mapping[int, Mapping[int, Sequence[Any]]]) -> tuple[Any, ...]:
    """Return probabilities, next states, rewards and ends, by (state, action, outcome).

    Raises
    ------
    ConfigurationError
        If probabilities do not add up to 1.
    """
    most = max(len(outcomes) for row in table.values() for outcomes in row.values())
    shape = (len(table), len(table[0]), most)
    chance, reward = np.zeros(shape), np.zeros(shape)
    next_state, terminated = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
    for s, row in table.items():
        for a, outcomes in row.items():
            for k, (p, after, r, ends) in enumerate(outcomes):
                chance[s, a, k], next_state[s, a, k] = p, after
                reward[s, a, k], terminated[s, a, k] = r, ends
    wrong = np.argwhere(~np.isclose(chance.sum(axis=2), 1.0))
    if len(wrong):
        s, a = map(int, wrong[0])
        raise ConfigurationError(
            f"the probabilities of P[{s}][{a}] must add up to 1, got {chance[s, a].sum()}"
        )
    return chance, next_state, reward, terminated


def _masks(base: Any) -> npt.NDArray[np.bool_] | None:
    """Return the valid actions of each state, (n_states, n_actions), of an environment with them.

    A state in which an episode never goes on may have none.
    """
    mask = getattr(base, "action_mask", None)
    if not callable(mask):
        return None
    return np.array([mask(state) for state in range(len(base.P))], np.bool_)


def _state_dims(base: Any) -> dict[str, int | Sequence[str]] | None:
    """Return the factors of a state, as Gymnasium's documentation describes them."""
    if type(base) is TaxiEnv:
        return {"row": 5, "column": 5, "passenger": (*_CORNERS, "taxi"), "destination": _CORNERS}
    if type(base) is FrozenLakeEnv:
        return {"row": base.nrow, "column": base.ncol}
    if type(base) is CliffWalkingEnv:
        return dict(zip(("row", "column"), base.shape, strict=True))
    return None


def _initial(key: Any, params: tuple[Any, ...]) -> Any:
    cumulated, u, s = params[0], uniform(key, 0), 0
    while s < len(cumulated) - 1 and u >= cumulated[s]:
        s += 1
    return s


def _by_key(state: Any, action: Any, key: Any, params: tuple[Any, ...]) -> tuple[Any, Any, Any]:
    cumulated, next_state, reward, terminated = params[1:5]
    u, k = uniform(key, 0), 0
    while k < cumulated.shape[2] - 1 and u >= cumulated[state, action, k]:
        k += 1
    return next_state[state, action, k], reward[state, action, k], terminated[state, action, k]


def _by_events(
    state: Any, action: Any, happened: Any, params: tuple[Any, ...]
) -> tuple[Any, Any, Any]:
    split, next_state, reward, terminated = params[1:5]
    k = 0
    while k < split.shape[2] - 1 and not happened >> k & 1:
        k += 1
    return next_state[state, action, k], reward[state, action, k], terminated[state, action, k]


def _valid(state: Any, action: Any, params: tuple[Any, ...]) -> Any:
    return params[5][state, action]


def _one(state: Any, action: Any, params: tuple[Any, ...]) -> tuple[Any, ...]:
    return (params[1][state, action, 0],)


def _two(state: Any, action: Any, params: tuple[Any, ...]) -> tuple[Any, ...]:
    return params[1][state, action, 0], params[1][state, action, 1]


def _three(state: Any, action: Any, params: tuple[Any, ...]) -> tuple[Any, ...]:
    split = params[1]
    return split[state, action, 0], split[state, action, 1], split[state, action, 2]


_EVENTS = {1: _one, 2: _two, 3: _three}
