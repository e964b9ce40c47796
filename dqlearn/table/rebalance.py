"""Balance: a grid whose chunks have about the same load, for a table whose chunks have not.

::

    load │    ▂█▅                          a chunk that is written to all the time is one task,
         │ ▁▁▂███▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁        and all other chunks wait for it
         └────────────────────────── states
          before  │       │       │
          after ││││         │

Loads are counted by blocks of states, the blocks from which a :class:`~dqlearn.table.grid.Locator`
guesses chunks: edges between blocks are found without a search. Invariant: this is pure arithmetic;
a grid depends on the loads alone, and covers the same table.
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

_PAIR = 0.2  # work for a pair that only the search for maxima reads, in updates
_GAIN = 1.5  # least ratio of the heaviest load to what it would become


def visits_of_blocks(visits: npt.NDArray[np.uint32], n_states: int) -> npt.NDArray[np.int64]:
    """Add up a chunk's visits by blocks of states.

    Parameters
    ----------
    visits : uint32 (states, ..., actions)
        Visits in a chunk whose first state begins a block.
    n_states : int
        Number of states of the table.

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
        Visits in all rounds.
    grid : ChunkGrid
        The grid of the table.
    n_transitions : int
        Number of transitions of a round.
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
    """Return a grid of about as many chunks as before, whose loads are about the same.

    A chunk has at least one block, and at most twice the states of the largest chunk of `begun`.

    Parameters
    ----------
    grid : ChunkGrid
        The present grid, of one column.
    begun : ChunkGrid
        The grid that was chosen without knowing the load.
    load : float64 (blocks,)
        Load of each block, in updates.
    least : int
        Least decrease of the heaviest load, in updates.

    Returns
    -------
    ChunkGrid or None
        The grid; None if the heaviest chunk would hardly become lighter.

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
    """Join arrays along the states; what is all zero still takes no memory.

    Parameters
    ----------
    arrays : sequence of array (states, ...)
        Arrays to join.
    block : int
        Number of states that are skipped together if they are all zero.

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
    """Return the first state of each block, and the number of states at the end."""
    n_states = grid.shape[0]
    return np.append(np.arange(0, n_states, 1 << block_bits(n_states)), n_states)


def _even(load: npt.NDArray[np.float64], n: int) -> npt.NDArray[np.int64]:
    """Return the first blocks of up to n chunks of equal loads, and the number of blocks."""
    done = np.cumsum(load)
    shares = np.linspace(0, done[-1], n + 1)[1:-1]
    inner = 1 + np.searchsorted(done, shares)
    return np.unique([0, *np.minimum(inner, len(load)), len(load)])


def _split(edges: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """Split the intervals that are longer than `most`."""
    starts = [np.arange(a, b, most) for a, b in pairwise(edges)]
    return np.concatenate([*starts, edges[-1:]])


def _heaviest(load: npt.NDArray[np.float64], edges: npt.NDArray[np.int64]) -> float:
    return float(np.add.reduceat(load, edges[:-1]).max())
