"""A run's repository, open for writing: checkpoints as commits of one branch.

::

    begin ──► session, a fork for the workers ──► they write ──► commit ──► Commit
    main:  ... ── checkpoint 7 ── checkpoint 8        tags, and the branch "best", point into it

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
import numpy as np
import numpy.typing as npt
import zarr

from dqlearn.errors import (
    CheckpointError,
    DamagedChunkError,
    DQLearnError,
    IncompatibleTableError,
    NoCheckpointError,
    RunInUseError,
    StoreError,
)
from dqlearn.storage.failures import first_line, unreachable
from dqlearn.storage.icechunk.arrays import ForkWriter, append, make, set_attributes
from dqlearn.storage.icechunk.commit import Commit
from dqlearn.storage.icechunk.place import Place
from dqlearn.storage.protocol import (
    BEST,
    LATEST,
    PREVIOUS,
    ArraySpec,
    At,
    CheckpointInfo,
    CheckpointStore,
    Transaction,
    Version,
    WriteResult,
    check_tag,
    moved,
)
from dqlearn.storage.schema import FORMAT

__all__ = ["Draft", "Repository"]

_MAIN, _OURS, _DRAFT = "main", "dqlearn", "draft"
_NUMBERS = {"checkpoint", "round", "timesteps"}
_CONFLICT = "branch update conflict"  # of a branch that is reset, which is no ConflictError


@dataclass(frozen=True)
class Draft:
    """A checkpoint that is being written.

    Attributes
    ----------
    number : int
        It will have.
    base : str
        The snapshot that it builds on.
    session : icechunk.Session
        Takes up the changes.
    writer : ForkWriter
        For the workers.
    name : str
        Told to nobody else: a commit that has it is of this draft.
    """

    number: int
    base: str
    session: icechunk.Session
    writer: ForkWriter
    name: str = field(default_factory=lambda: uuid.uuid4().hex)


class Repository(CheckpointStore):
    """A repository of one run.

    Parameters
    ----------
    place : Place
        Where it is.
    repo : icechunk.Repository, optional
        Open; by default it is opened when it is first needed, and again whenever it is locked.
    """

    def __init__(self, place: Place, repo: icechunk.Repository | None = None) -> None:
        self.place, self.name, self._opened = place, place.name, repo

    def __eq__(self, other: object) -> bool:
        """Whether it is in the same place."""
        return isinstance(other, Repository) and self.place.identity == other.place.identity

    def __hash__(self) -> int:
        """Return that of the place."""
        return hash(self.place.identity)

    @property
    def _repo(self) -> icechunk.Repository:
        if self._opened is None:
            self._opened = self.place.open()
        return self._opened

    def open(self) -> None:
        """Open it, if it is there."""
        self._opened = self.place.open()

    def lock(self) -> Callable[[], None]:
        """Keep other runs away; what Icechunk remembers of before is forgotten."""
        release, self._opened = self.place.lock(), None
        return release

    # reading

    def find(self, at: At = LATEST) -> Commit:
        """Find a checkpoint.

        Parameters
        ----------
        at : str or int
            "latest", "previous", "best", a checkpoint's number, or a tag.

        Returns
        -------
        Commit

        Raises
        ------
        NoCheckpointError
            If there is none of that name.
        DamagedChunkError
            If what is stored is not what was written.
        IncompatibleTableError
            If what is there is not of a format that is known here.
        StoreError
            If the repository cannot be reached.
        """
        if isinstance(at, int | np.integer):
            info = next((info for info in self.checkpoints() if info.number == at), None)
            return self._commit_at(info.snapshot if info else None, at)
        if at == LATEST:
            return self._commit_at(self.tip(), at)
        return self._commit_at(self._names().get(at), at)

    def checkpoints(self) -> list[CheckpointInfo]:
        """List the checkpoints, the newest first.

        Returns
        -------
        list of CheckpointInfo
            Those of the run, and those that only a name still points to.
        """
        names, found = self._names(), {}
        for snapshot in (self.tip(), *names.values()):
            with self._without_the_damaged():
                for info in self._repo.ancestry(snapshot_id=snapshot):
                    if not _NUMBERS <= info.metadata.keys() or info.id in found:
                        break
                    found[info.id] = info
        return sorted(
            (
                CheckpointInfo(
                    number=int(info.metadata["checkpoint"]),
                    round=int(info.metadata["round"]),
                    timesteps=int(info.metadata["timesteps"]),
                    written=info.written_at,
                    tags=tuple(n for n, at in names.items() if at == info.id and n != PREVIOUS),
                    snapshot=info.id,
                )
                for info in found.values()
            ),
            key=lambda info: (info.number, info.written),
            reverse=True,
        )

    def _names(self) -> dict[str, str]:
        """Return the snapshots that names point to, but for names whose files are damaged."""
        found = {}
        with self._reading():
            tags, branches = self._repo.list_tags(), self._repo.list_branches() - {_MAIN}
        for tag in sorted(tags):
            with self._without_the_damaged():
                found[tag] = self._repo.lookup_tag(tag)
        for branch in sorted(branches):
            with self._without_the_damaged():
                found[branch] = self._repo.lookup_branch(branch)
        return found

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Give a name to the errors of a storage that is read."""
        try:
            yield
        except icechunk.IcechunkError as error:
            raise StoreError(
                f"{self.name!r} cannot be reached, or read: {first_line(error)}"
            ) from error

    @contextmanager
    def _without_the_damaged(self) -> Iterator[None]:
        """Leave out what cannot be read, if the rest can."""
        try:
            yield
        except icechunk.IcechunkError as error:
            self._check_reachable(error)

    def _check_reachable(self, error: icechunk.IcechunkError) -> None:
        """Tell damage from no answer; of a snapshot Icechunk says in both that it is not found."""
        found = [error]
        try:
            self._repo.lookup_branch(_MAIN)
        except icechunk.IcechunkError as another:
            found.append(another)
        if any(map(unreachable, found)):
            with self._reading():
                raise error

    def _commit_at(self, snapshot: str | None, at: At) -> Commit:
        if snapshot is None:
            known = [LATEST, *self._names(), *(info.number for info in self.checkpoints())]
            raise NoCheckpointError(
                f"expected a checkpoint of {self.name!r}, one of {known[:9]}.., got {at!r}"
            )
        try:
            metadata = self._info(snapshot).metadata
        except icechunk.IcechunkError as error:
            self._check_reachable(error)
            raise DamagedChunkError(
                f"checkpoint {at!r} of {self.name!r} cannot be read: {first_line(error)}; "
                f"open another one, such as at={PREVIOUS!r}, and go on from there"
            ) from error
        if "checkpoint" not in metadata:
            self._check_ours(metadata)
            raise NoCheckpointError(f"the run at {self.name!r} has no checkpoint yet")
        with self._reading():
            session = pickle.dumps(self._repo.readonly_session(snapshot_id=snapshot))
        self._check_ours(metadata)
        if not _NUMBERS <= metadata.keys():
            raise DamagedChunkError(f"checkpoint {at!r} of {self.name!r} has no numbers")
        numbers = (int(metadata[name]) for name in ("checkpoint", "round", "timesteps"))
        return Commit(self.name, session, snapshot, *numbers)

    # writing

    def create(self, arrays: Iterable[ArraySpec], attributes: Mapping[str, Any]) -> str:
        """Make the arrays of a run that begins.

        Parameters
        ----------
        arrays : iterable of ArraySpec
            What to make.
        attributes : mapping
            JSON.

        Returns
        -------
        str
            The branch's tip, which the first checkpoint builds on.

        Raises
        ------
        StoreError
            If a run is there already; `CheckpointError` if the arrays cannot be made.
        """
        self._opened = self._opened or self.place.open_or_create()
        with _named("the arrays"):
            session = self._repo.writable_session(_MAIN)
            # Of the session itself: what another run commits from now on makes the commit fail.
            metadata = self._info(session.snapshot_id).metadata
            self._check_ours(metadata)
            if "checkpoint" in metadata:
                raise StoreError(
                    f"there is a run at {self.name!r}: go on with it by dqlearn.resume, or "
                    "choose another store"
                )
            make(zarr.group(session.store, overwrite=True), arrays, attributes)
            return session.commit("arrays", metadata={_OURS: FORMAT})

    def tip(self) -> str:
        """Return the newest snapshot of the branch, whatever it is."""
        with self._reading():
            return self._main()

    def _main(self) -> str:
        return self._repo.lookup_branch(_MAIN)

    def begin(self, base: Version | None, tip: str) -> Draft:
        """Begin a checkpoint that builds on another.

        Parameters
        ----------
        base : Version, optional
            The checkpoint that the run has gone on from; None for the arrays alone.
        tip : str
            Where this run has seen the branch last; checkpoints up to there are given up.

        Returns
        -------
        Draft

        Raises
        ------
        RunInUseError
            If another run has written to the repository meanwhile.
        CheckpointError
            If the repository cannot be read.
        """
        with _named("the session"):
            self.check_unmoved(base, tip)
            start = base.snapshot if base else tip
            self._go_back(start, tip)
            session = self._repo.writable_session(_MAIN)
            if session.snapshot_id != start:
                raise moved(self.name, base)
            fork = pickle.dumps(session.fork())
        return Draft(base.number + 1 if base else 0, start, session, ForkWriter(fork))

    def _go_back(self, start: str, tip: str) -> None:
        """Give up the checkpoints after one, which the run goes on from."""
        if self._main() != start:
            self._repo.reset_branch(_MAIN, start, from_snapshot_id=tip)

    def commit(
        self,
        transaction: Transaction,
        results: Iterable[WriteResult],
        attributes: Mapping[str, Any],
        rows: Mapping[str, npt.NDArray[Any]],
    ) -> Commit:
        """Commit what was written.

        Parameters
        ----------
        transaction : Draft
            Of :meth:`begin`.
        results : iterable of WriteResult
            Of the workers.
        attributes : mapping
            To set, among them ``round`` and ``timesteps``.
        rows : mapping
            To append, by the names of the arrays.

        Returns
        -------
        Commit
            To read it from.

        Raises
        ------
        RunInUseError
            If another run has committed meanwhile; `CheckpointError` for any other reason.
        """
        draft, session = cast("Draft", transaction), cast("Draft", transaction).session
        numbers = {"checkpoint": draft.number}
        numbers |= {name: attributes[name] for name in ("round", "timesteps")}
        metadata = {_OURS: FORMAT, _DRAFT: draft.name, **numbers}
        with _named("the commit"):
            session.merge(*(pickle.loads(each.changes) for each in results if each.changes))
            group = zarr.open_group(session.store, mode="r+")
            append(group, rows)
            set_attributes(group, {**attributes, **numbers})
            if self._main() != draft.base:
                raise _overtaken("its checkpoint is there already")
            if draft.number:
                self._point(PREVIOUS, draft.base)
            return self._commit(draft, f"round {numbers['round']}", metadata)

    def _commit(self, draft: Draft, message: str, metadata: dict[str, Any]) -> Commit:
        """Commit; look for it where the answer says that it failed, or there is none."""
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
        """Return the checkpoint that a draft has become after all, if it is the latest.

        Parameters
        ----------
        transaction : Draft
            Whose commit has failed, or seemed to.

        Returns
        -------
        Commit or None

        Raises
        ------
        StoreError
            If the repository cannot be read.
        """
        tip, draft = self.tip(), cast("Draft", transaction)
        if tip == draft.base:
            return None
        with self._reading():
            ours = self._info(tip).metadata.get(_DRAFT) == draft.name
        return self._commit_at(tip, draft.number) if ours else None

    # names and expiry

    def tag(self, name: str, version: Version) -> None:
        """Give a checkpoint a name that stays."""
        check_tag(name, [_MAIN, *self._names()])
        with self.place.names_kept():
            self._check_there(version)  # what is found by a number may have gone since
            with _named(f"the name {name!r}, which may have been in use before,"):
                self._repo.create_tag(name, version.snapshot)
        try:
            self._check_there(version)  # in an object store nobody waits
        except NoCheckpointError:
            self.untag(name)
            raise

    def _check_there(self, version: Version) -> None:
        """Refuse a checkpoint that is no longer one of the run's, or of a name's."""
        now = Repository(self.place)  # Icechunk remembers what it has read
        if all(info.snapshot != version.snapshot for info in now.checkpoints()):
            raise NoCheckpointError(
                f"checkpoint {version.number} of {self.name!r} was deleted just now: choose another"
            )

    def untag(self, name: str) -> None:
        """Take a name away; Icechunk does not let it be used again."""
        with self._reading():
            known = self._repo.list_tags()
        if name not in known:
            raise NoCheckpointError(f"there is no tag {name!r} at {self.name!r}")
        with _named(f"the name {name!r}"):
            self._repo.delete_tag(name)

    def mark_best(self, version: Version) -> None:
        """Let "best" point to a checkpoint."""
        with _named("the name"):
            if self._names().get(BEST) != version.snapshot:
                self._point(BEST, version.snapshot)

    def _point(self, branch: str, snapshot: str) -> None:
        if branch in self._repo.list_branches():
            self._repo.reset_branch(branch, snapshot)
        else:
            self._repo.create_branch(branch, snapshot)

    def expire(self, before: datetime) -> int:
        """Delete the checkpoints written before a time.

        The latest, the one before it and those with a name stay.

        Returns
        -------
        int
            Bytes that were freed.
        """
        with _named("the expiry"):
            self._check_ours(self._info(self.tip()).metadata)
        with _named("the expiry"), self.place.names_kept():
            self._repo.expire_snapshots(older_than=before)
            return int(self._repo.garbage_collect(before).bytes_deleted)

    def keep_last(self, n: int) -> int:
        """Delete the run's checkpoints but for the newest n, and those that :meth:`expire` spares.

        Returns
        -------
        int
            Bytes that were freed.
        """
        with _named("the expiry"):
            commits = self._repo.ancestry(branch=_MAIN)
            found = [info.written_at for info in commits if "checkpoint" in info.metadata]
        return self.expire(found[n - 1]) if len(found) > n else 0

    def flush(self) -> None:
        """Have what was committed to a folder on its disk."""
        self.place.flush()

    def _info(self, snapshot: str) -> icechunk.SnapshotInfo:
        return next(iter(self._repo.ancestry(snapshot_id=snapshot)))

    def _check_ours(self, metadata: Mapping[str, Any]) -> None:
        """Refuse what another program keeps in an Icechunk repository."""
        if metadata.get(_OURS) != FORMAT and "__root" not in metadata:
            raise IncompatibleTableError(
                f"expected a run of format {FORMAT} at {self.name!r}, got "
                f"{metadata.get(_OURS, 'a repository of another program')!r}: read it with the "
                "version of dqlearn that wrote it, or choose another store"
            )


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Give the errors of storages their names."""
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
