"""Members: which of several tables learns from a transition, and where its values stand.

::

    row of state s       member 0: a0 a1 a2 | member 1: a0 a1 a2     column = member * 3 + action
    bootstraps of s      member 0           | member 1               s * members + member

Either a draw from the step's key chooses the member, and `first` is negative; or each environment
teaches the same one always, and `first` is the number of the first of these environments. So it is
the same whoever makes the step. With one member a column is an action, each state has one
bootstrap, and nothing here is called. Invariant: which member learns from a transition does not
depend on what happened in it.
"""

from __future__ import annotations

import numpy as np

from dqlearn.jit.compiled import njit
from dqlearn.kernels.codes import NO_BOOTSTRAP
from dqlearn.random import member_of, step_key

__all__ = ["bootstrap_rows", "columns_of_step", "columns_of_walk"]


@njit(nogil=True, cache=True)
def columns_of_step(streams, step, first, members, n_actions, action):
    """Turn the actions of one step of all environments into columns, in place."""
    for e in range(len(streams)):
        if first >= 0:
            member = (first + e) % members
        else:
            member = np.int64(member_of(step_key(streams[e], np.uint64(step)), members))
        action[e] += member * n_actions


@njit(nogil=True, cache=True)
def columns_of_walk(streams, t0, n_steps, block, first, members, n_actions, action):
    """Turn the actions of a walk, in the order of a batch, into columns, in place."""
    for b in range(0, len(streams), block):
        n = min(block, len(streams) - b)
        own_first = first + b if first >= 0 else first
        for k in range(n_steps):
            own = slice(b * n_steps + k * n, b * n_steps + (k + 1) * n)
            columns_of_step(streams[b : b + n], t0 + k, own_first, members, n_actions, action[own])


@njit(nogil=True, cache=True)
def bootstrap_rows(column, next_state, members, n_actions, rows):
    """Write the row of each transition's bootstrap: next_state * members + learning member."""
    for t in range(len(column)):
        s = np.int64(next_state[t])
        member = np.int64(column[t]) // n_actions
        rows[t] = NO_BOOTSTRAP if s == NO_BOOTSTRAP else s * members + member
