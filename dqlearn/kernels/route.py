r"""Route: targets are computed, and transitions sorted by the chunk that owns their pair.

.. math:: y = r + \gamma \, [s' \text{ not terminal}] \, v_r(s')

where v_r is what the rule takes a state to be worth, :math:`\max_{a'} Q_r(s', a')` in Q-learning.

Each tile of a batch is sorted by a stable counting sort. Its loops are separate and free of
branches, so that they vectorise; fused into one they would not. Indices are unsigned, because Numba
tests signed ones for being negative. Invariant: among the transitions of one chunk the order of the
batch is kept.
"""

from __future__ import annotations

import numpy as np

from dqlearn.jit.compiled import njit

__all__ = [
    "count_owners",
    "find_owners",
    "find_targets",
    "route_tile",
    "route_tiles",
    "scatter_pairs",
    "sort_tile",
    "target_room",
]


@njit(nogil=True, cache=True)
def route_tiles(columns, tile, bootstrap, grid, room, out):
    """Route a whole batch, tile by tile."""
    state, action, reward, next_state = columns
    for i in range(len(out[2])):
        own = slice(i * tile, min((i + 1) * tile, len(state)))
        part = state[own], action[own], reward[own], next_state[own]
        route_tile(part, own.stop - own.start, i, own.start, bootstrap, grid, room, out)


@njit(nogil=True, cache=True)
def route_tile(columns, n, i, first, bootstrap, grid, room, out):
    """Route a tile of a batch.

    Parameters
    ----------
    columns : tuple of arrays
        (state, action, reward, next_state), of which the first `n` are the tile.
    n, i, first : int
        Transitions in the tile, its number, and where it begins in the batch.
    bootstrap : tuple
        (value of every state, gamma).
    grid : tuple
        (locator of rows, locator of columns, bases, widths, members, actions). With several
        members, `action` holds columns and `next_state` the rows of bootstraps; see
        :mod:`dqlearn.kernels.members`.
    room : tuple of arrays
        Scratch: (owner, offset, target) of a tile.
    out : tuple of arrays
        (offset, target, starts) of the batch, written to; see
        :class:`dqlearn.table.transitions.Routed`.
    """
    target = target_room(n, first, grid, room, out)
    find_targets(columns[2][:n], columns[3][:n], bootstrap[0], bootstrap[1], target)
    sort_tile(columns[0][:n], columns[1][:n], i, first, grid, room, out)


@njit(nogil=True, cache=True, inline="always")
def target_room(n, first, grid, room, out):
    """Return where the targets of a tile are written before it is sorted."""
    return out[1][first : first + n] if len(grid[2]) == 1 else room[2][:n]


@njit(nogil=True, cache=True)
def sort_tile(state, action, i, first, grid, room, out):
    """Sort a tile, whose targets are in their room, by owner; as :func:`route_tile` does."""
    n = len(state)
    rows, across, bases, widths, members, n_actions = grid
    starts = out[2][i]
    starts[0] = first
    if len(bases) == 1:
        _offsets_in_one(state, action, widths[0], out[0][first : first + n])
        starts[1] = first + n
        return
    owner, offset, target = room[0][:n], room[1][:n], room[2][:n]
    find_owners(state, rows, owner)
    if len(across[0]) == 2:
        _offsets_in_rows(state, action, owner, bases, widths[0], offset)
    elif members == 1:
        _refine_owners(action, across, owner)
        _offsets(state, action, owner, bases, widths, offset)
    else:
        own_action = (action % n_actions).astype(action.dtype)
        _refine_owners(own_action, across, owner)
        _offsets(state, own_action, owner, bases, widths, offset)
        _move_to_members(action, n_actions, owner, widths // members, offset)
    count_owners(owner, starts[1:])
    for c in range(len(bases)):
        starts[c + 1] += starts[c]
    _scatter(owner, starts[:-1].copy(), offset, target, out[0], out[1])


@njit(nogil=True, cache=True, inline="always")
def find_targets(reward, next_state, value, gamma, target):
    """Write the target of each transition."""
    nothing = gamma - gamma
    for t in range(len(reward)):
        s = next_state[t]
        future = gamma * value[np.uint64(max(s, 0))]
        target[t] = reward[t] + (future if s >= 0 else nothing)


@njit(nogil=True, cache=True, inline="always")
def find_owners(state, rows, owner):
    """Write the row of chunks of each state: a guess, then a search if guesses are not exact."""
    edges, guess, shift, exact = rows
    for t in range(len(state)):
        owner[t] = guess[np.uint64(state[t] >> shift)]
    if not exact:
        for t in range(len(state)):
            i = np.int64(owner[t])
            while edges[i + 1] <= state[t]:
                i += 1
            owner[t] = i


@njit(nogil=True, cache=True, inline="always")
def _refine_owners(action, columns, owner):
    """Turn rows of chunks into chunks, by the column of chunks that each action is in."""
    edges, guess, shift, _ = columns
    n_columns = len(edges) - 1
    for t in range(len(action)):
        j = guess[action[t] >> shift]
        while edges[j + 1] <= action[t]:
            j += 1
        owner[t] = owner[t] * n_columns + j


@njit(nogil=True, cache=True, inline="always")
def _offsets_in_one(state, action, width, offset):
    for t in range(len(state)):
        offset[t] = state[t] * width + action[t]


@njit(nogil=True, cache=True, inline="always")
def _offsets_in_rows(state, action, owner, bases, width, offset):
    for t in range(len(state)):
        offset[t] = state[t] * width + action[t] - bases[owner[t]]


@njit(nogil=True, cache=True, inline="always")
def _offsets(state, action, owner, bases, widths, offset):
    for t in range(len(state)):
        c = owner[t]
        offset[t] = state[t] * widths[c] + action[t] - bases[c]


@njit(nogil=True, cache=True, inline="always")
def _move_to_members(column, n_actions, owner, widths, offset):
    """Move offsets from the first member's actions in a chunk to the learning member's."""
    for t in range(len(column)):
        offset[t] += column[t] // n_actions * widths[owner[t]]


@njit(nogil=True, cache=True, inline="always")
def count_owners(owner, counts):
    """Add the number of transitions of each owner to `counts`.

    It counts into four arrays in turn: successive owners are often equal, and increments of the
    same number would wait for each other.
    """
    parts = np.zeros((4, len(counts)), np.int64)
    whole = len(owner) // 4 * 4
    for t in range(0, whole, 4):
        for k in range(4):
            parts[k, owner[t + k]] += 1
    for t in range(whole, len(owner)):
        parts[0, owner[t]] += 1
    for k in range(4):
        for c in range(len(counts)):
            counts[c] += parts[k, c]


@njit(nogil=True, cache=True, inline="always")
def _scatter(owner, cursor, located_offset, located_target, offset, target):
    for t in range(len(owner)):
        c = owner[t]
        to = np.uint64(cursor[c])
        cursor[c] += 1
        offset[to], target[to] = located_offset[t], located_target[t]


@njit(nogil=True, cache=True)
def scatter_pairs(owner, cursor, columns, out):
    """Put (state, action, target) in the order of their owners."""
    for t in range(len(owner)):
        c = owner[t]
        to = cursor[c]
        cursor[c] += 1
        out[0][to], out[1][to], out[2][to] = columns[0][t], columns[1][t], columns[2][t]
