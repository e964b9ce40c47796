"""Which states a sparse chunk knows, and in which rows of its arrays they stand.

::

    state s ─► block s >> bits ─► hash ─► slots: place p ─► row p << bits | s & (block - 1)
                                          open addressing     blocks[p] is the block
                                          0: free

A chunk knows the blocks that were written to. Places are given out in the order of their coming,
and never change. Place 0 is nobody's: states that are not known stand there, where every value is
the initial one. So a state that nobody has visited takes no room, and needs no case of its own.
Invariant: what is found for a state does not depend on which other states are known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.compiled import njit
from dqlearn.hashgrid import hash_of_block
from dqlearn.memory import empty
from dqlearn.transitions import Sized

__all__ = ["Known"]

_FULL = 0.7  # of the slots
_LEAST = 16  # slots
_LANES = 64  # states that are looked up together


@dataclass(frozen=True)
class Known(Sized):
    """The index of a sparse chunk.

    Attributes
    ----------
    blocks : int64 (capacity,)
        The block at each place, of which the first `n` are in use; -1 at place 0.
    slots : int32 (power of two,)
        Places, by the hashes of their blocks; 0 where there is none.
    n : int
        Places in use, 0 included.
    bits : int
        Lowest bits of a state, which say where it stands in its block.

    Examples
    --------
    >>> known = Known.nothing(bits=1).with_states(np.array([10**12, 7]), owned=False)
    >>> known.rows(np.array([7, 10**12, 6, 3]))
    array([5, 2, 4, 1])
    """

    blocks: npt.NDArray[np.int64]
    slots: npt.NDArray[np.int32]
    n: int
    bits: int

    @classmethod
    def nothing(cls, bits: int) -> Known:
        """Return the index of a chunk that knows no state."""
        return cls(np.array([-1]), np.zeros(_LEAST, np.int32), 1, bits)

    @classmethod
    def of(cls, blocks: npt.NDArray[np.int64], bits: int) -> Known:
        """Return the index of blocks at the places 1, 2, ..."""
        return cls.nothing(bits).with_states(blocks << bits, owned=False)

    @property
    def n_rows(self) -> int:
        """Rows in use."""
        return self.n << self.bits

    @property
    def states(self) -> npt.NDArray[np.int64]:
        """The state of each row after those of place 0, shape ``(n_rows - block,)``."""
        first = self.blocks[1 : self.n, None] << self.bits
        return (first + np.arange(1 << self.bits)).ravel()

    def rows(self, states: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return the row of each state; of those not known, one of the first rows."""
        rows = empty(len(states), np.int64)
        _find(states, self.bits, self.blocks, self.slots, rows)
        return rows

    def with_states(self, states: npt.NDArray[Any], *, owned: bool) -> Known:
        """Return an index that knows some states too.

        Parameters
        ----------
        states : int (m,)
            None of whose blocks need be known; they may occur more than once.
        owned : bool
            Write to the arrays of this index, which nobody else holds.

        Returns
        -------
        Known
            With the blocks of these states at new places, in the order in which they come.
        """
        slots = self.slots
        if self.n + len(states) > _FULL * len(slots):
            slots = _slots(self.n + len(states))
            _fill(self.blocks[: self.n], slots)
        elif not owned:
            slots = slots.copy()
        blocks = self.blocks
        if not owned or self.n + len(states) > len(blocks):
            spare = max(2 * self.n, self.n + len(states)) if owned else self.n + len(states)
            blocks = np.empty(spare, np.int64)
            blocks[: self.n] = self.blocks[: self.n]
        return replace(
            self, blocks=blocks, slots=slots, n=_add(states, self.bits, blocks, slots, self.n)
        )


def _slots(n: int) -> npt.NDArray[np.int32]:
    """Return free slots for so many places."""
    return np.zeros(max(_LEAST, 1 << int(n / _FULL).bit_length()), np.int32)


@njit(cache=True, inline="always")
def look_up(block, blocks, slots):
    """Return (the place of a block, or 0; the slot where that stands, or could)."""
    mask = np.uint64(len(slots) - 1)
    at = hash_of_block(block) & mask
    while slots[at] != 0 and blocks[slots[at]] != block:
        at = (at + np.uint64(1)) & mask
    return np.int64(slots[at]), at


@njit(nogil=True, cache=True)
def _find(states, bits, blocks, slots, rows):
    """Look states up together, a loop for each step, so that cache misses overlap."""
    low, mask = np.int64((1 << bits) - 1), np.uint64(len(slots) - 1)
    place, lucky = np.empty(_LANES, np.int64), np.empty(_LANES, np.bool_)
    for first in range(0, len(states), _LANES):
        s, row = states[first : first + _LANES], rows[first : first + _LANES]
        for t in range(len(s)):
            place[t] = slots[hash_of_block(np.int64(s[t]) >> bits) & mask]
        for t in range(len(s)):
            lucky[t] = (place[t] == 0) | (blocks[place[t]] == np.int64(s[t]) >> bits)
        for t in range(len(s)):
            if not lucky[t]:
                place[t], _ = look_up(np.int64(s[t]) >> bits, blocks, slots)
        for t in range(len(s)):
            row[t] = (place[t] << bits) | (np.int64(s[t]) & low)


@njit(nogil=True, cache=True)
def _fill(blocks, slots):
    """Put the places of blocks, all different, into free slots."""
    for place in range(1, len(blocks)):
        _, at = look_up(blocks[place], blocks, slots)
        slots[at] = place


@njit(nogil=True, cache=True)
def _add(states, bits, blocks, slots, n):
    for t in range(len(states)):
        block = np.int64(states[t]) >> bits
        place, at = look_up(block, blocks, slots)
        if place == 0:
            slots[at], blocks[n] = n, block
            n += 1
    return n
