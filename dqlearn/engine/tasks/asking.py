"""Tasks of a round on the gather path, where shards and chunks talk to each other.

Invariant: as in :mod:`dqlearn.engine.tasks.learning`; what is asked and answered grows with the
batch, and not with the table.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from operator import or_
from typing import Any

from dqlearn.engine.tasks.begin import Shard
from dqlearn.engine.tasks.learning import learned, report_of, rolled_out, sorted_by_owner
from dqlearn.envs.python.gymnasium_env import PythonShard
from dqlearn.events import RoundReport
from dqlearn.stages.lookup import Asked, Parcel, ParcelPiece, answer, ask, told
from dqlearn.stages.plan import Plan
from dqlearn.stages.policy import Policy
from dqlearn.statistics import RoundStats
from dqlearn.table import paged
from dqlearn.table.chunk import Answer, Chunk
from dqlearn.table.transitions import Transitions

__all__ = [
    "answer_task",
    "ask_task",
    "learn_task",
    "note_task",
    "notes_task",
    "parcels_task",
    "policy_told",
    "told_task",
    "turn_task",
]


def ask_task(plan: Plan, shard: Shard, round_: int, *batch: Transitions) -> Parcel:
    """Ask for what a shard must know about a round, with nothing to learn."""
    return Parcel(None, _ask(plan, shard, round_, *batch))


def turn_task(
    plan: Plan, w: int, shard: Shard, said: list[Any], round_: int, *batch: Transitions
) -> tuple[Transitions, Shard, Parcel]:
    """Act on what chunks answered: route the batch, take the next step, ask again.

    The first time there is no batch: the step is that of the round itself, not of the next.
    """
    asked = _ask(plan, shard, round_, *batch)
    policy = policy_told(plan, w, asked, said)
    routed = [sorted_by_owner(plan, replace(b, next_state=asked.of_next), policy) for b in batch]
    policy = replace(policy, rows=asked.of_env)
    after, shard = rolled_out(plan, shard, policy, round_ + len(batch))
    again = _ask(plan, shard, round_ + len(batch), after)
    return after, shard, Parcel(routed[0] if routed else None, again)


def policy_told(plan: Plan, w: int, asked: Asked, said: list[Any]) -> Policy:
    """Return the policy of the states that were asked for, from what all chunks answered."""
    answers, extent = _answers(said, w), plan.extent()
    best = told(asked, answers, plan.grid, plan.algorithm, extent)
    decided = plan.decide(best.found, best.timesteps)
    told_of = replace(extent, states=asked.state)
    return Policy(
        *decided,
        best.timesteps,
        RoundStats(best.timesteps, 0.0),
        told_of,
        by_env=plan.algorithm.by_env,
    )


def _ask(plan: Plan, shard: Shard, round_: int, batch: Transitions | None = None) -> Asked:
    """Ask for what must be known of a round; with its batch, the shard is one round ahead."""
    if isinstance(shard, PythonShard):
        shard.check_round(round_ + (batch is not None))
    next_state = shard.state[:0] if batch is None else batch.next_state
    return ask(shard.state, next_state, plan.grid)


def parcels_task(
    plan: Plan, made: Parcel | tuple[Transitions, Shard, Parcel], m: int, memories: int, w: int
) -> dict[int, ParcelPiece]:
    """Cut out what each chunk of memory m receives from shard w; what stays there is not copied."""
    parcel: Parcel = made[-1] if isinstance(made, tuple) else made
    piece = parcel.own if m == w % memories else parcel.piece
    return {c: piece(c, plan.grid.position(c)[0]) for c in range(m, plan.grid.n_chunks, memories)}


def _parcel(plan: Plan, sent: Any, c: int) -> ParcelPiece:
    if isinstance(sent, dict):
        piece: ParcelPiece = sent[c]
        return piece
    parcel: Parcel = sent[-1] if isinstance(sent, tuple) else sent
    return parcel.own(c, plan.grid.position(c)[0])


def told_task(chunks: list[Chunk], m: int, memories: int, w: int) -> dict[int, Answer]:
    """Cut out what the chunks of memory m answer to shard w."""
    return {m + memories * i: chunk.answers[w] for i, chunk in enumerate(chunks)}


def _answers(said: list[Any], w: int) -> list[Answer]:
    """Return what all chunks answer to shard w, in their order."""
    if isinstance(said[0], Chunk):
        return [chunk.answers[w] for chunk in said]
    told: dict[int, Answer] = reduce(or_, said)
    return [told[c] for c in range(len(told))]


def answer_task(plan: Plan, c: int, chunk: Chunk, sent: list[Any], round_: int) -> Chunk:
    """Answer all shards, on the chunk of a round."""
    extent = plan.extent(c)
    answers = [
        answer(chunk, _parcel(plan, parcel, c).states, plan.algorithm, extent) for parcel in sent
    ]
    paged.let_go(*chunk.columns.values())
    return replace(chunk, answers=tuple(answers))


def learn_task(
    plan: Plan, c: int, chunk: Chunk, sent: list[Any], round_: int, in_place: bool
) -> Chunk:
    """Make a round's chunk c from what it received, and answer the shards from it."""
    pieces = [piece for parcel in sent if (piece := _parcel(plan, parcel, c).piece) is not None]
    return answer_task(plan, c, learned(plan, c, chunk, pieces, round_, in_place), sent, round_)


def note_task(chunk: Chunk) -> tuple[RoundStats, float]:
    """Say what the round of a chunk counted."""
    return chunk.tally, chunk.td_abs_sum


def notes_task(plan: Plan, notes: list[tuple[RoundStats, float]], round_: int) -> RoundReport:
    """Report what a round did, as :func:`report_task` does, from the notes of all chunks."""
    return report_of(plan, notes[0][0], sum(td_abs_sum for _, td_abs_sum in notes), round_)
