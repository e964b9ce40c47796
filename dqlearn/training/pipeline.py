"""A run: rounds submitted ahead, and their reports collected in order.

::

    submit ─► submit ─► submit          at most `depth` rounds under way
      └─► collect ─► collect ─► ...     reports, oldest first; earlier states are dropped
    in one process:                     in place, unless the state before the round is shared;
                                        many rounds in one task, where that can be

The parts of a run, each of which uses those above it::

    placement      where the run is: plan, executor, keys
    ownership      the collected state, and who holds it; reader: questions of others about it
    environments   Python environments, which live outside of the table
    journal        the rounds that were observed, and how far their sources are
    points         the recovery points of the run
    recovery       the way back
    pipeline       rounds ahead

Invariant: a report is collected once, and in order; the state is that of the newest round whose
report was collected.
"""

from __future__ import annotations

import sys
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace

from dqlearn.engine.cluster import current_executor
from dqlearn.engine.executor import Executor
from dqlearn.engine.fusing import Pace
from dqlearn.engine.graph import Drawn, Key, State
from dqlearn.engine.observed import fused_observed_graph, observed_graph
from dqlearn.engine.round import round_graph, rounds_graph
from dqlearn.events import RoundReport
from dqlearn.stages.fused.reports import RoundReports
from dqlearn.stages.observed.batch import Batch
from dqlearn.stages.observed.sources import Sources
from dqlearn.stages.plan import Plan
from dqlearn.training.capacity import Balancer, check_left, fitted
from dqlearn.training.environments import Environments
from dqlearn.training.interrupt import uninterrupted
from dqlearn.training.observing.journal import Journal
from dqlearn.training.ownership import Ownership, Reader
from dqlearn.training.placement import Placement, RecoveryPoint
from dqlearn.training.recovery import Recovery
from dqlearn.training.recovery_points import RecoveryPoints

__all__ = ["Pipeline"]

_FUSED_DEPTH = 2  # tasks of many rounds under way, each of which an interrupt waits for


class Pipeline:
    """Makes the rounds of one run, wherever Dask would run now.

    Parameters
    ----------
    plan : Plan
        The plan of the run.
    point : RecoveryPoint, optional
        The recovery point to begin with; without one the run begins at round 0.

    Attributes
    ----------
    ownership : Ownership
        The collected state, and who holds it.
    reader : Reader
        Answers questions about that state.
    environments : Environments
        The run's Python environments.
    journal : Journal
        The rounds that were observed, which are not made by environments.
    points : RecoveryPoints
        The recovery points of the run.
    recovery : Recovery
        The way back to a recovery point.

    Raises
    ------
    TableTooLargeError
        If there is too little memory for the table.
    ClusterError
        If there is a cluster that cannot be used.
    """

    def __init__(self, plan: Plan, point: RecoveryPoint | None = None) -> None:
        executor = current_executor()
        self._placement = place = Placement(fitted(plan, executor), executor)
        self.ownership = owns = Ownership(place)
        self.reader = Reader(place, owns)
        self.environments = Environments(place, owns)
        self.journal = Journal(Sources())  # whose counters are those of what is placed
        self.points = RecoveryPoints(place, owns, self.environments, self.journal, point)
        self.recovery = Recovery(place, owns, self.environments, self.points)
        self._balancer = Balancer(place, owns)
        self._pending: deque[Drawn] = deque()
        self._over: deque[RoundReports] = deque()  # reports that came before anybody asked
        self._pace = Pace()

    @property
    def plan(self) -> Plan:
        """The plan of the run, at its place, with the chunks that it has now."""
        return self._placement.plan

    @property
    def executor(self) -> Executor:
        """The executor that runs the tasks."""
        return self._placement.executor

    @property
    def round(self) -> int:
        """Number of rounds that are collected."""
        return self.ownership.state.round

    @property
    def under_way(self) -> int:
        """Number of rounds that are submitted, and whose reports were not collected."""
        return self._newest.round - self.round + sum(map(len, self._over))

    @property
    def _newest(self) -> State:
        """State of the newest round submitted."""
        return self._pending[-1].state if self._pending else self.ownership.state

    @property
    def _depth(self) -> int:
        """Graphs that may be under way."""
        return min(self.executor.depth, _FUSED_DEPTH if self._placement.fused else sys.maxsize)

    def submit(self, most: int = 1) -> int:
        """Submit the next round, or up to `most` rounds in one task; return the last one's number.

        Rounds in one task are fewer where the next one would meet a fault of the model.
        """
        before = self._newest.round
        self._trim()
        if (batch := self.journal.at(before)) is not None:
            return self._submit_observed(batch)
        most = self.journal.until(before, most)
        self.environments.prepare()
        if self.plan.sparse and self.executor.shares_memory:
            check_left()
        if self._placement.in_place:
            self.ownership.acquire()
        try:
            drawn = self._submit(self._newest, most)
        except BaseException:
            self.ownership.release()
            raise
        self.points.lineage.grow(len(drawn.tasks), drawn.state.round - before)
        return self._newest.round - 1

    def _submit(self, state: State, most: int) -> Drawn:
        """Submit the round after a state; a round in place is collected at once."""
        if self._placement.fused:
            return self._submit_fused(state, most)
        in_place = self.ownership.writable(state)
        drawn = round_graph(self.plan, state, self.executor.memories, in_place)
        with uninterrupted() if in_place else nullcontext():
            self.executor.submit(drawn, [*drawn.state.keys, drawn.report])
            self._pending.append(drawn)
            if in_place:  # no interrupt may come between: there is no other state any more
                self._over.append(self._collect_oldest())
        return drawn

    def _submit_fused(self, state: State, most: int) -> Drawn:
        """Submit up to `most` rounds after a state; those in place are collected at once."""
        threads = self._pace.threads(self.executor.threads)
        owned = self.ownership.writable(state), self.ownership.policy_writable(state)
        drawn = rounds_graph(state, self._pace.rounds(threads, most), threads, owned)
        here = self._placement.in_place
        with uninterrupted() if here else nullcontext():
            self.executor.submit(drawn, [*drawn.state.keys, drawn.report])
            self._pending.append(drawn)
            if here:
                self._over.append(self._collect_oldest())
        return drawn

    def _submit_observed(self, batch: Batch) -> int:
        """Submit a round that was observed; return its number."""
        plan = self.plan
        if plan.exchange == "gather":
            self.environments.prepare()  # shards ask again
        state = self._newest
        if plan.sparse and self.executor.shares_memory:
            check_left()
        place = state.plan[1], state.round, uuid.uuid4().hex[:8]
        given = {("dqlearn-piece", *place, w): piece for w, piece in enumerate(batch.pieces)}
        here = self._placement.in_place_without_steps
        if here:
            self.ownership.acquire()  # before it is asked who else has the state
        try:
            self.executor.put(given)
            drawn = replace(self._draw_observed(state, list(given)), given=tuple(given))
            self._run_observed(drawn, here=here)
        except BaseException:
            self.executor.drop(given)
            self.ownership.release()
            raise
        self.points.lineage.grow(len(drawn.tasks))
        return state.round

    def _draw_observed(self, state: State, pieces: list[Key]) -> Drawn:
        owned = self.ownership.writable_without_steps(state)
        if self._placement.fused:
            return fused_observed_graph(self.plan, state, pieces, owned)
        return observed_graph(self.plan, state, pieces, self.executor.memories, owned[0])

    def _run_observed(self, drawn: Drawn, *, here: bool) -> None:
        """Run the graph of an observed round; one in place is collected at once."""
        with uninterrupted() if here else nullcontext():
            new = [key for key in (*drawn.state.keys, drawn.report) if key in drawn.tasks]
            self.executor.submit(drawn, new)
            self._pending.append(drawn)
            if here:
                self._over.append(self._collect_oldest())

    def _trim(self) -> None:
        """Forget the observed rounds that no loss can reach."""
        last = self.round if self.executor.shares_memory else self.points.round
        self.journal.forget_before(last)

    @property
    def steady(self) -> bool:
        """Whether each of the next rounds makes as many transitions as the plan says."""
        return self.plan.steady and self.journal.end(self.round) == self.round

    def collect(self, *, wait: bool) -> Iterator[RoundReports]:
        """Yield the reports of rounds that are over: all when waiting, else those beyond depth."""
        wait = wait or self.points.due or self._balancer.due(self._newest.round)
        yield from self.over()
        while self._pending and (wait or len(self._pending) >= self._depth):
            yield self._collect_oldest()
        if not self._pending and self._balancer.due(self.round):
            self._balancer.balance()
        if not self._pending and self.points.due:
            self.recovery.renew_point()

    def over(self) -> Iterator[RoundReports]:
        """Yield the reports that came before they were asked for."""
        while self._over:
            yield self._over.popleft()

    def _collect_oldest(self) -> RoundReports:
        """Wait for the oldest graph, drop what only rounds before it needed; return its reports."""
        drawn = self._pending[0]
        told: RoundReports | RoundReport = self.executor.result(drawn.report)
        reports = RoundReports.of(told) if isinstance(told, RoundReport) else told
        if reports.threads:
            self._pace.note(len(reports), reports.threads, reports.seconds)
        after = replace(drawn.state, round=int(reports.columns["round"][-1]) + 1)
        self.ownership.acquire()
        self._pending.popleft()
        needed = [key for later in self._pending for key in later.state.keys]
        self.ownership.advance(after, needed)
        self.recovery.losses.reached(after.round)
        self.executor.drop([drawn.report, *drawn.given])
        self.journal.learned(after.round - 1)
        self.ownership.release()
        return reports

    def recover(self, error: BaseException) -> None:
        """Go back to a whole state after a round failed: see :meth:`Recovery.recover`."""
        self._drop_pending()
        self.recovery.recover(error)

    def _drop_pending(self) -> None:
        """Give up the rounds under way."""
        kept = {*self.ownership.state.keys}
        for drawn in self._pending:
            keys = (drawn.report, *drawn.given, *drawn.state.keys)
            self.executor.drop(key for key in keys if key not in kept)
        self._pending.clear()
        self.ownership.release()

    def move(self) -> None:
        """Go where Dask would run now, if that is elsewhere, with the state or the last point."""
        self.recovery.losses.forgive()  # somebody tries again
        target = current_executor(self.executor)
        if not self.executor.adopt(target):
            self._drop_pending()  # which an error in a callback may have left under way
            self.recovery.move(target)
        elif not self._pending:
            self.recovery.come_back()
