"""Learning of rounds whose transitions are there, in one compiled call each.

Invariant: a round is learned as :mod:`dqlearn.engine.tasks.learning` does, with the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.stages.fused.arrays import Arrays
from dqlearn.stages.fused.kernels import rounds_of
from dqlearn.stages.plan import Plan
from dqlearn.table.transitions import Transitions

__all__ = ["RoundLearner"]


class RoundLearner:
    """The kernel that learns a round, and its arguments.

    Parameters
    ----------
    plan : Plan
        The plan of the rounds.
    table : Arrays
        The table, and what is counted.
    sizes : int array (shards,)
        Transitions of each shard that a round learns, at most.
    """

    def __init__(self, plan: Plan, table: Arrays, sizes: npt.NDArray[Any]) -> None:
        self._table = table
        edges = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        size = int(sizes.max())
        batch = table.batch(size, np.ones(len(sizes), np.int64))
        self._columns = batch[0]
        told = table.episodes, None, None, table.td_abs_sum, table.changed
        self._run = (
            *(edges, None, None, None),
            (table.values, table.tied),
            (0, plan.steps_per_round, 1, size, None, table.epsilons, table.alphas),
            table.table(),
            batch,
            told,
        )
        self._learn: Any = rounds_of(plan.algorithm, plan.n_actions).learn_round
        # A call for no shards: what may fail to compile does so before the first step.
        self._learn(0, np.zeros(0, np.int64), self._run)

    def learn(self, r: int, batches: Sequence[Transitions]) -> None:
        """Learn what the shards did in the r-th of the rounds, and count it."""
        table, rows_of = self._table, np.zeros(len(batches), np.int64)
        for w, batch in enumerate(batches):
            rows_of[w] = n = len(batch.state)
            rows = batch.state, batch.action, batch.reward, batch.next_state
            for column, row in zip(self._columns, rows, strict=True):
                column[w, :n] = row
            table.counts[r, w] = batch.tally.n_transitions
            table.restarts[r, w] = batch.tally.n_restarts
            table.episodes[r, w] = batch.tally.of_episodes
            if batch.masks is not None and len(batch.masks.states):
                table.mask(batch.masks)
        table.count(r, r + 1, table.counts[r])
        self._learn(r, rows_of, self._run)
