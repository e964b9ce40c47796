"""Rollout: each shard takes K steps in its environments, epsilon-greedy on a policy.

::

    (shard, policy of round r) ──► Transitions of the round, shard with its environments K steps on

A batch is ordered by block of 64 environments, then step, then environment. A block's states stay
in cache, in the rollout and again in the update, and its lanes are independent, so that their
latencies overlap. Shards hold successive environments; where every shard begins at a multiple of
64, the order does not depend on the number of shards.

Invariant (compiled environments): a rollout is pure. The same shard and policy give the same
transitions, on any worker and any number of times. Shards of Python environments are *donated*
instead: see :mod:`dqlearn.envs.python.gymnasium_env`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.envs.model_faults import check_initial, check_transition
from dqlearn.envs.tabular import TabularEnv
from dqlearn.kernels.buffers import empty
from dqlearn.kernels.members import columns_of_walk
from dqlearn.kernels.summary import action_dtype
from dqlearn.random import STEPS, exploration_threshold, streams
from dqlearn.stages.policy import Policy
from dqlearn.stages.route import TILE, Router
from dqlearn.statistics import RoundStats, no_episodes
from dqlearn.table.grid import ChunkGrid
from dqlearn.table.transitions import Routed, Sized, Transitions

__all__ = [
    "BLOCK",
    "CompiledShard",
    "Walk",
    "open_shard",
    "rollout",
    "state_dtype",
    "walk_and_route",
]

Columns = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]

BLOCK = 64


@dataclass(frozen=True)
class CompiledShard(Sized):
    """Successive environments of a :class:`TabularEnv`, as data.

    Attributes
    ----------
    first_env : int
        Index of the first of these environments in the run.
    state : int (n,)
        Present state of each environment.
    elapsed : int64 (n,)
        Steps of each environment since its episode began.
    returns : float64 (n,)
        Sum of the rewards of each environment since its episode began.
    steps : int
        Steps that each environment has made in the run.
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

    `steps` is the position in their streams of random numbers at which they begin.

    Raises
    ------
    StateRangeError
        If ``initial`` returns a state outside the model's.
    """
    state = np.empty(n_envs, state_dtype(env.n_states))
    wide = np.empty(n_envs, np.int64)
    env.kernels.begin(streams(np.uint64(seed), STEPS, first_env, n_envs), steps, env.params, wide)
    for e in np.flatnonzero((wide < 0) | (wide >= env.n_states))[:1]:
        check_initial(int(wide[e]), env.n_states, f"environment {first_env + int(e)}")
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
        The environments before the rollout; not written to.
    policy : Policy
        The policy that they act on.
    epsilon : float
        Probability of a uniformly drawn action in place of the greedy one.
    seed : int
        Seed of the run.
    n_steps : int
        Steps that each environment takes.

    Returns
    -------
    Transitions
        The ``n_envs * n_steps`` transitions made.
    CompiledShard
        The environments after the rollout.

    Raises
    ------
    EnvironmentFault
        If a state is outside the model's range, a reward is not finite, or a probability of events
        is outside 0 .. 1.
    """
    walk = Walk(env, shard, policy, epsilon, seed, n_steps)
    out = walk.room(walk.n_envs)
    walk.take(env.kernels.walk, out)
    walk.choose_members(out[1])
    return Transitions(*out, walk.tally()), walk.after()


class Walk:
    """A rollout whose steps are taken by a kernel of the caller's choice.

    The parameters are those of :func:`rollout`.
    """

    def __init__(
        self,
        env: TabularEnv,
        shard: CompiledShard,
        policy: Policy,
        epsilon: float,
        seed: int,
        n_steps: int,
    ) -> None:
        self.env, self.policy, self.epsilon, self.n_steps = env, policy, epsilon, n_steps
        self._members = policy.members
        self._shard, self.n_envs = shard, len(shard.state)
        self._streams = streams(np.uint64(seed), STEPS, shard.first_env, self.n_envs)
        self._moving = (shard.state.copy(), shard.elapsed.copy(), shard.returns.copy())
        self._rows = policy.rows_of(self._moving[0])
        self._episodes = no_episodes()

    def room(self, n_envs: int) -> Columns:
        """Make arrays (s, a, r, s') for the transitions of `n_envs` environments."""
        n, members = n_envs * self.n_steps, self._members
        return (
            empty(n, state_dtype(self.env.n_states)),
            empty(n, action_dtype(self.env.n_actions * members)),
            empty(n, self.policy.value.dtype),
            empty(n, state_dtype(self.env.n_states * members)),
        )

    def take(self, kernel: Callable[..., Any], *args: Any) -> None:
        """Take all steps by a kernel of the model; `args` tells it where to write them."""
        fault = kernel(
            self._streams,
            self._shard.steps,
            self.n_steps,
            BLOCK,
            self.env.limits,
            self.env.params,
            self.policy.tied,
            self._rows,
            exploration_threshold(self.epsilon),
            self._moving,
            self._episodes,
            *args,
        )
        if fault[0] >= 0:
            check_transition(
                self.env, f"environment {self._shard.first_env + fault[0]}", *fault[1:]
            )

    def choose_members(self, action: npt.NDArray[Any]) -> None:
        """Draw the member that learns from each transition, and turn actions into columns."""
        if self._members > 1:
            steps = self._shard.steps, self.n_steps, BLOCK
            columns_of_walk(self._streams, *steps, *self.members, self.env.n_actions, action)

    @property
    def members(self) -> tuple[int, int]:
        """The number of the first environment if they have members of their own, or -1; members."""
        return self._shard.first_env if self.policy.by_env else -1, self._members

    def tally(self) -> RoundStats:
        """Return the counts of the steps that were taken."""
        return RoundStats.of_kernel(
            self._episodes.tolist(),
            timesteps=self.policy.timesteps,
            epsilon=self.epsilon,
            n_transitions=self.n_envs * self.n_steps,
        )

    def after(self) -> CompiledShard:
        """Return the environments after all steps were taken."""
        return CompiledShard(self._shard.first_env, *self._moving, self._shard.steps + self.n_steps)


def walk_and_route(walk: Walk, gamma: float, grid: ChunkGrid) -> Routed:
    """Take all steps of a walk, and route its transitions.

    One kernel does both, tile by tile, so that transitions do not leave the cache in between, and
    threads do not wait for the interpreter. Every chunk receives what it would receive from
    :func:`rollout` followed by :func:`~dqlearn.stages.route.route`.

    Parameters
    ----------
    walk : Walk
        A rollout that has taken no step yet.
    gamma : float
        Discount factor.
    grid : ChunkGrid
        The chunks, which own the pairs.

    Returns
    -------
    Routed
        Offsets and targets, sorted by chunk within each tile.
    """
    tile = min(max(1, TILE // (walk.n_steps * BLOCK)) * BLOCK, walk.n_envs)
    n, m = (envs * walk.n_steps for envs in (walk.n_envs, tile))
    router = Router(n, m, walk.policy.value, gamma, grid)
    first_env, _ = walk.members
    kernel = walk.env.kernels.walk_and_route
    walk.take(kernel, first_env, tile, walk.room(tile), *router.arguments)
    return router.routed(walk.tally())
