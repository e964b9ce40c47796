"""Memory that is used again: arrays whose buffers go back to a pool when the last view has gone.

::

    empty(shape, dtype) ──► array ──► views ──► ... all gone ──► buffer idle ──► the next empty()

What others allocate (Zarr's codecs, Dask's messages) comes from malloc, which worker processes let
keep its pages too. Those with a limit of memory keep less idle.

Every round makes arrays of the sizes of the round before and frees those. Given back to the
operating system, each page of them has to be mapped and zeroed again, which costs more than filling
it (measure: ``python tests/benchmarks/stages.py``). Invariant: a buffer has at most one array and
its views at a time; no more bytes are idle than are in use, and for long no more than 256 MiB.
"""

from __future__ import annotations

import ctypes
import math
import threading
import time
from collections import defaultdict, deque
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["copy", "empty", "keep_freed_pages"]

_LEAST = 2**16  # smaller arrays come from malloc's own lists
_SPARE = 256 * 2**20
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # as <malloc.h> numbers them
_LARGEST = (128 * 2**20, 32 * 2**20)  # what new and old versions of glibc accept


_Idle = tuple[float, npt.NDArray[np.uint8]]  # since when, and what


class _Pool:
    """Idle buffers by size.

    Parameters
    ----------
    spare : int
        Bytes that may be idle for any time.
    seconds : float
        How long others may.
    room : float
        Bytes that may be idle and in use together, if more are idle than spare.
    """

    def __init__(self, spare: int, seconds: float, room: float = math.inf) -> None:
        self.spare, self.room, self._seconds = spare, room, seconds
        self._idle: defaultdict[int, deque[_Idle]] = defaultdict(deque)
        self._lock = (
            threading.RLock()
        )  # a collection inside may free a lease, which comes back here
        self.idle = self.used = 0

    def take(self, nbytes: int) -> npt.NDArray[np.uint8]:
        """Return an idle buffer of a size, or a new one."""
        with self._lock:
            self.used += nbytes
            if self._idle[nbytes]:
                self.idle -= nbytes
                return self._idle[nbytes].pop()[1]
        return np.empty(nbytes, np.uint8)

    def give(self, buffer: npt.NDArray[np.uint8]) -> None:
        """Take a buffer back; free some when more are idle than used."""
        with self._lock:
            self.used -= buffer.nbytes
            self.idle += buffer.nbytes
            self._idle[buffer.nbytes].append((time.monotonic(), buffer))
            while self.idle > max(min(self.used, self.room - self.used), self.spare):
                self._free(next(size for size, buffers in self._idle.items() if buffers))
            if self.idle > self.spare:
                self._free_old(time.monotonic() - self._seconds)

    def _free_old(self, before: float) -> None:
        """Free what nobody wanted since then: a table that was copied for once, say."""
        for size, buffers in self._idle.items():
            while buffers and buffers[0][0] < before:
                self._free(size)

    def _free(self, size: int) -> None:
        self._idle[size].popleft()
        self.idle -= size


class _Lease:
    """Owns a buffer as long as an array, or a view of it, refers to it."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._buffer = _pool.take(math.prod(shape) * dtype.itemsize)
        self.__array_interface__ = {
            **self._buffer.__array_interface__,
            "shape": shape,
            "typestr": dtype.str,
            "descr": dtype.descr,
        }

    def __del__(self) -> None:
        _pool.give(self._buffer)


_pool = _Pool(_SPARE, seconds=10.0)


def empty(shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Make an array with arbitrary contents, as ``numpy.empty`` does.

    Parameters
    ----------
    shape : int or tuple of int
        Of the array.
    dtype : dtype
        A numeric one.

    Returns
    -------
    ndarray
        C-ordered; its memory is used again once it and all its views have gone.

    Examples
    --------
    >>> empty((2, 3), "float32").shape
    (2, 3)
    """
    shape = (shape,) if isinstance(shape, int) else shape
    dtype = np.dtype(dtype)
    if math.prod(shape) * dtype.itemsize < _LEAST:
        return np.empty(shape, dtype)
    return np.asarray(_Lease(shape, dtype))


def copy(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Copy an array into memory of the pool."""
    new = empty(array.shape, array.dtype)
    np.copyto(new, array)
    return new


def keep_freed_pages(limit: int | None = None) -> bool:
    """Let this process's malloc keep large blocks that are freed, up to 256 MiB, for the next.

    Parameters
    ----------
    limit : int, optional
        Of this process's memory, bytes: malloc, and what is idle here, keep a 16th of it at most,
        and no more is idle than would fill half of it.

    Returns
    -------
    bool
        Whether that can be told it: glibc's can.
    """
    if limit:
        _pool.spare, _pool.room = min(_SPARE, limit // 16), limit / 2
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    large = any(mallopt(_MMAP_THRESHOLD, nbytes) for nbytes in _LARGEST)
    return large and bool(mallopt(_TRIM_THRESHOLD, _pool.spare))
