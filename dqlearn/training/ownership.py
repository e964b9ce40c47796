"""Ownership of a run's collected state: the run alone holds it, or others share it to read it.

::

    the thread that learns    acquire ─► a round, which writes to the table ─► release ─► ...
    another thread                 waits ··································►  reads, shares

A round may write to the arrays of the state before it, in place, unless that state is shared: with
a Table, a checkpoint, a recovery point or an evaluation. Then the round works on copies.

Invariant: nobody reads a state while a round writes to it, whoever waits to read comes before the
next round, and a state that is shared is never written to.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.engine.cluster import LostWork
from dqlearn.engine.graph import Drawn, Key, State
from dqlearn.engine.lifecycle import write_graph
from dqlearn.engine.round import policy_graph, visited_graph
from dqlearn.stages.policy import KnownPolicy, Policy
from dqlearn.storage.protocol import Writer, WriteResult
from dqlearn.table.grid import ChunkGrid
from dqlearn.table.keys import GraphNode, TaskRef
from dqlearn.training.placement import NOWHERE, Placement

__all__ = ["Ownership", "Reader", "SharedLock"]


class SharedLock:
    """A read-write lock: any number of readers, or one writer; readers who wait go first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._exclusive, self._readers = False, 0

    def acquire(self) -> None:
        """Keep readers out, after all who wait have read; a second call does nothing."""
        with self._changed:
            self._changed.wait_for(lambda: self._exclusive or not self._readers)
            self._exclusive = True

    def release(self) -> None:
        """Let readers in; a second call does nothing."""
        with self._changed:
            self._exclusive = False
            self._changed.notify_all()

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Read inside, while there is no writer."""
        with self._changed:
            self._readers += 1
            self._changed.wait_for(lambda: not self._exclusive)
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()


class Ownership:
    """The state after the newest collected round, and who holds its chunks.

    The whole state is kept; only the thread that learns changes it.

    Parameters
    ----------
    placement : Placement
        The place of the state.
    """

    def __init__(self, placement: Placement) -> None:
        self._placement, self._lock = placement, SharedLock()
        self._state = NOWHERE
        self._shared: State | None = None
        self._shown: State | None = None

    @property
    def state(self) -> State:
        """The collected state; ``NOWHERE`` while the run goes back."""
        return self._state

    def whole(self) -> State:
        """Return the collected state; another thread finds none while the run goes back.

        Raises
        ------
        LostWork
            If there is no state.
        """
        if (state := self._state) is NOWHERE:
            raise LostWork("the run is going back to its last recovery point")
        return state

    # those who read

    @contextmanager
    def reading(self) -> Iterator[State]:
        """Keep the collected state from being written to, or dropped, inside.

        A thread other than the one that learns waits until no round is being written or collected.
        """
        with self._lock.shared():
            yield self.whole()

    @contextmanager
    def sharing(self) -> Iterator[State]:
        """Share the collected state: no round will write to it, nor is it dropped inside."""
        with self.reading() as state:
            self.share(state)
            yield state

    def share(self, state: State) -> None:
        """Note that somebody else, too, holds the chunks and the policy of a state."""
        self._shared = self._shown = state

    def show(self, state: State) -> None:
        """Note that somebody else, too, holds the policy of a state."""
        self._shown = state

    # the thread that learns

    def acquire(self) -> None:
        """Keep readers out; see :class:`SharedLock`."""
        self._lock.acquire()

    def release(self) -> None:
        """Let readers in."""
        self._lock.release()

    def writable(self, state: State) -> bool:
        """Whether a round may write to the chunks of a state, once readers are kept out."""
        return self._placement.in_place and state is not self._shared

    def policy_writable(self, state: State) -> bool:
        """Whether rounds may write to the policy of a state, once readers are kept out."""
        return self._placement.in_place and state is not self._shown

    def writable_without_steps(self, state: State) -> tuple[bool, bool]:
        """Whether a round in which no environment steps may write to a state's chunks, and policy.

        Readers must be kept out.
        """
        here = self._placement.in_place_without_steps
        return here and state is not self._shared, here and state is not self._shown

    def advance(self, state: State, needed: Iterable[Key]) -> None:
        """Go on to the state of the next round, and drop what is not needed of the last one."""
        before, self._state = self._state, state
        kept = {*state.keys, *needed}
        self._placement.executor.drop(key for key in before.keys if key not in kept)

    def rename(self, state: State) -> None:
        """Go on under other keys of the same round; if the state is shared, it stays so."""
        before, self._state = self._state, state
        self._shared = state if self._shared is before else self._shared
        self._shown = state if self._shown is before else self._shown
        kept = {*state.keys}
        self._placement.executor.drop(key for key in before.keys if key not in kept)

    def replace(self, state: State, *, shared: bool = False) -> None:
        """Go on to a state that was placed, and drop all of the last one."""
        if shared:
            self.share(state)
        before, self._state = self._state, state
        self._placement.executor.drop([before.plan, *before.keys])


class Reader:
    """Answers questions about the collected state beside the rounds.

    Parameters
    ----------
    placement : Placement
        The place of the state.
    ownership : Ownership
        The holder of the state, who shares it.
    """

    def __init__(self, placement: Placement, ownership: Ownership) -> None:
        self._placement, self._ownership = placement, ownership

    def ask(self, draw: Callable[[State], tuple[Drawn, list[Key]]]) -> list[Any]:
        """Run a graph on the collected state, and return its results.

        A graph that needs no chunks, but only the policy, lets the next round write to the chunks.
        """
        with self._ownership.reading() as state:
            drawn, keys = draw(state)
            if drawn.reads(state.chunks):
                self._ownership.share(state)
            else:
                self._ownership.show(state)
            results = self._placement.executor.background(drawn, keys)
        return results()

    def policy(self) -> Policy | KnownPolicy:
        """Return the policy of the collected state, over all states."""
        made: Policy | KnownPolicy = self.ask(partial(policy_graph, self._placement.plan))[0]
        return made

    def nodes(self) -> tuple[ChunkGrid, State, list[GraphNode | TaskRef]]:
        """Return the grid, the collected state, and its chunks as graph nodes."""
        with self._ownership.sharing() as state:
            return self._placement.plan.laid_out, state, self._nodes(state)

    def visited(self) -> tuple[State, list[GraphNode | TaskRef], list[npt.NDArray[np.int64]]]:
        """Return these for a sparse table, and the states that each chunk has learned about."""
        with self._ownership.sharing() as state:
            nodes = self._nodes(state)
            states = self._placement.executor.background(*visited_graph(state))
        return state, nodes, states()

    def _nodes(self, state: State) -> list[GraphNode | TaskRef]:
        return [self._placement.executor.node(key) for key in state.chunks]

    def write(self, writer: Writer, since: int) -> Callable[[], list[WriteResult]]:
        """Begin to write the collected state; return a function that waits until it is written."""
        with self._ownership.sharing() as state:
            drawn, keys = write_graph(self._placement.plan, state, writer, since)
            return self._placement.executor.background(drawn, keys)
