"""The graph of a round that learns observed transitions; no environment takes a step.

Broadcast, as in :mod:`dqlearn.engine.round`, with the pieces of a batch in place of shards::

    piece w, policy r ─► route w ─► parcels (m, w) ─► update c ─► best m: policy r+1
    shard w           ─► wait w                       batch w of lag 1 stays as it is

Gather: the chunks are asked twice, once for the pieces, and again for the shards::

    piece w ─► look w ─► answer c ─► route w ─► learn c of r+1 ─► answer c to the shards

Fused, one task learns the batch. Invariant: as for rounds. Keys are used once only, as another
batch may take the place of one that was given up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dqlearn.engine.graph import Draw, Drawn, Key, State, beside
from dqlearn.engine.tasks import asking, fusing, learning, observing
from dqlearn.stages.plan import Plan

__all__ = ["fused_observed_graph", "observed_graph"]


def observed_graph(
    plan: Plan, state: State, pieces: Sequence[Key], memories: int, in_place: bool
) -> Drawn:
    """Draw the round that learns a batch in place of steps.

    Parameters
    ----------
    plan : Plan
        The run's plan.
    state : State
        The state of round r.
    pieces : sequence of Key
        The keys of the batch's pieces.
    memories : int
        Number of memories that tasks run in.
    in_place : bool
        Whether the state's chunks are donated: nobody else holds them.

    Returns
    -------
    Drawn
        The graph that makes the state of round r + 1.
    """
    draw = Draw(state.plan, beside(state.round), donated=plan.donated, memories=memories)
    waiting = _waiting(plan, draw, state)
    if plan.exchange == "gather":
        return _gather_graph(plan, draw, state, waiting, pieces, in_place)
    policy = list(state.policy)
    routed = [
        draw.task("route", learning.route_task, draw.plan, piece, policy, w, at=(w,))
        for w, piece in enumerate(pieces)
    ]
    best, chunks, report = draw.learned(state, routed, in_place)
    return draw.to(replace(waiting, policy=best, chunks=chunks), report)


def _waiting(plan: Plan, draw: Draw, state: State) -> State:
    """Return the state of the next round as far as its shards make it."""
    shards = state.shards
    if plan.donated:
        shards = tuple(
            draw.shard_task("wait", observing.wait_task, draw.plan, shard, state.round, w=w)
            for w, shard in enumerate(state.shards)
        )
    return replace(state, round=state.round + 1, shards=shards)


def _gather_graph(
    plan: Plan, draw: Draw, state: State, waiting: State, pieces: Sequence[Key], in_place: bool
) -> Drawn:
    looks = [
        draw.task("look", observing.look_task, draw.plan, piece, at=(w,))
        for w, piece in enumerate(pieces)
    ]
    seen = draw.answered("see", asking.answer_task, state, looks)
    parcels = [
        draw.task(
            "route",
            observing.route_told_task,
            draw.plan,
            w,
            piece,
            draw.said(seen.chunks, w),
            at=(w,),
        )
        for w, piece in enumerate(pieces)
    ]
    after = replace(waiting, chunks=seen.chunks)
    after = draw.answered("learn", asking.learn_task, after, parcels, in_place)
    notes = [
        draw.task("note", asking.note_task, key, at=(c,)) for c, key in enumerate(after.chunks)
    ]
    report = draw.task("report", asking.notes_task, draw.plan, notes, state.round)
    return draw.to(draw.asked(after), report)


def fused_observed_graph(
    plan: Plan, state: State, pieces: Sequence[Key], in_place: tuple[bool, bool]
) -> Drawn:
    """Draw the round that learns a batch as one task, where one memory holds the table.

    Parameters
    ----------
    plan : Plan
        The run's plan.
    state : State
        The state of round r.
    pieces : sequence of Key
        The keys of the batch's pieces.
    in_place : (bool, bool)
        Whether the state's chunks, and its policy, are donated: nobody else holds them.

    Returns
    -------
    Drawn
        The graph that makes the state of round r + 1.
    """
    draw = Draw(state.plan, beside(state.round), donated=plan.donated)
    parts = list(pieces), list(state.chunks), list(state.policy)
    made = draw.task(
        "learn", observing.learn_observed_task, draw.plan, *parts, state.round, *in_place
    )
    chunks = tuple(
        draw.task("chunk", fusing.made_chunk_task, made, c, at=(c,))
        for c in range(len(state.chunks))
    )
    policy = draw.task("policy", fusing.made_policy_task, made)
    report = draw.task("report", fusing.reports_task, made)
    waiting = _waiting(plan, draw, state)
    drawn = draw.to(replace(waiting, policy=(policy,), chunks=chunks), report)
    return replace(drawn, serial=True)
