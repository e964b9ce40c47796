"""The commits of a run's repository, read-only.

::

    main:  ... ── checkpoint 7 ── checkpoint 8        tags, and the branch "best", point into it

Invariant: damage is told from a storage that does not answer, and hides nothing that is whole.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import icechunk
import numpy as np

from dqlearn.errors import (
    DamagedChunkError,
    IncompatibleTableError,
    NoCheckpointError,
    StoreError,
)
from dqlearn.storage.attributes import RUN_FORMAT
from dqlearn.storage.icechunk.commit import Commit
from dqlearn.storage.icechunk.failures import first_line, unreachable
from dqlearn.storage.icechunk.place import Place
from dqlearn.storage.names import LATEST, PREVIOUS, At, CheckpointInfo

__all__ = ["MAIN", "OURS", "Commits"]

MAIN, OURS = "main", "dqlearn"
"""The branch of the checkpoints, and the key of the format's name in a commit's metadata."""

_NUMBERS = {"checkpoint", "round", "timesteps"}


class Commits:
    """A repository of one run, read-only.

    Parameters
    ----------
    place : Place
        The place of the repository.
    repo : icechunk.Repository, optional
        The repository, if it is open; by default it is opened when it is first needed.
    """

    def __init__(self, place: Place, repo: icechunk.Repository | None = None) -> None:
        self.place, self.name, self._opened = place, place.name, repo

    def __eq__(self, other: object) -> bool:
        """Whether the other repository is in the same place."""
        return isinstance(other, Commits) and self.place.identity == other.place.identity

    def __hash__(self) -> int:
        """Return the hash of the place."""
        return hash(self.place.identity)

    @property
    def _repo(self) -> icechunk.Repository:
        if self._opened is None:
            self._opened = self.place.open()
        return self._opened

    def open(self) -> None:
        """Open the repository, if it is there."""
        self._opened = self.place.open()

    def tip(self) -> str:
        """Return the newest snapshot of the branch, whatever it contains."""
        with self._reading():
            return self._main()

    def _main(self) -> str:
        return self._repo.lookup_branch(MAIN)

    def find(self, at: At = LATEST) -> Commit:
        """Find a checkpoint."""
        if isinstance(at, int | np.integer):
            info = next((info for info in self.checkpoints() if info.number == at), None)
            return self._commit_at(info.snapshot if info else None, at)
        if at == LATEST:
            return self._commit_at(self.tip(), at)
        return self._commit_at(self._names().get(at), at)

    def checkpoints(self) -> list[CheckpointInfo]:
        """List the checkpoints, the newest first."""
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
        """Return the snapshots that names point to, except for names whose files are damaged."""
        found = {}
        with self._reading():
            tags, branches = self._repo.list_tags(), self._repo.list_branches() - {MAIN}
        for tag in sorted(tags):
            with self._without_the_damaged():
                found[tag] = self._repo.lookup_tag(tag)
        for branch in sorted(branches):
            with self._without_the_damaged():
                found[branch] = self._repo.lookup_branch(branch)
        return found

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn the errors of a storage that is read into dqlearn's."""
        try:
            yield
        except icechunk.IcechunkError as error:
            raise StoreError(
                f"{self.name!r} cannot be reached, or read: {first_line(error)}"
            ) from error

    @contextmanager
    def _without_the_damaged(self) -> Iterator[None]:
        """Leave out what cannot be read, if the rest can be read."""
        try:
            yield
        except icechunk.IcechunkError as error:
            self._check_reachable(error)

    def _check_reachable(self, error: icechunk.IcechunkError) -> None:
        """Tell damage from no answer: Icechunk reports a snapshot in both cases as not found."""
        found = [error]
        try:
            self._repo.lookup_branch(MAIN)
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

    def _info(self, snapshot: str) -> icechunk.SnapshotInfo:
        return next(iter(self._repo.ancestry(snapshot_id=snapshot)))

    def _check_ours(self, metadata: Mapping[str, Any]) -> None:
        """Refuse what another program keeps in an Icechunk repository."""
        if metadata.get(OURS) != RUN_FORMAT and "__root" not in metadata:
            raise IncompatibleTableError(
                f"expected a run of format {RUN_FORMAT} at {self.name!r}, got "
                f"{metadata.get(OURS, 'a repository of another program')!r}: read it with the "
                "version of dqlearn that wrote it, or choose another store"
            )
