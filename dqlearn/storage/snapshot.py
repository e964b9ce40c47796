"""One checkpoint, to read from: what a run goes on from, and what people look at.

::

    Version ──► chunk c, shard w, batch w     on the worker that will hold them
           ──► q, visits, history             on whoever asks

Invariant: reading is pure, and executes nothing that is stored. The bytes of a session are made and
used in memory, by the processes of one run.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from dqlearn.errors import DamagedChunkError, StoreError
from dqlearn.stages.rollout import CompiledShard
from dqlearn.storage.failures import first_line, unreachable
from dqlearn.table.chunk import Chunk
from dqlearn.table.grid import ChunkGrid
from dqlearn.table.insert import filled_with
from dqlearn.table.transitions import Tally, Transitions

__all__ = ["Version"]


@dataclass(frozen=True)
class Version:
    """A checkpoint.

    Attributes
    ----------
    run : str
        Name of the repository.
    session : bytes
        A read-only Icechunk session, pickled.
    snapshot : str
        Icechunk's name of it.
    number : int
        Counts the run's checkpoints from 0.
    round, timesteps : int
        Rounds and transitions that the table was learned from.
    """

    run: str
    session: bytes
    snapshot: str
    number: int
    round: int
    timesteps: int

    @property
    def group(self) -> zarr.Group:
        """The arrays and the attributes."""
        try:
            return _group(self.session)
        except Exception as error:  # storages raise what they like
            raise StoreError(
                f"checkpoint {self.number} of {self.run!r} cannot be opened: {first_line(error)}; "
                "has it expired, or been removed?"
            ) from error

    def read(self, name: str, region: tuple[slice, ...]) -> npt.NDArray[Any]:
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
            Of the array.

        Returns
        -------
        zarr.Array
            Of numbers.

        Raises
        ------
        DamagedChunkError
            If it is not what was written.
        """
        with self._intact(lambda: f"array {name!r}"):
            array: Any = self.group[name]
            if array.dtype.kind not in "iuf":
                raise TypeError(f"expected numbers, got {array.dtype}")
            return array

    @contextmanager
    def _intact(self, what: Callable[[], str]) -> Iterator[None]:
        """Give a name to the errors of what was damaged."""
        try:
            yield
        except StoreError:
            raise
        except Exception as error:  # codecs and storages raise what they like
            if unreachable(error):
                raise StoreError(
                    f"checkpoint {self.number} of {self.run!r} cannot be reached: "
                    f"{first_line(error)}; look at the connection, and at the credentials"
                ) from error
            raise DamagedChunkError(
                f"{what()} cannot be read from checkpoint {self.number} of "
                f"{self.run!r}: {first_line(error)}; go back to an earlier checkpoint with "
                "at=, its chunks are other objects unless they did not change since"
            ) from error

    def chunk(self, grid: ChunkGrid, c: int) -> Chunk:
        """Read chunk c of the table."""
        region = grid.region(c)
        q, visits = self.read("q", region), self.read("visits", region)
        return Chunk(q, visits, Tally(self.timesteps, 0.0), changed=self.timesteps)

    def sparse_chunk(self, c: int, empty: Chunk) -> Chunk:
        """Read what chunk c of a sparse table knows, into one that knows nothing."""
        states, q, visits = (self._known(c, name) for name in ("state", "q", "visits"))
        return filled_with(empty, states, q, visits, self.timesteps)

    def visited(self, c: int) -> npt.NDArray[np.int64]:
        """Read which states chunk c of a sparse table has learned of, ascending."""
        states = self._known(c, "state")
        return np.sort(states[self._known(c, "visits").any(axis=1)])

    def _known(self, c: int, name: str) -> npt.NDArray[Any]:
        n = int(self.read("known/n", (slice(c, c + 1),))[0])
        known: npt.NDArray[Any] = self.read(f"known/{name}", (slice(c, c + 1), slice(0, n)))[0]
        return known

    def shard(self, w: int, first_env: int, n_envs: int) -> CompiledShard:
        """Read the environments of shard w, compiled ones."""
        row = (slice(w, w + 1), slice(0, n_envs))
        state, elapsed, returns = (
            self.read(f"environments/{name}", row)[0] for name in ("state", "elapsed", "returns")
        )
        steps = int(self.read("environments/steps", row[:1])[0])
        return CompiledShard(first_env, state, elapsed, returns, steps)

    def batch(self, w: int) -> Transitions:
        """Read the transitions of shard w that nothing was learned from yet."""
        row = slice(w, w + 1)
        length = int(self.read("batches/length", (row,))[0])
        state, action, reward, next_state = (
            self.read(f"batches/{name}", (row, slice(0, length)))[0]
            for name in ("state", "action", "reward", "next_state")
        )
        with self._intact(lambda: f"what batch {w} counts"):
            tallies: Any = self.group["batches"].attrs["tallies"]
            return Transitions(state, action, reward, next_state, _tally(tallies[w]))


def _first_damaged(array: Any, region: tuple[slice, ...]) -> tuple[int, ...]:
    """Return the first stored chunk of a region that cannot be read by itself."""
    parts = list(zip(region, array.chunks, strict=False))
    chunks = product(*(range(part.start // n, -(-part.stop // n)) for part, n in parts))
    for chunk in chunks:
        try:
            array[tuple(slice(k * n, (k + 1) * n) for k, (_, n) in zip(chunk, parts, strict=True))]
        except Exception:  # codecs and storages raise what they like
            return chunk
    return tuple(part.start // n for part, n in parts)


def _tally(texts: dict[str, str]) -> Tally:
    """Read the numbers that are stored as text."""
    kinds = {field.name: int if field.type == "int" else float for field in fields(Tally)}
    values: dict[str, Any] = {name: kinds[name](text) for name, text in texts.items()}
    return Tally(**values)


@lru_cache(maxsize=16)
def _group(session: bytes) -> zarr.Group:
    return zarr.open_group(pickle.loads(session).store, mode="r")
