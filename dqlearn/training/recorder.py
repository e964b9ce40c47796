"""The recorder: writes a run's checkpoints while it learns.

::

    round r is over ──► hold, begin ──► workers write ──► commit ──► Version: what to go back to
         └─► rounds r+1, r+2, ... are made meanwhile, on copies

The waiting and the commit are in a thread of their own, one checkpoint at a time. Invariant: a
checkpoint is of one round, whole; the run goes back to it only after its commit.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from dqlearn.checks import check_count
from dqlearn.errors import (
    ConfigurationError,
    DQLearnError,
    NoCheckpointError,
    StoreError,
)
from dqlearn.stages.plan import Plan
from dqlearn.stages.settings import whole_number
from dqlearn.storage.attributes import understood
from dqlearn.storage.protocol import CheckpointStore, Transaction, Version
from dqlearn.storage.schema import FORMAT, arrays_of, new_rows
from dqlearn.storage.writer import counted
from dqlearn.table.history import History
from dqlearn.training.every import Every
from dqlearn.training.pipeline import Runner

__all__ = ["Recorder", "Saving"]

Result = TypeVar("Result")


_MINUTE = Every(seconds=60)


@dataclass(frozen=True)
class Saving:
    """How checkpoints are made.

    Attributes
    ----------
    checkpoint_every : Every
        When.
    keep_checkpoints : int, optional
        How many; None for all.
    restart_envs : bool
        Whether Python environments begin new episodes at each.
    """

    checkpoint_every: Every = _MINUTE
    keep_checkpoints: int | None = None
    restart_envs: bool = False

    def changed(self, changes: Mapping[str, Any]) -> Saving:
        """Return the same but for the changes that are not None."""
        return replace(self, **{name: new for name, new in changes.items() if new is not None})

    @property
    def attributes(self) -> dict[str, Any]:
        """The same as attributes of a repository; without a number of checkpoints all are kept."""
        # The numbers may be NumPy's, which are no JSON.
        every = json.dumps(self.checkpoint_every.spec(), default=np.generic.item)
        keep = {"keep_checkpoints": int(self.keep_checkpoints)} if self.keep_checkpoints else {}
        return {"checkpoint_every": every, "restart_envs": int(self.restart_envs), **keep}

    @classmethod
    def from_attributes(cls, attrs: Mapping[str, Any], where: str) -> Saving:
        """Return what the repository of a name says.

        Raises
        ------
        IncompatibleTableError
            If it says nothing of that.
        """
        with understood(where):
            every = Every(**json.loads(attrs["checkpoint_every"]))
            kept = attrs.get("keep_checkpoints")
            return cls(every, kept and whole_number(kept), bool(attrs["restart_envs"]))

    def __post_init__(self) -> None:
        """Check that what must be equal after a resume can be."""
        if self.keep_checkpoints is not None:
            check_count("keep_checkpoints", self.keep_checkpoints)
        if self.restart_envs and not self.checkpoint_every.counted:
            raise ConfigurationError(
                "restart_envs makes a resumed run equal to the undisturbed one, which needs "
                "checkpoints at the same rounds: pass checkpoint_every in transitions or rounds, "
                f"got {self.checkpoint_every}"
            )


class Recorder:
    """Writes checkpoints to one store.

    Parameters
    ----------
    store : CheckpointStore
        Where they go.
    saving : Saving
        When, and how.
    base : Version, optional
        The checkpoint that the run has gone on from.
    tip : str, optional
        The latest one when `base` was chosen, if that is another; what lies between is given up.
    """

    def __init__(
        self,
        store: CheckpointStore,
        saving: Saving,
        base: Version | None = None,
        tip: str | None = None,
    ) -> None:
        self.store, self.saving, self.base = store, saving, base
        self._tip = tip or (base.snapshot if base else "")  # where the branch was seen last
        self._bests: dict[int, float] = {}  # means that were the best so far, by the table's round
        self._open = False
        self._release: Callable[[], None] = lambda: None
        self._writing: Future[tuple[Version, StoreError | None]] | None = None
        self._take: Callable[[Version], None] = lambda version: None
        self._draft: Transaction | None = None  # begun, and not known to be committed
        self._news: list[Version] = []  # committed, and not asked for yet
        self._flushing: threading.Thread | None = None  # what was committed, to the disk
        self._began = time.monotonic()

    def open(self, plan: Plan, attrs: Mapping[str, Any], round_: int) -> None:
        """Keep other runs away; make the arrays of a run that begins, which is at a round.

        Raises
        ------
        RunInUseError
            If another run writes there, or has done so meanwhile.
        StoreError
            If there is a run already that this one did not go on from.
        """
        self.abandon()  # what an interrupted call left under way
        self._release()
        with suppress(NoCheckpointError):
            self.store.open()  # refuses what is not ours before anything is put there
        self._release, self._open = self.store.lock(), True
        try:
            self._reclaim(round_)
            if self.base is None:
                described = {**attrs, "dqlearn_format": FORMAT}
                self._tip = self.store.create(arrays_of(plan, attrs, plan.columns), described)
            else:
                self.store.check_unmoved(self.base, self._tip)
        except BaseException:
            self._release()
            raise
        if self.base and not self._flushing:  # the process before may have died before it was done
            self._flushing = _begin(self.store.flush)
        self._began = time.monotonic()

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint, or one is under way."""
        return self.base is not None or self._writing is not None

    def close(self) -> None:
        """Let other runs in, as soon as nothing is written any more."""
        release = self._release
        if self._writing is None:
            release()
        else:
            self._writing.add_done_callback(lambda _: release())

    def passed(self, round_: int, before: int, after: int) -> bool:
        """Whether a checkpoint is due after a round, by the transitions before and after it."""
        return round_ + 1 in self._bests or self.saving.checkpoint_every.passed(
            rounds=(round_, round_ + 1),
            transitions=(before, after),
            seconds=time.monotonic() - self._began,
        )

    def evaluated(self, round_: int, mean: float) -> None:
        """Let the checkpoint of a table be due at once, and "best", if no policy was better so far.

        That outlasts a loss: callbacks are told of a round once, even if it is made again.
        """
        if mean > self._best_before(round_)[0]:
            self._bests[round_] = mean

    def _best_before(self, round_: int) -> tuple[float, int]:
        """Return the mean return of the best evaluation of an earlier round's table; that round."""
        return max([_best(self.base), *((m, r) for r, m in self._bests.items() if r < round_)])

    def _missed(self) -> Version | None:
        """Return the checkpoint before if it is the best, which nobody may have noted.

        The process died after its commit, or the name could not be written.
        """
        base = self.base
        there = base is not None and self._tip == base.snapshot and _best(base)[1] == base.round
        return base if there else None

    def begin(self, runner: Runner, timesteps: int, history: History) -> None:
        """Begin a checkpoint of the settled round; the one before must be finished.

        Raises
        ------
        StoreError
            If the repository cannot be used; `LostWork` if a worker dies meanwhile.
        """
        store = self.store
        if not self._open or self._writing is not None:
            raise StoreError("the repository is not open, or is being written to")
        self._began = time.monotonic()
        self._reclaim(runner.settled.round)
        self._draft = draft = store.begin(self.base, self._tip)
        since = self.base.timesteps if self.base else -1
        copies = runner.set_down(restart=self.saving.restart_envs)
        state, written = runner.settled, runner.write(draft.writer, since)
        best_mean, best_round = self._best_before(state.round + 1)
        counters = {
            "round": state.round,
            "timesteps": timesteps,
            **self.saving.attributes,
        }
        if math.isfinite(best_mean):
            counters |= {"best_mean": best_mean, "best_round": best_round}
        rows = new_rows(history, self.base)
        best, missed = state.round in self._bests, self._missed()
        flushing = self._flushing

        def write() -> tuple[Version, StoreError | None]:
            parts = written()
            if flushing is not None:
                flushing.join()  # so that a power cut damages this checkpoint at most
            version = store.commit(draft, parts, counters | counted(parts), rows)
            try:
                if marked := version if best else missed:
                    store.mark_best(marked)
                if self.saving.keep_checkpoints is not None:
                    store.keep_last(self.saving.keep_checkpoints)
            except StoreError as error:
                return version, error
            return version, None

        self._take = lambda version: runner.cut_at(version, state, copies)
        self._writing, self._flushing = _in_thread(write, afterwards=self.store.flush)

    def finished(self, *, at_once: bool = False) -> list[Version]:
        """Return the checkpoints that were committed since the last call.

        With `at_once`, wait for the one that is under way.

        Raises
        ------
        StoreError
            If it could not be written; `LostWork` if that was because a worker died.
        """
        try:
            self._end_writing(at_once)
        except StoreError:
            self._bests.clear()
            raise
        news, self._news = self._news, []
        return news

    def _end_writing(self, at_once: bool) -> None:
        writing = self._writing
        if writing is None or not (at_once or writing.done()):
            return
        wait([writing])  # so that an interrupted wait leaves it under way
        self._writing = None
        version, late = writing.result()
        self._committed(version)
        if late is not None:
            raise late

    def _committed(self, version: Version) -> None:
        """Go on from a checkpoint that is there now."""
        self.base, self._tip, self._draft = version, version.snapshot, None
        self._news.append(version)
        self._take(version)

    def _reclaim(self, round_: int) -> None:
        """Take a commit that seemed to fail for what it is, if it is there: the answer was lost.

        A run that has gone back behind it since gives it up, and makes it again.
        """
        version = self.store.landed(self._draft) if self._draft else None
        if version is None:
            return
        if version.round <= round_:
            self._committed(version)
        else:
            self._tip, self._draft = version.snapshot, None

    def abandon(self) -> None:
        """Give the checkpoint under way up, unless it is whole already: then callbacks hear of it.

        For a run that has failed, or is to move. The evaluations that were best stay so: their
        rounds are made again.
        """
        with suppress(DQLearnError, OSError):
            self._end_writing(at_once=True)


def _best(base: Version | None) -> tuple[float, int]:
    """Return the mean return of the best evaluation until a checkpoint, and its round."""
    attrs: Any = base.attributes if base else {}
    mean, round_ = attrs.get("best_mean"), attrs.get("best_round")
    if not isinstance(mean, int | float):
        return -math.inf, -1
    return float(mean), round_ if isinstance(round_, int) else -1


def _in_thread(
    work: Callable[[], Result], afterwards: Callable[[], None]
) -> tuple[Future[Result], threading.Thread]:
    """Begin work in a thread, which the process waits for at its end; the result comes before."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)
        afterwards()

    return future, _begin(run)


def _begin(run: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=run, name="dqlearn-checkpoint")
    thread.start()
    return thread
