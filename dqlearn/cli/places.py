"""Where the commands find things, and where they put them: tables, runs, clusters.

Invariant: a place that cannot be used is refused before the work is done, not after.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import click
from distributed import Client

from dqlearn.cli.options import AT
from dqlearn.errors import (
    ClusterLostError,
    ConfigurationError,
    DQLearnError,
    IncompatibleTableError,
    NoCheckpointError,
)
from dqlearn.storage.location import store_of
from dqlearn.storage.names import LATEST
from dqlearn.storage.origin import read_attributes
from dqlearn.storage.paths import is_url, located
from dqlearn.storage.protocol import CheckpointStore
from dqlearn.training.interrupt import uninterrupted

__all__ = [
    "at_option",
    "check_apart",
    "check_out",
    "cluster",
    "expecting_run",
    "expecting_table",
    "is_run",
    "opened",
    "size",
    "trust_option",
    "whole",
]


def at_option(text: str) -> Callable[[Any], Any]:
    """Make the option that names a checkpoint."""
    return click.option("--at", type=AT, default=LATEST, show_default=True, help=text)


trust_option = click.option(
    "--trust",
    metavar="MODULE",
    multiple=True,
    help="Import this module, and what is in it, if the environment is there; repeatable.",
)


def whole(path: str) -> str:
    """Return a path that means the same in another folder, or a URL."""
    where = located(path)
    return where if is_url(where) else os.path.realpath(where)


def opened(run: str) -> CheckpointStore:
    """Open a run, to look at it."""
    store = store_of(run)
    store.open()
    return store


def size(path: str) -> dict[str, int]:
    """Return how many bytes a folder takes of the disk; nothing of a URL."""
    if "://" in path:
        return {}
    files = (file for file in Path(path).rglob("*") if file.is_file())
    return {"size_on_disk": sum(file.stat().st_size for file in files)}


@contextmanager
def expecting_run(path: str) -> Iterator[None]:
    """Show the way to the commands of saved tables, where one is in a run's place."""
    try:
        yield
    except (IncompatibleTableError, NoCheckpointError) as error:
        try:
            read_attributes(path)
        except (DQLearnError, OSError, ImportError):  # as a URL may need what is not installed
            raise error from None
        raise IncompatibleTableError(
            f"expected a run's repository, got a saved table at {path!r}: look at it by dqlearn "
            "info, play with it by dqlearn evaluate, go on with it by dqlearn.load in Python"
        ) from error


@contextmanager
def expecting_table(path: str) -> Iterator[None]:
    """Show the way to the commands of runs, where one is in a table's place."""
    try:
        yield
    except IncompatibleTableError as error:
        if is_run(path):
            raise click.UsageError(
                f"there is a run at {path!r}: look at it by dqlearn runs info"
            ) from error
        raise


def is_run(path: str) -> bool:
    """Whether there is a run, or one that was only begun."""
    try:
        opened(path).tip()
    except DQLearnError:
        return False
    return True


def check_out(out: str, overwrite: bool) -> None:
    """Refuse to put a table where one may not, or cannot."""
    if "://" not in out and not os.path.lexists(out):
        folder = os.path.dirname(out)
        with suppress(FileExistsError, NotADirectoryError):
            os.makedirs(folder, exist_ok=True)
        if not (os.path.isdir(folder) and os.access(folder, os.W_OK)):
            raise PermissionError(
                f"choose another place: expected a folder to write to at {folder!r}"
            )
        return
    try:
        read_attributes(out)
    except IncompatibleTableError as error:
        if "://" in out:
            return
        if is_run(out):
            raise IncompatibleTableError(
                f"choose another place: there is a run at {out!r}"
            ) from error
        raise IncompatibleTableError(f"choose another place: {error}") from error
    if not overwrite:
        raise ConfigurationError(f"there is a table at {out!r}: pass --overwrite to replace it")


def check_apart(out: str, run: str) -> None:
    """Refuse a table in a run's folder, and a run in a table's."""
    if "://" not in out + run and os.path.commonpath([out, run]) in (out, run):
        raise click.UsageError(
            f"the table at {out!r} and the run at {run!r} must be apart: choose another place"
        )


def cluster(workers: int | None, scheduler: str | None) -> AbstractContextManager[Any]:
    """Make a cluster the place where Dask runs, if one is asked for."""
    if workers:
        return _started(workers)
    return _joined(scheduler) if scheduler else nullcontext()


@contextmanager
def _started(workers: int) -> Iterator[Client]:
    """Start processes that never see Ctrl-C: a terminal sends it to all, and it is for this one."""
    client = None
    try:
        with _held_back():
            client = Client(  # type: ignore[no-untyped-call]
                n_workers=workers, threads_per_worker=1, dashboard_address="127.0.0.1:0"
            )
        yield client
    finally:
        if client is not None:
            with _held_back(), _without_warnings():
                client.close()  # type: ignore[no-untyped-call]


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Say nothing of processes that are killed, as they are in the midst of a round."""
    logger = logging.getLogger("distributed.nanny")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _held_back() -> Iterator[None]:
    """Hold Ctrl-C back until the end; from processes that start meanwhile, for ever.

    They inherit what the thread that starts them blocks, and so do the threads that start others
    in their place.
    """
    resource_tracker.ensure_running()  # it unblocks what was blocked when it starts
    with uninterrupted():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _joined(scheduler: str) -> Client:
    try:
        return Client(scheduler)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise ClusterLostError(
            f"expected a Dask scheduler at {scheduler!r}, such as tcp://host:8786: {error}"
        ) from error
