"""The graph of one round; the only place that draws it.

Lag 0: round r acts on Q_r::

    shard w, policy r ─► rollout + route w ─► parcels (m, w) ─► update c ─► best m: policy r+1
                               └─► shard w of round r+1                        └─► report

Lag 1: round r's transitions are there already, and the rollout of round r + 1 acts on Q_r beside
the updates that make Q_{r+1}::

    batch w, policy r ─► route w ─► parcels (m, w) ─► update c ─► best m: policy r+1
    shard w, policy r ─► rollout w ─► batch w, shard w of round r+1

The bootstrap reads policy r in both. An updated chunk holds its summary. Chunks are in M memories,
chunk c in memory m. Each shard sends each memory one parcel; each memory sends the summaries of its
chunks, from which each shard puts the policy together. W shards and C chunks make
2 W + W M + C + M + 1 tasks; in one memory, where nothing is sent, 2 W + C + 2. Lag 1 has 2 W more.

Where a rule looks several steps ahead, a shard has a batch at lag 0 too: the transitions that wait
for those that follow. The rollout takes them, and leaves what still waits (W tasks more); at lag 1
what waits of a batch becomes part of the next one.

Gather (lag 1, K = 1): no policy of all states is made. The chunks of round r hold the answers to
what each shard asked of them, and are asked again along with what they learn::

    chunk c, answers (w, m) ─► turn w: route, roll out, ask ─► batch w, shard w of round r+1
                                 └─► parcels (m, w) ─► learn c: update, answer ─► chunk c of r+1

A turn waits for all chunks and a chunk for all turns: nothing overlaps, but each waits once. These
are 3 W + 2 W M + 2 C + 1 tasks; in one memory 2 W fewer.

Federated members (one round of the run is E rounds of each of K members, and a merge)::

    chunks of round r, shards of k ─► member k ─► parts (m, k) ─► merge c: chunk c of round r+1
                                         └─► shards of round r+1

These are K + K M + 2 C + W + 1 tasks; in one memory, where nothing is sent, K M fewer.
Invariant: every task is a pure function of its inputs, donated shards excepted, which check theirs.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from dqlearn.engine.graph import Draw, Drawn, Key, State, beside
from dqlearn.engine.tasks import asking, fusing, learning, looking, members
from dqlearn.stages.evaluation import EpisodePlan
from dqlearn.stages.plan import Plan

__all__ = [
    "evaluation_graph",
    "policy_graph",
    "round_graph",
    "rounds_graph",
    "stamps_graph",
    "visited_graph",
    "visits_graph",
]


def round_graph(plan: Plan, state: State, memories: int = 1, in_place: bool = False) -> Drawn:
    """Draw the round that a state comes before.

    Parameters
    ----------
    plan : Plan
        The run's plan.
    state : State
        The state of round r.
    memories : int
        Number of memories that tasks run in. In one, chunks read what they receive where it is;
        else each chunk's part is copied out and sent.
    in_place : bool
        Whether the state's chunks are donated: nobody else holds them.

    Returns
    -------
    Drawn
        The graph that makes the state of round r + 1.
    """
    if plan.exchange == "gather":
        return _gather_graph(plan, state, memories, in_place)
    if plan.federated:
        return _federated_graph(plan, state, memories)
    r, policy = state.round, list(state.policy)
    draw = Draw(state.plan, r, donated=plan.donated, memories=memories)
    if plan.policy_lag:
        routed = [
            draw.task("route", learning.route_task, draw.plan, batch, policy, w, at=(w,))
            for w, batch in enumerate(state.batches)
        ]
        before = state.batches if plan.waits else ()
        batches, shards = draw.rollouts(state.shards, policy, r + 1, before)
    else:
        made = []
        for w, shard in enumerate(state.shards):
            args = (draw.plan, shard, policy, r, *state.batches[w : w + 1])
            made.append(draw.shard_task("rollout", learning.rollout_and_route_task, *args, w=w))
        routed, shards = made, draw.second(made)
        batches = [
            draw.task("batch", learning.third_task, key, at=(w,))
            for w, key in enumerate(made[: len(state.batches)])
        ]
    best, chunks, report = draw.learned(state, routed, in_place)
    after = State(r + 1, state.plan, best, chunks, tuple(shards), tuple(batches))
    return draw.to(after, report)


def _gather_graph(plan: Plan, state: State, memories: int, in_place: bool) -> Drawn:
    draw = Draw(state.plan, state.round, donated=plan.donated, memories=memories)
    batches, shards, parcels = draw.turns(state)
    moved = replace(state, round=state.round + 1, shards=tuple(shards), batches=tuple(batches))
    after = draw.answered("learn", asking.learn_task, moved, parcels, in_place)
    return draw.to(after, draw.noted(after.chunks, state.round))


def _federated_graph(plan: Plan, state: State, memories: int) -> Drawn:
    """Draw the rounds of all members up to their merge."""
    r, draw, whole = state.round, Draw(state.plan, state.round, memories=memories), state.chunks
    made, shards = [], []
    for k in range(plan.members):
        own = [state.shards[w] for w in plan.shards_of(k)]
        args = draw.plan, k, own, list(whole), r
        made.append(draw.task("member", members.member_task, *args, at=(k,)))
        shards += [
            draw.task("shard", members.member_shard_task, made[k], i, at=(w,))
            for i, w in enumerate(plan.shards_of(k))
        ]
    sent = draw.sent("parts", members.parts_task, made, len(whole))
    merged = [
        draw.task("merge", members.merge_task, draw.plan, c, chunk, sent[c], at=(c,))
        for c, chunk in enumerate(whole)
    ]
    after = State(r + 1, state.plan, (), tuple(merged), tuple(shards))
    return draw.to(after, draw.noted(merged, r))


def rounds_graph(state: State, n_rounds: int, threads: int, in_place: tuple[bool, bool]) -> Drawn:
    """Draw the rounds after a state as one task.

    Parameters
    ----------
    state : State
        The state of round r.
    n_rounds : int
        Number of rounds.
    threads : int
        Threads that may share the work of the task.
    in_place : (bool, bool)
        Whether the state's chunks, and its policy, are donated: nobody else holds them.

    Returns
    -------
    Drawn
        The graph that makes the state of round r + n_rounds; of an earlier one after a fault, which
        its reports tell.
    """
    r, draw = state.round, Draw(state.plan, state.round)
    parts = list(state.shards), list(state.chunks), list(state.policy), list(state.batches)
    args = r, n_rounds, threads, *in_place
    made = draw.task("rounds", fusing.rounds_task, draw.plan, *parts, *args)
    chunks = [
        draw.task("chunk", fusing.made_chunk_task, made, c, at=(c,))
        for c in range(len(state.chunks))
    ]
    shards = [
        draw.task("shard", fusing.made_shard_task, made, w, at=(w,))
        for w in range(len(state.shards))
    ]
    batches = [
        draw.task("batch", fusing.made_batch_task, made, w, at=(w,))
        for w in range(len(state.batches))
    ]
    policy = draw.task("policy", fusing.made_policy_task, made)
    report = draw.task("report", fusing.reports_task, made)
    made_of_it = tuple(chunks), tuple(shards), tuple(batches)
    after = State(r + n_rounds, state.plan, (policy,), *made_of_it)
    return draw.to(after, report)


def policy_graph(plan: Plan, state: State) -> tuple[Drawn, list[Key]]:
    """Draw the policy of all states, joined where it is in parts; return also its key."""
    draw = Draw(state.plan, beside(state.round))
    policy = _whole_policy(plan, draw, state)
    return draw.to(state), [policy]


def visited_graph(state: State) -> tuple[Drawn, list[Key]]:
    """Draw the listing of the states that sparse chunks have learned of; one key for each chunk."""
    draw = Draw(state.plan, beside(state.round))
    keys = [
        draw.task("visited", looking.visited_task, chunk, state.round, at=(c,))
        for c, chunk in enumerate(state.chunks)
    ]
    return draw.to(state), keys


def visits_graph(state: State) -> tuple[Drawn, list[Key]]:
    """Draw the counting of visits by blocks of states; one key for each chunk."""
    draw = Draw(state.plan, beside(state.round))
    keys = [
        draw.task("visits", looking.visits_task, draw.plan, chunk, state.round, at=(c,))
        for c, chunk in enumerate(state.chunks)
    ]
    return draw.to(state), keys


def stamps_graph(state: State) -> tuple[Drawn, list[Key]]:
    """Draw the asking of chunks which round their arrays are in; one key for each chunk."""
    draw = Draw(state.plan, beside(state.round))
    keys = [
        draw.task("stamp", looking.stamp_task, chunk, at=(c,))
        for c, chunk in enumerate(state.chunks)
    ]
    return draw.to(state), keys


def evaluation_graph(
    plan: Plan, state: State, episodes: EpisodePlan, parts: int
) -> tuple[Drawn, list[Key]]:
    """Draw the playing of greedy episodes, in parts; return the graph and the keys of the parts."""
    draw = Draw(state.plan, beside(state.round))
    policy = _whole_policy(plan, draw, state)
    edges = [p * episodes.n_episodes // parts for p in range(parts + 1)]
    keys = [
        draw.task(
            "evaluate", looking.evaluate_task, draw.plan, policy, episodes, first, last, at=(p,)
        )
        for p, (first, last) in enumerate(pairwise(edges))
        if last > first
    ]
    return draw.to(state), keys


def _whole_policy(plan: Plan, draw: Draw, state: State) -> Key:
    if plan.sparse:
        return draw.known_policy(state.chunks, state.round)
    if not state.policy:
        return draw.policy(state.chunks, state.round)[0]
    return draw.task("policy", learning.joined_task, draw.plan, list(state.policy))
