"""Recovery points: what a run can go back to after lost work, and when it makes new ones.

::

    every so many tasks: take ─► the state copied to the client, and pinned where it is
    with a store:        adopt ─► a checkpoint that was committed; the state is pinned where it is
    before a move:       carry ─► the state copied, or the last point if the cluster has gone

To *pin* a state is to give it keys, where it is, that no task led to: the scheduler forgets the
rounds before. Invariant: the scheduler never has more tasks than lie between two pins, and the
last recovery point is whole at any moment.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from dqlearn.engine.graph import Key
from dqlearn.errors import ClusterError, TableTooLargeError
from dqlearn.stages.observed.sources import Sources
from dqlearn.stages.plan import Plan
from dqlearn.text import warn_caller
from dqlearn.training.environments import Environments
from dqlearn.training.observing.journal import Journal, sources_of
from dqlearn.training.ownership import Ownership
from dqlearn.training.placement import NOWHERE, Placement, RecoveryPoint

__all__ = ["Lineage", "RecoveryPoints"]

_TASKS = 2_000
_LONG = 16  # tasks of many rounds, which are made again one by one
_TASKS_AT_MOST = 50_000
_JOURNAL = 2**29  # bytes of observed batches
_SHARE = 0.03  # largest share of the time for copies of the state


class Lineage:
    """The tasks since the collected state was last pinned, which are its history."""

    def __init__(self) -> None:
        self._tasks, self._since, self._seconds = 0, time.monotonic(), 0.0
        self._fused = 0

    def begin(self) -> None:
        """Start again: the state has no history now."""
        self._tasks, self._since, self._fused = 0, time.monotonic(), 0

    def grow(self, tasks: int, rounds: int = 1) -> None:
        """Add the tasks of a round, or of several rounds that one of them makes."""
        self._tasks += tasks
        self._fused += rounds > 1

    def cost(self, seconds: float) -> None:
        """Note how long a copy of the state took."""
        self._seconds = seconds

    @property
    def long(self) -> bool:
        """Whether there are many tasks, and enough time has passed to pay for the last copy."""
        if self._tasks < _TASKS and self._fused < _LONG:
            return False
        paid = time.monotonic() - self._since > self._seconds / _SHARE
        return paid or self._tasks > _TASKS_AT_MOST


class RecoveryPoints:
    """The recovery points of one run, of which the last is kept.

    Parameters
    ----------
    placement : Placement
        The place of the run.
    ownership : Ownership
        The holder of the collected state.
    environments : Environments
        The environments of that state.
    journal : Journal
        The rounds of the run that were observed.
    last : RecoveryPoint, optional
        The point that the run begins with; without one, round 0 or a stored table.

    Attributes
    ----------
    last : RecoveryPoint or None
        The point that the run would go back to now.
    lineage : Lineage
        The work since the state was last pinned.
    """

    def __init__(
        self,
        placement: Placement,
        ownership: Ownership,
        environments: Environments,
        journal: Journal,
        last: RecoveryPoint | None,
    ) -> None:
        self._placement, self._ownership = placement, ownership
        self._environments, self._journal = environments, journal
        self.last, self.lineage = last, Lineage()
        self._warned = False

    @property
    def due(self) -> bool:
        """Whether the scheduler has so many tasks that the state must be pinned.

        Or the client has so many batches that it must get a copy of what was learned from them.
        """
        heavy = self._journal.nbytes > _JOURNAL and not (self.last and self.last.version)
        return (self.lineage.long or heavy) and not self._placement.executor.shares_memory

    @property
    def round(self) -> int:
        """The round of the last point; 0 without one."""
        return self.last.round if self.last else 0

    @property
    def live(self) -> bool:
        """Whether the last point has no environments, as they could not be copied."""
        return self.last is not None and self.last.live

    @property
    def irreplaceable(self) -> bool:
        """Whether environments would be lost for good with their worker."""
        return self._placement.plan.donated and (self.last is None or self.last.live)

    def take(self) -> None:
        """Copy the state to the client, and pin it.

        A table out of core is not copied, and stays with its workers.
        """
        if not self._placement.plan.out_of_core:
            self.last = self._copy()
        self.hold()

    def hold(self) -> None:
        """Pin the collected state, so that its history is forgotten; no round may be under way."""
        self._ownership.rename(self._placement.executor.hold(self._ownership.state))
        self.lineage.begin()

    def set_down(self, *, restart: bool) -> dict[Key, Any]:
        """Prepare the state so that a checkpoint and copies of environments can bring it back.

        With `restart`, Python environments begin new episodes, and no copies are needed.
        """
        if restart:
            self._environments.restart()
        self.hold()
        unneeded = restart or self._placement.executor.shares_memory
        return {} if unneeded else self._environments.copies()

    def adopt(self, committed: Iterable[RecoveryPoint]) -> None:
        """Adopt checkpoints that were committed, the newest last."""
        for point in committed:
            self.last = point

    def keep(self) -> None:
        """Copy what was learned on a cluster to the client, so that the cluster may go."""
        elsewhere = not (self._placement.executor.shares_memory or self._placement.plan.out_of_core)
        if elsewhere and self._ownership.state.round > self.round:
            self.last = self._copy()

    def _copy(self) -> RecoveryPoint:
        """Copy the state to the client; no round may be under way. Live environments stay out."""
        began = time.monotonic()
        with self._ownership.sharing() as state:
            values = self._environments.copies()
            rest = [key for key in state.keys if key not in values]
            values |= self._placement.executor.gather(rest)
            grid, observed = self._placement.plan.grid, self._journal.sources.copy()
            point = RecoveryPoint(state.round, state, values, grid=grid, observed=observed)
        self.lineage.cost(time.monotonic() - began)
        return point

    def carry(self, out_of_core: bool) -> None:
        """Make a recovery point for a move; if the cluster has gone, the last point must do.

        Parameters
        ----------
        out_of_core : bool
            Whether the table will be out of core there.

        Raises
        ------
        TableTooLargeError
            If the table is out of core, here or there, and is not that of the last point.
        """
        state, executor = self._ownership.state, self._placement.executor
        if state is NOWHERE:
            return
        if self.last and self.last.round == state.round:
            self._add_copies(self.last)
            return
        try:
            if out_of_core or self._placement.plan.out_of_core:
                self._refuse_to_leave()
            else:
                self.last = self._copy()
        except ClusterError as error:
            warn_caller(
                f"{executor.name} has gone with rounds {self.round} .. {state.round - 1}: "
                f"going back to round {self.round} ({error})",
            )

    def _add_copies(self, point: RecoveryPoint) -> None:
        """Add copies of the environments of one process to a point; a cluster has copies."""
        if self._placement.executor.shares_memory and not point.values:
            copies = self._environments.copies()
            self.last = replace(point, state=self._ownership.state, values=copies)

    def _refuse_to_leave(self) -> None:
        """Refuse to move what was learned if it does not fit into the client's memory.

        Raises
        ------
        TableTooLargeError
            If the table is still where it was; `ClusterLostError` if its cluster has gone.
        """
        origin, executor = self._placement.plan.origin, self._placement.executor
        if self._ownership.state.round == (origin.round if origin else 0):
            return
        executor.gather([])
        raise TableTooLargeError(
            "a table that is out of core, here or there, goes elsewhere through a store: call "
            f"learn(store=...) where it is, at {executor.name}, or dqlearn.resume elsewhere"
        )

    def go_back(self) -> None:
        """Let the counters of observed sources go back to the last point."""
        self._journal.go_back(_observed(self._placement.plan, self.last))

    def warn_without_store(self) -> None:
        """Warn once that a table which the client cannot hold is nowhere but on the cluster."""
        plan, executor = self._placement.plan, self._placement.executor
        if plan.out_of_core and not (executor.shares_memory or self._warned):
            self._warned = True
            warn_caller(
                "the table is out of core, and the client keeps no copy of it: if a worker dies, "
                f"the run goes back to round {self.round}; pass store=",
            )


def _observed(plan: Plan, point: RecoveryPoint | None) -> Sources:
    """Return the counters of observed sources at a point, or of what the run begins with."""
    if point is not None and point.observed is not None:
        return point.observed.copy()
    stored = point.version if point and point.version else plan.origin
    return sources_of(stored.attributes, stored.name) if stored else Sources()
