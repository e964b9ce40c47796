"""The models as arithmetic on arrays, for competitors that step many walkers at once.

::

    step(xp, arrays, state, action, u) -> (next state, reward, terminated)      u uniform on [0, 1)

`xp` is NumPy or ``jax.numpy``; the functions take scalars and arrays alike. One uniform number
decides both whether something happens and which of several: those below the probability are again
uniform. Invariant: the law of a step is that of :mod:`dqlearn.envs.problems.torus` and
:mod:`dqlearn.envs.problems.garnet`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
from problems import EPSILON, Problem

Array = Any  # of NumPy or JAX
_BELOW_1 = 1.0 - 2.0**-20  # of float32: a number below p, times this over p, is below 1


@dataclass(frozen=True, eq=False)
class Rules:
    """One model.

    Attributes
    ----------
    n_states, n_actions : int
        Its size.
    arrays : tuple
        What a step reads.
    step : callable
        As above.
    """

    n_states: int
    n_actions: int
    arrays: tuple[npt.NDArray[Any], ...]
    step: Callable[..., tuple[Array, Array, Array]]


@cache
def rules_of(problem: Problem) -> Rules:
    """Return the rules of the torus or the Garnet."""
    env = problem.env
    if problem.name == "torus":
        side, _, slip, step_reward, goal_reward = env.params
        step = partial(_torus_step, side, slip, (step_reward, goal_reward))
        return Rules(env.n_states, env.n_actions, (), step)
    outcomes = env.params[0]
    arrays = (outcomes["next_state"].ravel(), outcomes["reward"][..., 0].ravel())
    return Rules(env.n_states, env.n_actions, arrays, partial(_garnet_step, *outcomes.shape[1:]))


def explore(xp: Any, greedy: Array, n_actions: int, u: Array) -> Array:
    """Return the greedy actions, or with probability epsilon random ones."""
    random = (u * (n_actions * _BELOW_1 / EPSILON)).astype(greedy.dtype)
    return xp.where(u < EPSILON, random, greedy)


def _torus_step(
    side: int,
    slip: float,
    rewards: tuple[float, float],
    xp: Any,
    arrays: tuple[()],
    state: Array,
    action: Array,
    u: Array,
) -> tuple[Array, Array, Array]:
    """Move along the action or, with probability `slip`, anywhere; `side` is a power of two."""
    columns, bits = side - 1, side.bit_length() - 1
    direction = xp.where(u < slip, (u * (4 * _BELOW_1 / slip)).astype(state.dtype), action)
    step = 2 * (direction & 1) - 1
    vertical = (state + (step << bits)) & (side * side - 1)
    horizontal = (state & ~columns) | ((state + step) & columns)
    after = xp.where(direction < 2, vertical, horizontal)
    terminated = after == 0
    return after, xp.where(terminated, np.float32(rewards[1]), np.float32(rewards[0])), terminated


def _garnet_step(
    n_actions: int,
    branching: int,
    xp: Any,
    arrays: tuple[Array, Array],
    state: Array,
    action: Array,
    u: Array,
) -> tuple[Array, Array, Array]:
    """Draw one of the successors."""
    next_state, reward = arrays
    pair = state * n_actions + action
    after = next_state[pair * branching + (u * branching).astype(state.dtype)]
    return after.astype(state.dtype), reward[pair], xp.zeros_like(pair, dtype=bool)
