"""Cuts: what a run can go back to, and how that is placed where tasks run.

::

    Cut: keys, and values in the client's memory ─┐
         or a checkpoint                          ├──► Placer ──► State, under keys of its own
    no cut: round 0, or a stored table           ─┘

Invariant: what is placed has a name that was never used before, so that no key ever means two
things, whatever became of the tasks that had it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import dask
import numpy as np
import psutil
from dask.utils import format_bytes, parse_bytes

from dqlearn.engine.executor import Executor
from dqlearn.engine.graph import Drawn, Key, State
from dqlearn.engine.lifecycle import begin_graph, load_graph, rebuild_graph, recut_graph, thaw_graph
from dqlearn.errors import TableTooLargeError
from dqlearn.stages.plan import Plan
from dqlearn.storage.protocol import Version
from dqlearn.table.grid import table_nbytes
from dqlearn.table.hash_grid import Grid

__all__ = [
    "NOWHERE",
    "Cut",
    "Placer",
    "check_left",
    "check_room",
    "fitted",
    "granted",
    "submit_new",
]

_LEFT = 0.05

NOWHERE = State(0, (), (), (), ())


@dataclass(frozen=True)
class Cut:
    """What a run can go back to.

    Attributes
    ----------
    round : int
        The state is that before this round.
    state : State
        Its keys.
    values : dict
        What of it is in the client's memory; donated shards as bytes.
    version : Version, optional
        The checkpoint that holds the rest.
    grid : ChunkGrid or HashGrid, optional
        Of the chunks that are among the values.
    """

    round: int
    state: State
    values: dict[Key, Any] = field(default_factory=dict)
    version: Version | None = None
    grid: Grid | None = None

    @classmethod
    def at(cls, version: Version) -> Cut:
        """Return the cut of a checkpoint alone."""
        return cls(version.round, NOWHERE, version=version)

    @property
    def copies(self) -> list[Any]:
        """Copies of donated shards, if they are here."""
        return [self.values[key] for key in self.state.shards if key in self.values]


class Placer:
    """Places the states of one run.

    Parameters
    ----------
    plan : Plan
        Of the run; another one for another place.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self._run = plan, uuid.uuid4().hex[:8]
        self._placed = 0

    def place(self, executor: Executor, cut: Cut | None) -> State:
        """Place a cut, or make the state of round 0."""
        name = self._place_plan(executor, self.plan)
        if cut is None:
            return _made(executor, begin_graph(self.plan, name, executor.memories))
        if cut.version is not None and not cut.values:
            return self._load(executor, name, cut.version, fresh=True)
        moved = cut.state.renamed(name)
        values = zip(moved.keys, cut.state.keys, strict=True)
        executor.put({new: cut.values[old] for new, old in values if old in cut.values})
        if cut.version is not None:
            loaded = self._load(executor, name, cut.version, fresh=False)
            moved = replace(loaded, shards=moved.shards)
        return self._thaw(executor, moved) if self.plan.donated else moved

    def rebuild(self, executor: Executor, before: State) -> State:
        """Make all environments of a state anew; its table stays."""
        name = self._place_plan(executor, self.plan)
        drawn = rebuild_graph(self.plan, before, name, executor.memories, self._placed)
        submit_new(executor, drawn, before)
        return drawn.state

    def recut(self, executor: Executor, plan: Plan, before: State) -> State:
        """Cut the chunks of a state anew, as another plan has them."""
        name = self._place_plan(executor, plan)
        drawn = recut_graph(plan, self.plan.laid_out, before, name, executor.memories)
        submit_new(executor, drawn, before)
        return drawn.state

    def _place_plan(self, executor: Executor, plan: Plan) -> str:
        """Place a plan under a new name, which makes all keys of its tasks new."""
        self._placed += 1
        name = f"{self._run}-{self._placed}"
        executor.put({("dqlearn-plan", name): plan})
        return name

    def _load(self, executor: Executor, name: str, version: Version, *, fresh: bool) -> State:
        return _made(executor, load_graph(self.plan, name, executor.memories, version, fresh))

    def _thaw(self, executor: Executor, state: State) -> State:
        """Make shards of their copies."""
        drawn = thaw_graph(self.plan, state, executor.memories, self._placed)
        submit_new(executor, drawn, state)
        executor.drop(_without(state.keys, drawn.state))  # the copies
        return drawn.state


def submit_new(executor: Executor, drawn: Drawn, before: State) -> None:
    """Make what is new in the state that a graph leads to."""
    executor.submit(drawn, list(_without(drawn.state.keys, before)))


def _made(executor: Executor, drawn: Drawn) -> State:
    executor.submit(drawn, drawn.state.keys)
    return drawn.state


def _without(keys: Iterable[Key], state: State) -> Iterable[Key]:
    kept = {*state.keys}
    return (key for key in keys if key not in kept)


def check_room(
    shape: tuple[int, int],
    dtype: np.dtype[Any],
    executor: Executor,
    *,
    maxima: bool,
    in_place: bool = True,
    members: int = 1,
) -> bool:
    """Compare a table with the memory and the disks there are.

    Parameters
    ----------
    shape : (int, int)
        Of the table.
    dtype : dtype
        Of its values.
    executor : Executor
        Where it is to be made.
    maxima : bool
        Whether the maxima of all states are made: by chunks, and joined; they stay in memory.
    in_place : bool
        Whether one table is enough, or rounds work on copies.
    members : int
        Tables that stand side by side.

    Returns
    -------
    bool
        Whether the table is out of core: on disks, as it does not fit into memory.

    Raises
    ------
    TableTooLargeError
        If there is too little of both.
    """
    n_states, n_actions = shape
    table = members * table_nbytes(shape, dtype)
    best = 2 * n_states * (members * dtype.itemsize + 1) if maxima else 0
    memory, needed = granted(executor), table + best
    if needed <= memory:
        return False
    best *= executor.memories
    on_disk, disk = table if in_place else 2 * table, executor.disk
    if best > memory or on_disk > disk:
        raise TableTooLargeError(
            f"a table of {n_states} states x {n_actions} actions in {dtype} needs "
            f"{format_bytes(needed)} of memory with its visit counts, or {format_bytes(best)} of "
            f"memory and {format_bytes(on_disk)} of disk, got {format_bytes(memory)} of memory "
            f"and {format_bytes(disk)} of disk ({executor.name}): use sparse=True if few states "
            "are visited, fewer bins or states, dtype='float32', Dask's temporary-directory on a "
            "larger disk, a cluster with more of either, or exchange='gather', which keeps no "
            "maxima"
        )
    return True


def granted(executor: Executor) -> int:
    """Return the bytes of memory for a table; Dask's ``dqlearn.memory-limit`` goes before."""
    limit = dask.config.get("dqlearn.memory-limit", None)
    return int(parse_bytes(limit)) if limit else executor.memory


def least_left() -> int:
    """Return the bytes of this machine's memory that a sparse table leaves free."""
    return int(_LEFT * psutil.virtual_memory().total)


def check_left() -> None:
    """Stop a sparse table that grows in this process, before it fills the machine's memory.

    Raises
    ------
    TableTooLargeError
        If too little is left.
    """
    left, least = psutil.virtual_memory().available, least_left()
    if left < least:
        raise TableTooLargeError(
            f"a sparse table has grown until {format_bytes(left)} of this machine's memory are "
            f"left, expected at least {format_bytes(least)}: save it, and go on with fewer bins or "
            "states, with less exploration, or on a cluster with more memory"
        )


def fitted(plan: Plan, executor: Executor) -> Plan:
    """Return a plan for what there is room for at a place; see :func:`check_room`."""
    if plan.sparse:
        return plan  # its table is as large as it becomes
    out_of_core = check_room(
        plan.grid.shape,
        plan.dtype,
        executor,
        maxima=plan.exchange == "broadcast",
        in_place=plan.in_place and executor.shares_memory,
        members=plan.grid.members,
    )
    return replace(plan, out_of_core=out_of_core)
