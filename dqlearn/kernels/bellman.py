r"""Bellman: backups of enumerated outcomes, pair by pair, or in a sweep in place or not.

.. math:: (TQ)(s, a) = \bar r(s, a) + \gamma \sum_{s'} w(s, a, s') \, v(s')

A block holds the expected rewards and the weighted successors of some states. `sweep` reads and
writes one array of values, in the order of the states; `improve` and `follow` read one and write
another. The backup of a pair that is not valid is minus infinity, and a state without valid ones,
which only an end can lead to, is worth 0. Invariant: the result does not depend on where blocks
end.
"""

from __future__ import annotations

import numpy as np

from dqlearn.jit.compiled import njit

__all__ = ["backup_rows", "follow", "improve", "sweep", "weights"]


@njit(nogil=True, cache=True)
def _backup(block, row, gamma, value):
    onward = 0.0
    for j in range(block.start[row], block.start[row + 1]):
        onward += block.weight[j] * value[block.next_state[j]]
    return block.reward[row] + gamma * onward


@njit(cache=True)
def worth(best):
    """Return what a state is worth, of its greatest backup."""
    return 0.0 if best == -np.inf else best


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
        after = worth(after)
        change = abs(after - value[first + i])
        residual = change if not change <= residual else residual
        value[first + i] = after
    return residual


@njit(nogil=True, cache=True)
def improve(block, first, n_actions, gamma, value, after, policy):
    """Write TV of a block's states and the first action that has it; return the range of TV - V."""
    least, most = np.inf, -np.inf
    for i in range(len(block.reward) // n_actions):
        best, chosen = _backup(block, i * n_actions, gamma, value), 0
        for action in range(1, n_actions):
            backup = _backup(block, i * n_actions + action, gamma, value)
            if backup > best:
                best, chosen = backup, action
        best = worth(best)
        after[first + i], policy[first + i] = best, chosen
        rise = best - value[first + i]
        least, most = min(least, rise), max(most, rise)
    return least, most


@njit(nogil=True, cache=True)
def follow(block, first, n_actions, gamma, value, after, policy):
    """Write the backups of a policy's actions; return the range of what they are above V."""
    least, most = np.inf, -np.inf
    for i in range(len(block.reward) // n_actions):
        backup = worth(_backup(block, i * n_actions + policy[first + i], gamma, value))
        after[first + i] = backup
        rise = backup - value[first + i]
        least, most = min(least, rise), max(most, rise)
    return least, most


@njit(nogil=True, cache=True)
def weights(block):
    """Return the least and the greatest chance of a valid pair of a block to go on."""
    least, most = np.inf, -np.inf
    for row in range(len(block.reward)):
        if block.reward[row] == -np.inf:
            continue
        onward = block.weight[block.start[row] : block.start[row + 1]].sum()
        least, most = min(least, onward), max(most, onward)
    return least, most
