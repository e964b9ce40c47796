"""The checkpointer: writes a run's checkpoints while it learns.

::

    round r is over ──► hold, begin ──► workers write ──► commit ──► RecoveryPoint, handed over
         └─► rounds r+1, r+2, ... are made meanwhile, on copies

The waiting and the commit are in a thread of their own, one checkpoint at a time. Invariant: a
checkpoint is of one round, whole; it is handed over only after its commit.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from dqlearn.engine.graph import Key, State
from dqlearn.errors import DQLearnError, NoCheckpointError, StoreError
from dqlearn.stages.plan import Plan
from dqlearn.storage.protocol import CheckpointStore, Transaction, Version
from dqlearn.storage.schema import FORMAT, arrays_of, new_rows
from dqlearn.storage.writer import counted
from dqlearn.table.history import History
from dqlearn.training.every import Saving
from dqlearn.training.pipeline import Pipeline
from dqlearn.training.placement import RecoveryPoint

__all__ = ["Checkpointer"]

Result = TypeVar("Result")


@dataclass(frozen=True)
class Attempt:
    """A checkpoint that was begun, and is not known to be committed.

    Attributes
    ----------
    transaction : Transaction
        What the store knows of the checkpoint.
    state : State
        The state that is written.
    copies : dict
        Copies of donated shards, which the repository does not hold.
    """

    transaction: Transaction
    state: State
    copies: dict[Key, Any]

    def committed(self, version: Version) -> RecoveryPoint:
        """Return what the run can go back to, now that the checkpoint is committed."""
        return RecoveryPoint(version.round, self.state, self.copies, version)


class Bests:
    """Evaluations that were the best so far, of tables that have no checkpoint yet."""

    def __init__(self) -> None:
        self._means: dict[int, float] = {}  # by the table's round

    def __contains__(self, round_: int) -> bool:
        """Whether no table before was better than that of a round."""
        return round_ in self._means

    def add(self, round_: int, mean: float, base: Version | None) -> None:
        """Take up the evaluation of a table, if it is the best so far.

        That outlasts a loss: callbacks are told of a round once, even if it is made again.
        """
        if mean > self.before(round_, base)[0]:
            self._means[round_] = mean

    def before(self, round_: int, base: Version | None) -> tuple[float, int]:
        """Return the best mean return that a table before a round was evaluated at; its round."""
        return max([_best(base), *((m, r) for r, m in self._means.items() if r < round_)])

    def counters(self, round_: int, base: Version | None) -> dict[str, float]:
        """Return what the checkpoint of a round says of the best evaluation until then."""
        mean, best_round = self.before(round_ + 1, base)
        return {"best_mean": mean, "best_round": best_round} if math.isfinite(mean) else {}

    def forget(self) -> None:
        """Forget all of them."""
        self._means.clear()


class Checkpointer:
    """Writes checkpoints to one store.

    Parameters
    ----------
    store : CheckpointStore
        Where they go.
    saving : Saving
        When checkpoints are made, and how.
    base : Version, optional
        The checkpoint that the run has gone on from.
    tip : str, optional
        Icechunk's name of the latest checkpoint when `base` was chosen, if that is another one;
        what lies between is given up.
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
        self._bests = Bests()
        self._open = False
        self._release: Callable[[], None] = lambda: None
        self._attempt: Attempt | None = None
        self._writing: Future[tuple[Version, StoreError | None]] | None = None
        self._flushing: threading.Thread | None = None  # what was committed, to the disk
        self._committed: list[RecoveryPoint] = []  # not handed over yet
        self._news: list[Version] = []  # committed, and not told of yet
        self._since = time.monotonic()

    def open(self, plan: Plan, attrs: Mapping[str, Any], round_: int) -> None:
        """Keep other runs away, and make the arrays of a run that begins; it is at `round_` now.

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
        self._since = time.monotonic()

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
            seconds=time.monotonic() - self._since,
        )

    def evaluated(self, round_: int, mean: float) -> None:
        """Let the checkpoint of a table be due at once, and "best", if none was better so far."""
        self._bests.add(round_, mean, self.base)

    def begin(self, run: Pipeline, timesteps: int, history: History) -> None:
        """Begin a checkpoint of the collected round; the one before must be finished.

        Raises
        ------
        StoreError
            If the repository cannot be used; `LostWork` if a worker dies meanwhile.
        """
        store = self.store
        if not self._open or self._writing is not None:
            raise StoreError("the repository is not open, or is being written to")
        self._since = time.monotonic()
        self._reclaim(run.round)
        transaction = store.begin(self.base, self._tip)
        since = self.base.timesteps if self.base else -1
        copies = run.points.set_down(restart=self.saving.restart_envs)
        state, written = run.ownership.state, run.reader.write(transaction.writer, since)
        counters = {
            "round": state.round,
            "timesteps": timesteps,
            **self.saving.attributes,
            **self._bests.counters(state.round, self.base),
        }
        rows, flushing = new_rows(history, self.base), self._flushing
        best, missed = state.round in self._bests, self._missed()
        keep = self.saving.keep_checkpoints

        def write() -> tuple[Version, StoreError | None]:
            parts = written()
            if flushing is not None:
                flushing.join()  # so that a power cut damages this checkpoint at most
            version = store.commit(transaction, parts, counters | counted(parts), rows)
            return version, _name_and_expire(store, version if best else missed, keep)

        self._attempt = Attempt(transaction, state, copies)
        self._writing, self._flushing = _in_thread(write, afterwards=store.flush)

    def _missed(self) -> Version | None:
        """Return the last checkpoint if it is the best one, and may not have that name.

        The process died after its commit, or the name could not be written.
        """
        base = self.base
        there = base is not None and self._tip == base.snapshot and _best(base)[1] == base.round
        return base if there else None

    def finish(self, *, at_once: bool = False) -> None:
        """Take note of a checkpoint that was written; with `at_once`, wait for it.

        Raises
        ------
        StoreError
            If it could not be written; `LostWork` if that was because a worker died.
        """
        try:
            self._end_writing(at_once)
        except StoreError:
            self._bests.forget()
            raise

    def hand_over(self) -> list[RecoveryPoint]:
        """Hand over the checkpoints that were committed since the last call."""
        points, self._committed = self._committed, []
        return points

    def pop_news(self) -> Iterator[Version]:
        """Yield the checkpoints that were committed, each once."""
        while self._news:
            yield self._news.pop(0)

    def _end_writing(self, at_once: bool) -> None:
        writing = self._writing
        if writing is None or not (at_once or writing.done()):
            return
        wait([writing])  # so that an interrupted wait leaves it under way
        self._writing = None
        version, late = writing.result()
        self._go_on_from(version)
        if late is not None:
            raise late

    def _go_on_from(self, version: Version) -> None:
        """Go on from the checkpoint that was begun, which is there now."""
        if self._attempt is not None:
            self._committed.append(self._attempt.committed(version))
        self.base, self._tip, self._attempt = version, version.snapshot, None
        self._news.append(version)

    def _reclaim(self, round_: int) -> None:
        """Take a commit that seemed to fail for what it is, if it is there: the answer was lost.

        A run that has gone back behind it since gives it up, and makes it again.
        """
        version = self.store.landed(self._attempt.transaction) if self._attempt else None
        if version is None:
            return
        if version.round <= round_:
            self._go_on_from(version)
        else:
            self._tip, self._attempt = version.snapshot, None

    def abandon(self) -> None:
        """Give the checkpoint under way up, unless it is whole already: then callbacks hear of it.

        A run that has failed, or is to move, needs this. The evaluations that were best stay so:
        their rounds are made again.
        """
        with suppress(DQLearnError, OSError):
            self._end_writing(at_once=True)


def _name_and_expire(
    store: CheckpointStore, best: Version | None, keep: int | None
) -> StoreError | None:
    """Name the best checkpoint, let go of old ones; return the error if that failed."""
    try:
        if best:
            store.mark_best(best)
        if keep is not None:
            store.keep_last(keep)
    except StoreError as error:
        return error
    return None


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
