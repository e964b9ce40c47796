"""The loop over rounds.

::

    while transitions are missing:
        submit a round
        for every report that has come: history, progress bar
        if a callback is due:   wait for this round, tell it; it may stop
        if a checkpoint is due: wait for this round, begin to write it, go on

Invariant: between two calls of its methods, the run is at the end of a round, whatever happened:
an error, a stop, Ctrl-C, a worker's death.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from dqlearn.callbacks import CallbackList
from dqlearn.engine.cluster import LostWork
from dqlearn.errors import StoreError
from dqlearn.events import RoundReport
from dqlearn.storage.protocol import Version
from dqlearn.table.history import History
from dqlearn.training.pipeline import Runner
from dqlearn.training.progress import ProgressBar
from dqlearn.training.recorder import Recorder

__all__ = ["Loop"]


class Loop:
    """Makes the rounds of one call of `learn`.

    Parameters
    ----------
    runner : Runner
        Submits and collects them.
    history : History
        Takes their reports up.
    callbacks : CallbackList
        Asked which rounds they want to be told of.
    bar : ProgressBar
        Shows how far it is.
    recorder : Recorder, optional
        Writes checkpoints.

    Attributes
    ----------
    committed : list of Version
        Checkpoints that the callbacks were not told of yet.
    """

    def __init__(
        self,
        runner: Runner,
        history: History,
        callbacks: CallbackList,
        bar: ProgressBar,
        recorder: Recorder | None = None,
    ) -> None:
        self._runner, self._history, self._callbacks = runner, history, callbacks
        self._bar, self._recorder = bar, recorder
        self.committed: list[Version] = []
        self._began = time.monotonic()

    @property
    def timesteps(self) -> int:
        """Transitions that the table was learned from."""
        origin = self._runner.plan.origin
        return self._history.timesteps or (origin.timesteps if origin else 0)

    def start(self) -> None:
        """Begin the first checkpoint of a repository, so that there is always one to go back to.

        It is begun again if it was lost with a worker.
        """
        if self._recorder is None:
            self._runner.warn_without_store()
        while self._recorder and not self._recorder.begun:
            with self._whole():
                self._checkpoint(self._recorder)

    def round(self) -> RoundReport | None:
        """Submit a round and take in those that are over.

        Returns
        -------
        RoundReport or None
            Of this round, if it was waited for.
        """
        self.start()
        with self._whole():
            before, round_ = self._expected, self._runner.submit()
            wait = self._callbacks.due(round_) or not self._runner.plan.steady
            if self._recorder and not wait:
                wait = self._recorder.passed(round_, before, self._expected)
            return self._take(wait=wait)
        return None

    @property
    def _expected(self) -> int:
        """Transitions that there are when the rounds under way are over."""
        plan = self._runner.plan
        return self.timesteps + self._runner.under_way * plan.num_envs * plan.steps_per_round

    def enough(self, total_timesteps: int) -> bool:
        """Whether all transitions are made, or under way."""
        return self._expected >= total_timesteps

    def record(self, report: RoundReport | None) -> None:
        """Begin the checkpoint that is due after a round, and note those that are committed."""
        recorder = self._recorder
        if recorder is None:
            return
        with self._whole():
            if report is not None and report.round + 1 == self._runner.settled.round:
                before = report.timesteps - report.n_transitions
                if recorder.passed(report.round, before, report.timesteps):
                    self._checkpoint(recorder)
            self._note(recorder)

    def finish(self) -> bool:
        """Take in the rounds under way, and keep what was learned where it outlives the cluster.

        Returns
        -------
        bool
            False if that was lost on the way, and the run went back.
        """
        with self._whole():
            self._take(wait=True)
            if self._recorder is None:
                self._runner.keep()
            else:
                self._record_last(self._recorder)
            return True
        return False

    def _record_last(self, recorder: Recorder) -> None:
        self._note(recorder, at_once=True)
        if recorder.base is None or recorder.base.round != self._runner.settled.round:
            self._checkpoint(recorder)
            self._note(recorder, at_once=True)

    def _checkpoint(self, recorder: Recorder) -> None:
        """Begin a checkpoint of the settled round, after the one before."""
        self._note(recorder, at_once=True)
        recorder.begin(self._runner, self.timesteps, self._history)
        if not self._runner.executor.settled_in:
            self._note(recorder, at_once=True)
            self._runner.spread_out()

    def _note(self, recorder: Recorder, *, at_once: bool = False) -> None:
        self.committed.extend(recorder.finished(at_once=at_once))

    def _take(self, *, wait: bool) -> RoundReport | None:
        """Take in reports; return the last, if no round is under way any more."""
        report = self._keep(self._runner.collect(wait=wait))
        return None if self._runner.under_way else report

    def _keep(self, reports: Iterable[RoundReport]) -> RoundReport | None:
        """Write reports to the history; return the last."""
        report = None
        for arrived in reports:
            report = replace(arrived, wall_time=time.monotonic() - self._began)
            self._history.append(report)
            self._bar.update(report)
        return report

    @contextmanager
    def going_back(self) -> Iterator[None]:
        """Take lost work inside for no error: the run goes back, and makes it again."""
        try:
            yield
        except LostWork as error:
            self._go_back(error)

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Leave the run at the end of a whole round. Lost work is no error: it is made again."""
        try:
            with self.going_back():
                yield
        except StoreError:
            self._finish_rounds()
            raise
        except BaseException as error:
            self._go_back(error)
            raise

    def _finish_rounds(self) -> None:
        """Take in the rounds under way, unless it is they that cannot read the repository."""
        try:
            self._take(wait=True)
        except (LostWork, StoreError) as error:
            self._go_back(error)
        except BaseException as error:
            self._go_back(error)
            raise

    def _go_back(self, error: BaseException) -> None:
        if self._recorder and isinstance(error, Exception):
            self._recorder.abandon()
        self._keep(self._runner.over())
        try:
            self._runner.recover(error)
        finally:
            self._history.truncate(self._runner.reached)
