r"""Update: the values of one chunk step towards their targets, in place.

.. math:: Q(s, a) \leftarrow Q(s, a) + \alpha \, [y - Q(s, a)]

one transition after another. A rule may have a step of its own, for which its kernel is compiled.
Invariant: a pair that occurs twice is updated twice, in order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np

from dqlearn.jit.compiled import njit

__all__ = ["Step", "td", "update_by", "visit_rate"]

Step = Callable[[Any, Any, Any], Any]
"""A function (q, y, alpha) -> q, the value after a step to its target y, to be compiled."""


def td(q: Any, y: Any, alpha: Any) -> Any:
    """Move a value a fraction alpha of the way to its target: a temporal-difference step.

    Parameters
    ----------
    q, y : float
        The value and its target, in units of reward.
    alpha : float
        Learning rate, 0 .. 1.

    Returns
    -------
    float
        The value afterwards.

    Examples
    --------
    >>> td(1.0, 3.0, 0.5)
    2.0
    """
    return q + alpha * (y - q)


@njit(nogil=True, cache=True)
def visit_rate(n, omega, offset, scale):
    """Return the learning rate of a pair that was updated n times before."""
    base = n + offset
    power = base if omega == 1.0 else base**omega
    return min(1.0, scale / power)


@cache
def update_by(step):
    """Make the kernel that updates values by a given step."""
    step = numba.njit(inline="always")(step)

    @njit(nogil=True, cache=True)
    def update(q, visits, offset, target, runs, alpha, by_visits):
        """Apply a piece to flat values; return the sum of abs(y - q)."""
        td_abs_sum = 0.0
        for i in range(len(runs)):
            # Slices and unsigned indices, because Numba tests signed ones for being negative.
            own = slice(runs[i, 0], runs[i, 1])
            xs, ys = offset[own], target[own]
            for t in range(len(xs)):
                x = np.uint64(xs[t])
                if by_visits is not None:
                    rate = visit_rate(visits[x], by_visits[0], by_visits[1], by_visits[2])
                    alpha = q.dtype.type(rate)
                before = q[x]
                q[x] = step(before, ys[t], alpha)
                visits[x] += np.uint32(1)
                td_abs_sum += abs(ys[t] - before)
        return td_abs_sum

    return update
