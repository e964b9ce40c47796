r"""Returns: the targets of transitions whose windows are whole.

.. math::

    G_t = r_{t+1} + \gamma_{t+1} \, [(1 - l_{t+1}) \, v_{t+1} + l_{t+1} \, G_{t+1}]

with l = 0 at the end of a window: after n transitions, or where the episode ends. It is written out
as a sum of the rewards and the values of a window, which stops where l is 0. Invariant: a window of
one transition has the target of Q-learning, to the bit.
"""

from __future__ import annotations

import numpy as np

from dqlearn.jit.compiled import njit
from dqlearn.kernels.ties import in_set

__all__ = ["find_returns", "greedy_traces"]


@njit(nogil=True, cache=True)
def greedy_traces(tied, state, column, n_actions, lambda_, shared, trace):
    """Write lambda for each row whose action is greedy, and 0 for the others.

    Where it is `shared`, lambda is divided by the number of tied actions.
    """
    for i in range(len(state)):
        row, action = np.int64(state[i]), np.int64(column[i]) % n_actions
        trace[i] = 0
        if in_set(tied, row, action):
            trace[i] = lambda_
            if shared:
                ties = 0
                for a in range(n_actions):
                    ties += in_set(tied, row, a)
                trace[i] /= ties


@njit(nogil=True, cache=True)
def find_returns(rows, worth, trace, after, whole, n, y):
    """Write the returns of the rows that are whole, one after another.

    Parameters
    ----------
    rows : tuple of arrays (m,)
        (reward, discount, member that learns); the discount is 0 where the episode terminated.
    worth : float (m, members)
        What the next state of each row is worth to each member.
    trace : float (m,)
        The trace l of each row's own action.
    after, whole : int (m,), bool (m,)
        What :func:`dqlearn.kernels.windows.links.link` writes.
    n : int
        Longest window.
    y : float (whole rows,)
        The returns.
    """
    reward, discount, member = rows
    one = y.dtype.type(1)
    inner, last = (
        np.empty_like(worth),
        np.empty_like(worth),
    )  # of a row, within a window and at its end
    carried = np.empty_like(reward)  # weight of what follows a row
    for j in range(len(reward)):
        believed = trace[after[j]] if after[j] >= 0 else one - one
        carried[j] = discount[j] * believed
        for m in range(worth.shape[1]):
            inner[j, m] = reward[j] + discount[j] * ((one - believed) * worth[j, m])
            last[j, m] = reward[j] + discount[j] * worth[j, m]
    t = 0
    for i in range(len(reward)):
        if whole[i]:
            m, j, weight, total = member[i], i, one, one - one
            for _ in range(n - 1):
                total += weight * inner[j, m]
                weight *= carried[j]
                if weight == 0:
                    break
                j = after[j]
            if weight != 0:
                total += weight * last[j, m]
            y[t] = total
            t += 1
