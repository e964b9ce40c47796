"""The checkpointer: writes a run's checkpoints while it learns.

::

    round r is over ──► pin, begin ──► workers write ──► commit ──► RecoveryPoint, handed over
         └─► rounds r+1, r+2, ... are made meanwhile, on copies

A thread of its own waits for the workers and commits, one checkpoint at a time. Invariant: a
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
from dqlearn.storage.attributes import RUN_FORMAT
from dqlearn.storage.protocol import CheckpointStore, Transaction, Version
from dqlearn.storage.schema import arrays_of, new_rows
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
        The store's transaction for the checkpoint.
    state : State
        The state that is written.
    copies : dict
        Copies of donated shards, which the store does not hold.
    """

    transaction: Transaction
    state: State
    copies: dict[Key, Any]

    def committed(self, version: Version) -> RecoveryPoint:
        """Return the recovery point that the committed checkpoint is."""
        return RecoveryPoint(version.round, self.state, self.copies, version)


class Bests:
    """The best evaluations so far, of tables that have no checkpoint yet."""

    def __init__(self) -> None:
        self._means: dict[int, float] = {}  # keyed by the round of the table

    def __contains__(self, round_: int) -> bool:
        """Whether the table of a round is the best one so far."""
        return round_ in self._means

    def add(self, round_: int, mean: float, base: Version | None) -> None:
        """Record the evaluation of a table, if it is the best so far.

        It outlasts a loss: callbacks hear about a round once, even if it is made again.
        """
        if mean > self.before(round_, base)[0]:
            self._means[round_] = mean

    def before(self, round_: int, base: Version | None) -> tuple[float, int]:
        """Return the best mean return of the tables before a round, and that table's round."""
        return max([_best(base), *((m, r) for r, m in self._means.items() if r < round_)])

    def counters(self, round_: int, base: Version | None) -> dict[str, float]:
        """Return the attributes of a round's checkpoint about the best evaluation until then."""
        mean, best_round = self.before(round_ + 1, base)
        return {"best_mean": mean, "best_round": best_round} if math.isfinite(mean) else {}

    def forget(self) -> None:
        """Forget all evaluations."""
        self._means.clear()


class Checkpointer:
    """Writes the checkpoints of a run to one store.

    Parameters
    ----------
    store : CheckpointStore
        The store of the checkpoints.
    saving : Saving
        When checkpoints are made, and how.
    base : Version, optional
        The checkpoint that the run has gone on from.
    tip : str, optional
        The store's id of the latest checkpoint when `base` was chosen, if that is another one;
        the checkpoints between the two are given up.
    """

    def __init__(
        self,
        store: CheckpointStore,
        saving: Saving,
        base: Version | None = None,
        tip: str | None = None,
    ) -> None:
        self.store, self.saving, self.base = store, saving, base
        self._tip = tip or (base.snapshot if base else "")  # the last known tip of the branch
        self._bests = Bests()
        self._open = False
        self._release: Callable[[], None] = lambda: None
        self._attempt: Attempt | None = None
        self._writing: Future[tuple[Version, StoreError | None]] | None = None
        self._flushing: threading.Thread | None = None  # flushes what was committed
        self._committed: list[RecoveryPoint] = []  # not handed over yet
        self._news: list[Version] = []  # committed, but callbacks were not told
        self._since = time.monotonic()

    def open(self, plan: Plan, attrs: Mapping[str, Any], round_: int) -> None:
        """Keep other runs away, and make the arrays of a new run; the run is at `round_` now.

        Raises
        ------
        RunInUseError
            If another run writes to the store, or has done so meanwhile.
        StoreError
            If there is a run already, and this one did not go on from it.
        """
        self.abandon()  # an interrupted call may have left a checkpoint under way
        self._release()
        with suppress(NoCheckpointError):
            self.store.open()  # before anything is made: refuses what is not ours
        self._release, self._open = self.store.lock(), True
        try:
            self._reclaim(round_)
            if self.base is None:
                described = {**attrs, "dqlearn_format": RUN_FORMAT}
                self._tip = self.store.create(arrays_of(plan, attrs, plan.columns), described)
            else:
                self.store.check_unmoved(self.base, self._tip)
        except BaseException:
            self._release()
            raise
        if self.base and not self._flushing:  # the process before may have died before its flush
            self._flushing = _begin(self.store.flush)
        self._since = time.monotonic()

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint, or one is under way."""
        return self.base is not None or self._writing is not None

    def close(self) -> None:
        """Let other runs in, as soon as nothing is being written."""
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
        """Make the checkpoint of a table due at once, and "best", if no table was better so far."""
        self._bests.add(round_, mean, self.base)

    def begin(self, run: Pipeline, timesteps: int, history: History) -> None:
        """Begin a checkpoint of the collected round; the one before must be finished.

        Raises
        ------
        StoreError
            If the store cannot be used; `LostWork` if a worker dies meanwhile.
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
            **run.journal.attributes,
            **self._bests.counters(state.round, self.base),
        }
        rows, flushing = new_rows(history, self.base), self._flushing
        best, missed = state.round in self._bests, self._missed()
        keep = self.saving.keep_checkpoints

        def write() -> tuple[Version, StoreError | None]:
            parts = written()
            if flushing is not None:
                flushing.join()  # so a power failure damages one checkpoint at most
            version = store.commit(transaction, parts, counters | counted(parts), rows)
            return version, _name_and_expire(store, version if best else missed, keep)

        self._attempt = Attempt(transaction, state, copies)
        self._writing, self._flushing = _in_thread(write, afterwards=store.flush)

    def _missed(self) -> Version | None:
        """Return the last checkpoint if it is the best one, but may lack that name.

        The process may have died after the commit, or the name could not be written.
        """
        base = self.base
        there = base is not None and self._tip == base.snapshot and _best(base)[1] == base.round
        return base if there else None

    def finish(self, *, at_once: bool = False) -> None:
        """Handle a checkpoint that was written; with `at_once`, wait for it.

        Raises
        ------
        StoreError
            If the checkpoint could not be written; `LostWork` if a worker died meanwhile.
        """
        try:
            self._end_writing(at_once)
        except StoreError:
            self._bests.forget()
            raise

    def hand_over(self) -> list[RecoveryPoint]:
        """Return the checkpoints that were committed since the last call, as recovery points."""
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
        wait([writing])  # an interrupted wait leaves the writing under way
        self._writing = None
        version, late = writing.result()
        self._go_on_from(version)
        if late is not None:
            raise late

    def _go_on_from(self, version: Version) -> None:
        """Go on from the checkpoint that was begun, which is committed now."""
        if self._attempt is not None:
            self._committed.append(self._attempt.committed(version))
        self.base, self._tip, self._attempt = version, version.snapshot, None
        self._news.append(version)

    def _reclaim(self, round_: int) -> None:
        """Accept a commit that seemed to fail, if it is in the store: only the answer was lost.

        A run that has since gone back to an earlier round gives it up, and makes it again.
        """
        version = self.store.landed(self._attempt.transaction) if self._attempt else None
        if version is None:
            return
        if version.round <= round_:
            self._go_on_from(version)
        else:
            self._tip, self._attempt = version.snapshot, None

    def abandon(self) -> None:
        """Give up the checkpoint under way; if it is committed already, callbacks are told of it.

        A run that has failed, or is to move, needs this. The best evaluations are kept: their
        rounds are made again.
        """
        with suppress(DQLearnError, OSError):
            self._end_writing(at_once=True)


def _name_and_expire(
    store: CheckpointStore, best: Version | None, keep: int | None
) -> StoreError | None:
    """Name the best checkpoint and delete old ones; return the error if that failed."""
    try:
        if best:
            store.mark_best(best)
        if keep is not None:
            store.keep_last(keep)
    except StoreError as error:
        return error
    return None


def _best(base: Version | None) -> tuple[float, int]:
    """Return the best evaluation's mean return until a checkpoint, and the round of its table."""
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
