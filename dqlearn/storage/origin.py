"""A saved table as a snapshot: the origin of a run that does not begin with an empty table.

Invariant: what is read is finite, and belongs to the table that was there when it was loaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import zarr

from dqlearn.errors import IncompatibleTableError
from dqlearn.storage.paths import PathLike, located
from dqlearn.table.columns import COLUMNS
from dqlearn.table.snapshot import Region, StoredArray
from dqlearn.text import shortened

__all__ = ["FORMAT", "Origin", "read_attributes"]

FORMAT = 1
"""Version of the layout of a saved table; another layout has another number."""

Found = TypeVar("Found")


def read_attributes(path: PathLike) -> dict[str, Any]:
    """Read the attributes of a stored table.

    Parameters
    ----------
    path : str or path-like
        Path of the Zarr group.

    Returns
    -------
    dict
        The attributes; the nested ones (spaces, schedules, environment) are parsed.

    Raises
    ------
    IncompatibleTableError
        If there is no table of this format.
    """
    where = located(path)
    try:
        group = zarr.open_group(where, mode="r")
        attrs: dict[str, Any] = dict(group.attrs)
        known = attrs["dqlearn_format"]
        for column in COLUMNS:
            group[column.name]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise IncompatibleTableError(
            f"expected a table that dqlearn saved, got {os.fspath(path)!r}: {shortened(error)}"
        ) from error
    if known != FORMAT:
        raise IncompatibleTableError(
            f"expected a table of format {FORMAT}, got {shortened(known)} at {path!r}: "
            "it was saved by another version of dqlearn"
        )
    return attrs


@dataclass(frozen=True)
class Origin:
    """A stored table and its counters.

    Attributes
    ----------
    path : str
        Path of the Zarr group, which every worker must be able to read.
    round, timesteps : int
        Rounds and transitions that the table was learned from.
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
        """Attributes of the Zarr group."""
        return self._found("what it says of itself", lambda group: dict(group.attrs))

    def array(self, name: str) -> StoredArray:
        """Return an array, to be read lazily.

        Parameters
        ----------
        name : str
            Name of the array.

        Returns
        -------
        zarr.Array

        Raises
        ------
        IncompatibleTableError
            If there is no such array, or another table has replaced this one.
        """
        array: StoredArray = self._found(repr(name), lambda group: group[name])
        return array

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
            A C-ordered array.

        Raises
        ------
        IncompatibleTableError
            If the array is damaged, or another table has replaced this one.
        """
        values = self._found(repr(name), lambda group: np.ascontiguousarray(group[name][region]))
        shape = tuple(part.stop - part.start for part in region)
        if values.shape != shape or not (np.isfinite(values) | np.isneginf(values)).all():
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
        except Exception as error:  # codecs raise errors of any class
            raise IncompatibleTableError(
                f"{what} of the table at {self.path!r} cannot be read: {error!r}"
            ) from error

    def _check_same(self, timesteps: int) -> None:
        if timesteps != self.timesteps:
            raise IncompatibleTableError(
                f"expected a table of {self.timesteps} transitions, got {timesteps} at "
                f"{self.path!r}: it was replaced after it was loaded; load it again"
            )
