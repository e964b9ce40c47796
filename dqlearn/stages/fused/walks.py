"""The arrays of fused rounds of compiled environments: as the kernel takes them, and afterwards.

::

    shards, chunks, policy of round r ──► Walks ── arguments ──► kernel
                                            └──► shards after n rounds; the rest: `Walks.table`

Invariant: the environments of the round before can be had again, whatever the kernel did.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from dqlearn.envs.tabular import TabularEnv
from dqlearn.random import STEPS, exploration_threshold, streams
from dqlearn.stages.fused.arrays import Arrays
from dqlearn.stages.plan import Plan
from dqlearn.stages.policy import Policy
from dqlearn.stages.rollout import BLOCK, CompiledShard
from dqlearn.stages.route import TILE
from dqlearn.table.chunk import Chunk

__all__ = ["Walks"]


class Walks:
    """The arrays of some rounds of compiled environments.

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
    table : Arrays
        The table, and what is counted.
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
        self._plan, (self._shards, chunks, policy) = plan, state
        self.table = Arrays(plan, chunks, policy, round_, n_rounds, in_place)
        self.edges = np.array(plan.first_envs, np.int64)
        self.table.count(0, n_rounds, np.diff(self.edges) * plan.steps_per_round)
        self.table.schedule(0, n_rounds)
        self.envs = tuple(
            np.concatenate([getattr(shard, name) for shard in self._shards])
            for name in ("state", "elapsed", "returns")
        )
        self.before = tuple(np.empty_like(array) for array in self.envs)
        n = plan.shards
        self.begun = np.full(n, -1, np.int64)
        self.faults, self.fault_reward = np.full((n, 4), -1, np.int64), np.zeros(n)

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers of shards and of chunks."""
        return self._plan.shards, self._plan.grid.n_chunks

    def arguments(self) -> tuple[Any, ...]:
        """Return the arrays as ``kernels/templates/rounds_template.py`` takes them."""
        plan, table, env = self._plan, self.table, cast("TabularEnv", self._plan.env)
        keys = streams(np.uint64(plan.seed), STEPS, plan.first_env, plan.num_envs)
        by_env = plan.algorithm.by_env
        steps = self._shards[0].steps, plan.steps_per_round, BLOCK, self._tile
        return (
            self.edges,
            (keys, *self.envs),
            self.before,
            (env.params, env.limits),
            (table.values, table.tied),
            (*steps, _thresholds(table.epsilons), table.epsilons, table.alphas, by_env),
            table.table(),
            table.batch(self._tile * plan.steps_per_round, -(-np.diff(self.edges) // self._tile)),
            (
                *(table.episodes, self.faults, self.fault_reward),
                *(table.td_abs_sum, table.changed, self.begun),
            ),
        )

    @property
    def _tile(self) -> int:
        """Environments in a tile, as :func:`dqlearn.stages.rollout.walk_and_route` has them."""
        tile = max(1, TILE // (self._plan.steps_per_round * BLOCK)) * BLOCK
        return min(tile, int(np.diff(self.edges).max()))

    def shards_after(self, made: int) -> tuple[CompiledShard, ...]:
        """Return the environments after so many rounds."""
        steps = self._shards[0].steps + made * self._plan.steps_per_round
        state, elapsed, returns = self.envs
        return tuple(
            CompiledShard(number, state[own], elapsed[own], returns[own], steps)
            for own, number in (
                (slice(first, last), self._plan.first_env + first)
                for first, last in pairwise(self.edges.tolist())
            )
        )


def _thresholds(epsilons: npt.NDArray[np.float64]) -> npt.NDArray[np.uint64]:
    """Return the bound of each epsilon; see :func:`dqlearn.random.exploration_threshold`."""
    found, where = np.unique(epsilons, return_inverse=True)
    return np.array([exploration_threshold(float(it)) for it in found], np.uint64)[where]
