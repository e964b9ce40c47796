"""Paged arrays: arrays in files; the operating system keeps in memory what is used of them.

::

    zeros, put ──► a file without a name, in the temporary folder ──► an array as any other
                      └── gone with the array, and with the process, whatever ends it

The folder is Dask's ``temporary-directory``, else the system's; in a worker process that a nanny
keeps, it is the folder that Dask spills to. There the nanny counts mapped files as memory of the
process, so nothing stays mapped after a task. Invariant: the values of an array do not depend on
where it lies, and its room on the disk is reserved when it is made: otherwise a write to memory
that finds the disk full would end the process.
"""

from __future__ import annotations

import math
import mmap
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import psutil

from dqlearn.errors import TableTooLargeError
from dqlearn.kernels import buffers as memory

__all__ = ["copy", "disk", "folder", "is_paged", "let_go", "live_in", "put", "read", "zeros"]

_IN_MEMORY = ("tmpfs", "ramfs")
_MAP: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}

_of_worker: str | None = None


def live_in(folder: str) -> None:
    """Make a worker process put its paged arrays into a folder, and map none of them for long."""
    global _of_worker
    _of_worker = folder


def folder() -> str:
    """Return the folder of paged arrays."""
    return _of_worker or dask.config.get("temporary-directory", None) or tempfile.gettempdir()


def disk() -> tuple[str, int]:
    """Return a name of the disk that paged arrays lie on, and the bytes that are free there."""
    where = Path(folder()).resolve()
    where.mkdir(parents=True, exist_ok=True)
    above = [p for p in psutil.disk_partitions(all=True) if where.is_relative_to(p.mountpoint)]
    kind = max(above, key=lambda p: len(p.mountpoint)).fstype if above else ""
    free = 0 if kind in _IN_MEMORY else shutil.disk_usage(where).free
    return f"{platform.node()} {where.stat().st_dev}", free


def zeros(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Make a paged array of zeros, as ``numpy.zeros`` does.

    Parameters
    ----------
    shape : tuple of int
        Shape of the array, which must not be empty.
    dtype : dtype
        A numeric type.

    Returns
    -------
    ndarray
        A C-ordered array.

    Raises
    ------
    TableTooLargeError
        If there is no room for the array, or the process has too many files.

    Examples
    --------
    >>> made = zeros((2, 3), "float32")
    >>> made.sum(), is_paged(made), is_paged(np.zeros(3))
    (np.float32(0.0), True, False)
    """
    return _filed(shape, np.dtype(dtype), None)


def put(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Copy an array into a paged one; see :func:`zeros`."""
    return _filed(array.shape, array.dtype, np.ascontiguousarray(array))


def copy(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Copy an array: a paged one to another paged one, any other within memory."""
    if not is_paged(array):
        return memory.copy(array)
    made = put(array)
    let_go(array)
    return made


def read(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array that others may read for as long as they like."""
    if _of_worker is None or not is_paged(array):
        return array
    values = memory.copy(array)
    let_go(array)
    return values


def is_paged(array: npt.NDArray[Any]) -> bool:
    """Whether an array is a paged one."""
    return isinstance(array.base, mmap.mmap)


def let_go(*arrays: npt.NDArray[Any]) -> None:
    """Unmap arrays, so that they do not count as this worker's memory; their values stay."""
    for array in arrays:
        if _of_worker is not None and isinstance(array.base, mmap.mmap):
            array.base.madvise(mmap.MADV_DONTNEED)


def _filed(
    shape: tuple[int, ...], dtype: np.dtype[Any], values: npt.NDArray[Any] | None
) -> npt.NDArray[Any]:
    nbytes = math.prod(shape) * dtype.itemsize
    try:
        with tempfile.TemporaryFile(dir=folder()) as file:
            if values is None:
                _reserve(file.fileno(), nbytes)
            else:
                file.write(values.data)  # several times as fast as a write to fresh pages of a map
                file.flush()
            return np.ndarray(shape, dtype, buffer=mmap.mmap(file.fileno(), nbytes, **_MAP))
    except OSError as error:
        raise TableTooLargeError(
            f"a chunk of a table that is out of core needs {nbytes} bytes and a file in "
            f"{folder()!r}, got {error}: set Dask's temporary-directory to a larger disk, or pass "
            "larger chunks="
        ) from error


def _reserve(file: int, nbytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, nbytes)
    else:
        os.truncate(file, nbytes)
