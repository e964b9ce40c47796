"""The graph of one round; the only place that draws it.

Lag 0: round r acts on Q_r::

    shard w, policy r ─► rollout + route w ─► pieces (c, w) ─► update c ─► maxima c ─► policy r+1
                               └─► shard w of round r+1                                   └─► report

Lag 1: round r's transitions are there already, and the rollout of round r + 1 acts on Q_r beside
the updates that make Q_{r+1}::

    batch w, policy r ─► route w ─► pieces (c, w) ─► update c ─► maxima c ─► policy r+1
    shard w, policy r ─► rollout w ─► batch w, shard w of round r+1

The bootstrap reads policy r in both. W shards and C chunks make 2 W + W C + 2 C + 2 tasks; in one
memory there are no pieces, and W C fewer.

Gather (lag 1, K = 1): no policy of all states is made. The chunks of round r hold the answers to
what each shard asked of them, and are asked again along with what they learn::

    chunk c, answers (w, c) ─► turn w: route, roll out, ask ─► batch w, shard w of round r+1
                                 └─► parcels (c, w) ─► learn c: update, answer ─► chunk c of r+1

A turn waits for all chunks and a chunk for all turns: nothing overlaps, but each waits once. These
are 3 W + 2 W C + 2 C + 1 tasks; in one memory 2 W C fewer.
Invariant: every task is a pure function of its inputs, donated shards excepted, which check theirs.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from dqlearn import tasks
from dqlearn.evaluation import EpisodePlan
from dqlearn.graph import Draw, Drawn, Key, State, beside
from dqlearn.plan import Plan

__all__ = ["evaluation_graph", "policy_graph", "round_graph"]


def round_graph(plan: Plan, state: State, spread: bool, in_place: bool = False) -> Drawn:
    """Draw the round that a state comes before.

    Parameters
    ----------
    plan : Plan
        Of the run.
    state : State
        Of round r.
    spread : bool
        Whether tasks run in several memories, so that what chunks receive has to be cut out and
        sent; else they read it where it is.
    in_place : bool
        On the gather path, whether the state's chunks are donated: nobody else holds them.

    Returns
    -------
    Drawn
        To the state of round r + 1.
    """
    if plan.path == "gather":
        return _gather_graph(plan, state, spread, in_place)
    r = state.round
    draw = Draw(state.plan, r, donated=plan.donated, spread=spread)
    if plan.policy_lag:
        routed = [
            draw.task("route", tasks.route_task, draw.plan, batch, state.policy, at=(w,))
            for w, batch in enumerate(state.batches)
        ]
        batches, shards = draw.rollouts(state.shards, state.policy, round_=r + 1)
    else:
        made = [
            draw.shard_task(
                "rollout", tasks.rollout_and_route_task, draw.plan, shard, state.policy, r, w=w
            )
            for w, shard in enumerate(state.shards)
        ]
        routed, shards, batches = made, draw.second(made), []
    chunks = [
        draw.task("update", tasks.update_task, draw.plan, c, chunk, draw.sent(routed, c), at=(c,))
        for c, chunk in enumerate(state.chunks)
    ]
    policy = draw.policy(plan, chunks, round_=r + 1)
    report = draw.task("report", tasks.report_task, draw.plan, policy, r)
    after = State(r + 1, state.plan, policy, tuple(chunks), tuple(shards), tuple(batches))
    return draw.to(after, report)


def _gather_graph(plan: Plan, state: State, spread: bool, in_place: bool) -> Drawn:
    draw = Draw(state.plan, state.round, donated=plan.donated, spread=spread)
    batches, shards, parcels = draw.turns(state)
    moved = replace(state, round=state.round + 1, shards=tuple(shards), batches=tuple(batches))
    after = draw.answered("learn", tasks.learn_task, moved, parcels, in_place)
    notes = [draw.task("note", tasks.note_task, key, at=(c,)) for c, key in enumerate(after.chunks)]
    report = draw.task("report", tasks.notes_task, draw.plan, notes, state.round)
    return draw.to(after, report)


def policy_graph(plan: Plan, state: State) -> tuple[Drawn, list[Key]]:
    """Draw the policy of all states, which a gather round does not make; return also its key."""
    draw = Draw(state.plan, beside(state.round))
    policy = draw.policy(plan, state.chunks, state.round)
    return draw.to(state), [policy]


def evaluation_graph(
    plan: Plan, state: State, episodes: EpisodePlan, parts: int
) -> tuple[Drawn, list[Key]]:
    """Draw the playing of greedy episodes, in parts; return the graph and the keys of the parts."""
    draw = Draw(state.plan, beside(state.round))
    policy = state.policy or draw.policy(plan, state.chunks, state.round)
    edges = [p * episodes.n_episodes // parts for p in range(parts + 1)]
    keys = [
        draw.task(
            "evaluate", tasks.evaluate_task, draw.plan, policy, episodes, first, last, at=(p,)
        )
        for p, (first, last) in enumerate(pairwise(edges))
        if last > first
    ]
    return draw.to(state), keys
