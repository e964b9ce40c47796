"""Crew: threads that share the items of one phase after another, in compiled code.

::

    leader   phase 0: items claimed one by one, by whoever is free ─► all done ─► phase 1 ─► ...
    helper   claims items of whatever phase there is; naps while there are none

The number that is claimed from holds the phase in its upper half and the next item in its lower,
so that one atomic addition says what to do. A helper may come late, or never: then the leader does
all. Invariant: an item of a phase is done once, after all items of the phase before; who does it
changes nothing. The leader waits for nobody who has not claimed an item, nor for an item that
failed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dqlearn.jit.atomics import add_atomic, load_atomic, nap, store_atomic
from dqlearn.jit.compiled import njit

__all__ = [
    "board",
    "claim",
    "close",
    "fail",
    "finish",
    "open_phase",
    "phase_of",
    "wait_for_items",
]

_CLAIM, _FAILED, _DONE = 0, 8, 16  # in cache lines of their own
_HALF, _LOW = 32, 2**32 - 1
_WAITING, _CLOSED = -1, -(2**62)


def board(*, closed: bool = False) -> npt.NDArray[np.int64]:
    """Return the numbers that a crew shares, before its first phase, or after its last."""
    numbers = np.zeros(32, np.int64)
    numbers[_CLAIM] = _CLOSED if closed else _WAITING
    return numbers


@njit(nogil=True, cache=True)
def open_phase(numbers, phase):
    """Let the items of a phase be claimed."""
    store_atomic(numbers, _CLAIM, np.int64(phase) << _HALF)


@njit(nogil=True, cache=True, inline="always")
def _free(now, sizes):
    """Return whether an item is there to be claimed."""
    return now >= 0 and (now & _LOW) < sizes[(now >> _HALF) & 1]


@njit(nogil=True, cache=True)
def claim(numbers, sizes):
    """Claim an item; return (phase, item).

    Phases of even and of odd numbers have ``sizes[0]`` and ``sizes[1]`` items. The item is -1 where
    none is free, and the phase is -1 when there are no more.
    """
    now = load_atomic(numbers, _CLAIM)
    if _free(now, sizes):
        now = add_atomic(numbers, _CLAIM, 1)  # perhaps in a later phase than was looked at
    if now < _WAITING:
        return np.int64(-1), np.int64(-1)
    return max(now, 0) >> _HALF, now & _LOW if _free(now, sizes) else np.int64(-1)


@njit(nogil=True, cache=True)
def finish(numbers):
    """Say that an item that was claimed is done."""
    add_atomic(numbers, _DONE, 1)


@njit(nogil=True, cache=True)
def wait_for_items(numbers, done):
    """Wait until so many items, of all phases together, are done; return False if one never is."""
    n = 0
    while load_atomic(numbers, _DONE) < done:
        if load_atomic(numbers, _FAILED) != 0:
            return False
        nap(n)
        n += 1
    return True


def fail(numbers: npt.NDArray[np.int64]) -> None:
    """Say that an item raised an error, so that nobody waits for it."""
    numbers[_FAILED] = 1


def phase_of(numbers: npt.NDArray[np.int64]) -> int:
    """Return the phase that is open."""
    return int(numbers[_CLAIM] >> _HALF)


@njit(nogil=True, cache=True)
def close(numbers):
    """Send the helpers home."""
    store_atomic(numbers, _CLAIM, _CLOSED)
