"""A saved table as a snapshot: where a run's table comes from when it does not begin empty.

Invariant: what is read is finite, and of the table that was there when it was loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import zarr

from dqlearn.errors import IncompatibleTableError
from dqlearn.table.snapshot import Region, StoredArray

__all__ = ["Origin"]

Found = TypeVar("Found")


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
    def name(self) -> str:
        """The path."""
        return self.path

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Those of the Zarr group."""
        return self._found("what it says of itself", lambda group: dict(group.attrs))

    def array(self, name: str) -> StoredArray:
        """Return an array, to be read lazily.

        Parameters
        ----------
        name : str
            Of the array.

        Returns
        -------
        zarr.Array

        Raises
        ------
        IncompatibleTableError
            If it is not there, or another table has taken the place of this one.
        """
        array: StoredArray = self._found(repr(name), lambda group: group[name])
        return array

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
            C-ordered.

        Raises
        ------
        IncompatibleTableError
            If it is damaged, or another table has taken the place of this one.
        """
        values = self._found(repr(name), lambda group: np.ascontiguousarray(group[name][region]))
        shape = tuple(part.stop - part.start for part in region)
        if values.shape != shape or not np.isfinite(values).all():
            raise IncompatibleTableError(
                f"{name!r} of the table at {self.path!r} must have finite values of shape {shape} "
                f"at {region}, got {values.shape=}: a part of it is missing"
            )
        return values

    def _found(self, what: str, look: Callable[[Any], Found]) -> Found:
        try:
            group: Any = zarr.open_group(self.path, mode="r")
            self._check_same(int(group.attrs["timesteps"]))
            return look(group)
        except IncompatibleTableError:
            raise
        except Exception as error:  # codecs raise what they like
            raise IncompatibleTableError(
                f"{what} of the table at {self.path!r} cannot be read: {error!r}"
            ) from error

    def _check_same(self, timesteps: int) -> None:
        if timesteps != self.timesteps:
            raise IncompatibleTableError(
                f"expected a table of {self.timesteps} transitions, got {timesteps} at "
                f"{self.path!r}: it was replaced after it was loaded; load it again"
            )
