"""Taking off the wrappers that `gymnasium.make` puts around an environment.

::

    TimeLimit(OrderEnforcing(PassiveEnvChecker(env))) ──► env, its time limits

Invariant: the wrappers taken off change nothing but the end of episodes.
"""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

__all__ = ["peeled"]


def peeled(env: gymnasium.Env[Any, Any]) -> tuple[gymnasium.Env[Any, Any], list[int]]:
    """Return the environment inside these wrappers, and their time limits.

    Parameters
    ----------
    env : gymnasium.Env
        An environment as `gymnasium.make` returns it.

    Returns
    -------
    gymnasium.Env
        The environment inside; it may be a wrapper of another kind.
    list of int
        The number of steps of each `TimeLimit` that was taken off.
    """
    limits = []
    while type(env) in (PassiveEnvChecker, OrderEnforcing, TimeLimit):
        if isinstance(env, TimeLimit):
            limits.append(env._max_episode_steps)
        env = env.env  # type: ignore[attr-defined]
    return env, limits
