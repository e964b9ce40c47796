"""Tasks of fused rounds: one makes many rounds, the others pick what a state is made of.

Invariant: as for single rounds; donated chunks and policies are those that their state owns alone.
"""

from __future__ import annotations

from typing import cast

from dqlearn.engine.tasks.begin import Shard
from dqlearn.engine.tasks.learning import joined_task
from dqlearn.stages.fused.compiled import make_rounds
from dqlearn.stages.fused.reports import RoundReports
from dqlearn.stages.fused.rounds import Rounds
from dqlearn.stages.fused.stepped import make_stepped_rounds
from dqlearn.stages.plan import Plan
from dqlearn.stages.policy import Part, Policy
from dqlearn.stages.rollout import CompiledShard
from dqlearn.table.chunk import Chunk
from dqlearn.table.transitions import Transitions

__all__ = [
    "made_batch_task",
    "made_chunk_task",
    "made_policy_task",
    "made_shard_task",
    "reports_task",
    "rounds_task",
]


def rounds_task(
    plan: Plan,
    shards: list[Shard],
    chunks: list[Chunk],
    parts: list[Part | Policy],
    batches: list[Transitions],
    first: int,
    n_rounds: int,
    threads: int,
    chunks_owned: bool,
    policy_owned: bool,
) -> Rounds:
    """Make rounds `first` .. `first + n_rounds - 1`; fewer, if one meets a fault."""
    policy = joined_task(plan, parts)
    if plan.donated or plan.waits:
        stepped = shards, chunks, policy, batches
        return make_stepped_rounds(plan, stepped, first, n_rounds, threads)
    state = cast("list[CompiledShard]", shards), chunks, policy
    return make_rounds(plan, state, first, n_rounds, threads, (chunks_owned, policy_owned))


def made_chunk_task(rounds: Rounds, c: int) -> Chunk:
    """Return chunk c as it is after the rounds."""
    return rounds.chunks[c]


def made_shard_task(rounds: Rounds, w: int) -> Shard:
    """Return shard w as it is after the rounds."""
    return rounds.shards[w]


def made_batch_task(rounds: Rounds, w: int) -> Transitions:
    """Return what waits of the transitions of shard w after the rounds."""
    return rounds.batches[w]


def made_policy_task(rounds: Rounds) -> Policy:
    """Return the policy after the rounds."""
    return rounds.policy


def reports_task(rounds: Rounds) -> RoundReports:
    """Return the reports of the rounds."""
    return rounds.reports
