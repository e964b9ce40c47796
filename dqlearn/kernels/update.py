r"""Update: the values of one chunk step towards their targets, in place.

.. math:: Q(s, a) \leftarrow Q(s, a) + \alpha \, [y - Q(s, a)]

one transition after another. A rule may have a step of its own, for which its kernel is compiled.
Where the summary of every state is at hand, it is kept current: beside each update, while the row
of the state is in the cache, its summary is made again. Invariant: a pair that occurs twice is
updated twice, in order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np

from dqlearn.jit.compiled import njit
from dqlearn.kernels.summary import compiled, write_row
from dqlearn.kernels.ties import in_set

__all__ = ["Step", "learn_by", "td", "update_by", "visit_rate"]

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
def visit_rate(n, numbers):
    """Return the learning rate of a pair that was updated n times before.

    `numbers` are those of a :class:`~dqlearn.schedules.VisitCount`.
    """
    omega, offset, scale, floor = numbers
    base = n + offset
    power = base if omega == 1.0 else base**omega
    return max(floor, min(1.0, scale / power))


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
                    alpha = q.dtype.type(visit_rate(visits[x], by_visits))
                before = q[x]
                q[x] = step(before, ys[t], alpha)
                visits[x] += np.uint32(1)
                td_abs_sum += abs(ys[t] - before)
        return td_abs_sum

    return update


@cache
def learn_by(step, width, fields, behaviour):
    """Make the kernels that update values and keep the summaries of their states current.

    The arguments are those of :func:`update_by` and of :func:`dqlearn.kernels.summary.write_row`.
    The first kernel applies a run of a batch; the second makes the summaries of all states of a
    chunk, which costs less where the runs have as many transitions as the chunk has states.
    """
    step, write = numba.njit(inline="always")(step), write_row(width, fields, behaviour)
    # With one field, what was not the best, and is not now, changes nothing.
    alone = len(fields) == 1 and fields[0][1] is None
    score = compiled(fields[behaviour][0])

    @njit(nogil=True, cache=True)
    def learn(
        q, visits, first_state, offset, target, alpha, by_visits, ties, values, tied, beside, total
    ):
        """Apply a run to a chunk, with summaries if `beside`; return total + sum of abs(y - q)."""
        n = np.uint64(width if width else q.shape[2])
        block = n * np.uint64(q.shape[1])
        flat, counts, spare = q.reshape(q.size), visits.reshape(q.size), np.empty_like(tied[:1])
        for t in range(len(offset)):
            x = np.uint64(offset[t])
            if by_visits is not None:
                alpha = q.dtype.type(visit_rate(counts[x], by_visits))
            before, y = flat[x], target[t]
            flat[x] = step(before, y, alpha)
            counts[x] += np.uint32(1)
            total += abs(y - before)
            if not beside:
                continue
            s = np.int64(x // block)
            row, a = first_state + s, np.int64(x % n)
            if alone and not in_set(tied, row, a):
                if values.dtype.type(score(q, s, a)) < values[row, 0]:  # rounded as that was
                    continue
            write(q, s, ties, row, values, tied, spare, row)
        return total

    @njit(nogil=True, cache=True)
    def sum_up(q, first_state, ties, values, tied):
        spare = np.empty_like(tied[:1])
        for s in range(len(q)):
            write(q, s, ties, first_state + s, values, tied, spare, first_state + s)

    return learn, sum_up
