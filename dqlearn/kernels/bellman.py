r"""Bellman: backups of enumerated outcomes, pair by pair or in a sweep.

.. math:: (TQ)(s, a) = \bar r(s, a) + \gamma \sum_{s'} w(s, a, s') \, v(s')

A block holds the expected rewards and the weighted successors of some states. Invariant: a sweep
reads and writes the values of its own states in order, so the result does not depend on where
blocks end.
"""

from __future__ import annotations

from dqlearn.jit.compiled import njit

__all__ = ["backup_rows", "sweep"]


@njit(nogil=True, cache=True)
def _backup(block, row, gamma, value):
    onward = 0.0
    for j in range(block.start[row], block.start[row + 1]):
        onward += block.weight[j] * value[block.next_state[j]]
    return block.reward[row] + gamma * onward


@njit(nogil=True, cache=True)
def backup_rows(block, gamma, value, q):
    """Write the backup of each pair of a block."""
    for row in range(len(block.reward)):
        q[row] = _backup(block, row, gamma, value)


@njit(nogil=True, cache=True)
def sweep(block, first, n_actions, policy, gamma, value, backward):
    """Update the block's values in place, greedily or by a policy; return the largest change."""
    residual = 0.0
    n = len(block.reward) // n_actions
    for k in range(n):
        i = n - 1 - k if backward else k
        if policy is None:
            after = _backup(block, i * n_actions, gamma, value)
            for row in range(i * n_actions + 1, (i + 1) * n_actions):
                after = max(after, _backup(block, row, gamma, value))
        else:
            after = _backup(block, i * n_actions + policy[first + i], gamma, value)
        change = abs(after - value[first + i])
        residual = change if not change <= residual else residual
        value[first + i] = after
    return residual
