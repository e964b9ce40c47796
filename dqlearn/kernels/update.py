r"""Update: temporal-difference steps on the values of one chunk, in place.

.. math:: Q(s, a) \leftarrow Q(s, a) + \alpha \, [y - Q(s, a)]

one transition after another. Invariant: a pair that occurs twice is updated twice, in order.
"""

from __future__ import annotations

import numpy as np

from dqlearn.jit.compiled import njit

__all__ = ["td", "visit_rate"]


@njit(nogil=True, cache=True)
def visit_rate(n, omega, offset, scale):
    """Learning rate of a pair that was updated n times before."""
    base = n + offset
    power = base if omega == 1.0 else base**omega
    return min(1.0, scale / power)


@njit(nogil=True, cache=True)
def td(q, visits, offset, target, runs, alpha, by_visits):
    """Apply a piece to flat values; return the sum of abs(y - q)."""
    td_abs_sum = 0.0
    for i in range(len(runs)):
        # Slices and unsigned indices: one that may be negative is first tested for that.
        own = slice(runs[i, 0], runs[i, 1])
        xs, ys = offset[own], target[own]
        for t in range(len(xs)):
            x = np.uint64(xs[t])
            if by_visits is not None:
                rate = visit_rate(visits[x], by_visits[0], by_visits[1], by_visits[2])
                alpha = q.dtype.type(rate)
            delta = ys[t] - q[x]
            q[x] += alpha * delta
            visits[x] += np.uint32(1)
            td_abs_sum += abs(delta)
    return td_abs_sum
