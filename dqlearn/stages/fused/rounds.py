"""What fused rounds made, whoever made them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dqlearn.envs.python.gymnasium_env import PythonShard
from dqlearn.stages.fused.reports import RoundReports
from dqlearn.stages.policy import Policy
from dqlearn.stages.rollout import CompiledShard
from dqlearn.table.chunk import Chunk
from dqlearn.table.transitions import Transitions

__all__ = ["Rounds"]


@dataclass(frozen=True)
class Rounds:
    """What fused rounds made.

    Attributes
    ----------
    chunks : sequence of Chunk
        The chunks after the last round that was made.
    shards : sequence of CompiledShard or of PythonShard
        The environments after it.
    policy : Policy
        The policy after it, with the numbers that its summaries are made of.
    reports : RoundReports
        Reports of all rounds that were made.
    batches : sequence of Transitions
        The transitions of each shard that wait for others, where the rule looks several steps
        ahead.
    """

    chunks: Sequence[Chunk]
    shards: Sequence[CompiledShard | PythonShard]
    policy: Policy
    reports: RoundReports
    batches: Sequence[Transitions] = ()
