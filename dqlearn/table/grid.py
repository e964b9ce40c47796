"""The chunk grid: which chunk owns a (state, action) pair, and where the pair stands in it.

::

              actions
            0    3    6            chunk (i, j) has the number i * n_columns + j
      0   ┌────┬────┐
          │ 0  │ 1  │              pair (s, a) of chunk (i, j):
      4   ├────┼────┤   states       offset = (s - row_i) * width_j + (a - column_j)
          │ 2  │ 3  │
      7   └────┴────┘

Pure arithmetic over edges; no arrays of the table's size. Invariant: (owner, offset) is a bijection
between the pairs and the cells of all chunks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from dask.array.core import normalize_chunks

from dqlearn.errors import GridError
from dqlearn.kernels.buffers import empty
from dqlearn.kernels.route import find_owners
from dqlearn.table.columns import columns_of
from dqlearn.text import shortened

__all__ = ["ChunkGrid", "Slices", "block_bits", "owner_dtype", "table_nbytes"]

Chunks = Any
"""The ``chunks=`` of dask.array for two dimensions, or "auto"."""

Slices = tuple[slice, slice]
"""States and actions of a block of the table."""

_AUTO_BYTES = 2**20
_AUTO_CHUNKS = 8
_MAX_CHUNK_BYTES = 128 * 2**20
_MAX_PAIRS = 2**31 - 1
_GUESSES = 4096


def table_nbytes(shape: tuple[int, int], dtype: np.dtype[Any], members: int = 1) -> int:
    """Return the bytes of the columns of a table."""
    columns = columns_of(members)
    return sum(math.prod(it.shape(*shape)) * it.dtype_in(dtype).itemsize for it in columns)


@dataclass(frozen=True)
class ChunkGrid:
    """A grid of chunks over states and actions.

    Parameters
    ----------
    rows, columns : tuple of int
        Numbers of states and of actions in successive chunks, as in ``dask.array.Array.chunks``.
    members : int
        Number of tables that lie side by side, state by state: a chunk holds all of them.

    Raises
    ------
    GridError
        If a chunk is empty, or has 2**31 values or more.

    Examples
    --------
    >>> grid = ChunkGrid((4, 3), (3, 3))
    >>> grid.locate(5, 1)
    (2, 4)
    >>> grid.pair(2, 4)
    (5, 1)
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    members: int = 1

    def __post_init__(self) -> None:
        """Check that every chunk has pairs, and few enough for 32-bit offsets."""
        sizes = self.rows + self.columns
        if not (self.rows and self.columns and min(sizes) >= 1):
            raise GridError(
                "a chunk grid needs positive sizes along states and actions, "
                f"got {shortened(self.rows)} and {shortened(self.columns)}"
            )
        largest = max(self.rows) * max(self.columns) * self.members
        if largest > _MAX_PAIRS:
            raise GridError(
                f"a chunk holds at most {_MAX_PAIRS} pairs, got one with {largest}: "
                "pass smaller chunks="
            )

    @classmethod
    def of(
        cls, n_states: int, n_actions: int, chunks: Chunks, itemsize: int, members: int = 1
    ) -> ChunkGrid:
        """Make the grid of a table.

        Parameters
        ----------
        n_states, n_actions : int
            The table's shape.
        chunks : "auto", int, tuple or sequence of tuples
            The ``chunks`` of ``dask.array`` for two dimensions; "auto" splits along states into
            chunks of some MiB, and depends on the table only, never on the machine.
        itemsize : int
            Number of bytes of one value.
        members : int
            Number of tables that lie side by side.

        Returns
        -------
        ChunkGrid

        Raises
        ------
        GridError
            If the chunks do not cover the table.
        """
        if isinstance(chunks, str) and chunks == "auto":
            chunks = (_auto_rows(n_states, n_actions * members * itemsize), n_actions)
        try:
            if isinstance(chunks, bool):
                raise TypeError("a bool is no size")
            rows, columns = normalize_chunks(chunks, shape=(n_states, n_actions))
        except (ValueError, TypeError, ZeroDivisionError) as error:
            raise GridError(
                f"chunks must cover {n_states} states x {n_actions} actions, got "
                f"chunks={shortened(chunks)}: {shortened(error)}"
            ) from error
        return cls(tuple(map(int, rows)), tuple(map(int, columns)), members)

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of states and of actions."""
        return sum(self.rows), sum(self.columns)

    @property
    def chunks(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The grid as ``dask.array.Array.chunks``."""
        return self.rows, self.columns

    @property
    def n_chunks(self) -> int:
        """Number of chunks."""
        return len(self.rows) * len(self.columns)

    @property
    def n_rows(self) -> int:
        """Number of chunks along the states."""
        return len(self.rows)

    @property
    def n_columns(self) -> int:
        """Number of chunks along the actions."""
        return len(self.columns)

    @property
    def row_edges(self) -> npt.NDArray[np.int64]:
        """First state of each row of chunks, and the number of states, shape ``(n_rows + 1,)``."""
        return np.cumsum((0, *self.rows), dtype=np.int64)

    @property
    def column_edges(self) -> npt.NDArray[np.int64]:
        """First action of each column, and the number of actions, shape ``(n_columns + 1,)``."""
        return np.cumsum((0, *self.columns), dtype=np.int64)

    @cached_property
    def locators(self) -> tuple[Locator, Locator]:
        """Locators of a pair's row and column."""
        return Locator.of(self.row_edges), Locator.of(self.column_edges)

    @cached_property
    def widths(self) -> npt.NDArray[np.int64]:
        """Numbers of values of a state in each chunk, shape ``(n_chunks,)``."""
        widths = [self.members * self.columns[self.position(c)[1]] for c in range(self.n_chunks)]
        return np.array(widths, np.int64)

    @cached_property
    def bases(self) -> npt.NDArray[np.int64]:
        """Base of each chunk's offsets: ``offset = state * width + action - base``."""
        origins = [self.origin(c) for c in range(self.n_chunks)]
        bases = [s * w + a for (s, a), w in zip(origins, self.widths.tolist(), strict=True)]
        return np.array(bases, np.int64)

    def position(self, chunk: int) -> tuple[int, int]:
        """Return the row and the column (i, j) of a chunk, given its number."""
        return divmod(chunk, len(self.columns))

    def chunk_shape(self, chunk: int) -> tuple[int, int]:
        """Return the numbers of states and actions in a chunk."""
        i, j = self.position(chunk)
        return self.rows[i], self.columns[j]

    def origin(self, chunk: int) -> tuple[int, int]:
        """Return the first state and the first action of a chunk."""
        i, j = self.position(chunk)
        return sum(self.rows[:i]), sum(self.columns[:j])

    def region(self, chunk: int) -> Slices:
        """Return the states and the actions of a chunk."""
        (s, a), (rows, columns) = self.origin(chunk), self.chunk_shape(chunk)
        return slice(s, s + rows), slice(a, a + columns)

    def owners(self, region: Slices) -> list[int]:
        """Return the chunks that a region of the table overlaps."""
        states, actions = region
        i, j = _between(self.row_edges, states), _between(self.column_edges, actions)
        return [a * self.n_columns + b for a in i for b in j]

    def overlaps(self, region: Slices) -> Iterator[tuple[int, Slices, Slices]]:
        """Yield each of those chunks, its part in the region, and where in the region."""
        for c in self.owners(region):
            own, there = zip(*map(_overlap, self.region(c), region), strict=True)
            yield c, own, there

    def find_rows(self, states: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the row of chunks that each state is in, shape ``(m,)``."""
        owner = empty(len(states), owner_dtype(self.n_rows))
        find_owners(states, self.locators[0].arrays, owner)
        return owner

    def locate(self, state: int, action: int, member: int = 0) -> tuple[int, int]:
        """Return the chunk that owns a pair, and the offset of a member's value in it."""
        i = int(np.searchsorted(self.row_edges, state, side="right")) - 1
        j = int(np.searchsorted(self.column_edges, action, side="right")) - 1
        row, column = int(self.row_edges[i]), int(self.column_edges[j])
        place = (state - row) * self.members + member
        offset = place * self.columns[j] + (action - column)
        return i * len(self.columns) + j, offset

    def pair(self, chunk: int, offset: int) -> tuple[int, int]:
        """Return the pair at an offset in a chunk; the inverse of `locate`."""
        row, column = self.origin(chunk)
        place, action = divmod(offset, self.chunk_shape(chunk)[1])
        return row + place // self.members, column + action


@dataclass(frozen=True)
class Locator:
    """One axis of a grid, prepared for a kernel: index -> chunk along this axis.

    ``guess[x >> shift]`` is the chunk in which a block of indices begins; going up from there while
    ``edges[guess + 1] <= x`` finds the chunk of x: no division. Where no block spans two chunks the
    guess is `exact`.
    """

    edges: npt.NDArray[np.int64]
    guess: npt.NDArray[np.int32]
    shift: int
    exact: bool

    @classmethod
    def of(cls, edges: npt.NDArray[np.int64]) -> Locator:
        """Make the locator of an axis from its edges."""
        shift = block_bits(int(edges[-1]))
        blocks = np.arange(0, int(edges[-1]), 1 << shift)
        guess = np.searchsorted(edges, blocks, side="right") - 1
        exact = bool(np.all(edges[1:-1] % (1 << shift) == 0))
        return cls(edges, guess.astype(np.int32), shift, exact)

    @property
    def arrays(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], int, bool]:
        """The fields as a tuple, for a kernel."""
        return self.edges, self.guess, self.shift, self.exact


def _between(edges: npt.NDArray[np.int64], part: slice) -> range:
    first = int(np.searchsorted(edges, part.start, side="right")) - 1
    last = int(np.searchsorted(edges, part.stop, side="left"))
    return range(first, last)


def _overlap(chunk: slice, part: slice) -> tuple[slice, slice]:
    first, last = max(chunk.start, part.start), min(chunk.stop, part.stop)
    return (
        slice(first - chunk.start, last - chunk.start),
        slice(first - part.start, last - part.start),
    )


def _auto_rows(n_states: int, row_bytes: int) -> int:
    """Return the states per chunk: some MiB of them, or more so that chunks are not too many."""
    total = n_states * row_bytes
    wanted = min(math.ceil(total / _AUTO_BYTES), _AUTO_CHUNKS)
    rows = math.ceil(n_states / max(wanted, math.ceil(total / _MAX_CHUNK_BYTES)))
    unit = 1 << block_bits(n_states)
    return math.ceil(rows / unit) * unit  # so that a Locator's guesses are exact


def block_bits(n: int) -> int:
    """Return how many low bits of an index below n a :class:`Locator` ignores to guess."""
    return max(0, (n - 1).bit_length() - _GUESSES.bit_length() + 1)


def owner_dtype(n_chunks: int) -> np.dtype[Any]:
    """Return the smallest unsigned dtype that holds the number of every chunk."""
    return np.min_scalar_type(n_chunks - 1)
