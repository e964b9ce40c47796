"""The arrays of fused rounds: as the kernel takes them, and what they say afterwards.

::

    shards, chunks, policy of round r ──► Arrays ── arguments ──► kernel
                                            └──► shards, chunks, policy, reports after n rounds

Invariant: what somebody else holds is copied before it is written to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, reduce
from itertools import pairwise
from operator import add
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from dqlearn.envs.tabular import TabularEnv
from dqlearn.kernels.buffers import copy, empty
from dqlearn.kernels.summary import action_dtype
from dqlearn.kernels.ties import empty_sets
from dqlearn.random import STEPS, exploration_threshold, streams
from dqlearn.schedules import Constant, Schedule, VisitCount
from dqlearn.stages.plan import Plan
from dqlearn.stages.policy import Policy
from dqlearn.stages.rollout import BLOCK, CompiledShard, state_dtype
from dqlearn.stages.route import TILE
from dqlearn.statistics import RoundStats, no_episodes
from dqlearn.table.chunk import Chunk, Stamp
from dqlearn.table.grid import owner_dtype

__all__ = ["Arrays"]

_OFFSETS = np.int32


class Arrays:
    """The arrays of some rounds.

    Parameters
    ----------
    plan : Plan
        The plan of the run.
    state : tuple
        The shards, the chunks and the policy of round `round_`.
    round_, n_rounds : int
        The first round, and the number of rounds.
    in_place : (bool, bool)
        Whether the arrays of the chunks, and those of the policy, may be written to.

    Attributes
    ----------
    begun, faults, fault_reward
        For each shard the last round that it began, and the fault that it met.
    """

    def __init__(
        self,
        plan: Plan,
        state: tuple[Sequence[CompiledShard], Sequence[Chunk], Policy],
        round_: int,
        n_rounds: int,
        in_place: tuple[bool, bool],
    ) -> None:
        self._plan, self._round, self._n = plan, round_, n_rounds
        self._env = cast("TabularEnv", plan.env)
        self._shards, self._chunks, policy = state
        self._made_before = policy.timesteps
        self._owned = [self._own(chunk, in_place[0]) for chunk in self._chunks]
        self._values, self._tied = _summaries(plan, self._chunks, policy, in_place[1])
        self.edges = np.array(plan.first_envs, np.int64)
        self.envs = tuple(
            np.concatenate([getattr(shard, name) for shard in self._shards])
            for name in ("state", "elapsed", "returns")
        )
        self.before = tuple(np.empty_like(array) for array in self.envs)
        n, n_chunks = len(self._shards), plan.grid.n_chunks
        self.begun = np.full(n, -1, np.int64)
        self._episodes = np.tile(no_episodes(), (n_rounds, n, 1))
        self.faults, self.fault_reward = np.full((n, 4), -1, np.int64), np.zeros(n)
        self._td_abs_sum = np.zeros((n_rounds, n_chunks))
        self._changed = np.zeros(n_chunks, np.int64)

    def _own(self, chunk: Chunk, in_place: bool) -> Chunk:
        """Return a chunk whose arrays may be written to."""
        writable = in_place and chunk.stamp is not None and chunk.q.flags.writeable
        if writable:
            return chunk.at(self._round)
        columns = {"q": copy(chunk.q), "visits": copy(chunk.visits)}
        return chunk.with_columns(columns, stamp=Stamp(self._round))

    @cached_property
    def _timesteps(self) -> npt.NDArray[np.int64]:
        """Transitions made before each round."""
        per_round = self._plan.num_envs * self._plan.steps_per_round
        return self._made_before + per_round * np.arange(self._n + 1, dtype=np.int64)

    @cached_property
    def _epsilons(self) -> npt.NDArray[np.float64]:
        return _along(self._plan.epsilon, self._timesteps[:-1])

    @cached_property
    def _rates(self) -> npt.NDArray[np.float64]:
        """The learning rate of each round; NaN where each pair has its own."""
        rate = self._plan.learning_rate
        if isinstance(rate, VisitCount):
            return np.full(self._n, np.nan)
        return _along(rate, self._timesteps[:-1])

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers of shards and of chunks."""
        return len(self._shards), len(self._owned)

    def stamp(self, round_: int) -> None:
        """Say which round the arrays of the chunks are in; -1 while they are written to."""
        for chunk in self._owned:
            cast("Stamp", chunk.stamp).round = round_

    def arguments(self) -> tuple[Any, ...]:
        """Return the arrays as ``kernels/templates/rounds_template.py`` takes them."""
        plan, env = self._plan, self._env
        keys = streams(np.uint64(plan.seed), STEPS, 0, plan.num_envs)
        envs = (keys, *self.envs)
        steps = self._shards[0].steps, plan.steps_per_round, BLOCK, self._tile
        dtype = self._values.dtype
        thresholds = _thresholds(self._epsilons)
        rates = np.nan_to_num(self._rates).astype(dtype)
        told = (
            *(self._episodes, self.faults, self.fault_reward),
            *(self._td_abs_sum, self._changed, self.begun),
        )
        return (
            self.edges,
            envs,
            self.before,
            (env.params, env.limits),
            (self._values, self._tied),
            (*steps, thresholds, self._epsilons, rates),
            self._table(),
            self._batch(),
            told,
        )

    @property
    def _tile(self) -> int:
        """Environments in a tile, as :func:`dqlearn.stages.rollout.walk_and_route` has them."""
        tile = max(1, TILE // (self._plan.steps_per_round * BLOCK)) * BLOCK
        return min(tile, int(np.diff(self.edges).max()))

    def _table(self) -> tuple[Any, ...]:
        plan, grid, rate = self._plan, self._plan.laid_out, self._plan.learning_rate
        by_visits = None
        if isinstance(rate, VisitCount):
            by_visits = rate.omega, rate.offset, rate.scale
        axes = (locator.arrays for locator in grid.locators)
        shape = grid.bases, grid.widths, grid.members, grid.shape[1]
        addresses = np.array(
            [[array.ctypes.data for array in (it.q, it.visits)] for it in self._owned], np.int64
        )
        gamma, tie_key = self._values.dtype.type(plan.gamma), plan.extent().tie_key
        return gamma, by_visits, (*axes, *shape), addresses, grid.row_edges, tie_key

    def _batch(self) -> tuple[Any, ...]:
        plan, dtype, n_shards = self._plan, self._values.dtype, len(self._shards)
        members, n_chunks = plan.grid.members, plan.grid.n_chunks
        size = self._tile * plan.steps_per_round
        state = state_dtype(self._env.n_states)
        walked = tuple(
            empty((n_shards, size), kind)
            for kind in (state, action_dtype(plan.n_actions * members), dtype, state)
        )
        room = tuple(
            empty((n_shards, size if n_chunks > 1 else 0), kind)
            for kind in (owner_dtype(n_chunks), _OFFSETS, dtype)
        )
        tiles = -(-np.diff(self.edges) // self._tile)
        first_tile = np.concatenate([[0], np.cumsum(tiles)]).astype(np.int64)
        n = plan.num_envs * plan.steps_per_round
        starts = np.zeros((int(first_tile[-1]), n_chunks + 1), np.int64)
        return walked, room, (empty(n, _OFFSETS), empty(n, dtype), starts), first_tile

    def shards_after(self, made: int) -> tuple[CompiledShard, ...]:
        """Return the environments after so many rounds."""
        steps = self._shards[0].steps + made * self._plan.steps_per_round
        state, elapsed, returns = self.envs
        return tuple(
            CompiledShard(first, state[first:last], elapsed[first:last], returns[first:last], steps)
            for first, last in pairwise(self.edges.tolist())
        )

    def chunks_after(self, made: int) -> tuple[Chunk, ...]:
        """Return the chunks after so many rounds."""
        tally = self._tally(made - 1)
        return tuple(
            replace(
                chunk,
                tally=tally,
                td_abs_sum=float(self._td_abs_sum[made - 1, c]),
                changed=int(self._timesteps[r]) if r else chunk.changed,
                answers=(),
            )
            for c, (chunk, r) in enumerate(zip(self._owned, self._changed.tolist(), strict=True))
        )

    def _tally(self, r: int) -> RoundStats:
        """Return the counts of the r-th of the rounds."""
        shares = np.diff(self.edges) * self._plan.steps_per_round
        return reduce(
            add,
            (
                RoundStats.of_kernel(
                    self._episodes[r, w].tolist(),
                    timesteps=int(self._timesteps[r]),
                    epsilon=float(self._epsilons[r]),
                    n_transitions=int(shares[w]),
                )
                for w in range(len(shares))
            ),
        )

    def told(self, made: int) -> tuple[Policy, dict[str, npt.NDArray[Any]]]:
        """Return the policy after so many rounds, and their reports as columns."""
        plan, columns = self._plan, self._reports(made)
        timesteps = int(self._timesteps[made])
        worth = plan.algorithm.worth(self._values, plan.epsilon(timesteps), plan.n_actions)
        policy = Policy(
            worth,
            self._tied,
            timesteps,
            self._tally(made - 1),
            plan.extent(),
            float(columns["td_abs_sum"][-1]),
            numbers=self._values,
        )
        return policy, columns

    def _reports(self, made: int) -> dict[str, npt.NDArray[Any]]:
        per_round = self._plan.num_envs * self._plan.steps_per_round
        return {
            "round": self._round + np.arange(made),
            "timesteps": self._timesteps[1 : made + 1],
            "epsilon": self._epsilons[:made],
            "learning_rate": self._rates[:made],
            "n_transitions": np.full(made, per_round),
            "td_abs_sum": _in_order(self._td_abs_sum[:made]),
            "n_restarts": np.zeros(made, np.int64),
            "wall_time": np.full(made, np.nan),
            **RoundStats.pooled(self._episodes[:made]),
        }


def _along(schedule: Schedule, timesteps: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return a schedule's values before each round."""
    if isinstance(schedule, Constant):
        return np.full(len(timesteps), schedule.value)
    return np.array([schedule(t) for t in timesteps.tolist()], np.float64)


def _thresholds(epsilons: npt.NDArray[np.float64]) -> npt.NDArray[np.uint64]:
    """Return the bound of each epsilon; see :func:`dqlearn.random.exploration_threshold`."""
    found, where = np.unique(epsilons, return_inverse=True)
    return np.array([exploration_threshold(float(it)) for it in found], np.uint64)[where]


def _in_order(columns: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Add columns one after another: NumPy adds in pairs, which rounds differently."""
    total = np.zeros(len(columns))
    for column in columns.T:
        total += column
    return total


def _summaries(
    plan: Plan, chunks: Sequence[Chunk], policy: Policy, in_place: bool
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the numbers and the set of every state, in arrays that may be written to."""
    if policy.numbers is not None:
        arrays = policy.numbers, policy.tied
        return arrays if in_place else (copy(arrays[0]), copy(arrays[1]))
    rule, n_states = plan.algorithm, plan.grid.shape[0]
    values = empty((n_states, len(rule.summary)), chunks[0].q.dtype)
    tied = empty_sets(n_states, plan.n_actions)
    for c, chunk in enumerate(chunks):
        own = plan.laid_out.region(c)[0]
        found = rule.find(chunk.q, plan.extent(c))
        tied[own] = rule.tied(found)
        for k, (field, columns) in enumerate(zip(rule.summary, found, strict=True)):
            values[own, k] = field.value_of(columns)
    return values, tied
