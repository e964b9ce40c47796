"""Tasks that make a state: a new one, that of a stored table or checkpoint, or in other chunks.

Invariant: each is a pure function of its arguments; Python environments, which are no data, begin
anew.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np

from dqlearn.envs.python.gymnasium_env import (
    Begin,
    PythonEnv,
    PythonShard,
    open_python_shard,
    thaw,
)
from dqlearn.stages.initial.masks import Masking
from dqlearn.stages.initial.values import begun_with
from dqlearn.stages.plan import Plan
from dqlearn.stages.returns import nothing_waits
from dqlearn.stages.rollout import CompiledShard, open_shard
from dqlearn.storage.reader import (
    read_batch,
    read_chunk,
    read_known,
    read_listed,
    read_shard,
)
from dqlearn.table import paged
from dqlearn.table.chunk import Chunk, Stamp, filled
from dqlearn.table.grid import ChunkGrid, block_bits
from dqlearn.table.hash_grid import HashGrid
from dqlearn.table.insert import unsettled
from dqlearn.table.rebalance import joined
from dqlearn.table.snapshot import Snapshot
from dqlearn.table.transitions import BATCH, TRACED, Transitions

__all__ = [
    "Shard",
    "close_task",
    "empty_batch_task",
    "fill_task",
    "load_batch_task",
    "load_shard_task",
    "load_task",
    "open_task",
    "recut_task",
    "reopen_task",
    "thaw_task",
]

Shard = CompiledShard | PythonShard


def open_task(plan: Plan, w: int) -> Shard:
    """Begin shard w."""
    first, last = plan.first_envs[w], plan.first_envs[w + 1]
    # A stored table goes on in fresh episodes: on numbers that no environment has drawn yet.
    begun, drawn = (plan.origin.round, plan.origin.timesteps) if plan.origin else (0, 0)
    if isinstance(plan.env, PythonEnv):
        begin = Begin(begun, drawn, begun)
        return open_python_shard(plan.env, first, last - first, plan.seed, begin, w, plan.faults)
    return open_shard(plan.env, first, last - first, plan.seed, drawn)


def thaw_task(plan: Plan, copy: bytes | None, w: int, round_: int, placed: int) -> Shard:
    """Make a donated shard of its copy; build it anew where there is none."""
    shard = thaw(copy)
    return reopen_task(plan, w, round_ + plan.policy_lag, placed) if shard is None else shard


def reopen_task(plan: Plan, w: int, round_: int, placed: int) -> Shard:
    """Build a donated shard anew, from seeds that were not used before."""
    first, last = plan.first_envs[w], plan.first_envs[w + 1]
    drawn = round_ * plan.steps_per_round + (plan.origin.timesteps if plan.origin else 0)
    env = cast("PythonEnv", plan.env)  # shards of compiled ones are never opened again
    begin = Begin(round_, drawn, placed)
    return open_python_shard(env, first, last - first, plan.seed, begin, w, plan.faults)


def close_task(shard: PythonShard) -> None:
    """Close the environments of a donated shard."""
    shard.close()


def fill_task(plan: Plan, c: int) -> Chunk:
    """Make chunk c as the run begins with it."""
    if isinstance(plan.grid, HashGrid):
        empty = unsettled(plan.grid, plan.initial_value, plan.dtype, plan.columns)
        chunk = read_listed(plan.origin, plan.grid, c, empty) if plan.origin else empty
    elif plan.origin is None:
        zeros = paged.zeros if plan.out_of_core else np.zeros
        chunk = filled(
            plan.grid.chunk_shape(c), plan.initial_value, plan.dtype, zeros, plan.columns
        )
        if plan.initial is not None:
            chunk = begun_with(chunk, plan.initial, plan.extent(c))
    else:
        chunk = read_chunk(plan.origin, plan.grid, c, plan.dtype, plan.columns)
    if not plan.sparse:
        chunk = Masking(plan.env, plan.extent(c)).made(chunk)
    return _own(plan, chunk, plan.origin.round if plan.origin else 0)


def load_task(plan: Plan, snapshot: Snapshot, c: int) -> Chunk:
    """Read chunk c of a checkpoint."""
    if isinstance(plan.grid, HashGrid):
        empty = unsettled(plan.grid, plan.initial_value, plan.dtype, plan.columns)
        return _own(plan, read_known(snapshot, c, empty), snapshot.round)
    chunk = read_chunk(snapshot, plan.grid, c, plan.dtype, plan.columns)
    return _own(plan, Masking(plan.env, plan.extent(c)).made(chunk), snapshot.round)


def load_shard_task(plan: Plan, snapshot: Snapshot, w: int) -> Shard:
    """Read shard w of a checkpoint; Python environments are no data, and begin new episodes."""
    if isinstance(plan.env, PythonEnv):
        return reopen_task(plan, w, snapshot.round + plan.policy_lag, snapshot.round)
    first, last = plan.first_envs[w], plan.first_envs[w + 1]
    return read_shard(snapshot, w, first, last - first)


def empty_batch_task(plan: Plan) -> Transitions:
    """Return the batch of a shard whose environments have made no step yet."""
    return nothing_waits(plan.grid.shape[0], plan.n_actions * plan.grid.members, plan.dtype)


def load_batch_task(plan: Plan, snapshot: Snapshot, w: int) -> Transitions:
    """Read the batch of shard w of a checkpoint."""
    masked = isinstance(plan.env, PythonEnv) and plan.env.masks
    return read_batch(snapshot, w, TRACED if plan.waits else BATCH, masked)


def recut_task(plan: Plan, before: ChunkGrid, c: int, chunks: list[Chunk], round_: int) -> Chunk:
    """Make chunk c of a grid that was cut anew of those that it lay in."""
    own = [states for _, (states, _), _ in before.overlaps(plan.laid_out.region(c))]
    first = chunks[0].at(round_)
    if own == [slice(0, len(first.q))]:
        return replace(first, answers=())
    block = 1 << block_bits(plan.grid.shape[0])
    pairs = [(chunk.at(round_).columns, rows) for chunk, rows in zip(chunks, own, strict=True)]
    columns = {
        name: joined([arrays[name][rows] for arrays, rows in pairs], block)
        for name in first.columns
    }
    changed = max(chunk.changed for chunk in chunks)
    return _own(plan, Chunk.of(columns, first.tally, changed=changed), round_)


def _own(plan: Plan, chunk: Chunk, round_: int) -> Chunk:
    """Let a chunk that nobody else holds be donated, where rounds do that."""
    chunk = chunk.paged() if plan.out_of_core else chunk
    return replace(chunk, stamp=Stamp(round_)) if plan.in_place else chunk
