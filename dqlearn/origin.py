"""Where a run's table comes from when it does not begin empty: a stored table.

Each chunk is read by the task that first needs it, on the worker that will hold it; never through
the client. Invariant: reading is pure, so a chunk that is lost is read again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from dqlearn.chunk import Chunk
from dqlearn.grid import ChunkGrid
from dqlearn.transitions import Tally

__all__ = ["Origin"]


@dataclass(frozen=True)
class Origin:
    """A stored table and its counters.

    Attributes
    ----------
    path : str
        Of the Zarr group; every worker must be able to read it.
    round, timesteps : int
        Rounds and transitions that it was learned from.
    """

    path: str
    round: int
    timesteps: int

    def chunk(self, grid: ChunkGrid, c: int, dtype: np.dtype[Any]) -> Chunk:
        """Read one chunk."""
        (s, a), (height, width) = grid.origin(c), grid.chunk_shape(c)
        group = zarr.open_group(self.path, mode="r")
        where = (slice(s, s + height), slice(a, a + width))
        q = np.ascontiguousarray(np.asarray(group["q"][where]), dtype)
        visits = np.ascontiguousarray(np.asarray(group["visits"][where]), np.uint32)
        return Chunk(q, visits, Tally(self.timesteps, 0.0))
