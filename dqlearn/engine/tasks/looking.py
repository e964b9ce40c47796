"""Tasks that look at a state beside the rounds: what it has learned, and how well it plays.

Invariant: each is a pure function of its arguments; those that read arrays check their round.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np

from dqlearn.envs.play import Played, play
from dqlearn.envs.tabular import TabularEnv
from dqlearn.kernels.summary import action_dtype
from dqlearn.kernels.ties import ties
from dqlearn.stages.evaluation import EpisodePlan, play_python
from dqlearn.stages.plan import Plan
from dqlearn.stages.policy import KnownPolicy, Policy
from dqlearn.table.chunk import Chunk
from dqlearn.table.hash_grid import HashGrid
from dqlearn.table.insert import visited
from dqlearn.table.rebalance import visits_of_blocks
from dqlearn.table.row_index import Known

__all__ = [
    "evaluate_task",
    "known_policy_task",
    "known_task",
    "stamp_task",
    "visited_task",
    "visits_task",
]


def stamp_task(chunk: Chunk) -> int | None:
    """Say which round a chunk's arrays are in; None if nobody writes to them."""
    return chunk.stamp.round if chunk.stamp else None


def visits_task(plan: Plan, chunk: Chunk, round_: int) -> Any:
    """Add up the visits of a chunk by blocks of states."""
    return visits_of_blocks(chunk.at(round_).visits, plan.grid.shape[0])


def visited_task(chunk: Chunk, round_: int) -> Any:
    """List the states that a sparse chunk has learned of."""
    return visited(chunk.at(round_))[0]


def known_task(plan: Plan, chunk: Chunk, round_: int) -> tuple[Any, Any]:
    """Find the greedy actions of the states that a sparse chunk knows; return blocks, actions."""
    known = cast("Known", chunk.at(round_).known)
    rows = np.arange(1 << known.bits, known.n_rows)
    extent = replace(plan.extent(), states=known.states, rows=rows)
    action = plan.algorithm.greedy(plan.algorithm.find(chunk.q, extent), extent)
    return known.blocks[1 : known.n], action


def known_policy_task(plan: Plan, parts: list[tuple[Any, Any]]) -> KnownPolicy:
    """Make the policy of a sparse table."""
    grid = cast("HashGrid", plan.grid)
    known = Known.of(np.concatenate([blocks for blocks, _ in parts]), grid.bits)
    nobody = np.zeros(grid.block, action_dtype(plan.n_actions))
    action = np.concatenate([nobody, *(actions for _, actions in parts)])
    return KnownPolicy(known, action, ties(plan.seed), plan.n_actions)


def evaluate_task(
    plan: Plan, policy: Policy | KnownPolicy, episodes: EpisodePlan, first: int, last: int
) -> Played:
    """Play some episodes of an evaluation."""
    if isinstance(plan.env, TabularEnv):
        streams = episodes.streams(first, last)
        return play(plan.env, streams, policy.lookup, episodes.max_steps, first)
    return play_python(plan.env, policy, episodes, first, last)
