"""Tasks of a round that learns observed transitions, and of the shards that wait meanwhile.

Invariant: as in :mod:`dqlearn.engine.tasks.learning`; a shard takes no step, but is in the next
round afterwards.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from dqlearn.engine.tasks.asking import policy_told
from dqlearn.engine.tasks.begin import Shard
from dqlearn.engine.tasks.learning import joined_task, sorted_by_owner
from dqlearn.envs.python.gymnasium_env import PythonShard
from dqlearn.stages.fused.observed import learn_observed
from dqlearn.stages.fused.rounds import Rounds
from dqlearn.stages.lookup import Asked, Parcel, ask
from dqlearn.stages.plan import Plan
from dqlearn.stages.policy import Part, Policy
from dqlearn.table.chunk import Chunk
from dqlearn.table.transitions import Transitions

__all__ = ["learn_observed_task", "look_task", "route_told_task", "wait_task"]


def wait_task(plan: Plan, shard: Shard, round_: int) -> Shard:
    """Bring a donated shard from a round to the next; it takes no step. Again does nothing."""
    donated = cast("PythonShard", shard)
    if donated.round >= 0:  # one that is closed, or failed, stays so
        donated.round = round_ + plan.policy_lag + 1
    return shard


def learn_observed_task(
    plan: Plan,
    pieces: list[Transitions],
    chunks: list[Chunk],
    parts: list[Part | Policy],
    round_: int,
    chunks_owned: bool,
    policy_owned: bool,
) -> Rounds:
    """Learn a round of transitions where one memory has the table."""
    state = chunks, joined_task(plan, parts)
    return learn_observed(plan, pieces, state, round_, (chunks_owned, policy_owned))


def look_task(plan: Plan, piece: Transitions) -> Parcel:
    """Ask for what the next states of a piece are worth."""
    return Parcel(None, _asked(plan, piece))


def route_told_task(plan: Plan, w: int, piece: Transitions, said: list[object]) -> Parcel:
    """Sort piece w by owner, with targets made of what chunks answered; ask for nothing more."""
    asked = _asked(plan, piece)
    policy = policy_told(plan, w, asked, said)
    routed = sorted_by_owner(plan, replace(piece, next_state=asked.of_next), policy)
    return Parcel(routed, ask(piece.state[:0], piece.next_state[:0], plan.grid))


def _asked(plan: Plan, piece: Transitions) -> Asked:
    """Ask for one state besides, so that there is an answer where all next states are terminal."""
    return ask(piece.state[:1], piece.next_state, plan.grid)
