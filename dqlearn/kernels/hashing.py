"""Hashing: the chunk of a state, and its row there, where states are too many to lay out.

::

    state s ─► block s >> bits ─► hash ─► upper half: chunk
                                          lower half: slot ─► place p ─► row p << bits | low bits

Slots are probed linearly from the first (open addressing). A slot that holds 0 is free; 0 is also
the place of a block that has no row. Invariant: what is found for a block does not depend on the
other blocks.
"""

from __future__ import annotations

import numpy as np

from dqlearn.jit.compiled import njit
from dqlearn.random import word

__all__ = [
    "add_blocks",
    "fill_slots",
    "find_chunks",
    "find_rows",
    "hash_of_block",
    "look_up",
    "offsets_of_rows",
    "states_without_row",
]

_LANES = 64  # states that are looked up together


@njit(cache=True, inline="always")
def hash_of_block(block):
    """Return the 64-bit hash of a block's number."""
    return word(np.uint64(block), 0)


@njit(nogil=True, cache=True)
def find_chunks(states, bits, n_chunks, owner):
    """Write the chunk that owns each state."""
    half, n = np.uint64(32), np.uint64(n_chunks)
    for t in range(len(states)):
        h = hash_of_block(np.int64(states[t]) >> bits)
        owner[t] = ((h >> half) * n) >> half


@njit(cache=True, inline="always")
def look_up(block, blocks, slots):
    """Return (place of a block, or 0 if it has none; the slot that holds it, or that is free)."""
    mask = np.uint64(len(slots) - 1)
    at = hash_of_block(block) & mask
    while slots[at] != 0 and blocks[slots[at]] != block:
        at = (at + np.uint64(1)) & mask
    return np.int64(slots[at]), at


@njit(nogil=True, cache=True)
def find_rows(states, bits, blocks, slots, rows):
    """Write the row of each state; many states are looked up together: cache misses overlap."""
    low, mask = np.int64((1 << bits) - 1), np.uint64(len(slots) - 1)
    place, lucky = np.empty(_LANES, np.int64), np.empty(_LANES, np.bool_)
    for first in range(0, len(states), _LANES):
        s, row = states[first : first + _LANES], rows[first : first + _LANES]
        for t in range(len(s)):
            place[t] = slots[hash_of_block(np.int64(s[t]) >> bits) & mask]
        for t in range(len(s)):
            lucky[t] = (place[t] == 0) | (blocks[place[t]] == np.int64(s[t]) >> bits)
        for t in range(len(s)):
            if not lucky[t]:
                place[t], _ = look_up(np.int64(s[t]) >> bits, blocks, slots)
        for t in range(len(s)):
            row[t] = (place[t] << bits) | (np.int64(s[t]) & low)


@njit(nogil=True, cache=True)
def fill_slots(blocks, slots):
    """Enter the places of blocks, which are all different, into free slots."""
    for place in range(1, len(blocks)):
        _, at = look_up(blocks[place], blocks, slots)
        slots[at] = place


@njit(nogil=True, cache=True)
def add_blocks(states, bits, blocks, slots, n):
    """Give each block that has no place the next one, from `n` on; return the places in use."""
    for t in range(len(states)):
        block = np.int64(states[t]) >> bits
        place, at = look_up(block, blocks, slots)
        if place == 0:
            slots[at], blocks[n] = n, block
            n += 1
    return n


@njit(nogil=True, cache=True)
def states_without_row(states, rows, block):
    """Return the states whose row is in place 0, which means that they have none."""
    n = 0
    for t in range(len(rows)):
        n += rows[t] < block
    found = np.empty(n, np.int64)
    n = 0
    for t in range(len(rows)):
        if rows[t] < block:
            found[n] = states[t]
            n += 1
    return found


@njit(nogil=True, cache=True)
def offsets_of_rows(rows, action, width):
    """Turn rows into the offsets of pairs in a flat table, in place."""
    for t in range(len(rows)):
        rows[t] = rows[t] * width + action[t]
