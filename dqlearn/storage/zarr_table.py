"""A saved table: one plain Zarr v3 group that ``xarray.open_zarr`` opens by itself.

::

    Table.to_xarray() ──► save(path) ──► q, visits, value, policy + attributes (JSON)
    History.saved()   ──┘                history/   a variable over round for each quantity
                                              └──► origin ──► a learner again

Invariant: the group has arrays and JSON, nothing that could be executed. Chunks are written by the
workers that hold them, so on a cluster all workers must see the path.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xarray as xr
import zarr
from dask.utils import format_bytes

from dqlearn.errors import IncompatibleTableError, TableTooLargeError
from dqlearn.storage.attributes import nested, understood
from dqlearn.storage.origin import FORMAT
from dqlearn.storage.paths import PathLike, is_url, located
from dqlearn.table.columns import COLUMNS
from dqlearn.table.history import History
from dqlearn.table.views.arrays import Table
from dqlearn.table.views.sparse import SparseTable
from dqlearn.text import shortened

__all__ = [
    "read_history",
    "write",
    "write_dataset",
]

_HISTORY = "history"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write(
    table: Table | SparseTable, path: PathLike, history: History, overwrite: bool = False
) -> None:
    """Write a table as one Zarr group: see `write_dataset`.

    Parameters
    ----------
    table : Table or SparseTable
        The table of one round.
    path : str or path-like
        A folder, or a URL that Zarr understands.
    history : History
        History of the rounds before.
    overwrite : bool
        Whether to replace a table of another environment.
    """
    where = located(path)
    if not is_url(where):
        _check_room(table.nbytes, Path(where).absolute().parent)  # before there are arrays of it
    write_dataset(table.to_xarray(), path, history.saved(table.round), overwrite)


def write_dataset(
    dataset: xr.Dataset, path: PathLike, history: xr.Dataset, overwrite: bool = False
) -> None:
    """Write a table's Dataset as one Zarr group; replace what is there only when all is written.

    Parameters
    ----------
    dataset : xarray.Dataset
        A table's Dataset, as :meth:`Table.to_xarray` or :func:`dqlearn.open_table` returns it.
    path : str or path-like
        A folder, or a URL that Zarr understands.
    history : xarray.Dataset
        The history, as :meth:`History.saved` returns it.
    overwrite : bool
        Whether to replace a table of another environment.

    Raises
    ------
    TableTooLargeError
        If the disk has no room for it.
    IncompatibleTableError
        If something other than a table of this environment is at `path`.
    """
    path = located(path)
    local = not is_url(path)
    _check_target(path, dataset.attrs, overwrite)
    if local:
        _check_room(sum(dataset[it.name].nbytes for it in COLUMNS), Path(path).absolute().parent)
    draft = f"{path.rstrip('/')}.{os.getpid()}.part" if local else path
    rows, *_, columns = (max(1, *sizes) for sizes in dataset["q"].data.chunks)
    dataset = dataset.assign_attrs(dqlearn_format=FORMAT).chunk(
        {"state": rows, "action": columns}
    )  # all chunks of a Zarr array have one size
    with warnings.catch_warnings(), _removed_on_failure(draft if local else None):
        # zarr warns that v3 does not specify what xarray needs to open a group in one read
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        dataset.to_zarr(draft, mode="w", zarr_format=3, consolidated=False)
        history.to_zarr(draft, group=_HISTORY, zarr_format=3, consolidated=False)
        zarr.consolidate_metadata(draft, zarr_format=3)
    if local:
        _replace(Path(path), Path(draft))


@contextmanager
def _removed_on_failure(draft: str | None) -> Iterator[None]:
    """Remove an unfinished table after a failure, and name a full disk."""
    try:
        yield
    except BaseException as error:
        if draft is not None:
            _remove(Path(draft))
        if isinstance(error, OSError) and error.errno in _FULL:
            raise TableTooLargeError(
                f"the disk filled up while saving, nothing was replaced: {error}"
            ) from error
        raise


def _remove(draft: Path) -> None:
    """Remove a folder that running tasks may still write to."""
    for _ in range(20):
        shutil.rmtree(draft, ignore_errors=True)
        time.sleep(0.1)
        if not draft.exists():
            return


def _replace(path: Path, draft: Path) -> None:
    """Move a whole table to its path; the path is missing only between two renames."""
    before = path.with_name(f"{path.name}.{os.getpid()}.old")
    if path.exists():
        path.rename(before)
    draft.rename(path)
    shutil.rmtree(before, ignore_errors=True)


def read_history(path: PathLike, round_: int, timesteps: int) -> History:
    """Read the history of the rounds that a stored table was learned in.

    Parameters
    ----------
    path : str or path-like
        Path of the table's Zarr group.
    round_, timesteps : int
        Numbers of rounds and transitions that made the table.

    Returns
    -------
    History
        The history; it is empty if the table was saved by a version that saved none.

    Raises
    ------
    IncompatibleTableError
        If it is not the history of this table.
    """
    with understood(os.fspath(path)):
        try:
            group = zarr.open_group(located(path), mode="r", path=_HISTORY)
        except FileNotFoundError:
            return History()
        arrays: dict[str, Any] = dict(group.arrays())
        if len({array.shape for array in arrays.values()}) != 1:
            raise ValueError("the variables of its history have different lengths")
        history = History.of_saved({name: array[:] for name, array in arrays.items()})
        end = (history.end, history.timesteps)
        if len(history) and end != (round_, timesteps):
            raise ValueError(f"its history ends with {end}, the table with {(round_, timesteps)}")
        return history


def _check_target(path: str, attrs: Mapping[str, Any], overwrite: bool) -> None:
    """Refuse to replace anything but a table of the same environment; or any table, if told to."""
    found = _attributes_at(path)
    if found is None:
        return
    if "dqlearn_format" not in found:
        raise IncompatibleTableError(
            f"expected no file, or a table to replace, at {path!r}: choose another path"
        )
    if not overwrite and _identity(found) != _identity({**attrs, "dqlearn_format": FORMAT}):
        names = (shortened(it.get("environment")) for it in (found, attrs))
        raise IncompatibleTableError(
            "expected a table of {1} to replace, got one of {0} at {2!r}, or one of another kind: "
            "choose another path, or pass overwrite=True".format(*names, path)
        )


def _attributes_at(path: str) -> dict[str, Any] | None:
    """Return the attributes of a Zarr group; {} for anything else; None if nothing is there."""
    if not is_url(path) and not os.path.lexists(path):
        return None
    try:
        return dict(zarr.open_group(path, mode="r").attrs)
    except Exception as error:  # storages raise errors of any class
        nothing = is_url(path) and isinstance(error, FileNotFoundError)
        return None if nothing else {}


def _identity(attrs: Mapping[str, Any]) -> Any:
    """Return what must be equal for one table to replace another; damaged tables equal none."""
    try:
        environment = {"encoded": {}, **nested(attrs, "environment")}  # older tables lack it
        environment.pop("compiled", None)  # the process is the same
        spaces = [nested(attrs, f"{kind}_space") for kind in ("observation", "action")]
        return attrs["dqlearn_format"], environment, spaces, bool(attrs.get("sparse"))
    except Exception:  # attributes may contain anything
        return object()


def _check_room(nbytes: int, folder: Path) -> None:
    """Compare the table, uncompressed, with the disk; most tables compress well."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    least = nbytes // 50
    if least > free:
        raise TableTooLargeError(
            f"saving {format_bytes(nbytes)} needs at least {format_bytes(least)} of disk "
            f"even if it compresses well, got {format_bytes(free)} free at {str(folder)!r}"
        )
