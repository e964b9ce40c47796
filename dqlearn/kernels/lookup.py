"""Lookup: which states a shard asks for, sorted by the row of chunks that answers.

Invariant: before and after the sort, ``of_next[t]`` is the index of the state whose answer
transition t needs; -1 where it needs none.
"""

from __future__ import annotations

from dqlearn.jit.compiled import njit
from dqlearn.kernels.codes import NO_BOOTSTRAP

__all__ = ["follow", "sort_by_owner", "want"]


@njit(nogil=True, cache=True)
def want(state, next_state, wanted, of_next):
    """Append next states that differ from their environment's state; return how many are wanted."""
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
    """Sort the wanted states by owner; ``place[k]`` is the index to which state k went."""
    for k in range(len(owner)):
        to = cursor[owner[k]]
        cursor[owner[k]] = to + 1
        place[k], ordered[to] = to, wanted[k]


@njit(nogil=True, cache=True)
def follow(of_next, place):
    """Replace the indices in `of_next` by those after the sort, in place."""
    for t in range(len(of_next)):
        if of_next[t] >= 0:
            of_next[t] = place[of_next[t]]
