"""Where a run's table comes from when it does not begin empty: a stored table.

Each chunk is read by the task that first needs it, on the worker that will hold it; never through
the client. Invariant: reading is pure, so a chunk that is lost is read again.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from dqlearn.errors import IncompatibleTableError
from dqlearn.table.chunk import Chunk
from dqlearn.table.grid import ChunkGrid
from dqlearn.table.hash_grid import HashGrid
from dqlearn.table.insert import filled_with
from dqlearn.table.transitions import Tally

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

    @property
    def described(self) -> dict[str, Any]:
        """What a table that was learned from it says of it."""
        return asdict(self)

    def chunk(self, grid: ChunkGrid, c: int, dtype: np.dtype[Any]) -> Chunk:
        """Read one chunk.

        Raises
        ------
        IncompatibleTableError
            If the chunk is damaged, or another table has taken the place of this one.
        """
        where, shape = grid.region(c), grid.chunk_shape(c)
        try:
            group: Any = zarr.open_group(self.path, mode="r")
            found = int(group.attrs["timesteps"])
            q = np.ascontiguousarray(np.asarray(group["q"][where]), dtype)
            visits = np.ascontiguousarray(np.asarray(group["visits"][where]), np.uint32)
        except Exception as error:  # codecs raise what they like
            raise IncompatibleTableError(
                f"chunk {c} of the table at {self.path!r} cannot be read: {error!r}"
            ) from error
        self._check_found(found)
        if not q.shape == visits.shape == shape or not np.isfinite(q).all():
            raise IncompatibleTableError(
                f"chunk {c} of the table at {self.path!r} must have finite values of shape "
                f"{shape}, got {q.shape=}, {visits.shape=}: a part of it is missing"
            )
        return Chunk(q, visits, Tally(self.timesteps, 0.0), changed=self.timesteps)

    def sparse_chunk(self, grid: HashGrid, c: int, empty: Chunk) -> Chunk:
        """Read the states of one sparse chunk into an empty one.

        Raises
        ------
        IncompatibleTableError
            As `chunk`.
        """
        try:
            group: Any = zarr.open_group(self.path, mode="r")
            found = int(group.attrs["timesteps"])
            own = np.flatnonzero(grid.find_rows(states := group["state"][:]) == c)
            q, visits = (_rows(group[name], own) for name in ("q", "visits"))
        except Exception as error:  # codecs raise what they like
            raise IncompatibleTableError(
                f"chunk {c} of the table at {self.path!r} cannot be read: {error!r}"
            ) from error
        self._check_found(found)
        if not np.isfinite(q).all():
            raise IncompatibleTableError(
                f"the table at {self.path!r} must have finite values: a part of it is missing"
            )
        return filled_with(empty, states[own], q, visits, self.timesteps)

    def _check_found(self, timesteps: int) -> None:
        if timesteps != self.timesteps:
            raise IncompatibleTableError(
                f"expected a table of {self.timesteps} transitions, got {timesteps} at "
                f"{self.path!r}: it was replaced after it was loaded; load it again"
            )


def _rows(array: Any, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Read some rows of an array, ascending, one stored chunk after another."""
    size = array.chunks[0]
    edges = np.searchsorted(rows, range(0, array.shape[0] + size, size))
    parts = [
        array[k * size : (k + 1) * size][rows[first:last] - k * size]
        for k, (first, last) in enumerate(pairwise(edges))
        if last > first
    ]
    return np.concatenate([np.empty((0, array.shape[1]), array.dtype), *parts])
