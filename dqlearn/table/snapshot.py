"""A table at rest, as a run sees it that begins with it or goes back to it.

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
"""A part of an array: of each dimension from where to where; both are whole numbers."""


class StoredArray(Protocol):
    """What is known of a stored array without reading it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole array."""

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of the parts that are stored together."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its values."""


@dataclass(frozen=True, eq=False)
class ArraySpec:
    """An array that a store is to make.

    Parameters
    ----------
    name : str
        Slashes in it divide groups from what they hold.
    dims : tuple of str
        Names of its dimensions.
    shape, chunks : tuple of int
        Of the whole, and of what is written together: no two tasks write to one chunk. The whole
        may be far too large to be allocated; what is never written takes no room.
    dtype : dtype
        Of the values; "O" is text.
    fill : float
        What is read where nothing was written.
    attributes : mapping
        JSON.
    values : ndarray, optional
        What it holds from the beginning, all of it.
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
    """What is read from; it can be pickled, and so be sent to whoever reads."""

    @property
    def name(self) -> str:
        """What people call the saved table, or the run."""

    @property
    def round(self) -> int:
        """Rounds that the table was learned in."""

    @property
    def timesteps(self) -> int:
        """Transitions that it was learned from."""

    @property
    def attributes(self) -> Mapping[str, Any]:
        """JSON by name; "group/name" is of what belongs to the arrays "group/..." alone."""

    def array(self, name: str) -> StoredArray:
        """Say how large an array is.

        Parameters
        ----------
        name : str
            Of the array, one of numbers.

        Returns
        -------
        StoredArray
        """

    def read(self, name: str, region: Region) -> npt.NDArray[Any]:
        """Read a part of an array.

        Parameters
        ----------
        name : str
            Of the array.
        region : tuple of slice
            Which part.

        Returns
        -------
        ndarray
            C-ordered; the caller's own.
        """
