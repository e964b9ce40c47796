"""Baseline: evaluating a policy that is not in a table.

::

    policy(states, t) ──► actions ──► all episodes step together ──► EvaluationResult

Invariant: the episodes of a seed draw the numbers that those of `QLearner.evaluate` draw, so that
two policies are compared under the same arrivals, failures and attacks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from dqlearn.envs.faces.gym_view import view_kernels
from dqlearn.envs.model_faults import check_initial, check_transition
from dqlearn.envs.registry import compiled_model
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import ConfigurationError, SpaceError
from dqlearn.stages.evaluation import EpisodePlan, EvaluationResult

__all__ = ["evaluate_policy"]

Policy = Callable[[npt.NDArray[np.int64], int], npt.ArrayLike]


def evaluate_policy(
    env: TabularEnv | gymnasium.Env[Any, Any],
    policy: Policy,
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
        ``policy(states, t) -> actions``: states int64 ``(n,)``, of the episodes that go on; t, the
        steps since they began; one action each. A table of actions is ``lambda s, t: actions[s]``.
    n_episodes : int
        How many; all that are begun are counted.
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
    return _play(model, policy, streams, min(max_steps, model.limits[2]))


def _play(
    model: TabularEnv, policy: Policy, streams: npt.NDArray[np.uint64], limit: int
) -> EvaluationResult:
    kernels, n = view_kernels(model), len(streams)
    state, reward, terminated = np.empty(n, np.int64), np.empty(n), np.empty(n, np.bool_)
    kernels.begin_many(streams, model.params, state)
    for first in state:
        check_initial(int(first), model.n_states)
    returns, lengths, going = np.zeros(n), np.zeros(n, np.int64), np.ones(n, np.bool_)
    action, t = np.zeros(n, np.int64), 0
    while going.any() and t < limit:
        action[going] = _checked(policy(state[going], t), int(going.sum()), model.n_actions)
        before = state.copy()
        kernels.step_many(
            streams, np.full(n, t), going, model.params, action, state, reward, terminated
        )
        _check(model, before, action, state, reward)
        returns += reward
        lengths += going
        going &= ~terminated
        t += 1
    cut = int(going.sum()) if limit < model.limits[2] else 0
    return EvaluationResult(returns, lengths, cut)


def _checked(actions: npt.ArrayLike, n: int, n_actions: int) -> npt.NDArray[np.int64]:
    given = np.asarray(actions)
    whole = given.shape == (n,) and given.dtype.kind in "iu"
    if not whole or ((given < 0) | (given >= n_actions)).any():
        raise SpaceError(
            f"a policy must return {n} integers in 0 .. {n_actions - 1}, got {given!r}"
        )
    return given.astype(np.int64)


def _check(
    model: TabularEnv,
    before: npt.NDArray[np.int64],
    action: npt.NDArray[np.int64],
    after: npt.NDArray[np.int64],
    reward: npt.NDArray[np.float64],
) -> None:
    """Raise the error that names what the model did wrong."""
    wrong = (after < 0) | (after >= model.n_states) | ~np.isfinite(reward)
    for i in np.flatnonzero(wrong)[:1]:
        values = int(before[i]), int(action[i]), int(after[i]), float(reward[i])
        check_transition(model, f"episode {i} of an evaluation", *values)
