"""Baseline: evaluating a policy that is not in a table.

::

    policy(states, t) ──► dqlearn.envs.play ──► EvaluationResult

Invariant: with the same seed, episodes here draw the same random numbers as the episodes of
`QLearner.evaluate`, so that two policies are compared under the same arrivals, failures and
attacks.
"""

from __future__ import annotations

from typing import Any

import gymnasium

from dqlearn.envs.play import Rule, play
from dqlearn.envs.registry import compiled_model
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import ConfigurationError
from dqlearn.stages.evaluation import EpisodePlan, EvaluationResult

__all__ = ["evaluate_policy"]


def evaluate_policy(
    env: TabularEnv | gymnasium.Env[Any, Any],
    policy: Rule,
    n_episodes: int = 100,
    seed: int = 0,
    max_steps: int = 100_000,
) -> EvaluationResult:
    """Play whole episodes of a compiled model by any policy.

    Parameters
    ----------
    env : TabularEnv or gymnasium.Env
        A model, or an environment that is nothing but one.
    policy : callable
        ``policy(states, t) -> actions``: `states`, int64 ``(n,)``, are the states of the episodes
        still running, t is the number of steps since they began, and `actions` has one action for
        each. For an array of actions, pass ``lambda s, t: actions[s]``.
    n_episodes : int
        Number of episodes; every episode that is begun is counted.
    seed : int
        Equal seeds draw equal numbers, here and in :meth:`dqlearn.QLearner.evaluate`.
    max_steps : int
        Cut an episode off after so many steps.

    Returns
    -------
    EvaluationResult
        Undiscounted returns and lengths; mean, standard error, quantiles.

    Raises
    ------
    ConfigurationError
        If `env` is no compiled model.
    SpaceError
        If the policy's actions are not one for each state, in range.
    EnvironmentFault
        If the model leaves its states, or a reward is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from dqlearn import evaluate_policy
    >>> from dqlearn.envs import torus
    >>> def left(states, t):
    ...     return np.full(len(states), 2)
    >>> evaluate_policy(torus(side=4, slip=0.0), left, max_steps=9).n_episodes
    100
    """
    model = compiled_model(env) if isinstance(env, gymnasium.Env) else env
    if not isinstance(model, TabularEnv):
        raise ConfigurationError(
            f"expected a TabularEnv, or an environment that is nothing but one, got {env!r}"
        )
    if not callable(policy):
        raise ConfigurationError(
            f"expected a function policy(states, t) -> actions, got {policy!r}; of an array of one "
            "action a state make lambda states, t: array[states]"
        )
    streams = EpisodePlan(n_episodes, seed, max_steps).streams(0, n_episodes)
    return EvaluationResult.of([play(model, streams, policy, max_steps)])
