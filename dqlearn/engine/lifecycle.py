"""Graphs that make a state, or bring it elsewhere, besides a round.

::

    begin   ─► the state of round 0, or of a stored table       load ─► that of a checkpoint
    recut   ─► the same state in other chunks
    freeze  ─► copies of Python environments ─► thaw            write ─► a checkpoint
    restart, rebuild ─► Python environments in new episodes     close ─► none that are open

Invariant: as of a round's: every task is a pure function of its inputs, donated shards excepted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dqlearn.engine.graph import Draw, Drawn, Key, State, beside
from dqlearn.engine.tasks import asking, begin
from dqlearn.envs.python.gymnasium_env import freeze
from dqlearn.stages.plan import Plan
from dqlearn.storage.protocol import Writer
from dqlearn.storage.schema import Layout
from dqlearn.storage.writer import write_chunk, write_known, write_shard
from dqlearn.table.grid import ChunkGrid
from dqlearn.table.snapshot import Snapshot

__all__ = [
    "begin_graph",
    "close_graph",
    "freeze_graph",
    "load_graph",
    "rebuild_graph",
    "recut_graph",
    "restart_graph",
    "thaw_graph",
    "write_graph",
]


def begin_graph(plan: Plan, run: str, memories: int) -> Drawn:
    """Draw what makes the state that a run begins with: of round 0, or of its stored origin.

    Parameters
    ----------
    plan : Plan
        Of the run; must be at ``("plan", run)``.
    run : str
        Name of the run, part of every key.
    memories : int
        In how many of them tasks run.

    Returns
    -------
    Drawn
        To that state.
    """
    draw = Draw(("dqlearn-plan", run), -1, donated=plan.donated, memories=memories)
    shards = [
        draw.shard_task("open", begin.open_task, draw.plan, w, w=w) for w in range(plan.shards)
    ]
    chunks = [
        draw.task("fill", begin.fill_task, draw.plan, c, at=(c,)) for c in range(plan.grid.n_chunks)
    ]
    begun = plan.origin.round if plan.origin else 0
    state = State(begun, draw.plan, (), tuple(chunks), tuple(shards))
    return draw.to(_first_batches(plan, draw, state))


def _first_batches(plan: Plan, draw: Draw, state: State) -> State:
    """Add the policy of a state, or answers, and with policy_lag 1 the batches that it is ahead."""
    if plan.exchange == "gather":
        batches, shards, parcels = draw.turns(draw.asked(state))
        moved = replace(state, shards=tuple(shards), batches=tuple(batches))
        return draw.answered("first", asking.answer_task, moved, parcels)
    policy = state.policy or draw.policy(state.chunks, state.round)
    if not plan.policy_lag:
        return replace(state, policy=policy)
    batches, shards = draw.rollouts(state.shards, policy, state.round)
    return replace(state, policy=policy, shards=tuple(shards), batches=tuple(batches))


def load_graph(plan: Plan, run: str, memories: int, snapshot: Snapshot, fresh: bool) -> Drawn:
    """Draw the reading of a checkpoint.

    Parameters
    ----------
    plan : Plan
        Of the run; must be at ``("plan", run)``.
    run : str
        Name of the run, part of every key.
    memories : int
        In how many of them tasks run.
    snapshot : Snapshot
        The checkpoint.
    fresh : bool
        Read its shards too; Python environments, which are no data, begin new episodes.

    Returns
    -------
    Drawn
        To its state.
    """
    draw = Draw(("dqlearn-plan", run), -1, donated=plan.donated, memories=memories)
    shards = range(plan.shards)
    chunks = [
        draw.task("load", begin.load_task, draw.plan, snapshot, c, at=(c,))
        for c in range(plan.grid.n_chunks)
    ]
    opened = [
        draw.shard_task("load-shard", begin.load_shard_task, draw.plan, snapshot, w, w=w)
        for w in shards
        if fresh
    ]
    batches = [
        draw.task("load-batch", begin.load_batch_task, snapshot, w, at=(w,))
        for w in shards
        if plan.policy_lag
    ]
    state = State(snapshot.round, draw.plan, (), tuple(chunks), tuple(opened), tuple(batches))
    if plan.exchange == "broadcast":
        return draw.to(replace(state, policy=draw.policy(chunks, snapshot.round)))
    # Without shards nobody can ask; who puts them in lets them.
    return draw.to(draw.asked(state) if fresh else state)


def restart_graph(plan: Plan, state: State, memories: int) -> Drawn:
    """Draw new episodes of all Python environments, from seeds that depend on the round only."""
    draw = Draw(state.plan, beside(state.round), donated=plan.donated, memories=memories)
    first = state.round + plan.policy_lag
    shards = [
        draw.shard_task("restart", begin.reopen_task, draw.plan, w, first, state.round, w=w)
        for w in range(plan.shards)
    ]
    return draw.to(_with_shards(plan, draw, state, shards))


def _with_shards(plan: Plan, draw: Draw, state: State, shards: Sequence[Key]) -> State:
    """Put other shards into a state; they may not be where those were that chunks answered."""
    state = replace(state, shards=tuple(shards))
    return draw.asked(state) if plan.exchange == "gather" else state


def write_graph(plan: Plan, state: State, writer: Writer, since: int) -> tuple[Drawn, list[Key]]:
    """Draw the writing of a checkpoint, each part where it is.

    Parameters
    ----------
    plan : Plan
        Of the run.
    state : State
        What to write.
    writer : Writer
        Of the checkpoint.
    since : int
        Leave out the chunks that did not change after so many transitions.

    Returns
    -------
    Drawn
        Back to the same state.
    list of Key
        Of what was written; the shards' in order.
    """
    draw = Draw(state.plan, beside(state.round))
    if plan.sparse:
        keys = [
            draw.task("write", write_known, writer, c, chunk, since, at=(c,))
            for c, chunk in enumerate(state.chunks)
        ]
    else:
        keys = _writing(draw, Layout.of(plan.laid_out, plan.at_rest), state, writer, since)
    for w, shard in enumerate(state.shards):
        data = None if plan.donated else shard
        batch = state.batches[w] if state.batches else None
        if data or batch:
            keys.append(draw.task("write-shard", write_shard, writer, w, data, batch, at=(w,)))
    return draw.to(state), keys


def _writing(draw: Draw, layout: Layout, state: State, writer: Writer, since: int) -> list[Key]:
    """Add the writing of a table that is laid out."""
    owners = [[state.chunks[c] for c in layout.owners(k)] for k in range(layout.n_chunks)]
    return [
        draw.task("write", write_chunk, writer, layout, k, own, since, at=(k,))
        for k, own in enumerate(owners)
    ]


def freeze_graph(plan: Plan, state: State) -> Drawn:
    """Draw the copying of donated shards; the state it leads to holds copies in their places."""
    draw = Draw(state.plan, beside(state.round), donated=plan.donated)
    copies = [draw.shard_task("freeze", freeze, shard, w=w) for w, shard in enumerate(state.shards)]
    return draw.to(replace(state, shards=tuple(copies)))


def close_graph(state: State) -> tuple[Drawn, list[Key]]:
    """Draw the closing of donated shards; return the keys of that, too."""
    draw = Draw(state.plan, beside(state.round), donated=True)
    keys = [
        draw.shard_task("close", begin.close_task, shard, w=w)
        for w, shard in enumerate(state.shards)
    ]
    return draw.to(state), keys


def thaw_graph(plan: Plan, state: State, memories: int, placed: int) -> Drawn:
    """Draw what makes donated shards of their copies; `placed` counts how often that was done."""
    draw = Draw(state.plan, beside(state.round), donated=plan.donated, memories=memories)
    shards = [
        draw.shard_task("thaw", begin.thaw_task, draw.plan, copy, w, state.round, placed, w=w)
        for w, copy in enumerate(state.shards)
    ]
    return draw.to(_with_shards(plan, draw, state, shards))


def rebuild_graph(plan: Plan, state: State, run: str, memories: int, placed: int) -> Drawn:
    """Draw the making of all Python environments anew, for a table that stays as it is.

    `run` is the name of the plan's new place, and `placed` gives the environments other seeds.
    """
    draw = Draw(("dqlearn-plan", run), -1, donated=plan.donated, memories=memories)
    shards = [
        draw.shard_task("open", begin.reopen_task, draw.plan, w, state.round, placed, w=w)
        for w in range(plan.shards)
    ]
    fresh = replace(state, plan=draw.plan, shards=tuple(shards), batches=())
    return draw.to(_first_batches(plan, draw, fresh))


def recut_graph(plan: Plan, before: ChunkGrid, state: State, run: str, memories: int) -> Drawn:
    """Draw the cutting of a table's chunks anew.

    Parameters
    ----------
    plan : Plan
        With the new grid; must be at ``("plan", run)``.
    before : ChunkGrid
        The grid of the state.
    state : State
        Of compiled environments.
    run : str
        Name of the plan's new place.
    memories : int
        In how many of them tasks run.

    Returns
    -------
    Drawn
        To the same state in other chunks.
    """
    draw = Draw(("dqlearn-plan", run), -1, memories=memories)
    chunks = []
    for c in range(plan.grid.n_chunks):
        own = [state.chunks[i] for i in before.owners(plan.laid_out.region(c))]
        args = (draw.plan, before, c, own, state.round)
        chunks.append(draw.task("recut", begin.recut_task, *args, at=(c,)))
    moved = replace(state, plan=draw.plan, chunks=tuple(chunks))
    if plan.exchange == "gather":
        return draw.to(draw.asked(moved))
    return draw.to(replace(moved, policy=draw.policy(chunks, state.round)))
