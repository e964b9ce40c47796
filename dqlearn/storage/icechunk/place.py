"""The place of a run's repository: a folder, a URL, or an Icechunk storage; and its lock.

::

    "runs/traffic"  s3://bucket/prefix  icechunk.Storage ──► Place ──► icechunk.Repository

Invariant: at most one run at a time writes to a folder: the run holds a lock that the operating
system releases when the process dies. Object stores have no locks; there Icechunk's
compare-and-swap of the branch lets the first commit win and refuses the other.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import icechunk
from filelock import FileLock, Timeout

from dqlearn.errors import (
    ConfigurationError,
    IncompatibleTableError,
    NoCheckpointError,
    RunInUseError,
    StoreError,
)
from dqlearn.storage.icechunk.failures import first_line
from dqlearn.storage.paths import is_url, located

__all__ = ["Place", "place_of"]

_OF_ICECHUNK = {"chunks", "manifests", "refs", "snapshots", "transactions", "config.yaml"}
# The files that every repository of Icechunk begins with, and their drafts.
_BEGUN = ("snapshots/1CECHNKREP0F1RSTCMT0", "refs/branch.main/ref.json#")

_PATIENCE = 120.0  # seconds to wait for other processes that delete

# Icechunk logs to stdout what it raises too, and warns that folders have no compare-and-swap,
# which the lock replaces.
icechunk.set_logs_filter("off")


@dataclass(frozen=True)
class Place:
    """The place of a repository.

    Attributes
    ----------
    name : str
        Name of the place, for people.
    storage : icechunk.Storage
        The storage in Icechunk's form.
    folder : Path, optional
        The folder, if the place is on a file system.
    """

    name: str
    storage: icechunk.Storage
    folder: Path | None = None

    def open(self) -> icechunk.Repository:
        """Open the repository that is there.

        Raises
        ------
        NoCheckpointError
            If there is no repository.
        IncompatibleTableError
            If something else is there, or a repository of an unknown format.
        StoreError
            If an object store cannot be reached.
        """
        if self.folder is not None and not (found := self._contents()) & _OF_ICECHUNK:
            if found:
                hint = ": load, or xarray.open_zarr, opens tables" if "zarr.json" in found else ""
                raise IncompatibleTableError(
                    f"expected a run's repository, got {self.name!r}{hint}"
                )
            raise NoCheckpointError(f"there is no run at {self.name!r}")
        try:
            return icechunk.Repository.open(self.storage)
        except (icechunk.IcechunkError, ValueError) as error:
            text = first_line(error)
            if "doesn't exist" in text:
                raise NoCheckpointError(f"there is no run at {self.name!r}") from error
            if self.folder is None:
                raise StoreError(f"{self.name!r} cannot be reached, or read: {text}") from error
            raise IncompatibleTableError(
                f"expected a run's repository at {self.name!r}, which Icechunk "
                f"{icechunk.__version__} cannot read: {text}"
            ) from error

    def open_or_create(self) -> icechunk.Repository:
        """Open the repository, or create it where nothing is.

        Raises
        ------
        IncompatibleTableError
            If something else is there.
        StoreError
            If the repository cannot be created.
        """
        with suppress(NoCheckpointError):
            return self.open()
        try:
            if self.folder is not None:  # Icechunk panics without the parent folder
                self.folder.parent.mkdir(parents=True, exist_ok=True)
            self._clear()
            return icechunk.Repository.create(self.storage)
        except (icechunk.IcechunkError, OSError, ValueError) as error:
            raise StoreError(
                f"a run's repository cannot be created at {self.name!r}: {first_line(error)}"
            ) from error

    @property
    def identity(self) -> object:
        """An object that is equal for two names of one place."""
        return self.name if self.folder is None else self.folder

    def lock(self) -> Callable[[], None]:
        """Keep other runs away; return a function that lets them in again.

        Raises
        ------
        RunInUseError
            If another run holds the lock.
        StoreError
            If the folder cannot be written to.
        """
        try:
            return self._lock("lock", 0.0)
        except Timeout as error:
            raise RunInUseError(
                f"another run writes to {self.name!r}: wait for its end, or choose another store"
            ) from error

    @contextmanager
    def names_kept(self) -> Iterator[None]:
        """Prevent others from naming a checkpoint that is being deleted.

        Object stores have no locks; there nothing is prevented.

        Raises
        ------
        RunInUseError
            If another process deletes, or gives names, for minutes.
        StoreError
            If the folder cannot be written to.
        """
        try:
            release = self._lock("names.lock", _PATIENCE)
        except Timeout as error:
            raise RunInUseError(
                f"checkpoints of {self.name!r} are being deleted: try again later"
            ) from error
        try:
            yield
        finally:
            release()

    def _lock(self, name: str, timeout: float) -> Callable[[], None]:
        if self.folder is None:
            return lambda: None
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            # The lock is beside the folder: Icechunk creates repositories in empty folders only.
            beside = self.folder.with_name(f".{self.folder.name}.{name}")
            lock = FileLock(beside, timeout=timeout, thread_local=False)
            lock.acquire()
        except Timeout:  # a Timeout is an OSError too
            raise
        except OSError as error:
            raise StoreError(f"the run at {self.name!r} cannot be written to: {error}") from error
        return lock.release

    def flush(self) -> None:
        """Flush the files of a folder to its disk, as Icechunk does not wait for that."""
        if self.folder is not None and hasattr(os, "sync"):
            os.sync()

    def _contents(self) -> set[str]:
        """Return the names in the folder."""
        if self.folder is None or not self.folder.is_dir():
            return set()
        return {child.name for child in self.folder.iterdir()}

    def _clear(self) -> None:
        """Remove what a process left that died while it created a repository; nothing else."""
        if self.folder is None:
            return
        files = [path for path in self.folder.rglob("*") if not path.is_dir()]
        if all(path.relative_to(self.folder).as_posix().startswith(_BEGUN) for path in files):
            shutil.rmtree(self.folder, ignore_errors=True)


def place_of(store: Any) -> Place:
    """Return the place that a user names.

    Parameters
    ----------
    store : str, path-like or icechunk.Storage
        A folder; ``s3://bucket/prefix``, ``gs://bucket/prefix`` or
        ``az://account/container/prefix``, with credentials from the environment; or any storage
        that Icechunk has.

    Returns
    -------
    Place

    Raises
    ------
    ConfigurationError
        If `store` is none of these.
    """
    if isinstance(store, icechunk.Storage):
        return Place(repr(store), store)
    if not isinstance(store, str | os.PathLike):
        raise ConfigurationError(
            "store must be a path, a URL, an icechunk.Storage or a dqlearn.runs.CheckpointStore, "
            f"got {store!r}"
        )
    text, where = os.fspath(store), located(store)
    if is_url(where):
        return Place(text, _remote(text))
    folder = Path(where).resolve()  # one lock for all names of a folder
    if folder.exists() and not folder.is_dir():  # Icechunk would panic
        raise IncompatibleTableError(f"expected a folder for a run's repository, got {text!r}")
    return Place(text, icechunk.local_filesystem_storage(str(folder)), folder)


def _remote(url: str) -> icechunk.Storage:
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    match parts.scheme:
        case "s3":
            return icechunk.s3_storage(bucket=parts.netloc, prefix=prefix, from_env=True)
        case "gs" | "gcs":
            return icechunk.gcs_storage(bucket=parts.netloc, prefix=prefix, from_env=True)
        case "az" | "abfs":
            container, _, prefix = prefix.partition("/")
            return icechunk.azure_storage(
                account=parts.netloc, container=container, prefix=prefix, from_env=True
            )
    raise ConfigurationError(
        f"expected a folder, s3://, gs:// or az://, got {url!r}: pass others as an icechunk.Storage"
    )
