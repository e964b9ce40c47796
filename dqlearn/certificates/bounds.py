r"""Bounds: what the extremes of a sweep say of the optimum, rounded outwards.

With V(s) = max_a Q(s, a), let m(s, a) be the chance that a pair goes on, and b- and b+ be gamma
times the least and the greatest of these. For numbers c <= TV - V <= C, of all states,

.. math::

    TV + b k \le V^* \le TV + B K, \qquad k = c / (1 - b), \quad K = C / (1 - B)

with b = b+ where c < 0 and b- elsewhere, B = b+ where C > 0 and b- elsewhere (MacQueen 1966, "A
modified dynamic programming method for Markovian decision problems", J. Math. Anal. Appl. 14;
there all pairs go on, b- = b+ = gamma). The proof: V + k <= T(V + k), since T is monotone and moves
a constant by at least b k; so T^n (V + k) rises to V*. The bound from below holds for a policy,
too, with the backup of its action in the place of TV.

Invariant: each operation rounds away from what is bounded, so the bounds hold for real numbers. A
greatest b of 1 or more bounds nothing: the bounds are infinite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Extremes", "add_down", "add_up", "rounding_unit"]

Floats = npt.NDArray[np.float64]

_HALF_ULP = 2.0**-53


def rounding_unit(n_events: int) -> float:
    """Return the relative bound of the rounding error of a backup.

    Parameters
    ----------
    n_events : int
        Number of events of the model, K.

    Returns
    -------
    float
        Factor of the sum of the absolute values of all terms. The probability of an outcome takes
        2 K operations, its term four more, and their sum 2^K; the rest is for the factor's own
        rounding.

    Examples
    --------
    >>> rounding_unit(2) < 3e-15
    True
    """
    return 1.01 * (2 * n_events + (1 << n_events) + 12) * _HALF_ULP


@dataclass(frozen=True)
class Extremes:
    """The extremes of a sweep over some states.

    Parameters
    ----------
    residual : float
        Largest ``|TQ - Q|``, in units of reward; this and all that follows has its rounding in it.
    rounding : float
        Largest bound of the rounding error of a backup, in units of reward.
    ends_least, ends_most : float
        Least and largest chance of a pair to end the episode, 0 .. 1.
    rise_least, rise_most : float
        Least and largest ``TV - V``, in units of reward.
    rise_of_policy : float
        Least ``T_pi V - V`` of the greedy policy, in units of reward.

    Examples
    --------
    >>> extremes = Extremes(0.5, 1e-16, 0.0, 0.0, -0.5, 0.25, -0.5)
    >>> low, high = extremes.lower(0.5), extremes.upper(0.5)
    >>> round(low, 12), round(high, 12)
    (-0.5, 0.25)
    """

    residual: float
    rounding: float
    ends_least: float
    ends_most: float
    rise_least: float
    rise_most: float
    rise_of_policy: float

    @classmethod
    def of(cls, parts: Sequence[Floats]) -> Extremes:
        """Join the extremes of blocks, rows in the order of the fields.

        Parameters
        ----------
        parts : sequence of float64 (7,)
            The extremes of each block.

        Returns
        -------
        Extremes
        """
        joins = (np.max, np.max, np.min, np.max, np.min, np.max, np.min)
        columns = np.transpose(parts)
        return cls(*(float(join(column)) for join, column in zip(joins, columns, strict=True)))

    def modulus(self, gamma: float) -> tuple[float, float]:
        """Return b- and b+, between which T shrinks a constant.

        Parameters
        ----------
        gamma : float
            Discount factor.

        Returns
        -------
        (float, float)
        """
        least = _down(gamma * _down(max(0.0, 1.0 - _more(self.ends_most))))
        most = gamma
        if self.ends_least > 0.0:
            most = min(gamma, _up(gamma * _up(1.0 - _less(self.ends_least))))
        if self.ends_most == 0.0:
            least = gamma
        return max(0.0, least), most

    def lower(self, gamma: float) -> float:
        """Return what V* is more than TV at least, b k."""
        return self._below(self.rise_least, gamma)

    def lower_of_policy(self, gamma: float) -> float:
        """Return what the greedy policy's value is more than its backup at least."""
        return self._below(self.rise_of_policy, gamma)

    def upper(self, gamma: float) -> float:
        """Return what V* is more than TV at most, B K."""
        return -self._below(-self.rise_most, gamma)

    def error(self, gamma: float) -> float:
        """Return the bound of ``|Q - Q*|``, the residual over 1 - b+."""
        return -_shift(-self.residual, self.modulus(gamma))

    def _below(self, rise: float, gamma: float) -> float:
        least, most = self.modulus(gamma)
        if most >= 1.0:
            return -math.inf
        return _down((most if rise < 0.0 else least) * _shift(rise, (least, most)))


def _shift(rise: float, modulus: tuple[float, float]) -> float:
    """Return k of c, or less."""
    least, most = modulus
    if most >= 1.0:
        return -math.inf
    return _down(rise / (_down(1.0 - most) if rise < 0.0 else _up(1.0 - least)))


def add_down(values: Floats, shift: float) -> None:
    """Add a number to values in place, rounded down.

    Parameters
    ----------
    values : float64 (n,)
        Values, which are written to.
    shift : float
        The number.
    """
    np.nextafter(np.add(values, shift, out=values), -np.inf, out=values)


def add_up(values: Floats, shift: float) -> None:
    """Add a number to values in place, rounded up.

    Parameters
    ----------
    values : float64 (n,)
        Values, which are written to.
    shift : float
        The number.
    """
    np.nextafter(np.add(values, shift, out=values), np.inf, out=values)


def _down(number: float) -> float:
    return math.nextafter(number, -math.inf)


def _up(number: float) -> float:
    return math.nextafter(number, math.inf)


def _more(chance: float) -> float:
    """Return more than a chance that was computed from at most 2**16 outcomes can be."""
    return chance * (1.0 + 1e-10) + 1e-290


def _less(chance: float) -> float:
    return max(0.0, chance * (1.0 - 1e-10) - 1e-290)
