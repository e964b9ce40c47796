"""The rounds that one federated member makes by itself, on a copy of the whole table.

::

    chunks of round r, shards of member k ──► E rounds ──► what k has made of each chunk, its shards

Time goes on for all members alike: epsilon and the learning rate are functions of the transitions
of the whole run. Invariant: a pure function of its arguments; a fault in any of the rounds is
raised, and then nothing was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dqlearn.kernels.ties import empty_sets
from dqlearn.stages.fused.arrays import Arrays
from dqlearn.stages.fused.compiled import make_all
from dqlearn.stages.fused.walks import Walks
from dqlearn.stages.merge import Learned
from dqlearn.stages.plan import Plan
from dqlearn.stages.policy import Policy
from dqlearn.stages.rollout import CompiledShard
from dqlearn.table.chunk import Chunk
from dqlearn.table.transitions import Sized

__all__ = ["Member", "learn_alone"]


@dataclass(frozen=True)
class Member(Sized):
    """A member before a merge.

    Attributes
    ----------
    learned : tuple of Learned
        What it has made of each chunk.
    shards : tuple of CompiledShard
        Its environments.
    """

    learned: tuple[Learned, ...]
    shards: tuple[CompiledShard, ...]


def learn_alone(
    plan: Plan, shards: Sequence[CompiledShard], chunks: Sequence[Chunk], round_: int, n_rounds: int
) -> Member:
    """Make successive rounds of one member.

    Parameters
    ----------
    plan : Plan
        The member's plan, see :meth:`Plan.of_member`.
    shards : sequence of CompiledShard
        Its environments.
    chunks : sequence of Chunk
        The table that was merged last; not written to.
    round_ : int
        The round of the run.
    n_rounds : int
        Number of rounds until the next merge.

    Returns
    -------
    Member

    Raises
    ------
    EnvironmentFault
        If a round meets a fault of the model.
    """
    arrays = Walks(
        plan, (shards, chunks, _beginning(plan, chunks)), round_, n_rounds, (False, False)
    )
    make_all(plan, arrays, n_rounds)
    return Member(_learned(arrays.table, n_rounds), arrays.shards_after(n_rounds))


def _beginning(plan: Plan, chunks: Sequence[Chunk]) -> Policy:
    """Return a policy that says no more than how much the table was learned from."""
    made, nothing = chunks[0].timesteps, np.zeros(0, chunks[0].q.dtype)
    return Policy(nothing, empty_sets(0, plan.n_actions), made, chunks[0].tally, plan.extent())


def _learned(table: Arrays, n_rounds: int) -> tuple[Learned, ...]:
    """Return what the rounds have made of each chunk."""
    tally, td_abs_sum = table.tally_of(n_rounds), table.td_abs_sum[:n_rounds].sum(axis=0).tolist()
    return tuple(
        Learned(chunk.q, chunk.visits, tally, td) if touched else Learned(None, None, tally, td)
        for chunk, touched, td in zip(table.owned, table.changed.tolist(), td_abs_sum, strict=True)
    )
