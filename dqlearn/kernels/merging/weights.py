r"""How much each member counts in a merge, for one pair.

.. math::

    w_k = \prod_{i=1}^{N_k} \frac{1}{1 - \alpha_i}
    \qquad \log w_k = - \sum_i \log(1 - \alpha_i)

A step of alpha leaves 1 - alpha of the value before; what is left of it after N steps is 1 / w. So
a member that stood still weighs 1, and not 0. The powers overflow (at alpha = 0.1 beyond 6,736
visits), so weights are compared by their logarithms. A step of alpha = 1 leaves nothing: its member
counts infinitely, and others that made none count 0. Among members that count infinitely, the other
steps decide, as in the limit where each has made one such step. Invariant: weights are in 0 .. 1,
and none is NaN.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from dqlearn.jit.compiled import njit
from dqlearn.kernels.update import visit_rate

__all__ = [
    "powers_of",
    "weigh_by_rate",
    "weigh_by_visit_rates",
    "weigh_by_visits",
    "weigh_equally",
]

_SMALL = 1e-200
_NOTHING_LEFT = 750.0  # exp(-750) is 0
_POWERS = 2**14


@njit(nogil=True, cache=True)
def weigh_equally(before, since, rate, w):
    """Give all members the same weight."""
    for k in range(len(w)):
        w[k] = 1.0


@njit(nogil=True, cache=True)
def weigh_by_visits(before, since, rate, w):
    """Weigh members by their visits since the last merge."""
    for k in range(len(w)):
        w[k] = since[k]


def powers_of(alpha: float) -> npt.NDArray[np.float64]:
    """Return what 0, 1, 2, .. steps of alpha leave, up to nothing, or to a length."""
    if alpha >= 1.0:
        return np.zeros(0)
    step = -math.log1p(-alpha)
    n = min(_NOTHING_LEFT / step, _POWERS) if step > 0.0 else 2
    powers: npt.NDArray[np.float64] = np.exp(-step * np.arange(2 + int(n)))
    return powers


@njit(nogil=True, cache=True)
def weigh_by_rate(before, since, powers, w):
    """Weigh members by their steps at one learning rate, of which `powers` are."""
    most = 0
    for k in range(len(w)):
        most = max(most, since[k])
    for k in range(len(w)):
        fewer = most - since[k]
        if len(powers) == 0:  # alpha = 1
            w[k] = 1.0 if since[k] > 0 else 0.0
        elif fewer < len(powers):
            w[k] = powers[fewer]
        else:
            w[k] = powers[1] ** fewer


@njit(nogil=True, cache=True)
def log_weight(first, n, numbers):
    """Return the logarithm of a member's weight, its infinite factors apart, and if it has any.

    Its n steps have the rates of a pair that was updated `first` times before, by the numbers of a
    :class:`~dqlearn.schedules.VisitCount`.
    """
    total, left, infinite = 0.0, 1.0, False
    for i in range(first, first + n):
        kept = 1.0 - visit_rate(i, numbers)
        if kept > 0.0:
            left *= kept
        else:
            infinite = True
        if left < _SMALL:  # one logarithm of many factors
            total -= math.log(left)
            left = 1.0
    return total - math.log(left), infinite


@njit(nogil=True, cache=True)
def weigh_by_visit_rates(before, since, rate, w):
    """Weigh members by their steps at rates that fall with a pair's visits, `before` at first."""
    most, met = 0.0, False
    for k in range(len(w)):
        log_w, infinite = log_weight(before, since[k], rate)
        w[k] = -1.0 - log_w if infinite else log_w  # one number for both
        if infinite == met:
            most = max(most, log_w)
        elif infinite:
            most, met = log_w, True
    for k in range(len(w)):
        if (w[k] < 0.0) != met:
            w[k] = 0.0
        else:
            w[k] = math.exp((-1.0 - w[k] if met else w[k]) - most)
