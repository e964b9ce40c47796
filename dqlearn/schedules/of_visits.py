"""The learning rate that falls with the visits of each pair."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dqlearn.checks import check_number, check_positive
from dqlearn.errors import ScheduleError
from dqlearn.schedules._spec import Spec

__all__ = ["VisitCount"]


@dataclass(frozen=True)
class VisitCount(Spec):
    r"""A learning rate for each pair (s, a), which falls with its visits.

    Only legal as `learning_rate`::

        alpha(n) = max(floor, min(1, scale / (n + offset)^omega))

    where n is the number of updates of (s, a) before this one.

    Tabular Q-learning converges to Q* with probability 1 when every pair is visited for ever and
    its rates satisfy the conditions of Robbins and Monro [1]_ [2]_::

        sum_n alpha(n) = infinity      far enough to forget any initial value
        sum_n alpha(n)^2 < infinity    small enough, in the end, for the noise to average out

    that is, for 1/2 < omega <= 1. (A constant rate satisfies only the first condition: Q ends in
    some neighbourhood of Q*, unless the environment is deterministic.) The ends of that interval
    are not equally good: with scale = offset = 1, the time to come close to Q* is polynomial in
    1 / (1 - gamma) for omega < 1, but exponential for omega = 1 [3]_. So, with gamma near 1, take
    omega around 0.8, or omega = 1 with scale = offset about 1 / (1 - gamma): that rate falls like
    the (H + 1) / (H + n + 1) of [4]_, H being the horizon in steps.

    Parameters
    ----------
    omega : float, default 1.0
        How fast the rate falls, in (0, 1]. With all defaults, Q is the plain mean of its targets.
    offset : float, default 1.0
        Visits counted in advance; positive.
    scale : float, default 1.0
        Factor of the rate, positive; the rate is capped at 1.
    floor : float, default 0.0
        Least rate, 0 .. 1. Above 0, values go on following what changes, and so the noise does not
        average out: Q ends in a neighbourhood of Q*.

    Raises
    ------
    ScheduleError
        When a field is outside its range.

    References
    ----------
    .. [1] H. Robbins, S. Monro, "A stochastic approximation method", Annals of Mathematical
       Statistics 22 (1951).
    .. [2] C. Watkins, P. Dayan, "Q-learning", Machine Learning 8 (1992).
    .. [3] E. Even-Dar, Y. Mansour, "Learning rates for Q-learning", Journal of Machine Learning
       Research 5 (2003).
    .. [4] C. Jin, Z. Allen-Zhu, S. Bubeck, M. Jordan, "Is Q-learning provably efficient?", NeurIPS
       (2018).

    Examples
    --------
    >>> [VisitCount().rate(n) for n in (0, 1, 3)]
    [1.0, 0.5, 0.25]
    >>> [VisitCount(floor=0.3).rate(n) for n in (0, 1, 3)]
    [1.0, 0.5, 0.3]
    """

    omega: float = 1.0
    offset: float = 1.0
    scale: float = 1.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        """Turn the fields into plain floats and check them."""
        for name in ("omega", "offset", "scale"):
            self._set(**{name: check_positive(name, getattr(self, name), error=ScheduleError)})
        self._set(floor=check_number("floor", self.floor, 0.0, 1.0, error=ScheduleError))
        if self.omega > 1.0:
            raise ScheduleError(
                f"omega must be in (0, 1], got {self.omega!r}: above 1 the rates have a finite "
                "sum, and learning stops short of Q*"
            )

    def rate(self, n: int) -> float:
        """Return the learning rate of a pair.

        Parameters
        ----------
        n : int
            How often the pair was updated before.

        Returns
        -------
        float
            The rate, in (0, 1].
        """
        return max(self.floor, min(1.0, self.scale / math.pow(n + self.offset, self.omega)))

    @property
    def numbers(self) -> tuple[float, float, float, float]:
        """The fields, as kernels take them."""
        return self.omega, self.offset, self.scale, self.floor
