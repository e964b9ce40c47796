"""Lookup: which states a shard asks for, sorted by the row of chunks that answers.

Invariant: each place of `of_next` says where the answer for its transition stands, before and after
the sort; -1 where none is needed.
"""

from __future__ import annotations

from dqlearn.jit.compiled import njit
from dqlearn.kernels.codes import NO_BOOTSTRAP

__all__ = ["follow", "sort_by_owner", "want"]


@njit(nogil=True, cache=True)
def want(state, next_state, wanted, of_next):
    """Add the next states that are not where an environment is; return how many are wanted."""
    m = len(state)
    for t in range(len(next_state)):
        s = next_state[t]
        if s == NO_BOOTSTRAP:
            of_next[t] = -1
        elif t < len(state) and s == state[t]:
            of_next[t] = t
        else:
            wanted[m], of_next[t] = s, m
            m += 1
    return m


@njit(nogil=True, cache=True)
def sort_by_owner(owner, cursor, wanted, place, ordered):
    """Put what is wanted in the order of its owners; `place` says where each went."""
    for k in range(len(owner)):
        to = cursor[owner[k]]
        cursor[owner[k]] = to + 1
        place[k], ordered[to] = to, wanted[k]


@njit(nogil=True, cache=True)
def follow(of_next, place):
    """Let `of_next` say where its states are after the sort."""
    for t in range(len(of_next)):
        if of_next[t] >= 0:
            of_next[t] = place[of_next[t]]
