"""The interface of a store of checkpoints, whatever it is made of.

::

    create(arrays) ─► begin(base) ─► Transaction.writer ─► workers write ─► commit ─► Version
                        ▲                                                               │
                        └────────── the checkpoint after that one ──────────────────────┘

A `Version` is a `Snapshot` that was committed. Invariant: a checkpoint is there whole or not at
all, and never changes; whatever happens before a commit, the checkpoints before it stay as they
are. :func:`dqlearn.testing.check_store` checks whether a store keeps that.
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
        """Number of the checkpoint, counted from 0."""

    @property
    def snapshot(self) -> str:
        """The store's id of the checkpoint; no other checkpoint, of any run, has it."""


class Writer(Protocol):
    """The writer of a task, on any worker; it can be pickled."""

    def write(self, values: Values) -> Any:
        """Write parts of arrays; no other task writes to the same chunks.

        Parameters
        ----------
        values : mapping
            Regions and values by the names of the arrays. The values change after the call: a
            writer that writes later copies them.

        Returns
        -------
        object
            Whatever the commit needs; it can be pickled, and is small.
        """


class Transaction(Protocol):
    """A checkpoint that is being written; nobody else sees it before it is committed."""

    @property
    def writer(self) -> Writer:
        """The writer for the tasks."""


@dataclass(frozen=True)
class WriteResult:
    """The result of a task that writes.

    Parameters
    ----------
    changes : object
        The result of :meth:`Writer.write`; None if the task had nothing to write.
    nbytes : int
        Number of bytes of the values.
    tally : dict, optional
        Statistics of a batch.
    """

    changes: Any = None
    nbytes: int = 0
    tally: dict[str, Any] | None = None


@runtime_checkable
class CheckpointStore(Protocol):
    """The checkpoints of one run.

    A class that inherits from it has the defaults of the methods that are not abstract. Equal
    objects (``==``) are the same store. :func:`dqlearn.testing.check_store` checks a store.
    """

    name: str

    @abstractmethod
    def lock(self) -> Callable[[], None]:
        """Keep other runs away, and forget what was read before.

        Returns
        -------
        callable
            A function that lets other runs in again; a second call of it does nothing.

        Raises
        ------
        RunInUseError
            If another run has the lock. A store that cannot lock refuses the later commit instead.
        StoreError
            If the store cannot be written to.
        """
        ...

    @abstractmethod
    def open(self) -> None:
        """Check that there is a store of a run; make nothing.

        Raises
        ------
        NoCheckpointError
            If there is none.
        IncompatibleTableError
            If there is something else.
        StoreError
            If the store cannot be reached.
        """
        ...

    @abstractmethod
    def create(self, arrays: Iterable[ArraySpec], attributes: Mapping[str, Any]) -> str:
        """Make the arrays of a new run.

        Parameters
        ----------
        arrays : iterable of ArraySpec
            The arrays; they are made one at a time, so that not all values are in memory together.
        attributes : mapping
            Attributes of the run, as JSON.

        Returns
        -------
        str
            The tip, which the first checkpoint builds on.

        Raises
        ------
        StoreError
            If there is a run already that has a checkpoint, or the arrays cannot be made.
        """
        ...

    @abstractmethod
    def tip(self) -> str:
        """Return the store's id of the latest checkpoint, or of the arrays before the first.

        Raises
        ------
        NoCheckpointError
            If there is no run.
        StoreError
            If the store cannot be reached.
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
            If there is no checkpoint of that name.
        DamagedChunkError
            If what is stored is not what was written.
        IncompatibleTableError
            If the format of what is there is unknown.
        StoreError
            If the store cannot be reached.
        """
        ...

    @abstractmethod
    def checkpoints(self) -> list[CheckpointInfo]:
        """List the checkpoints, the newest first.

        Returns
        -------
        list of CheckpointInfo
            The checkpoints of the run, and those that only a name still points to.
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
            The tip that this run found last; checkpoints after `base` and up to there are given up,
            except those that have a name.

        Returns
        -------
        Transaction

        Raises
        ------
        RunInUseError
            If another run has written to the store, as in :meth:`check_unmoved`.
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
        """Commit what was written: all that was there before, and the changes.

        Parameters
        ----------
        transaction : Transaction
            The transaction, from :meth:`begin`.
        results : iterable of WriteResult
            Results of the tasks that write; some have no changes.
        attributes : mapping
            Attributes to set, as JSON, among them ``round`` and ``timesteps``; "group/name" is
            named as in :attr:`Snapshot.attributes`.
        rows : mapping
            Rows to append to arrays along their first dimension, by the names of the arrays.

        Returns
        -------
        Version
            The new checkpoint, which is "latest" from now on; the one before is "previous".

        Raises
        ------
        RunInUseError
            If another run has committed since :meth:`begin`; `CheckpointError` for any other
            reason.
        """
        ...

    @abstractmethod
    def tag(self, name: str, version: Version) -> None:
        """Give a checkpoint a name that does not move.

        Parameters
        ----------
        name : str
            The name, which must not be "latest", "best" or "previous".
        version : Version
            The checkpoint.

        Raises
        ------
        StoreError
            If the name is taken, or cannot be a tag: see :func:`check_tag`.
        NoCheckpointError
            If the checkpoint is no longer there.
        """
        ...

    @abstractmethod
    def untag(self, name: str) -> None:
        """Remove a tag.

        Parameters
        ----------
        name : str
            The tag.

        Raises
        ------
        NoCheckpointError
            If there is no such tag.
        """
        ...

    @abstractmethod
    def mark_best(self, version: Version) -> None:
        """Let "best" name this checkpoint, and no other.

        Parameters
        ----------
        version : Version
            The checkpoint.
        """
        ...

    @abstractmethod
    def expire(self, before: datetime) -> int:
        """Delete the checkpoints written before a time; keep the latest two and those with names.

        Parameters
        ----------
        before : datetime
            The time, with a time zone.

        Returns
        -------
        int
            Number of bytes that were freed.
        """
        ...

    def keep_last(self, n: int) -> int:
        """Delete all but the run's newest n checkpoints and those that :meth:`expire` keeps.

        Parameters
        ----------
        n : int
            Number of checkpoints, at least 1.

        Returns
        -------
        int
            Number of bytes that were freed.
        """
        found = [info.written for info in self.checkpoints()]
        return self.expire(found[n - 1]) if len(found) > n else 0

    def check_unmoved(self, base: Version | None, tip: str) -> None:
        """Refuse to go on from a checkpoint that has gone, or after which another run has written.

        Parameters
        ----------
        base : Version, optional
            The checkpoint; None for the arrays alone.
        tip : str
            The tip that this run found last.

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
        """Return the checkpoint of a transaction whose commit seemed to fail, if it is there.

        A store whose answers are never lost has no such checkpoint.

        Parameters
        ----------
        transaction : Transaction
            The transaction whose commit failed, or seemed to.

        Returns
        -------
        Version or None
            The checkpoint, if it is the latest.
        """
        return None

    def flush(self) -> None:
        """Wait until what was committed survives a power failure, if a commit does not."""
        return None


def moved(name: str, base: Version | None) -> RunInUseError:
    """Return the error of a run that found another run's checkpoint in its store."""
    wanted = f"checkpoint {base.number}" if base else "the arrays of a new run"
    return RunInUseError(
        f"expected {wanted} to be the latest of {name!r}, or what this run has found after it, got "
        "another: a run has written there meanwhile, or it was removed; go on from what is there "
        "by dqlearn.resume, or choose another store"
    )
