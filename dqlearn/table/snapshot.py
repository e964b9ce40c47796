"""A stored table, as a run reads it that begins with it or goes back to it.

::

    a saved table ─┐
                   ├─► Snapshot.read(name, region) ─► chunks, shards, batches of a run
    a checkpoint  ─┘

Each part is read by the task that first needs it, on the worker that will hold it; never through
the client. Invariant: reading is pure, so what is lost is read again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["ArraySpec", "Region", "Snapshot", "StoredArray"]

Region = tuple[slice, ...]
"""A part of an array: one slice for each dimension, whose ends are whole numbers."""


class StoredArray(Protocol):
    """A stored array that has not been read: its shape, chunks and dtype."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole array."""

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of the stored chunks."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""


@dataclass(frozen=True, eq=False)
class ArraySpec:
    """The description of an array that a store is to make.

    Parameters
    ----------
    name : str
        Name of the array; slashes divide the names of groups from the array's own.
    dims : tuple of str
        Names of its dimensions.
    shape, chunks : tuple of int
        Shape of the whole array, and of a stored chunk: no two tasks write to one chunk. The whole
        may be far too large to be allocated; what is never written takes no room.
    dtype : dtype
        Type of the values; "O" is text.
    fill : float
        Value that is read where nothing was written.
    attributes : mapping
        Attributes of the array, as JSON.
    values : ndarray, optional
        All values that the array has from the beginning.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    fill: float = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)
    values: npt.NDArray[Any] | None = None


class Snapshot(Protocol):
    """A stored table to read from; it can be pickled, and so be sent to whoever reads."""

    @property
    def name(self) -> str:
        """Name of the saved table, or of the run, for people."""

    @property
    def round(self) -> int:
        """Number of rounds that the table was learned in."""

    @property
    def timesteps(self) -> int:
        """Number of transitions that the table was learned from."""

    @property
    def attributes(self) -> Mapping[str, Any]:
        """JSON values by name; "group/name" is an attribute of the arrays "group/..." alone."""

    def array(self, name: str) -> StoredArray:
        """Return the shape, chunks and dtype of an array.

        Parameters
        ----------
        name : str
            Name of an array of numbers.

        Returns
        -------
        StoredArray
        """

    def read(self, name: str, region: Region) -> npt.NDArray[Any]:
        """Read a part of an array.

        Parameters
        ----------
        name : str
            Name of the array.
        region : tuple of slice
            The part to read.

        Returns
        -------
        ndarray
            A C-ordered array, which the caller owns.
        """
