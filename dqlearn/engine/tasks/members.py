"""Tasks of federated members: each learns a whole table by itself; then chunks are merged.

::

    chunks, own shards ─► member k ─► parts (m, k) ─► merge c

Invariant: each is a pure function of its arguments.
"""

from __future__ import annotations

from typing import cast

from dqlearn.algorithms.federated import Federated
from dqlearn.engine.tasks.begin import Shard
from dqlearn.stages.fused.member import Member, learn_alone
from dqlearn.stages.merge import Learned, merge
from dqlearn.stages.plan import Plan
from dqlearn.stages.rollout import CompiledShard
from dqlearn.table.chunk import Chunk

__all__ = ["member_shard_task", "member_task", "merge_task", "parts_task"]


def member_task(
    plan: Plan, k: int, shards: list[Shard], chunks: list[Chunk], round_: int
) -> Member:
    """Make the rounds of member k until the next merge."""
    own = cast("list[CompiledShard]", shards)
    return learn_alone(plan.of_member(k), own, chunks, round_, plan.local_rounds)


def member_shard_task(member: Member, i: int) -> CompiledShard:
    """Return the i-th shard of a member as it is after its rounds."""
    return member.shards[i]


def parts_task(plan: Plan, member: Member, m: int, memories: int, k: int) -> dict[int, Learned]:
    """Pick what member k has made of the chunks of memory m."""
    return {c: member.learned[c] for c in range(m, plan.grid.n_chunks, memories)}


def merge_task(plan: Plan, c: int, chunk: Chunk, sent: list[Member | dict[int, Learned]]) -> Chunk:
    """Merge what all members have made of chunk c."""
    learned = [it.learned[c] if isinstance(it, Member) else it[c] for it in sent]
    return merge(chunk, learned, cast("Federated", plan.federated), plan.learning_rate)
