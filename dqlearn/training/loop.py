"""The loop over rounds.

::

    begin the first checkpoint
    while transitions are missing:
        submit a round
        for every report that has come: history, progress bar
        if a callback is due:   wait for this round, tell it; it may stop
        if a checkpoint is due: wait for this round, begin to write it, go on
        tell the callbacks of the checkpoints that were committed
    wait for all rounds, and keep what was learned

Invariant: between two calls of its methods, the run is at the end of a round, whatever happened:
an error, a stop, Ctrl-C, a worker's death.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from dqlearn.callbacks import CallbackList
from dqlearn.engine.cluster import LostWork
from dqlearn.errors import StoreError
from dqlearn.events import Checkpoint, Event, Learner, RoundEnd, RoundReport, Stop
from dqlearn.stages.fused.reports import RoundReports
from dqlearn.storage.protocol import Version
from dqlearn.table.history import History
from dqlearn.training.checkpointer import Checkpointer
from dqlearn.training.pipeline import Pipeline
from dqlearn.training.progress import ProgressBar

__all__ = ["Loop"]


class Loop:
    """Makes the rounds of one call of `learn`.

    Parameters
    ----------
    learner : Learner
        The learner, which tells its callbacks of events.
    run : Pipeline
        The run, which submits and collects the rounds.
    history : History
        The history of the run, which collects the reports.
    callbacks : CallbackList
        The callbacks, which decide the rounds that they are told of.
    bar : ProgressBar
        A progress bar.
    checkpointer : Checkpointer, optional
        Writer of checkpoints.
    hold : bool
        Whether no checkpoint is begun, as the repository is not open; those that were begun before
        become recovery points.
    """

    def __init__(
        self,
        learner: Learner,
        run: Pipeline,
        history: History,
        callbacks: CallbackList,
        bar: ProgressBar,
        checkpointer: Checkpointer | None = None,
        *,
        hold: bool = False,
    ) -> None:
        self._learner, self._run, self._history = learner, run, history
        self._callbacks, self._bar = callbacks, bar
        kind = EarlierCheckpoints if hold else Checkpoints
        self._checkpoints = kind(run, history, checkpointer) if checkpointer else NoCheckpoints(run)
        self._began, self._total = time.monotonic(), 0

    def run(
        self, total_timesteps: int, interrupted: threading.Event, stop: Stop | None
    ) -> Stop | None:
        """Make rounds until there are enough, a callback stops them, or somebody interrupts them.

        Parameters
        ----------
        total_timesteps : int
            Number of transitions, counted from the run's beginning.
        interrupted : threading.Event
            An event that is set when the round under way is to be the last.
        stop : Stop or None
            The answer of a callback before the first round.

        Returns
        -------
        Stop or None
            Reason why there are no more rounds; None after an interrupt.
        """
        self._total = total_timesteps
        self._begin()
        while stop is None and not interrupted.is_set():
            if self._expected < total_timesteps:
                stop = self._advance()
            elif self._finish():
                stop = Stop("all timesteps are made")
        self._finish()
        self._announce()
        return stop

    def catch_up(self, round_: int) -> None:
        """Make rounds until the next one is `round_`, as the journal of the run has them.

        Parameters
        ----------
        round_ : int
            The round that is not made.
        """
        self._begin()
        while self._run.round < round_:
            self._advance()
        self._announce()

    def _advance(self) -> Stop | None:
        """Make a round, tell the callbacks that are due, write the checkpoint that is due."""
        self._begin()
        report = self._round()
        stop = self._tell(RoundEnd(self._learner, report)) if report else None
        with self._whole():
            self._checkpoints.record(report)
        return self._announce() or stop

    def _round(self) -> RoundReport | None:
        """Submit a round, collect finished ones; return its report, if it was waited for."""
        with self._whole():
            before = self._expected
            round_ = self._run.submit(self._until_somebody_waits(before))
            wait = self._callbacks.due(round_) or not self._run.steady
            return self._take(wait=wait or self._checkpoints.due(round_, before, self._expected))
        return None

    def _until_somebody_waits(self, made: int) -> int:
        """Return the number of rounds up to the next that somebody waits for."""
        plan, round_ = self._run.plan, self._run.round + self._run.under_way
        per_round = plan.round_size
        return min(
            -(-(self._total - made) // per_round),
            self._callbacks.until_due(round_),
            self._checkpoints.until_due(round_, made, per_round),
        )

    @property
    def _expected(self) -> int:
        """Number of transitions when the rounds under way are over."""
        plan, made = self._run.plan, _timesteps(self._run, self._history)
        return made + self._run.under_way * plan.round_size

    def _begin(self) -> None:
        """Begin the first checkpoint of a repository, so that there is always one to go back to.

        The checkpoint is begun again if it was lost with a worker.
        """
        while not self._checkpoints.begun:
            with self._whole():
                self._checkpoints.begin()

    def _finish(self) -> bool:
        """Collect the rounds under way, and keep what was learned where it outlives the cluster.

        Returns
        -------
        bool
            False if work was lost on the way, and the run went back.
        """
        with self._whole():
            self._take(wait=True)
            self._checkpoints.finish()
            return True
        return False

    def _take(self, *, wait: bool) -> RoundReport | None:
        """Collect reports; return the last, if no round is under way any more."""
        report = self._keep(self._run.collect(wait=wait))
        return None if self._run.under_way else report

    def _keep(self, reports: Iterable[RoundReports]) -> RoundReport | None:
        """Append reports to the history; return the last."""
        report = None
        for some in reports:
            arrived = some.arrived(time.monotonic() - self._began)
            self._history.extend(arrived.columns)
            report = arrived[-1]
            self._bar.update(report)
        return report

    def _announce(self) -> Stop | None:
        """Tell the callbacks of the checkpoints that were committed."""
        stop = None
        for made in self._checkpoints.pop_news():
            counters = (made.round, made.timesteps, made.name, made.number)
            stop = self._tell(Checkpoint(self._learner, *counters)) or stop
        return stop

    def _tell(self, event: Event) -> Stop | None:
        """Tell the callbacks of an event; work that they need may be lost meanwhile."""
        with self._going_back():
            return self._learner.emit(event)
        return None

    @contextmanager
    def _going_back(self) -> Iterator[None]:
        """Handle lost work inside: it is no error, the run goes back and makes it again."""
        try:
            yield
        except LostWork as error:
            self._go_back(error)

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Leave the run at the end of a whole round. Lost work is no error: it is made again."""
        try:
            with self._going_back():
                yield
        except StoreError:
            self._finish_rounds()
            raise
        except BaseException as error:
            self._go_back(error)
            raise

    def _finish_rounds(self) -> None:
        """Collect the rounds under way, unless they are rounds that cannot read the store."""
        try:
            self._take(wait=True)
        except (LostWork, StoreError) as error:
            self._go_back(error)
        except BaseException as error:
            self._go_back(error)
            raise

    def _go_back(self, error: BaseException) -> None:
        self._checkpoints.give_up(error)
        self._keep(self._run.over())
        try:
            self._run.recover(error)
        finally:
            self._history.truncate(self._run.recovery.round)


class Checkpoints:
    """The checkpoints of one loop, each of which becomes a recovery point of the run."""

    def __init__(self, run: Pipeline, history: History, checkpointer: Checkpointer) -> None:
        self._run, self._history, self._checkpointer = run, history, checkpointer

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint, or one is under way."""
        return self._checkpointer.begun

    def due(self, round_: int, before: int, after: int) -> bool:
        """Whether a checkpoint is due after a round, given the transitions before and after it."""
        return self._checkpointer.passed(round_, before, after)

    def until_due(self, round_: int, made: int, per_round: int) -> int:
        """Return the number of rounds until a checkpoint is due, by the run's counters."""
        return self._checkpointer.saving.checkpoint_every.until(round_, made, per_round)

    def begin(self) -> None:
        """Begin a checkpoint of the collected round, after the one before is finished."""
        self._hand_over(at_once=True)
        timesteps = _timesteps(self._run, self._history)
        self._checkpointer.begin(self._run, timesteps, self._history)
        if not self._run.executor.settled_in:
            self._hand_over(at_once=True)
            self._run.recovery.spread_out()

    def record(self, report: RoundReport | None) -> None:
        """Begin the checkpoint that is due after a round, and hand over committed ones."""
        if report is not None and report.round + 1 == self._run.round:
            before = report.timesteps - report.n_transitions
            if self.due(report.round, before, report.timesteps):
                self.begin()
        self._hand_over()

    def finish(self) -> None:
        """Make sure that the collected round has a checkpoint."""
        self._hand_over(at_once=True)
        base = self._checkpointer.base
        if base is None or base.round != self._run.round:
            self.begin()
            self._hand_over(at_once=True)

    def _hand_over(self, *, at_once: bool = False) -> None:
        """Hand over to the run what was committed; with `at_once`, wait for the one under way."""
        try:
            self._checkpointer.finish(at_once=at_once)
        finally:
            self._run.points.adopt(self._checkpointer.hand_over())

    def give_up(self, error: BaseException) -> None:
        """Give up the checkpoint under way after an error other than Ctrl-C, unless it is whole."""
        if isinstance(error, Exception):
            self._checkpointer.abandon()
        self._run.points.adopt(self._checkpointer.hand_over())

    def pop_news(self) -> Iterator[Version]:
        """Yield the checkpoints that callbacks were not told of."""
        return self._checkpointer.pop_news()


class EarlierCheckpoints(Checkpoints):
    """The checkpoints of a loop that begins none: those that are under way."""

    @property
    def begun(self) -> bool:
        """Return True."""
        return True

    def due(self, round_: int, before: int, after: int) -> bool:
        """Return False."""
        return False

    def until_due(self, round_: int, made: int, per_round: int) -> int:
        """Return a number of rounds without an end."""
        return sys.maxsize


class NoCheckpoints:
    """The checkpoints of a loop without a store: there are none."""

    def __init__(self, run: Pipeline) -> None:
        self._run, self.begun = run, False

    def due(self, round_: int, before: int, after: int) -> bool:
        """Return False: no checkpoint is ever due."""
        return False

    def until_due(self, round_: int, made: int, per_round: int) -> int:
        """Return a number of rounds without an end."""
        return sys.maxsize

    def begin(self) -> None:
        """Warn that there are no checkpoints, if that may cost much."""
        self.begun = True
        self._run.points.warn_without_store()

    def record(self, report: RoundReport | None) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Keep what was learned in the client's memory."""
        self._run.points.keep()

    def give_up(self, error: BaseException) -> None:
        """Do nothing."""

    def pop_news(self) -> Iterator[Version]:
        """Yield nothing."""
        return iter(())


def _timesteps(run: Pipeline, history: History) -> int:
    """Return the transitions that the table was learned from."""
    origin = run.plan.origin
    return history.timesteps or (origin.timesteps if origin else 0)
