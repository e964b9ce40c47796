"""A run's repository, to be written to: checkpoints as commits of one branch.

::

    begin ──► session, a fork for the workers ──► they write ──► commit ──► Commit

Invariant: a checkpoint is there whole or not at all; whatever happens before its commit, those
before it stay as they are.
"""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

import icechunk
import numpy.typing as npt
import zarr

from dqlearn.errors import (
    CheckpointError,
    DQLearnError,
    NoCheckpointError,
    RunInUseError,
    StoreError,
)
from dqlearn.storage.attributes import RUN_FORMAT
from dqlearn.storage.icechunk.arrays import ForkWriter, append, make, set_attributes
from dqlearn.storage.icechunk.commit import Commit
from dqlearn.storage.icechunk.commits import MAIN, OURS, Commits
from dqlearn.storage.icechunk.failures import first_line
from dqlearn.storage.names import BEST, PREVIOUS, check_tag
from dqlearn.storage.protocol import CheckpointStore, Transaction, Version, WriteResult, moved
from dqlearn.table.snapshot import ArraySpec

__all__ = ["IcechunkTransaction", "Repository"]

_DRAFT = "draft"
_CONFLICT = "branch update conflict"  # of a branch reset, which raises no ConflictError


@dataclass(frozen=True)
class IcechunkTransaction:
    """A checkpoint that is being written.

    Attributes
    ----------
    number : int
        Number that the checkpoint will have.
    base : str
        The snapshot that the checkpoint builds on.
    session : icechunk.Session
        The session that collects the changes.
    writer : ForkWriter
        The writer for the workers.
    name : str
        A secret name: a commit that has it is the commit of this transaction.
    """

    number: int
    base: str
    session: icechunk.Session
    writer: ForkWriter
    name: str = field(default_factory=lambda: uuid.uuid4().hex)


class Repository(Commits, CheckpointStore):
    """A repository of one run, to be written to.

    Parameters
    ----------
    place : Place
        The place of the repository.
    repo : icechunk.Repository, optional
        The repository, if it is open; by default it is opened when it is first needed, and again
        whenever it is locked.
    """

    def lock(self) -> Callable[[], None]:
        """Keep other runs away, and forget what Icechunk remembers from before."""
        release, self._opened = self.place.lock(), None
        return release

    def create(self, arrays: Iterable[ArraySpec], attributes: Mapping[str, Any]) -> str:
        """Make the arrays of a run that begins."""
        self._opened = self._opened or self.place.open_or_create()
        with _named("the arrays"):
            session = self._repo.writable_session(MAIN)
            # Of the session's own snapshot: if another run commits from now on, the commit fails.
            metadata = self._info(session.snapshot_id).metadata
            self._check_ours(metadata)
            if "checkpoint" in metadata:
                raise StoreError(
                    f"there is a run at {self.name!r}: go on with it by dqlearn.resume, or "
                    "choose another store"
                )
            make(zarr.group(session.store, overwrite=True), arrays, attributes)
            return session.commit("arrays", metadata={OURS: RUN_FORMAT})

    def begin(self, base: Version | None, tip: str) -> IcechunkTransaction:
        """Begin a checkpoint that builds on another."""
        with _named("the session"):
            self.check_unmoved(base, tip)
            start = base.snapshot if base else tip
            self._go_back(start, tip)
            session = self._repo.writable_session(MAIN)
            if session.snapshot_id != start:
                raise moved(self.name, base)
            fork = pickle.dumps(session.fork())
        return IcechunkTransaction(base.number + 1 if base else 0, start, session, ForkWriter(fork))

    def _go_back(self, start: str, tip: str) -> None:
        """Give up the checkpoints after the one that the run goes on from."""
        if self._main() != start:
            self._repo.reset_branch(MAIN, start, from_snapshot_id=tip)

    def commit(
        self,
        transaction: Transaction,
        results: Iterable[WriteResult],
        attributes: Mapping[str, Any],
        rows: Mapping[str, npt.NDArray[Any]],
    ) -> Commit:
        """Commit what was written."""
        draft = cast("IcechunkTransaction", transaction)
        numbers = {"checkpoint": draft.number}
        numbers |= {name: attributes[name] for name in ("round", "timesteps")}
        metadata = {OURS: RUN_FORMAT, _DRAFT: draft.name, **numbers}
        with _named("the commit"):
            draft.session.merge(*(pickle.loads(each.changes) for each in results if each.changes))
            group = zarr.open_group(draft.session.store, mode="r+")
            append(group, rows)
            set_attributes(group, {**attributes, **numbers})
            if self._main() != draft.base:
                raise _overtaken("its checkpoint is there already")
            if draft.number:
                self._point(PREVIOUS, draft.base)
            return self._commit(draft, f"round {numbers['round']}", metadata)

    def _commit(self, draft: IcechunkTransaction, message: str, metadata: dict[str, Any]) -> Commit:
        """Commit; if that seems to fail, or nothing answers, look for the commit."""
        try:
            snapshot = draft.session.commit(message, metadata=metadata)
            return self._commit_at(snapshot, draft.number)
        except Exception as error:
            with suppress(StoreError):
                if (landed := self.landed(draft)) is not None:
                    return landed
            if isinstance(error, StoreError):
                raise CheckpointError(f"the commit could not be read again: {error}") from error
            raise

    def landed(self, transaction: Transaction) -> Commit | None:
        """Return the checkpoint of a commit that seemed to fail, if it is the latest."""
        tip, draft = self.tip(), cast("IcechunkTransaction", transaction)
        if tip == draft.base:
            return None
        with self._reading():
            ours = self._info(tip).metadata.get(_DRAFT) == draft.name
        return self._commit_at(tip, draft.number) if ours else None

    # names and expiry

    def tag(self, name: str, version: Version) -> None:
        """Give a checkpoint a name that stays."""
        check_tag(name, [MAIN, *self._names()])
        with self.place.names_kept():
            self._check_there(version)  # a checkpoint found by its number may have gone since
            with _named(f"the name {name!r}, which may have been in use before,"):
                self._repo.create_tag(name, version.snapshot)
        try:
            self._check_there(version)  # an object store has no lock: it may be gone
        except NoCheckpointError:
            self.untag(name)
            raise

    def _check_there(self, version: Version) -> None:
        """Refuse a checkpoint that is gone: it is no longer the run's, and has no name."""
        now = Repository(self.place)  # Icechunk remembers what it has read
        if all(info.snapshot != version.snapshot for info in now.checkpoints()):
            raise NoCheckpointError(
                f"checkpoint {version.number} of {self.name!r} was deleted just now: choose another"
            )

    def untag(self, name: str) -> None:
        """Remove a name; Icechunk does not let it be used again."""
        with self._reading():
            known = self._repo.list_tags()
        if name not in known:
            raise NoCheckpointError(f"there is no tag {name!r} at {self.name!r}")
        with _named(f"the name {name!r}"):
            self._repo.delete_tag(name)

    def mark_best(self, version: Version) -> None:
        """Let the branch "best" point to a checkpoint."""
        with _named("the name"):
            if self._names().get(BEST) != version.snapshot:
                self._point(BEST, version.snapshot)

    def _point(self, branch: str, snapshot: str) -> None:
        if branch in self._repo.list_branches():
            self._repo.reset_branch(branch, snapshot)
        else:
            self._repo.create_branch(branch, snapshot)

    def expire(self, before: datetime) -> int:
        """Delete the checkpoints written before a time, but for the latest two and named ones."""
        with _named("the expiry"):
            self._check_ours(self._info(self.tip()).metadata)
        with _named("the expiry"), self.place.names_kept():
            self._repo.expire_snapshots(older_than=before)
            return int(self._repo.garbage_collect(before).bytes_deleted)

    def keep_last(self, n: int) -> int:
        """Delete the run's checkpoints but for the newest n, and what :meth:`expire` spares."""
        with _named("the expiry"):
            commits = self._repo.ancestry(branch=MAIN)
            found = [info.written_at for info in commits if "checkpoint" in info.metadata]
        return self.expire(found[n - 1]) if len(found) > n else 0

    def flush(self) -> None:
        """Flush what was committed to a folder to its disk."""
        self.place.flush()


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Turn the errors of storages into dqlearn's."""
    try:
        yield
    except icechunk.ConflictError as error:
        raise _overtaken(first_line(error)) from error
    except (icechunk.IcechunkError, OSError, ValueError) as error:
        if isinstance(error, DQLearnError):
            raise
        if _CONFLICT in str(error):
            raise _overtaken(first_line(error)) from error
        raise CheckpointError(f"{what} could not be written: {first_line(error)}") from error


def _overtaken(how: str) -> RunInUseError:
    return RunInUseError(
        f"another run has written to the repository: {how}; its checkpoints stay, go on from them "
        "by dqlearn.resume"
    )
