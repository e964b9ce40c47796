"""Memory that is reused: arrays whose buffers go back to a pool when their last view is gone.

::

    empty(shape, dtype) ──► array ──► views ──► ... all gone ──► buffer idle ──► the next empty()

Every round makes arrays of the same sizes as the round before, whose arrays it frees. If their
pages went back to the operating system, each would have to be mapped and zeroed again, which costs
more than filling it (measure: ``python tests/benchmarks/stages.py``). Other libraries (Zarr's
codecs, Dask's messages) allocate with malloc, so worker processes let malloc keep its pages too. A
process with a memory limit keeps less memory idle.

Invariant: a buffer belongs to at most one array and its views at a time. Up to 256 MiB may be idle
for any time; beyond that, no more bytes are idle than in use, and not for long.
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


_Idle = tuple[float, npt.NDArray[np.uint8]]  # when it became idle, and the buffer


class _Pool:
    """Idle buffers by size.

    Parameters
    ----------
    spare : int
        Bytes that may be idle for any time.
    seconds : float
        How long more than `spare` bytes may be idle.
    room : float
        While more than `spare` bytes are idle, bound of the bytes idle and in use together.
    """

    def __init__(self, spare: int, seconds: float, room: float = math.inf) -> None:
        self.spare, self.room, self._seconds = spare, room, seconds
        self._idle: defaultdict[int, deque[_Idle]] = defaultdict(deque)
        self._lock = (
            threading.RLock()
        )  # reentrant: garbage collection inside may free a lease, whose buffer is given back here
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
        """Take a buffer back; free buffers while too many bytes are idle."""
        with self._lock:
            self.used -= buffer.nbytes
            self.idle += buffer.nbytes
            self._idle[buffer.nbytes].append((time.monotonic(), buffer))
            while self.idle > max(min(self.used, self.room - self.used), self.spare):
                self._free(next(size for size, buffers in self._idle.items() if buffers))
            if self.idle > self.spare:
                self._free_old(time.monotonic() - self._seconds)

    def _free_old(self, before: float) -> None:
        """Free buffers that became idle before a time, such as those of a one-time copy."""
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
        Shape of the array.
    dtype : dtype
        A numeric dtype.

    Returns
    -------
    ndarray
        A C-ordered array; its memory is reused once it and all its views are gone.

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
        Memory limit of this process, in bytes. Then malloc and the pool of this module each keep at
        most a 16th of it idle for any time, and more is idle only while it fits, together with the
        arrays in use, into half of the limit.

    Returns
    -------
    bool
        Whether this process's malloc has these settings; glibc's has.
    """
    if limit:
        _pool.spare, _pool.room = min(_SPARE, limit // 16), limit / 2
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    large = any(mallopt(_MMAP_THRESHOLD, nbytes) for nbytes in _LARGEST)
    return large and bool(mallopt(_TRIM_THRESHOLD, _pool.spare))
