"""What `gymnasium.make` puts around an environment, taken off.

::

    TimeLimit(OrderEnforcing(PassiveEnvChecker(env))) ──► env, its time limits

Invariant: what is taken off passes everything on as it is, but for the end of episodes.
"""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

__all__ = ["peeled"]


def peeled(env: gymnasium.Env[Any, Any]) -> tuple[gymnasium.Env[Any, Any], list[int]]:
    """Return what is inside these wrappers, another wrapper perhaps, and the time limits.

    Parameters
    ----------
    env : gymnasium.Env
        As `gymnasium.make` returns it.

    Returns
    -------
    gymnasium.Env
        The first that is none of them.
    list of int
        Steps, of each `TimeLimit` around it.
    """
    limits = []
    while type(env) in (PassiveEnvChecker, OrderEnforcing, TimeLimit):
        if isinstance(env, TimeLimit):
            limits.append(env._max_episode_steps)
        env = env.env  # type: ignore[attr-defined]
    return env, limits
