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
from dqlearn.errors import IncompatibleTableError
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
        """Read one chunk.

        Raises
        ------
        IncompatibleTableError
            If the chunk is damaged, or another table has taken the place of this one.
        """
        (s, a), shape = grid.origin(c), grid.chunk_shape(c)
        where = (slice(s, s + shape[0]), slice(a, a + shape[1]))
        try:
            group: Any = zarr.open_group(self.path, mode="r")
            found = int(group.attrs["timesteps"])
            q = np.ascontiguousarray(np.asarray(group["q"][where]), dtype)
            visits = np.ascontiguousarray(np.asarray(group["visits"][where]), np.uint32)
        except Exception as error:  # codecs raise what they like
            raise IncompatibleTableError(
                f"chunk {c} of the table at {self.path!r} cannot be read: {error!r}"
            ) from error
        if found != self.timesteps:
            raise IncompatibleTableError(
                f"expected a table of {self.timesteps} transitions, got {found} at {self.path!r}: "
                "it was replaced after it was loaded; load it again"
            )
        if not q.shape == visits.shape == shape or not np.isfinite(q).all():
            raise IncompatibleTableError(
                f"chunk {c} of the table at {self.path!r} must have finite values of shape "
                f"{shape}, got {q.shape=}, {visits.shape=}: a part of it is missing"
            )
        return Chunk(q, visits, Tally(self.timesteps, 0.0), changed=self.timesteps)
