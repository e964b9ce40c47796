r"""The merged value of each pair: a weighted mean of the members' values, or a trimmed one.

.. math:: m_k = m_{k-1} + \frac{w_k}{w_1 + \dots + w_k} \, (Q_k - m_{k-1})

One member after another, in double precision; so equal values, or one value that counts alone, come
out to the bit. Invariant: a pair's value depends on that pair alone, so that any chunks have the
bits; a pair that nobody visited keeps its value.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from dqlearn.jit.compiled import njit

__all__ = ["merge_by", "trim", "weighted_mean"]


@njit(nogil=True, cache=True)
def weighted_mean(q, x, w):
    """Return the mean of the members' values of pair x; some weight must be positive."""
    mean, total = 0.0, 0.0
    for k in range(len(w)):
        if w[k] > 0.0:
            total += w[k]
            value = np.float64(q[k, x])
            mean = value if total == w[k] else mean + w[k] / total * (value - mean)
    return mean


@njit(nogil=True, cache=True)
def trimmed_mean(q, x):
    """Return the mean of at least three values of pair x, without the least and the greatest."""
    least = min(np.float64(q[0, x]), np.float64(q[1, x]))
    greatest = max(np.float64(q[0, x]), np.float64(q[1, x]))
    mean = 0.0
    for k in range(2, len(q)):
        value = np.float64(q[k, x])
        between = min(max(value, least), greatest)  # what is not an extreme any more
        least, greatest = min(least, value), max(greatest, value)
        mean = between if k == 2 else mean + (between - mean) / (k - 1)
    return mean


@njit(nogil=True, cache=True)
def trim(before, visits, q, rate, out_q, out_visits):
    """Merge by trimmed means; the arguments are those of :func:`merge_by`."""
    n_members = len(q)
    for x in range(len(before)):
        total = np.int64(0)
        for k in range(n_members):
            total += np.int64(np.uint32(visits[k, x] - before[x]))
        out_visits[x] = np.uint32(before[x] + np.uint32(total))
        out_q[x] = q[0, x] if total == 0 else out_q.dtype.type(trimmed_mean(q, x))


@cache
def merge_by(weigh):
    """Make the kernel that merges by means, with the weights that `weigh` gives the members."""

    @njit(nogil=True, cache=True)
    def merge(before, visits, q, rate, out_q, out_visits):
        """Merge flat arrays (pairs,) of visits before, and (members, pairs) of what was learned."""
        n_members = len(q)
        since, w = np.zeros(n_members, np.int64), np.zeros(n_members)
        for x in range(len(before)):
            total = 0
            for k in range(n_members):
                since[k] = np.int64(np.uint32(visits[k, x] - before[x]))
                total += since[k]
            out_visits[x] = np.uint32(before[x] + np.uint32(total))
            if total == 0:
                out_q[x] = q[0, x]
            else:
                weigh(np.int64(before[x]), since, rate, w)
                out_q[x] = out_q.dtype.type(weighted_mean(q, x, w))

    return merge
