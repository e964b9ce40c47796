"""Ties: the actions of a state that share its greatest score, as a set of bits.

::

    action   ... 5 4 3 2 1 0
    tied     ... 1 0 0 1 0 0     actions 2 and 5 are equally good: whoever acts draws one of them

Up to 64 actions are the bits of one unsigned number a state; more are those of a row of 64-bit
words. Where one action must stand for the set, as in a stored policy, it is the tied action with
the largest hash(tie key, state, action). Invariant: a set depends on the values of its state alone,
neither on the round nor on the grid, and never is empty.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types
from numba.cpython.unsafe.numbers import trailing_zeros as _trailing_zeros
from numba.extending import overload

from dqlearn.jit.compiled import njit
from dqlearn.kernels.buffers import empty
from dqlearn.random import TIES, explores, low_half, share, stream, word

__all__ = [
    "choose",
    "empty_sets",
    "in_set",
    "members_of",
    "merge_sets",
    "only_one",
    "pick_of_each",
    "set_dtype",
    "sets_of",
    "tie_hash",
    "ties",
    "winner_of",
    "write_set",
]

_WORD = 64
trailing_zeros: Any = _trailing_zeros  # numba types it as what makes it


def ties(seed: int) -> np.uint64:
    """Return the key that says which of several tied actions stands for them."""
    return np.uint64(stream(np.uint64(seed), TIES, np.uint64(0)))


@cache
def set_dtype(n_actions: int) -> np.dtype[Any]:
    """Return the dtype that holds the set of a state, or a word of it."""
    sizes = {8: np.uint8, 16: np.uint16, 32: np.uint32}
    return np.dtype(next((sizes[bits] for bits in sizes if n_actions <= bits), np.uint64))


def empty_sets(n_states: int, n_actions: int) -> npt.NDArray[Any]:
    """Make room for the sets of some states: ``(n_states,)``, or ``(n_states, words)``."""
    if n_actions <= _WORD:
        return empty(n_states, set_dtype(n_actions))
    return empty((n_states, -(-n_actions // _WORD)), np.uint64)


def members_of(tied: npt.NDArray[Any], n_actions: int) -> npt.NDArray[np.bool_]:
    """Return which actions are in each set, bool ``(n_states, n_actions)``."""
    words = tied.reshape(len(tied), -1)
    as_bytes = words.astype(words.dtype.newbyteorder("<")).view(np.uint8)
    return np.unpackbits(as_bytes, axis=1, count=n_actions, bitorder="little") > 0


def sets_of(members: npt.NDArray[np.bool_], tied: npt.NDArray[Any]) -> None:
    """Write the sets of actions that `members` (n_states, n_actions) says."""
    words = tied.reshape(len(tied), -1)
    width = 8 * words.dtype.itemsize
    for w in range(words.shape[1]):
        own = members[:, w * width : (w + 1) * width]
        powers = words.dtype.type(1) << np.arange(own.shape[1], dtype=words.dtype)
        words[:, w] = np.where(own, powers, 0).sum(axis=1, dtype=words.dtype)


@njit(nogil=True, cache=True, inline="always")
def tie_hash(tie_key, state, action, n_actions):
    """Return the hash by which tied actions are ordered."""
    return word(tie_key, state * n_actions + action)


@njit(nogil=True, cache=True)
def _count(bits):
    """Return how many bits are set."""
    n = 0
    while bits:
        bits &= bits - np.uint64(1)
        n += 1
    return n


@njit(nogil=True, cache=True)
def _nth(bits, k):
    """Return the place of the k-th bit that is set, from 0."""
    for _ in range(k):
        bits &= bits - np.uint64(1)
    return np.int64(trailing_zeros(bits))


# What follows stands in two forms: for one number a state, and for a row of words.


def choose(key, tied, row, threshold, n_actions):
    """Choose epsilon-greedily: by the key's upper half whether to explore, by the lower half what.

    Greedy is any of the tied actions, with equal chances.
    """


@overload(choose, inline="always")
def _choose(key, tied, row, threshold, n_actions):
    if tied.ndim == 1:

        def one(key, tied, row, threshold, n_actions):
            bits, action = np.uint64(tied[row]), np.int64(0)
            if explores(key, threshold):
                action = share(low_half(key), n_actions)
            elif bits & (bits - np.uint64(1)):
                action = _nth(bits, share(low_half(key), np.uint64(_count(bits))))
            else:
                action = np.int64(trailing_zeros(bits))
            return action

        return one

    def many(key, tied, row, threshold, n_actions):
        action = share(low_half(key), n_actions)
        if not explores(key, threshold):
            words, total = tied[row], 0
            for w in range(len(words)):
                total += _count(words[w])
            k, w = share(low_half(key), np.uint64(total)), 0
            n = _count(words[0])
            while k >= n:
                k, w = k - n, w + 1
                n = _count(words[w])
            action = _WORD * w + _nth(words[w], k)
        return action

    return many


def only_one(tied, row):
    """Return the action that a set consists of; -1 if there are several."""


@overload(only_one, inline="always")
def _only_one(tied, row):
    if tied.ndim == 1:

        def one(tied, row):
            bits, action = np.uint64(tied[row]), np.int64(-1)
            if bits & (bits - np.uint64(1)) == 0:
                action = np.int64(trailing_zeros(bits))
            return action

        return one

    return lambda tied, row: np.int64(-1)


def in_set(tied, row, action):
    """Return whether an action is in the set of a row."""


@overload(in_set, inline="always")
def _in_set(tied, row, action):
    if tied.ndim == 1:
        return lambda tied, row, action: (
            (np.uint64(tied[row]) >> np.uint64(action)) & np.uint64(1) != 0
        )
    return lambda tied, row, action: (
        (tied[row, action // _WORD] >> np.uint64(action % _WORD)) & np.uint64(1) != 0
    )


def write_set(tied, row, q, s, score, best, first_action, n):
    """Write the set of the actions of a block whose score is the best; return how many they are.

    Without any, as where a score is no number, the first action of the block is taken.
    """


@overload(write_set, inline="always")
def _write_set(tied, row, q, s, score, best, first_action, n):
    if tied.ndim == 1:

        def one(tied, row, q, s, score, best, first_action, n):
            bits = np.uint64(0)
            for a in range(n):
                bits |= np.uint64(score(q, s, a) == best) << np.uint64(a)
            if bits == 0:
                bits = np.uint64(1)
            tied[row] = bits << np.uint64(first_action)
            return bits & (bits - np.uint64(1)) != 0

        return one

    def many(tied, row, q, s, score, best, first_action, n):
        words, count = tied[row], 0
        words[:] = 0
        for a in range(n):
            if score(q, s, a) == best:
                at = first_action + a
                words[at // _WORD] |= np.uint64(1) << np.uint64(at % _WORD)
                count += 1
        if count == 0:
            words[first_action // _WORD] = np.uint64(1) << np.uint64(first_action % _WORD)
        return count > 1

    return many


def merge_sets(tied, others, row, replaces):
    """Join the set of a row with another set of that row, or replace it."""


@overload(merge_sets)
def _merge_sets(tied, others, row, replaces):
    if tied.ndim == 1:

        def one(tied, others, row, replaces):
            if replaces:
                tied[row] = others[row]
            else:
                tied[row] |= others[row]

        return one

    def many(tied, others, row, replaces):
        for w in range(tied.shape[1]):
            if replaces:
                tied[row, w] = others[row, w]
            else:
                tied[row, w] |= others[row, w]

    return many


@njit(nogil=True, cache=True)
def winner_of(tied, row, tie_key, state, n_actions):
    """Return (largest hash, action): the tied action that stands for the set of a row."""
    top, winner = np.uint64(0), np.int64(0)
    for a in range(n_actions):
        if in_set(tied, row, a):
            h = tie_hash(tie_key, state, a, n_actions)
            if h >= top:
                top, winner = h, np.int64(a)
    return top, winner


@njit(nogil=True, cache=True)
def pick_of_each(tied, states, n_actions, tie_key, action):
    """Write the action that stands for each set; `states` as :func:`nth_state` takes them."""
    for t in range(len(action)):
        state = nth_state(states, t)
        action[t] = winner_of(tied, t, tie_key, state, n_actions)[1]


def nth_state(states, t):
    """Return state t of an array, or t states after the first of successive ones."""


@overload(nth_state, inline="always")
def _nth_state(states, t):
    if isinstance(states, types.Integer):
        return lambda states, t: states + t
    return lambda states, t: np.int64(states[t])
