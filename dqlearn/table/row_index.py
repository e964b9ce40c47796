"""The index of a sparse chunk: which states it knows, and in which rows of its arrays they are.

::

    state s ─► block s >> bits ─► hash ─► slots: place p ─► row p << bits | s & (block - 1)
                                          open addressing     blocks[p] is the block
                                          0: free

A chunk knows the blocks that were written to. Places are given to blocks in the order of their
arrival, and never change. Place 0 belongs to no block: a state that is not known is found there,
where every value is the initial one. So a state that nobody has visited takes no room, and needs no
case of its own. Invariant: what is found for a state does not depend on which others are known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.kernels.buffers import empty
from dqlearn.kernels.hashing import add_blocks, fill_slots, find_rows
from dqlearn.table.transitions import Sized

__all__ = ["Known"]

_FULL = 0.7  # largest share of the slots in use
_LEAST = 16  # least number of slots


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
        Number of places in use, including place 0.
    bits : int
        Number of the lowest bits of a state, which say where it lies in its block.

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
        """Return the index of a chunk without states."""
        return cls(np.array([-1]), np.zeros(_LEAST, np.int32), 1, bits)

    @classmethod
    def of(cls, blocks: npt.NDArray[np.int64], bits: int) -> Known:
        """Return the index of blocks that have the places 1, 2, ..."""
        return cls.nothing(bits).with_states(blocks << bits, owned=False)

    @property
    def n_rows(self) -> int:
        """Number of rows in use."""
        return self.n << self.bits

    @property
    def states(self) -> npt.NDArray[np.int64]:
        """The state of each row after those of place 0, shape ``(n_rows - block,)``."""
        first = self.blocks[1 : self.n, None] << self.bits
        return (first + np.arange(1 << self.bits)).ravel()

    def rows(self, states: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return the row of each state; for a state that is not known, one of the first rows."""
        rows = empty(len(states), np.int64)
        find_rows(states, self.bits, self.blocks, self.slots, rows)
        return rows

    def with_states(self, states: npt.NDArray[Any], *, owned: bool) -> Known:
        """Return an index that knows some states too.

        Parameters
        ----------
        states : int (m,)
            States whose blocks need not be known; they may occur more than once.
        owned : bool
            Whether the arrays of this index, which nobody else holds, may be written to.

        Returns
        -------
        Known
            The index with these states' blocks at new places, in the order in which they come.
        """
        slots = self.slots
        if self.n + len(states) > _FULL * len(slots):
            slots = _slots(self.n + len(states))
            fill_slots(self.blocks[: self.n], slots)
        elif not owned:
            slots = slots.copy()
        blocks = self.blocks
        if not owned or self.n + len(states) > len(blocks):
            spare = max(2 * self.n, self.n + len(states)) if owned else self.n + len(states)
            blocks = np.empty(spare, np.int64)
            blocks[: self.n] = self.blocks[: self.n]
        return replace(
            self, blocks=blocks, slots=slots, n=add_blocks(states, self.bits, blocks, slots, self.n)
        )


def _slots(n: int) -> npt.NDArray[np.int32]:
    """Return free slots, enough for so many places."""
    return np.zeros(max(_LEAST, 1 << int(n / _FULL).bit_length()), np.int32)
