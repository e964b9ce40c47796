"""Graphs that are no rounds: they make a state, or bring it elsewhere.

::

    begin   ─► the state of round 0, or of a stored table       load ─► that of a checkpoint
    recut   ─► the same state in other chunks
    freeze  ─► copies of Python environments ─► thaw            write ─► a checkpoint
    restart, rebuild ─► Python environments in new episodes     close ─► none that are open

Invariant: as for rounds, every task is a pure function of its inputs, donated shards excepted.
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
    """Draw the making of a run's first state: that of round 0, or of its stored origin.

    Parameters
    ----------
    plan : Plan
        The run's plan; must be at ``("plan", run)``.
    run : str
        Name of the run, part of every key.
    memories : int
        Number of memories that tasks run in.

    Returns
    -------
    Drawn
        The graph that makes that state.
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
    """Add a state's policy, or its chunks' answers; with policy_lag 1 also its first batches."""
    if plan.exchange == "gather":
        batches, shards, parcels = draw.turns(draw.asked(state))
        moved = replace(state, shards=tuple(shards), batches=tuple(batches))
        return draw.answered("first", asking.answer_task, moved, parcels)
    if plan.federated:
        return state
    policy = state.policy or draw.policy(state.chunks, state.round)
    waiting = state.batches
    if plan.waits and not waiting:
        waiting = tuple(
            draw.task("no-batch", begin.empty_batch_task, draw.plan, at=(w,))
            for w in range(plan.shards)
        )
    if not plan.policy_lag:
        return replace(state, policy=policy, batches=waiting)
    batches, shards = draw.rollouts(state.shards, policy, state.round, waiting)
    return replace(state, policy=policy, shards=tuple(shards), batches=tuple(batches))


def load_graph(plan: Plan, run: str, memories: int, snapshot: Snapshot, fresh: bool) -> Drawn:
    """Draw the reading of a checkpoint.

    Parameters
    ----------
    plan : Plan
        The run's plan; must be at ``("plan", run)``.
    run : str
        Name of the run, part of every key.
    memories : int
        Number of memories that tasks run in.
    snapshot : Snapshot
        The checkpoint.
    fresh : bool
        Whether to read its shards too; Python environments, which are no data, begin new episodes.

    Returns
    -------
    Drawn
        The graph that makes its state.
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
        draw.task("load-batch", begin.load_batch_task, draw.plan, snapshot, w, at=(w,))
        for w in shards
        if plan.policy_lag or plan.waits
    ]
    state = State(snapshot.round, draw.plan, (), tuple(chunks), tuple(opened), tuple(batches))
    if plan.federated:
        return draw.to(state)
    if plan.exchange == "broadcast":
        return draw.to(replace(state, policy=draw.policy(chunks, snapshot.round)))
    # Without shards nobody asks; the function that puts shards in adds their questions.
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
    """Put other shards into a state, and ask anew: their environments may be in other states."""
    state = replace(state, shards=tuple(shards))
    return draw.asked(state) if plan.exchange == "gather" else state


def write_graph(plan: Plan, state: State, writer: Writer, since: int) -> tuple[Drawn, list[Key]]:
    """Draw the writing of a checkpoint, each part where it is.

    Parameters
    ----------
    plan : Plan
        The run's plan.
    state : State
        The state to write.
    writer : Writer
        The checkpoint's writer.
    since : int
        Chunks that did not change after so many transitions are left out.

    Returns
    -------
    Drawn
        The graph, which leads back to the same state.
    list of Key
        Keys of the results of the tasks that write; those of shards are in order.
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
    """Add the writing of a dense table."""
    owners = [[state.chunks[c] for c in layout.owners(k)] for k in range(layout.n_chunks)]
    return [
        draw.task("write", write_chunk, writer, layout, k, own, since, at=(k,))
        for k, own in enumerate(owners)
    ]


def freeze_graph(plan: Plan, state: State) -> Drawn:
    """Draw the copying of donated shards; the graph's state holds copies in their places."""
    draw = Draw(state.plan, beside(state.round), donated=plan.donated)
    copies = [draw.shard_task("freeze", freeze, shard, w=w) for w, shard in enumerate(state.shards)]
    return draw.to(replace(state, shards=tuple(copies)))


def close_graph(state: State) -> tuple[Drawn, list[Key]]:
    """Draw the closing of donated shards; return also the keys of the tasks that close them."""
    draw = Draw(state.plan, beside(state.round), donated=True)
    keys = [
        draw.shard_task("close", begin.close_task, shard, w=w)
        for w, shard in enumerate(state.shards)
    ]
    return draw.to(state), keys


def thaw_graph(plan: Plan, state: State, memories: int, placed: int) -> Drawn:
    """Draw the making of donated shards from copies; `placed` counts how often that was done."""
    draw = Draw(state.plan, beside(state.round), donated=plan.donated, memories=memories)
    shards = [
        draw.shard_task("thaw", begin.thaw_task, draw.plan, copy, w, state.round, placed, w=w)
        for w, copy in enumerate(state.shards)
    ]
    return draw.to(_with_shards(plan, draw, state, shards))


def rebuild_graph(plan: Plan, state: State, run: str, memories: int, placed: int) -> Drawn:
    """Draw the making of all Python environments anew, for a table that stays as it is.

    `run` is the name of the new plan's place, and `placed` gives the environments other seeds.
    """
    draw = Draw(("dqlearn-plan", run), -1, donated=plan.donated, memories=memories)
    shards = [
        draw.shard_task("open", begin.reopen_task, draw.plan, w, state.round, placed, w=w)
        for w in range(plan.shards)
    ]
    waiting = () if plan.policy_lag else state.batches
    fresh = replace(state, plan=draw.plan, shards=tuple(shards), batches=waiting)
    return draw.to(_first_batches(plan, draw, fresh))


def recut_graph(plan: Plan, before: ChunkGrid, state: State, run: str, memories: int) -> Drawn:
    """Draw the splitting of a table into other chunks.

    Parameters
    ----------
    plan : Plan
        The plan with the new grid; must be at ``("plan", run)``.
    before : ChunkGrid
        The grid of the state.
    state : State
        A state of compiled environments.
    run : str
        Name of the new plan's place.
    memories : int
        Number of memories that tasks run in.

    Returns
    -------
    Drawn
        The graph that makes the same state in other chunks.
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
