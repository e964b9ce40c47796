"""How much room there is for a table, and how evenly it is used.

::

    memory, disk ──► fitted: the plan in memory, out of core, or an error
    visits by block of states ──► Balancer: other chunks, if some have a much larger load

Invariant: neither the place of a table nor its chunks change a bit of what is learned.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import dask
import numpy as np
import psutil
from dask.utils import format_bytes, parse_bytes

from dqlearn.algorithms import Q_LEARNING, Algorithm
from dqlearn.engine.executor import Executor
from dqlearn.engine.round import visits_graph
from dqlearn.errors import TableTooLargeError
from dqlearn.stages.plan import Plan
from dqlearn.table.grid import ChunkGrid, table_nbytes
from dqlearn.table.hash_grid import Grid
from dqlearn.table.rebalance import evener, load
from dqlearn.training.interrupt import uninterrupted
from dqlearn.training.ownership import Ownership
from dqlearn.training.placement import Placement

__all__ = [
    "Balancer",
    "check_left",
    "check_members",
    "check_room",
    "fitted",
    "granted",
    "least_left",
]

_LEFT = 0.05  # share of this machine's memory
_FIRST_LOOK = 8  # number of rounds until the loads of chunks are compared


def check_room(
    shape: tuple[int, int],
    dtype: np.dtype[Any],
    executor: Executor,
    *,
    maxima: bool,
    in_place: bool = True,
    algorithm: Algorithm = Q_LEARNING,
) -> bool:
    """Compare a table with the memory and the disks that there are.

    Parameters
    ----------
    shape : (int, int)
        The table's states and actions.
    dtype : dtype
        The type of its values.
    executor : Executor
        Where the table is to be made.
    maxima : bool
        Whether the chunks' summaries of all states are made and joined; they stay in memory.
    in_place : bool
        Whether rounds write to the table in place; else they work on copies.
    algorithm : Algorithm
        The rule, which sets the number of members and the size of a state's summary.

    Returns
    -------
    bool
        Whether the table is out of core, on disks, because it does not fit into memory.

    Raises
    ------
    TableTooLargeError
        If there is too little of both.
    """
    n_states, n_actions = shape
    table = table_nbytes(shape, dtype, algorithm.members)
    best = 2 * n_states * algorithm.bytes_of_state(dtype) if maxima else 0
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


def check_members(plan: Plan, executor: Executor) -> None:
    """Compare the tables that learn apart with the memory that there is.

    Raises
    ------
    TableTooLargeError
        If there is too little. Such tables are never out of core.
    """
    # Each memory has the merged table; members' tables are twice there while they are merged.
    tables = executor.memories + 2 * plan.members + 1
    needed, memory = tables * plan.nbytes, granted(executor)
    if needed > memory:
        raise TableTooLargeError(
            f"{plan.members} members that learn apart have whole tables, and so need "
            f"{tables} times the memory of one, {format_bytes(needed)}, got {format_bytes(memory)} "
            f"({executor.name}): use fewer members, a cluster with more memory, or no federated="
        )


def granted(executor: Executor) -> int:
    """Return the bytes of memory for a table; Dask's ``dqlearn.memory-limit`` takes precedence."""
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
        If too little memory is left.
    """
    left, least = psutil.virtual_memory().available, least_left()
    if left < least:
        raise TableTooLargeError(
            f"a sparse table has grown until {format_bytes(left)} of this machine's memory are "
            f"left, expected at least {format_bytes(least)}: save it, and go on with fewer bins or "
            "states, with less exploration, or on a cluster with more memory"
        )


def fitted(plan: Plan, executor: Executor) -> Plan:
    """Return a plan that fits the room at a place; see :func:`check_room`."""
    if plan.sparse:
        return plan  # a sparse table may grow to any size
    if plan.federated:
        check_members(plan, executor)
        return plan
    out_of_core = check_room(
        plan.grid.shape,
        plan.dtype,
        executor,
        maxima=plan.exchange == "broadcast",
        in_place=plan.in_place and executor.shares_memory,
        algorithm=plan.algorithm,
    )
    return replace(plan, out_of_core=out_of_core)


class Balancer:
    """Compares the loads of chunks after 8 rounds, after twice as many, and so on.

    Parameters
    ----------
    placement : Placement
        The place of the chunks.
    ownership : Ownership
        The holder of the collected state.
    """

    def __init__(self, placement: Placement, ownership: Ownership) -> None:
        self._placement, self._ownership = placement, ownership
        self._looked: tuple[Grid, int] | None = None  # chunks compared, after which round

    def due(self, round_: int) -> bool:
        """Whether the loads are to be compared after so many rounds.

        A run that has gone back to other chunks starts counting again.
        """
        plan, next_look = self._placement.plan, _FIRST_LOOK
        if self._looked is not None and self._looked[0] == plan.grid:
            next_look = 2 * self._looked[1]
        return plan.balanced and round_ >= next_look

    def balance(self) -> None:
        """Split the table into other chunks if some have a much larger load than others."""
        before, plan = self._ownership.state, self._placement.plan
        self._looked = plan.grid, before.round
        if (grid := self._evener_grid()) is None:
            return
        plan = plan.recut(grid)
        after = self._placement.recut(plan, before)
        with uninterrupted():  # the grid and the chunks change together
            self._ownership.acquire()
            self._placement.adopt(plan)
            self._ownership.rename(after)
            self._ownership.release()
            self._looked = grid, before.round

    def _evener_grid(self) -> ChunkGrid | None:
        """Return a grid that is worth a change of chunks, if there is room for both."""
        plan, executor = self._placement.plan, self._placement.executor
        room = not plan.out_of_core and 2 * plan.nbytes <= granted(executor)
        of_blocks = plan.laid_out.locators[0].exact  # a stored grid may have any chunks
        if not (room and of_blocks) or plan.grid.n_chunks == 1 or executor.width == 1:
            return None
        visits = self._placement.fetch(*visits_graph(self._ownership.state))
        n_transitions, maxima = plan.round_size, plan.exchange == "broadcast"
        loads = load(np.concatenate(visits), plan.laid_out, n_transitions, maxima=maxima)
        return evener(plan.laid_out, plan.at_rest, loads, executor.uneven)
