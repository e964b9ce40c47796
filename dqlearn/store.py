"""The table at rest: one plain Zarr v3 group that ``xarray.open_zarr`` opens alone.

::

    Table.to_xarray() ──► save(path) ──► q, visits, value, policy + attributes (JSON)
                                              └──► read_attributes, Origin ──► a learner again

Invariant: arrays and JSON, nothing that could be executed. Chunks are written by the workers that
hold them, so on a cluster the path must be one that they all see.
"""

from __future__ import annotations

import errno
import json
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
from dqlearn.sparse_table import SparseTable
from dqlearn.table import Table

__all__ = ["FORMAT", "nested", "read_attributes", "write", "write_dataset"]

FORMAT = 1
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write(table: Table | SparseTable, path: str) -> None:
    """Write a table as one Zarr group: see `write_dataset`.

    Parameters
    ----------
    table : Table or SparseTable
        Of one round.
    path : str
        A folder, or a URL that Zarr understands.
    """
    if "://" not in path:
        _check_room(table.nbytes, Path(path).absolute().parent)  # before there are arrays of it
    write_dataset(table.to_xarray(), path)


def write_dataset(dataset: xr.Dataset, path: str) -> None:
    """Write a table's Dataset as one Zarr group; replace what is there only when all is written.

    Parameters
    ----------
    dataset : xarray.Dataset
        As :meth:`Table.to_xarray` or :func:`dqlearn.open_table` returns it.
    path : str
        A folder, or a URL that Zarr understands.

    Raises
    ------
    TableTooLargeError
        If the disk has no room for it.
    IncompatibleTableError
        If something else than a table is at `path`.
    """
    local = "://" not in path
    if local:
        _check_target(Path(path))
        _check_room(dataset["q"].nbytes + dataset["visits"].nbytes, Path(path).absolute().parent)
    draft = f"{path}.{os.getpid()}.part" if local else path
    rows, columns = (max(1, *sizes) for sizes in dataset["q"].data.chunks)
    dataset = dataset.assign_attrs(dqlearn_format=FORMAT).chunk(
        {"state": rows, "action": columns}
    )  # Zarr's chunks are all alike
    with warnings.catch_warnings(), _removed_on_failure(draft if local else None):
        # zarr warns that v3 does not specify what xarray needs to open a group in one read
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        dataset.to_zarr(draft, mode="w", zarr_format=3, consolidated=True)
    if local:
        _replace(Path(path), Path(draft))


@contextmanager
def _removed_on_failure(draft: str | None) -> Iterator[None]:
    """Leave no half of a table behind, and name a full disk."""
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
    """Remove a folder that tasks under way may still be writing to."""
    for _ in range(20):
        shutil.rmtree(draft, ignore_errors=True)
        time.sleep(0.1)
        if not draft.exists():
            return


def _replace(path: Path, draft: Path) -> None:
    """Put a whole table where another one may be; one of the two is there at any moment but one."""
    before = path.with_name(f"{path.name}.{os.getpid()}.old")
    if path.exists():
        path.rename(before)
    draft.rename(path)
    shutil.rmtree(before, ignore_errors=True)


def read_attributes(path: str) -> dict[str, Any]:
    """Read the attributes of a stored table.

    Parameters
    ----------
    path : str
        Of the Zarr group.

    Returns
    -------
    dict
        With the nested ones (spaces, schedules, environment) as data.

    Raises
    ------
    IncompatibleTableError
        If there is no table of this format.
    """
    try:
        group = zarr.open_group(path, mode="r")
        attrs: dict[str, Any] = dict(group.attrs)
        known = attrs["dqlearn_format"]
        for array in ("q", "visits"):
            group[array]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise IncompatibleTableError(
            f"expected a table that dqlearn saved, got {path!r}: {error!r}"
        ) from error
    if known != FORMAT:
        raise IncompatibleTableError(
            f"expected a table of format {FORMAT}, got {known!r} at {path!r}: "
            "it was saved by another version of dqlearn"
        )
    return attrs


def nested(attrs: Mapping[str, Any], name: str) -> Any:
    """Return a nested attribute as data."""
    return json.loads(attrs[name])


def _check_target(path: Path) -> None:
    """Refuse to replace anything but a table of ours."""
    try:
        header = json.loads((path / "zarr.json").read_text())
        replaceable = "dqlearn_format" in header["attributes"]
    except (OSError, KeyError, TypeError, ValueError):
        replaceable = not path.exists()
    if not replaceable:
        raise IncompatibleTableError(
            f"expected no file, or a table to replace, at {str(path)!r}: choose another path"
        )


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
