"""Rollout: each shard takes K steps in its environments, epsilon-greedy on a policy.

::

    (shard, policy of round r) ──► Transitions of the round, shard with its environments K steps on

Order of a batch: block of 64 environments, step, environment. A block's states stay in cache, in the
rollout and again in the update, and its lanes are independent, so that their latencies overlap.
Shards hold successive environments; where they begin at a multiple of 64, their number does not
show in the order either.

Invariant (compiled environments): pure. The same shard and policy give the same transitions, on any
worker and any number of times. Shards of Python environments are *donated* instead: see
:mod:`dqlearn.envs.python`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import RewardError, StateRangeError
from dqlearn.maxima import action_dtype
from dqlearn.policy import Policy
from dqlearn.random import STEPS, exploration_threshold, streams
from dqlearn.transitions import Sized, Tally, Transitions

__all__ = ["BLOCK", "CompiledShard", "check_transition", "open_shard", "rollout", "state_dtype"]

BLOCK = 64


@dataclass(frozen=True)
class CompiledShard(Sized):
    """Successive environments of a :class:`TabularEnv`, as data.

    Attributes
    ----------
    first_env : int
        Index of the first of them.
    state : int (n,)
        Where they are.
    elapsed : int64 (n,)
        Steps since their episodes began.
    returns : float64 (n,)
        Rewards since their episodes began.
    steps : int
        Steps that each of them has made.
    """

    first_env: int
    state: npt.NDArray[Any]
    elapsed: npt.NDArray[np.int64]
    returns: npt.NDArray[np.float64]
    steps: int


def state_dtype(n_states: int) -> type[np.signedinteger[Any]]:
    """Return the integer type that transitions hold states in."""
    return np.int32 if n_states <= np.iinfo(np.int32).max else np.int64


def open_shard(
    env: TabularEnv, first_env: int, n_envs: int, seed: int, steps: int = 0
) -> CompiledShard:
    """Begin `n_envs` successive environments, each in an initial state of its own.

    `steps` is where in their streams of random numbers they begin.

    Raises
    ------
    StateRangeError
        If ``initial`` returns a state outside the model's.
    """
    state = np.empty(n_envs, state_dtype(env.n_states))
    wide = np.empty(n_envs, np.int64)
    env.kernels.begin(streams(np.uint64(seed), STEPS, first_env, n_envs), steps, env.params, wide)
    for e in np.flatnonzero((wide < 0) | (wide >= env.n_states))[:1]:
        raise StateRangeError(
            f"initial() must return a state in 0 .. {env.n_states - 1}, "
            f"got {int(wide[e])} for environment {first_env + int(e)}"
        )
    state[:] = wide
    return CompiledShard(first_env, state, np.zeros(n_envs, np.int64), np.zeros(n_envs), steps)


def rollout(
    env: TabularEnv,
    shard: CompiledShard,
    policy: Policy,
    epsilon: float,
    seed: int,
    n_steps: int,
) -> tuple[Transitions, CompiledShard]:
    """Take `n_steps` steps in each environment of a shard.

    Parameters
    ----------
    env : TabularEnv
        The model.
    shard : CompiledShard
        Where its environments are; not written to.
    policy : Policy
        What they act on.
    epsilon : float
        Probability of a uniformly drawn action instead.
    seed : int
        Seed of the run.
    n_steps : int
        Steps of each environment.

    Returns
    -------
    Transitions
        ``n_envs * n_steps`` of them.
    CompiledShard
        The environments afterwards.

    Raises
    ------
    RewardError
        If a reward is NaN or infinite.
    StateRangeError
        If a state is outside the model's range.
    """
    n = len(shard.state)
    state, elapsed, returns = shard.state.copy(), shard.elapsed.copy(), shard.returns.copy()
    place = state_dtype(env.n_states)
    out = (
        np.empty(n * n_steps, place),
        np.empty(n * n_steps, action_dtype(env.n_actions)),
        np.empty(n * n_steps, policy.value.dtype),
        np.empty(n * n_steps, place),
    )
    episodes = np.array([0.0, 0.0, 0.0, 0.0, np.inf, -np.inf])
    fault = env.kernels.walk(
        streams(np.uint64(seed), STEPS, shard.first_env, n),
        shard.steps,
        n_steps,
        BLOCK,
        env.limits,
        env.params,
        policy.action,
        exploration_threshold(epsilon),
        (state, elapsed, returns),
        out,
        episodes,
    )
    if fault[0] >= 0:
        check_transition(shard.first_env + fault[0], *fault[1:], env.n_states)
    tally = Tally(
        policy.timesteps,
        epsilon,
        n * n_steps,
        int(episodes[0]),
        float(episodes[1]),
        float(episodes[2]),
        int(episodes[3]),
        float(episodes[4]),
        float(episodes[5]),
    )
    after = CompiledShard(shard.first_env, state, elapsed, returns, shard.steps + n_steps)
    return Transitions(*out, tally), after


def check_transition(
    environment: int, state: int, action: int, next_state: int, reward: float, n_states: int
) -> None:
    """Raise the error that names what is wrong with a transition."""
    where = f"environment {environment} in state {state}, action {action}"
    if not np.isfinite(reward):
        raise RewardError(f"a reward must be finite, got {reward} from {where}")
    if not 0 <= next_state < n_states:
        raise StateRangeError(
            f"a state must be in 0 .. {n_states - 1}, got {next_state} after {where}: "
            "check n_states, or the transition"
        )
