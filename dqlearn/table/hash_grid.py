"""The grid of a sparse table: which chunk owns a state, where states are too many to lay out.

::

    state s ─► block s >> bits ─► hash ─► upper half: chunk, 0 .. n_chunks - 1
                                          lower half: where the chunk looks for it
                                          (dqlearn.table.row_index)

Successive states of a block go to one chunk, where they stand side by side; blocks go anywhere, so
that no chunk is hotter than others. Pure arithmetic; all actions of a state are in one chunk.
Invariant: the owner of a state depends on the state and on the grid alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.errors import GridError
from dqlearn.kernels.buffers import empty
from dqlearn.kernels.hashing import find_chunks
from dqlearn.table.grid import ChunkGrid

__all__ = ["Grid", "HashGrid"]

_CHUNKS = 8
_LARGEST_BLOCK = 2**16
_LARGEST_TABLE = 2**62


@dataclass(frozen=True)
class HashGrid:
    """Chunks that share out blocks of states by a hash.

    Parameters
    ----------
    n_states, n_actions : int
        The table's shape; at most 2**62 states.
    n_chunks : int
        Number of chunks.
    block : int
        Number of states that lie side by side, a power of two: 1 where visits scatter, more where
        they stay near.
    members : int
        Number of tables that lie side by side, state by state.

    Raises
    ------
    GridError
        If a size can never work.

    Examples
    --------
    >>> import numpy as np
    >>> grid = HashGrid(10**12, 4, n_chunks=3, block=2)
    >>> grid.find_rows(np.array([6, 7, 8, 10**12 - 1])).tolist()
    [0, 0, 1, 0]
    """

    n_states: int
    n_actions: int
    n_chunks: int
    block: int = 1
    members: int = 1

    def __post_init__(self) -> None:
        """Check the sizes."""
        if not 1 <= self.n_states <= _LARGEST_TABLE:
            raise GridError(f"a sparse table has 1 .. 2**62 states, got {self.n_states}")
        if not 1 <= self.n_chunks <= 2**16:
            raise GridError(f"a sparse table has 1 .. 2**16 chunks, got {self.n_chunks}")
        if not 1 <= self.block <= _LARGEST_BLOCK or self.block & (self.block - 1):
            raise GridError(
                "sparse_block is the number of states that stand side by side, a power of two of "
                f"at most {_LARGEST_BLOCK}, got {self.block}"
            )

    @classmethod
    def of(
        cls, n_states: int, n_actions: int, chunks: Any, block: int, members: int = 1
    ) -> HashGrid:
        """Make the grid of a table.

        Parameters
        ----------
        n_states, n_actions : int
            The table's shape.
        chunks : "auto" or int
            Number of chunks; "auto" is the same on every machine.
        block : int
            Number of states that lie side by side.
        members : int
            Number of tables that lie side by side in each state.

        Returns
        -------
        HashGrid

        Raises
        ------
        GridError
            If `chunks` is neither "auto" nor a number of chunks.
        """
        if isinstance(chunks, str) and chunks == "auto":
            chunks = _CHUNKS
        if not isinstance(chunks, int | np.integer) or isinstance(chunks, bool):
            raise GridError(
                f"chunks of a sparse table must be 'auto' or how many there are, got {chunks=}"
            )
        return cls(int(n_states), int(n_actions), int(chunks), int(block), members)

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of states and of actions."""
        return self.n_states, self.n_actions

    @property
    def chunks(self) -> int:
        """Number of chunks, in the form of a learner's ``chunks``."""
        return self.n_chunks

    @property
    def n_rows(self) -> int:
        """Number of chunks along the states."""
        return self.n_chunks

    @property
    def n_columns(self) -> int:
        """Number of chunks along the actions."""
        return 1

    @property
    def bits(self) -> int:
        """Number of the lowest bits of a state, which say where it lies in its block."""
        return self.block.bit_length() - 1

    def position(self, chunk: int) -> tuple[int, int]:
        """Return the row and the column of a chunk, given its number."""
        return chunk, 0

    def find_rows(self, states: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
        """Return the chunk that owns each state, shape ``(m,)``."""
        owner = empty(len(states), np.uint16)
        find_chunks(states, self.bits, self.n_chunks, owner)
        return owner


Grid = ChunkGrid | HashGrid
"""The grid of a table: a dense one, or a sparse one."""
