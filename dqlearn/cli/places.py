"""Where the commands find things, and where they put them: tables, runs, clusters.

Invariant: a place that cannot be used is refused before the work is done, not after.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import click
from dask.utils import format_bytes
from distributed import Client

from dqlearn.errors import ClusterLostError, ConfigurationError, IncompatibleTableError
from dqlearn.options import AT
from dqlearn.paths import is_url, located
from dqlearn.runs.place import place_of
from dqlearn.runs.repository import LATEST, Repository
from dqlearn.store import read_attributes

__all__ = [
    "at_option",
    "check_apart",
    "check_out",
    "cluster",
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


def opened(run: str) -> Repository:
    """Open a run, to look at it."""
    place = place_of(run)
    return Repository(place, place.open())


def size(path: str) -> dict[str, str]:
    """Say what a folder takes of the disk; nothing of a URL."""
    if "://" in path:
        return {}
    total = sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())
    return {"size on disk": format_bytes(total)}


def check_out(out: str, overwrite: bool) -> None:
    """Refuse to put a table where one may not, or cannot."""
    if "://" not in out and not os.path.lexists(out):
        folder = os.path.dirname(out)
        os.makedirs(folder, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(
                f"choose another place: expected a folder to write to at {folder!r}"
            )
        return
    try:
        read_attributes(out)
    except IncompatibleTableError as error:
        if "://" in out:
            return
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


def _started(workers: int) -> Client:
    """Start processes that ignore Ctrl-C: a terminal sends it to all, and it is for this one."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is ignored, a child ignores too
    try:
        return Client(n_workers=workers, threads_per_worker=1, dashboard_address="127.0.0.1:0")  # type: ignore[no-untyped-call]
    finally:
        signal.signal(signal.SIGINT, before)


def _joined(scheduler: str) -> Client:
    try:
        return Client(scheduler)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise ClusterLostError(
            f"expected a Dask scheduler at {scheduler!r}, such as tcp://host:8786: {error}"
        ) from error
