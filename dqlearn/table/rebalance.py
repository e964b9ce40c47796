"""Balance: a grid whose chunks have about the same load, where that of a table has not.

::

    load │    ▂█▅                          a chunk that is written to all the time is one task,
         │ ▁▁▂███▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁        and all other chunks wait for it
         └────────────────────────── states
          before  │       │       │
          after ││││         │

Loads are counted by blocks of states, as many as a :class:`~dqlearn.table.grid.Locator` guesses
chunks by: edges between blocks are found without a search. Invariant: pure arithmetic; a grid is
made of the loads alone, and covers the same table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.table.grid import ChunkGrid, block_bits

__all__ = ["evener", "joined", "load", "visits_of_blocks"]

_PAIR = 0.2  # work for a pair that is only looked at, in that of an update: to find the maxima
_GAIN = 1.5  # how many times as heavy the heaviest chunk must be as it would become


def visits_of_blocks(visits: npt.NDArray[np.uint32], n_states: int) -> npt.NDArray[np.int64]:
    """Add up a chunk's visits by blocks of states.

    Parameters
    ----------
    visits : uint32 (states, ..., actions)
        Of a chunk that begins with a block.
    n_states : int
        Of the table.

    Returns
    -------
    int64 (blocks,)
    """
    firsts = np.arange(0, len(visits), 1 << block_bits(n_states))
    return np.add.reduceat(visits.ravel(), firsts * visits[0].size, dtype=np.int64)


def load(
    visits: npt.NDArray[np.int64], grid: ChunkGrid, n_transitions: int, *, maxima: bool
) -> npt.NDArray[np.float64]:
    """Estimate the work of a round on each block of states, in updates.

    Parameters
    ----------
    visits : int64 (blocks,)
        Of all rounds.
    grid : ChunkGrid
        Of the table.
    n_transitions : int
        Of a round.
    maxima : bool
        Whether the maxima of all states are found in every round.

    Returns
    -------
    float64 (blocks,)
    """
    updates = visits * (n_transitions / max(1, int(visits.sum())))
    return updates + _PAIR * grid.members * grid.shape[1] * np.diff(_edges(grid)) * maxima


def evener(
    grid: ChunkGrid, begun: ChunkGrid, load: npt.NDArray[np.float64], least: int
) -> ChunkGrid | None:
    """Return a grid of about as many chunks as there were, which have about the same load.

    A chunk has at least one block, and at most twice the states of the largest that there was.

    Parameters
    ----------
    grid : ChunkGrid
        Of one column, as it is now.
    begun : ChunkGrid
        The grid that was chosen without knowing the load.
    load : float64 (blocks,)
        Of the states, in updates.
    least : int
        By how much the heaviest chunk must become lighter, in updates.

    Returns
    -------
    ChunkGrid or None
        None if the heaviest chunk would hardly become lighter.

    Examples
    --------
    >>> import numpy as np
    >>> grid = ChunkGrid((4, 4), (2,))
    >>> evener(grid, grid, np.array([3.0, 3, 3, 3, 0, 0, 0, 0]), least=5).rows
    (2, 6)
    """
    edges = _edges(grid)
    before = np.searchsorted(edges, grid.row_edges)
    after = _even(load, begun.n_rows)
    heaviest, then = _heaviest(load, before), _heaviest(load, after)
    if heaviest <= max(_GAIN * then, then + least):
        return None
    most = max(1, 2 * max(begun.rows) >> block_bits(grid.shape[0]))
    rows = np.diff(edges[_split(after, most)])
    return replace(grid, rows=tuple(rows.tolist()))


def joined(arrays: Sequence[npt.NDArray[Any]], block: int) -> npt.NDArray[Any]:
    """Join arrays along the states; what nobody has written to still takes no memory.

    Parameters
    ----------
    arrays : sequence of array (states, ...)
        What to join.
    block : int
        States that are left out together if they are all zero.

    Returns
    -------
    array (states, ...)
    """
    whole = np.zeros((sum(map(len, arrays)), *arrays[0].shape[1:]), arrays[0].dtype)
    starts = np.cumsum([0, *map(len, arrays)])
    for array, start in zip(arrays, starts, strict=False):
        own = whole[start : start + len(array)]
        for first in range(0, len(array), block):
            part = array[first : first + block]
            if part.view(f"u{part.itemsize}").any():  # not by value: a zero may have a sign
                own[first : first + block] = part
    return whole


def _edges(grid: ChunkGrid) -> npt.NDArray[np.int64]:
    """Return the first state of each block, and the number of states."""
    n_states = grid.shape[0]
    return np.append(np.arange(0, n_states, 1 << block_bits(n_states)), n_states)


def _even(load: npt.NDArray[np.float64], n: int) -> npt.NDArray[np.int64]:
    """Return the blocks that up to n chunks of equal loads begin with, and how many there are."""
    done = np.cumsum(load)
    shares = np.linspace(0, done[-1], n + 1)[1:-1]
    inner = 1 + np.searchsorted(done, shares)
    return np.unique([0, *np.minimum(inner, len(load)), len(load)])


def _split(edges: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """Cut what is longer than `most`."""
    starts = [np.arange(a, b, most) for a, b in pairwise(edges)]
    return np.concatenate([*starts, edges[-1:]])


def _heaviest(load: npt.NDArray[np.float64], edges: npt.NDArray[np.int64]) -> float:
    return float(np.add.reduceat(load, edges[:-1]).max())
