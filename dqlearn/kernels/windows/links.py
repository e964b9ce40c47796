"""Links: which transition follows which in its episode, and whose window of n is whole.

Rows are transitions of many environments, the lanes of a shard::

    row        0   1   2   3   4   5   6      of lanes A B A B A B A
    next       2   3   4 END   6   *   *      B's episode ends in row 3; * nothing follows yet

Invariant: a window never goes on beyond an episode's end, and whether it is whole depends on the
rows of its lane alone.
"""

from __future__ import annotations

import numpy as np

from dqlearn.jit.compiled import njit

__all__ = ["BEGINS", "END", "ENDS", "OPEN", "edges_of_walk", "link", "merge"]

BEGINS, ENDS = 1, 2
"""Bits of a row's edge: it begins an episode; it ends one, terminated or truncated."""

END, OPEN = -1, -2
"""In place of the next row: the episode ends here; what follows has not been made yet."""


@njit(nogil=True, cache=True)
def edges_of_walk(elapsed, n_steps, block, most, next_state, lane, edge):
    """Write the lane and the edge of each transition of a walk, in the order of a batch.

    `elapsed` are the steps of each environment's episode before the walk, and `most` is the limit
    at which an episode is truncated.
    """
    for b in range(0, len(elapsed), block):
        n = min(block, len(elapsed) - b)
        for e in range(n):
            age = elapsed[b + e]
            for k in range(n_steps):
                i = b * n_steps + k * n + e
                lane[i], edge[i] = b + e, BEGINS if age == 0 else 0
                age += 1
                if next_state[i] < 0 or age >= most:
                    edge[i] |= ENDS
                    age = 0


@njit(nogil=True, cache=True)
def link(lane, edge, n_lanes, n, after, whole):
    """Write the next row of each row's episode, and whether its window of n rows is whole."""
    last = np.full(n_lanes, END, np.int64)
    for i in range(len(lane)):
        before = last[lane[i]]
        if before >= 0 and after[before] == OPEN:
            after[before] = END if edge[i] & BEGINS else i
        after[i] = END if edge[i] & ENDS else OPEN
        last[lane[i]] = i
    room = np.empty(len(lane), np.int64)  # rows from here on, as many as count
    for i in range(len(lane) - 1, -1, -1):
        if after[i] == END:
            room[i] = n
        elif after[i] == OPEN:
            room[i] = 1
        else:
            room[i] = min(room[after[i]] + 1, n)
        whole[i] = room[i] == n


@njit(nogil=True, cache=True)
def merge(first, second, block, out):
    """Put the rows of each block of lanes behind those of the same block in `first`.

    All three are columns (state, action, reward, next_state, lane, edge); the blocks of the first
    two ascend.
    """
    state, action, reward, next_state, lane, edge = out
    i, j = 0, 0
    for t in range(len(lane)):
        earlier = i < len(first[4])
        if earlier and j < len(second[4]):
            earlier = first[4][i] // block <= second[4][j] // block
        if earlier:
            state[t], action[t], reward[t] = first[0][i], first[1][i], first[2][i]
            next_state[t], lane[t], edge[t] = first[3][i], first[4][i], first[5][i]
            i += 1
        else:
            state[t], action[t], reward[t] = second[0][j], second[1][j], second[2][j]
            next_state[t], lane[t], edge[t] = second[3][j], second[4][j], second[5][j]
            j += 1
