"""What a store of checkpoints is, whatever it is made of.

::

    create(arrays) ─► begin(base) ─► Transaction.writer ─► workers write ─► commit ─► Version
                        ▲                                                               │
                        └────────── the checkpoint after that one ──────────────────────┘

A `Version` is a `Snapshot` that was committed. Invariant: a checkpoint is there whole or not at
all, and never changes; whatever happens before a commit, the checkpoints before it stay as they
are. :func:`dqlearn.testing.check_store` says whether that holds of a store.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

import numpy.typing as npt

from dqlearn.errors import RunInUseError
from dqlearn.storage.names import LATEST, At, CheckpointInfo
from dqlearn.table.snapshot import ArraySpec, Region, Snapshot

__all__ = [
    "CheckpointStore",
    "Transaction",
    "Version",
    "WriteResult",
    "Writer",
    "moved",
]

Values = Mapping[str, tuple[Region, npt.NDArray[Any]]]
"""Parts of arrays, by the names of the arrays."""


class Version(Snapshot, Protocol):
    """A checkpoint: a snapshot of a run that a store has committed."""

    @property
    def number(self) -> int:
        """Counts the run's checkpoints from 0."""

    @property
    def snapshot(self) -> str:
        """The store's name of it; no other checkpoint, of any run, has it."""


class Writer(Protocol):
    """What a task writes with, on any worker; it can be pickled."""

    def write(self, values: Values) -> Any:
        """Write parts of arrays; no other task writes to the same chunks.

        Parameters
        ----------
        values : mapping
            Region and values by the names of the arrays. The values change after the call: a writer
            that puts them off copies them.

        Returns
        -------
        object
            What the commit needs of it; it can be pickled, and is small.
        """


class Transaction(Protocol):
    """A checkpoint that is being written; nobody else sees it before it is committed."""

    @property
    def writer(self) -> Writer:
        """For the tasks."""


@dataclass(frozen=True)
class WriteResult:
    """What a task has written.

    Parameters
    ----------
    changes : object
        What :meth:`Writer.write` returned; None if the task had nothing to write.
    nbytes : int
        Of the values.
    tally : dict, optional
        Of a batch.
    """

    changes: Any = None
    nbytes: int = 0
    tally: dict[str, Any] | None = None


@runtime_checkable
class CheckpointStore(Protocol):
    """Where the checkpoints of one run lie.

    A class that inherits from it has the defaults of what is not abstract. What is equal (``==``)
    is the same store. :func:`dqlearn.testing.check_store` checks one.
    """

    name: str

    @abstractmethod
    def lock(self) -> Callable[[], None]:
        """Keep other runs away, and look anew at what is there.

        Returns
        -------
        callable
            Lets them in again; calling it twice is calling it once.

        Raises
        ------
        RunInUseError
            If another run has the lock. A store that cannot lock refuses the later commit instead.
        StoreError
            If nothing can be written there.
        """
        ...

    @abstractmethod
    def open(self) -> None:
        """Look whether there is a store of a run; make nothing.

        Raises
        ------
        NoCheckpointError
            If there is nothing.
        IncompatibleTableError
            If there is something else.
        StoreError
            If it cannot be reached.
        """
        ...

    @abstractmethod
    def create(self, arrays: Iterable[ArraySpec], attributes: Mapping[str, Any]) -> str:
        """Make the arrays of a run that begins.

        Parameters
        ----------
        arrays : iterable of ArraySpec
            They are made one at a time, so that their values need not be there together.
        attributes : mapping
            JSON.

        Returns
        -------
        str
            The tip, which the first checkpoint builds on.

        Raises
        ------
        StoreError
            If a run is there already that has a checkpoint, or the arrays cannot be made.
        """
        ...

    @abstractmethod
    def tip(self) -> str:
        """Return the store's name of the latest checkpoint, or of the arrays before the first.

        Raises
        ------
        NoCheckpointError
            If there is nothing.
        StoreError
            If it cannot be reached.
        """
        ...

    @abstractmethod
    def find(self, at: At = LATEST) -> Version:
        """Find a checkpoint.

        Parameters
        ----------
        at : str or int
            "latest", "previous" (the one before the latest), "best", a checkpoint's number, or a
            tag.

        Returns
        -------
        Version

        Raises
        ------
        NoCheckpointError
            If there is none of that name.
        DamagedChunkError
            If what is stored is not what was written.
        IncompatibleTableError
            If what is there is not of a format that is known here.
        StoreError
            If it cannot be reached.
        """
        ...

    @abstractmethod
    def checkpoints(self) -> list[CheckpointInfo]:
        """List the checkpoints, the newest first.

        Returns
        -------
        list of CheckpointInfo
            Those of the run, and those that only a name still points to.
        """
        ...

    @abstractmethod
    def begin(self, base: Version | None, tip: str) -> Transaction:
        """Begin the checkpoint after another.

        Parameters
        ----------
        base : Version, optional
            The checkpoint that the run has gone on from; None for the arrays alone.
        tip : str
            What this run has found as the tip last; checkpoints after `base` and up to there are
            given up, but for those that have a name.

        Returns
        -------
        Transaction

        Raises
        ------
        RunInUseError
            As :meth:`check_unmoved` does.
        CheckpointError
            If the store cannot be used.
        """
        ...

    @abstractmethod
    def commit(
        self,
        transaction: Transaction,
        results: Iterable[WriteResult],
        attributes: Mapping[str, Any],
        rows: Mapping[str, npt.NDArray[Any]],
    ) -> Version:
        """Make a checkpoint of what was written: all that was there before, and the changes.

        Parameters
        ----------
        transaction : Transaction
            Of :meth:`begin`.
        results : iterable of WriteResult
            Of the tasks; those without changes have none to take up.
        attributes : mapping
            To set, JSON, among them ``round`` and ``timesteps``; "group/name" as
            :attr:`Snapshot.attributes` has it.
        rows : mapping
            To append to arrays along their first dimension, by the names of the arrays.

        Returns
        -------
        Version
            The latest from now on; the one before is "previous".

        Raises
        ------
        RunInUseError
            If another run has committed since :meth:`begin`; `CheckpointError` for any other
            reason.
        """
        ...

    @abstractmethod
    def tag(self, name: str, version: Version) -> None:
        """Give a checkpoint a name that stays.

        Parameters
        ----------
        name : str
            Not "latest", "best" or "previous".
        version : Version
            The checkpoint.

        Raises
        ------
        StoreError
            If the name is taken, or is none: see :func:`check_tag`.
        NoCheckpointError
            If the checkpoint is no longer there.
        """
        ...

    @abstractmethod
    def untag(self, name: str) -> None:
        """Take a name away.

        Parameters
        ----------
        name : str
            A tag.

        Raises
        ------
        NoCheckpointError
            If there is no such name.
        """
        ...

    @abstractmethod
    def mark_best(self, version: Version) -> None:
        """Let "best" name a checkpoint, and no other.

        Parameters
        ----------
        version : Version
            The checkpoint.
        """
        ...

    @abstractmethod
    def expire(self, before: datetime) -> int:
        """Delete the checkpoints written before a time; the latest two and the named ones stay.

        Parameters
        ----------
        before : datetime
            With a time zone.

        Returns
        -------
        int
            Bytes that were freed.
        """
        ...

    def keep_last(self, n: int) -> int:
        """Delete the run's checkpoints but for the newest n, and those that :meth:`expire` spares.

        Parameters
        ----------
        n : int
            At least 1.

        Returns
        -------
        int
            Bytes that were freed.
        """
        found = [info.written for info in self.checkpoints()]
        return self.expire(found[n - 1]) if len(found) > n else 0

    def check_unmoved(self, base: Version | None, tip: str) -> None:
        """Refuse to go on from a checkpoint after which others were written, or that has gone.

        Parameters
        ----------
        base : Version, optional
            That one; None for the arrays alone.
        tip : str
            What this run has found as the tip last.

        Raises
        ------
        RunInUseError
            If another run has written to the store meanwhile.
        """
        start = base.snapshot if base else tip
        gone = start != tip and all(info.snapshot != start for info in self.checkpoints())
        if gone or self.tip() not in (tip, start):
            raise moved(self.name, base)

    def landed(self, transaction: Transaction) -> Version | None:
        """Return the checkpoint that a transaction has become although its commit has failed.

        Of a store whose answers are never lost there is none.

        Parameters
        ----------
        transaction : Transaction
            Whose commit has failed, or seemed to.

        Returns
        -------
        Version or None
            If it is the latest.
        """
        return None

    def flush(self) -> None:
        """Wait until what was committed outlives a power cut, if a commit does not."""
        return None


def moved(name: str, base: Version | None) -> RunInUseError:
    """Return the error of a run that has found another one's checkpoint in its store."""
    wanted = f"checkpoint {base.number}" if base else "the arrays of a new run"
    return RunInUseError(
        f"expected {wanted} to be the latest of {name!r}, or what this run has found after it, got "
        "another: a run has written there meanwhile, or it was removed; go on from what is there "
        "by dqlearn.resume, or choose another store"
    )
