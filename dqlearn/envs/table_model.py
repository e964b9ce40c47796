"""A Gymnasium environment that carries its own transition table, compiled.

``env.unwrapped.P[s][a]`` is a list of (probability, next state, reward, terminated), as Gymnasium's
toy-text environments have it (FrozenLake, CliffWalking, Taxi)::

    P, initial_state_distrib ──► cumulated probabilities, outcomes ──► TabularEnv (key form)

Invariant: the same chances, rewards, ends and time limit as the environment; other random numbers.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from dqlearn.envs.action_names import documented_names
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import ConfigurationError
from dqlearn.random import uniform

__all__ = ["from_table"]


def from_table(env: str | gymnasium.Env[Any, Any]) -> TabularEnv:
    """Compile an environment that has a table ``P``: thousands of times faster than stepping it.

    Parameters
    ----------
    env : str or gymnasium.Env
        A Gymnasium id, or an environment; with ``P`` and ``initial_state_distrib``, under no
        wrapper that changes what it does.

    Returns
    -------
    TabularEnv
        The same decision process, with the time limit of the environment's specification.

    Raises
    ------
    ConfigurationError
        If there is no such id, or the environment has no such table.

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
    base = getattr(env, "unwrapped", env)
    table, start = getattr(base, "P", None), getattr(base, "initial_state_distrib", None)
    if table is None or start is None:
        raise ConfigurationError(
            "expected a Gymnasium id, or an environment, with P and initial_state_distrib, got "
            f"{env!r}: step it as it is, or write a TabularEnv"
        )
    n_states, n_actions = len(table), len(table[0])
    most = max(len(outcomes) for row in table.values() for outcomes in row.values())
    shape = (n_states, n_actions, most)
    chance, reward = np.zeros(shape), np.zeros(shape)
    next_state, terminated = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
    for s, row in table.items():
        for a, outcomes in row.items():
            for k, (p, after, r, ends) in enumerate(outcomes):
                chance[s, a, k], next_state[s, a, k] = p, after
                reward[s, a, k], terminated[s, a, k] = r, ends
    return TabularEnv(
        n_states,
        n_actions,
        _initial,
        _transition,
        params=(np.cumsum(start), np.cumsum(chance, axis=2), next_state, reward, terminated),
        max_episode_steps=env.spec.max_episode_steps if env.spec else None,
        action_labels=documented_names(env),
    )


def _initial(key: Any, params: tuple[Any, ...]) -> Any:
    cumulated, u, s = params[0], uniform(key, 0), 0
    while s < len(cumulated) - 1 and u >= cumulated[s]:
        s += 1
    return s


def _transition(state: Any, action: Any, key: Any, params: tuple[Any, ...]) -> tuple[Any, Any, Any]:
    _, cumulated, next_state, reward, terminated = params
    u, k = uniform(key, 0), 0
    while k < cumulated.shape[2] - 1 and u >= cumulated[state, action, k]:
        k += 1
    return next_state[state, action, k], reward[state, action, k], terminated[state, action, k]
