r"""Route: targets are computed and sorted by the chunk that owns their pair.

.. math:: y = r + \gamma \, [s' \text{ not terminal}] \, \max_{a'} Q_r(s', a')

A stable counting sort: one pass counts the transitions of each owner, one computes targets and puts
them in place. Invariant: among the transitions of one chunk the order of the batch is kept, so the
updates of a pair happen in the same order whatever the grid.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from dqlearn.grid import ChunkGrid, Locator
from dqlearn.transitions import Routed, Transitions

__all__ = ["route"]


def route(
    transitions: Transitions, value: npt.NDArray[Any], gamma: float, grid: ChunkGrid
) -> Routed:
    """Compute targets and sort them by owner.

    Parameters
    ----------
    transitions : Transitions
        A shard's transitions of round r.
    value : float (n_states,)
        ``max_a Q_r(s, a)``.
    gamma : float
        Discount factor.
    grid : ChunkGrid
        Who owns what.

    Returns
    -------
    Routed
        Offsets (int32) and targets (the table's dtype), sorted by chunk.

    Examples
    --------
    >>> import numpy as np
    >>> from dqlearn.transitions import Tally
    >>> batch = Transitions(np.array([3, 0]), np.array([1, 0]), np.array([1.0, 2.0]),
    ...                     np.array([-1, 3]), Tally(0, 0.1))
    >>> routed = route(batch, np.array([0.0, 0.0, 0.0, 10.0]), 0.5, ChunkGrid((2, 2), (2,)))
    >>> routed.piece(0).target, routed.piece(1).offset
    (array([7.]), array([3], dtype=int32))
    """
    n = len(transitions.state)
    offset = np.empty(n, np.int32)
    target = np.empty(n, value.dtype)
    rows, columns = Locator.of(grid.row_edges), Locator.of(grid.column_edges)
    starts = _route(
        (transitions.state, transitions.action, transitions.reward, transitions.next_state),
        value,
        value.dtype.type(gamma),
        (rows.edges, rows.guess, rows.shift),
        (columns.edges, columns.guess, columns.shift),
        (offset, target),
    )
    return Routed(offset, target, starts, transitions.tally)


@njit(nogil=True, cache=True, inline="always")
def _chunk_along(axis, x):
    edges, guess, shift = axis
    i = guess[x >> shift]
    while edges[i + 1] <= x:
        i += 1
    return i


@njit(nogil=True, cache=True)
def _route(batch, value, gamma, rows, columns, out):
    state, action, reward, next_state = batch
    offset, target = out
    n = len(state)
    n_columns = len(columns[0]) - 1
    n_chunks = (len(rows[0]) - 1) * n_columns
    starts = np.zeros(n_chunks + 1, np.int64)
    owner = np.empty(n if n_chunks > 1 else 0, np.int32)
    if n_chunks > 1:
        for t in range(n):
            c = _chunk_along(rows, state[t]) * n_columns + _chunk_along(columns, action[t])
            owner[t] = c
            starts[c + 1] += 1
        for c in range(n_chunks):
            starts[c + 1] += starts[c]
    else:
        starts[1] = n
    cursor = starts[:-1].copy()
    for t in range(n):
        c = np.int64(owner[t]) if n_chunks > 1 else 0
        i = c // n_columns if n_columns > 1 else c
        j = c - i * n_columns
        width = columns[0][j + 1] - columns[0][j]
        to = cursor[c]
        cursor[c] += 1
        offset[to] = (state[t] - rows[0][i]) * width + (action[t] - columns[0][j])
        s = next_state[t]
        target[to] = reward[t] + gamma * value[s] if s >= 0 else reward[t]
    return starts
