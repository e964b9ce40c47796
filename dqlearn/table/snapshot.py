"""A table at rest, as a run sees it that begins with it or goes back to it.

Each chunk is read by the task that first needs it, on the worker that will hold it; never through
the client. Invariant: reading is pure, so a chunk that is lost is read again.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from dqlearn.table.chunk import Chunk
from dqlearn.table.grid import ChunkGrid
from dqlearn.table.hash_grid import HashGrid

__all__ = ["Snapshot"]


class Snapshot(Protocol):
    """What tasks read chunks from; it can be pickled."""

    @property
    def round(self) -> int:
        """Rounds that the table was learned in."""

    @property
    def timesteps(self) -> int:
        """Transitions that it was learned from."""

    @property
    def described(self) -> dict[str, Any]:
        """What a table that was learned from it says of it, as JSON has it."""

    def chunk(self, grid: ChunkGrid, c: int, dtype: np.dtype[Any]) -> Chunk:
        """Read one chunk of a grid."""

    def sparse_chunk(self, grid: HashGrid, c: int, empty: Chunk) -> Chunk:
        """Read the states of one sparse chunk into an empty one."""
