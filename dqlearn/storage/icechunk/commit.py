"""A commit of an Icechunk repository, to read from.

Invariant: reading is pure, and executes nothing that is stored. The bytes of a session are made and
used in memory, by the processes of one run.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from dqlearn.errors import DamagedChunkError, StoreError
from dqlearn.storage.icechunk.failures import first_line, unreachable
from dqlearn.table.snapshot import Region

__all__ = ["Commit"]


@dataclass(frozen=True)
class Commit:
    """A checkpoint.

    Attributes
    ----------
    name : str
        Name of the repository.
    session : bytes
        A read-only Icechunk session, pickled.
    snapshot : str
        Icechunk's id of the checkpoint.
    number : int
        Number of the checkpoint, counted from 0.
    round, timesteps : int
        Rounds and transitions that the table was learned from.
    """

    name: str
    session: bytes
    snapshot: str
    number: int
    round: int
    timesteps: int

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Attributes of the root group, and of each group of arrays as "group/name"."""
        with self._opened():
            return _attributes(self.session)

    @property
    def group(self) -> zarr.Group:
        """The root group, with the arrays and the attributes."""
        with self._opened():
            return _group(self.session)

    @contextmanager
    def _opened(self) -> Iterator[None]:
        """Turn the errors of a repository that cannot be opened into dqlearn's."""
        try:
            yield
        except Exception as error:  # storages raise errors of any class
            raise StoreError(
                f"checkpoint {self.number} of {self.name!r} cannot be opened: {first_line(error)}; "
                "has it expired, or been removed?"
            ) from error

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
        DamagedChunkError
            If what is stored is not what was written; `StoreError` if it cannot be reached.
        """
        array = self.array(name)
        with self._intact(lambda: f"chunk {_first_damaged(array, region)} of array {name!r}"):
            return np.ascontiguousarray(array[region])

    def array(self, name: str) -> Any:
        """Return an array, to be read lazily.

        Parameters
        ----------
        name : str
            Name of the array.

        Returns
        -------
        zarr.Array
            An array of numbers.

        Raises
        ------
        DamagedChunkError
            If what is stored is not what was written.
        """
        with self._intact(lambda: f"array {name!r}"):
            array: Any = self.group[name]
            if array.dtype.kind not in "iuf":
                raise TypeError(f"expected numbers, got {array.dtype}")
            return array

    @contextmanager
    def _intact(self, what: Callable[[], str]) -> Iterator[None]:
        """Turn the errors of damaged data into dqlearn's."""
        try:
            yield
        except StoreError:
            raise
        except Exception as error:  # codecs and storages raise errors of any class
            if unreachable(error):
                raise StoreError(
                    f"checkpoint {self.number} of {self.name!r} cannot be reached: "
                    f"{first_line(error)}; look at the connection, and at the credentials"
                ) from error
            raise DamagedChunkError(
                f"{what()} cannot be read from checkpoint {self.number} of "
                f"{self.name!r}: {first_line(error)}; go back to an earlier checkpoint with "
                "at=, its chunks are other objects unless they did not change since"
            ) from error


def _first_damaged(array: Any, region: Region) -> tuple[int, ...]:
    """Return the first stored chunk of a region that cannot be read by itself."""
    parts = list(zip(region, array.chunks, strict=False))
    chunks = product(*(range(part.start // n, -(-part.stop // n)) for part, n in parts))
    for chunk in chunks:
        try:
            array[tuple(slice(k * n, (k + 1) * n) for k, (_, n) in zip(chunk, parts, strict=True))]
        except Exception:  # codecs and storages raise errors of any class
            return chunk
    return tuple(part.start // n for part, n in parts)


@lru_cache(maxsize=16)
def _group(session: bytes) -> zarr.Group:
    return zarr.open_group(pickle.loads(session).store, mode="r")


@lru_cache(maxsize=16)
def _attributes(session: bytes) -> Mapping[str, Any]:
    root = _group(session)
    found = dict(root.attrs)
    for name, group in root.groups():
        found |= {f"{name}/{key}": value for key, value in group.attrs.items()}
    return MappingProxyType(found)
