"""Recovery: the way back to the last recovery point, on the remaining workers, after lost work.

::

    an error ─┬─ lost work ────────────► find workers ─► place the last recovery point ─┐
              │                            ▲                    └─ lost again ─┐         │
              │                            └───────────────────────────────────┘        ▼
              ├─ table written in part ────► place the last recovery point ──► the round after it
              └─ another, in a round ──────► make the Python environments anew

Invariant: rounds are pure, so the bits of the state of round r are the same however it was made.
A run that loses work again and again, and gets no further than before, is given up.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dqlearn.engine.cluster import LostWork
from dqlearn.engine.executor import Executor
from dqlearn.engine.round import stamps_graph
from dqlearn.envs.python.faults import given_up
from dqlearn.envs.python.gymnasium_env import PythonEnv
from dqlearn.envs.python.marks import Scene
from dqlearn.errors import ClusterError, ClusterLostError, DQLearnError
from dqlearn.text import warn_caller
from dqlearn.training.capacity import fitted
from dqlearn.training.environments import Environments
from dqlearn.training.ownership import Ownership
from dqlearn.training.placement import NOWHERE, Placement
from dqlearn.training.recovery_points import RecoveryPoints

__all__ = ["Losses", "Recovery"]

_TIMEOUT = 60.0  # seconds for a worker to come; for live environments, as many as there were
_ATTEMPTS = 5  # number of attempts to get further than ever


class Losses:
    """The losses since the run was last further than ever."""

    def __init__(self) -> None:
        self._count, self._furthest = 0, 0
        self._scenes: Counter[Scene] = Counter()  # where environments ended their processes

    def forgive(self) -> None:
        """Start counting again."""
        self._count = 0
        self._scenes.clear()

    def reached(self, round_: int) -> None:
        """Note how far the run is; if it is further than ever, counting starts again."""
        if round_ > self._furthest:
            self._furthest = round_
            self.forgive()

    def add(self) -> None:
        """Count one more loss."""
        self._count += 1

    def note(self, scenes: list[Scene]) -> None:
        """Note what environments were doing when they ended the processes that they were in."""
        self._scenes.update(scenes)

    @property
    def too_many(self) -> bool:
        """Whether the run makes no progress."""
        return self._count >= _ATTEMPTS

    def given_up(self, lost: ClusterLostError | None = None) -> DQLearnError:
        """Return the error that says why the run is given up."""
        return given_up(self._count, self._scenes, self._furthest, lost)


class Recovery:
    """Brings a run back to a whole state; at first, to the state that it begins with.

    Parameters
    ----------
    placement : Placement
        The place of the run.
    ownership : Ownership
        The holder of the collected state.
    environments : Environments
        The environments of that state.
    points : RecoveryPoints
        The recovery points of the run.

    Attributes
    ----------
    interrupted : threading.Event
        An event that is set when somebody does not want to wait for workers any longer.
    losses : Losses
        The losses since the run was last further than ever.
    """

    def __init__(
        self,
        placement: Placement,
        ownership: Ownership,
        environments: Environments,
        points: RecoveryPoints,
    ) -> None:
        self._placement, self._ownership = placement, ownership
        self._environments, self._points = environments, points
        self.interrupted, self.losses = threading.Event(), Losses()
        self._adrift = False  # the state is lost, and there are no workers yet to place another
        with self._again():
            self._place()

    @property
    def round(self) -> int:
        """The round that the run is at, or goes back to when there are workers again."""
        if not self._adrift:
            return self._ownership.state.round
        origin = self._placement.plan.origin
        return self._points.round if self._points.last or not origin else origin.round

    def recover(self, error: BaseException) -> None:
        """Go back to a whole state after a round failed, when no round is under way any more.

        Raises
        ------
        EnvironmentFault
            If environments end their processes again and again.
        ClusterLostError
            If work is lost again and again for another reason, or no worker comes.
        """
        if isinstance(error, ClusterError):
            self._adrift = True
            self._find_workers(error)
            if isinstance(error, LostWork):
                self._count_loss(error)
            self._go_back()
        elif self._torn():
            self._leave_torn_table(error)
        elif self._environments.here:
            self._environments.rebuild(error)

    def _find_workers(self, error: ClusterError) -> None:
        """Find the present workers; wait for some, unless that was done, or is interrupted."""
        none_came = isinstance(error, ClusterLostError)  # in the time that was allowed
        patience = _TIMEOUT if self._points.irreplaceable and not none_came else 0.0
        timeout = 0.0 if none_came else _TIMEOUT
        try:
            self._placement.executor.rehome(timeout, patience, self.interrupted)
        except ClusterLostError as lost:  # whoever starts workers may have given up before the run
            raise self.losses.given_up(lost) from error

    def _count_loss(self, error: LostWork) -> None:
        """Count the work that was lost since the last progress; give up if there is too much."""
        self.losses.add()
        env = self._placement.plan.env
        if isinstance(env, PythonEnv):
            self.losses.note(self._placement.executor.scenes(env.run))
        if self.losses.too_many:
            self._ownership.replace(NOWHERE)
            raise self.losses.given_up() from error

    def _torn(self) -> bool:
        """Whether a round in place failed after it had begun to write."""
        state = self._ownership.state
        if not self._placement.in_place_without_steps or state is NOWHERE:
            return False
        rounds = self._placement.fetch(*stamps_graph(state))
        return any(found not in (None, state.round) for found in rounds)

    def _leave_torn_table(self, error: BaseException) -> None:
        """Go back from a table that is half in one round and half in the next."""
        torn = self._ownership.state.round
        self._go_back()
        warn_caller(
            f"round {torn} failed while it wrote to the table ({error!r}): the run is back at "
            f"round {self._ownership.state.round}; with store= that is its last checkpoint",
        )

    def _go_back(self) -> None:
        """Drop the state, and place the last recovery point; live environments are built anew.

        The old state is dropped first: a process may have room for one simulator only.
        """
        self._ownership.replace(NOWHERE)
        with self._again():
            self._place()
            if self._placement.plan.donated and self._points.last is None:
                with suppress(LostWork):  # the next round meets the loss again
                    self.take_point()
            if self._points.live:
                warn_caller(
                    f"the environments cannot be copied: at round {self._ownership.state.round} "
                    "all of them were built and reset anew; the table is that of the round",
                )

    @contextmanager
    def _again(self) -> Iterator[None]:
        """Go back, if a worker dies inside, as often as needed."""
        try:
            yield
        except LostWork as error:
            self.recover(error)

    def _place(self) -> None:
        """Replace the present state by the last recovery point, or the state of round 0."""
        self._points.lineage.begin()
        point = self._points.last
        placed = self._placement.place(point)
        shared = point is not None and bool(point.values)  # with the point, whose copies these are
        self._environments.note_placed()
        self._points.go_back()
        self._adrift = False
        self._ownership.replace(placed, shared=shared)

    def renew_point(self) -> None:
        """Pin the state; without a checkpoint to go back to, make a recovery point."""
        last = self._points.last
        if last is not None and last.version is not None:
            self._points.hold()
        else:
            self.take_point()

    def take_point(self) -> None:
        """Make a recovery point, and give workers that have joined since their share."""
        self._points.take()
        if not (self._placement.plan.out_of_core or self._placement.executor.settled_in):
            self.spread_out()

    def spread_out(self) -> None:
        """Place the recovery point of this round over the present workers."""
        if not self._points.live:  # live environments stay where they are
            self._placement.executor.rehome()
            self._place()

    def move(self, executor: Executor) -> None:
        """Move to another executor, with the state or the last recovery point."""
        plan = fitted(self._placement.plan, executor)
        self._points.carry(plan.out_of_core)
        self._placement.adopt(plan, executor)
        self._go_back()

    def come_back(self) -> None:
        """Go back to the last recovery point if there is no state, or its environments have died.

        That may have happened between two calls of the user.
        """
        if self._ownership.state is NOWHERE or self._environments.stranded:
            self._placement.executor.rehome()
            self._go_back()
