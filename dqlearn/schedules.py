r"""Hyperparameters that change while one learns: the learning rate alpha and epsilon.

A `Schedule` is a pure function of t, the number of transitions made since the run began::

    Constant      Linear         Exponential     Piecewise

    ─────────     ╲              ╲               ──╮    ╭──
                   ╲              ╲_               ╲    │
                    ╲____           ╲_____          ╲──╯
                    over            over         points

`VisitCount` is no function of t: it gives each pair (s, a) its own learning rate, from n, how often
that pair was updated before::

    alpha(n) = min(1, scale / (n + offset)^omega)

Invariants: a schedule is frozen data and evaluates to the same number wherever and whenever it is
asked; it never leaves the range of its breakpoints; `from_spec(s.spec()) == s`, through JSON too.
The kinds are a closed set, so that a stored run can be resumed without running anybody's code:
`Piecewise` comes as close as one likes to any other curve.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real
from typing import Any

from dqlearn.errors import ScheduleError

__all__ = [
    "Constant",
    "Exponential",
    "Linear",
    "Piecewise",
    "Schedule",
    "VisitCount",
    "as_learning_rate",
    "as_schedule",
    "from_spec",
]


class _Spec:
    """Anything of this module that can be written down as JSON."""

    def spec(self) -> dict[str, Any]:
        """Return the kind and the fields, as JSON types.

        Returns
        -------
        dict

        Examples
        --------
        >>> Linear(1.0, 0.1, over=1000).spec()
        {'kind': 'Linear', 'start': 1.0, 'end': 0.1, 'over': 1000}
        """
        names = [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]
        return {"kind": type(self).__name__, **{name: getattr(self, name) for name in names}}

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


class Schedule(_Spec, ABC):
    """A number as a function of the transitions made so far."""

    @abstractmethod
    def __call__(self, transitions: int) -> float:
        """Return the value after `transitions` transitions, counted from the run's beginning."""

    @abstractmethod
    def breakpoints(self) -> tuple[tuple[int, float], ...]:
        """Return points between which, and outside of which, the schedule is monotone.

        Hence a schedule lies in a range when its breakpoints do.

        Returns
        -------
        tuple of (int, float)
            Pairs (transitions, value).
        """


@dataclass(frozen=True)
class Constant(Schedule):
    """The same value for ever.

    Parameters
    ----------
    value : float

    Examples
    --------
    >>> Constant(0.1)(1_000_000)
    0.1
    """

    value: float

    def __post_init__(self) -> None:
        """Turn the field into a plain float."""
        self._set(value=_real("value", self.value))

    def __call__(self, transitions: int) -> float:
        """Return `value`."""
        return self.value

    def breakpoints(self) -> tuple[tuple[int, float], ...]:  # noqa: D102  (inherited)
        return ((0, self.value),)


@dataclass(frozen=True)
class _Ramp(Schedule):
    """From `start` to `end`, reached at `over` transitions, then constant."""

    start: float
    end: float
    over: int

    def __post_init__(self) -> None:
        """Turn the fields into plain numbers and check them."""
        self._set(start=_real("start", self.start), end=_real("end", self.end))
        self._set(over=_whole("over", self.over, least=1))

    def breakpoints(self) -> tuple[tuple[int, float], ...]:
        return ((0, self.start), (self.over, self.end))


@dataclass(frozen=True)
class Linear(_Ramp):
    """A straight line from `start` to `end`, then constant.

    Parameters
    ----------
    start, end : float
    over : int
        Transitions until `end` is reached; at least 1.

    Raises
    ------
    ScheduleError
        When `over` is not a positive whole number.

    Examples
    --------
    >>> epsilon = Linear(1.0, 0.0, over=1000)
    >>> epsilon(0), epsilon(250), epsilon(1000), epsilon(5000)
    (1.0, 0.75, 0.0, 0.0)
    """

    def __call__(self, transitions: int) -> float:
        """Return start + (end - start) t / over."""
        return _line(self.start, self.end, transitions / self.over)


@dataclass(frozen=True)
class Exponential(_Ramp):
    """Geometric from `start` to `end`, each transition the same factor, then constant.

    Parameters
    ----------
    start, end : float
        Both positive.
    over : int
        Transitions until `end` is reached; at least 1.

    Raises
    ------
    ScheduleError
        When `start` or `end` is not positive, or `over` is not a positive whole number.

    Examples
    --------
    >>> epsilon = Exponential(1.0, 0.25, over=1000)
    >>> epsilon(0), epsilon(500), epsilon(1000)
    (1.0, 0.5, 0.25)
    """

    def __post_init__(self) -> None:
        """Turn the fields into plain numbers and check them."""
        super().__post_init__()
        _positive("start", self.start)
        _positive("end", self.end)

    def __call__(self, transitions: int) -> float:
        """Return start (end / start)^(t / over)."""
        fraction = min(max(transitions / self.over, 0.0), 1.0)
        value = self.start * (self.end / self.start) ** fraction
        return _between(self.start, self.end, fraction, value)


@dataclass(frozen=True)
class Piecewise(Schedule):
    """Straight lines through given points, constant before the first and after the last.

    Parameters
    ----------
    points : sequence of (int, float)
        Pairs (transitions, value), transitions strictly increasing; at least one pair.

    Raises
    ------
    ScheduleError
        When there are no points, or they are no pairs, or out of order.

    Examples
    --------
    >>> epsilon = Piecewise([(0, 1.0), (100, 0.5), (300, 0.0)])
    >>> epsilon(50), epsilon(100), epsilon(200), epsilon(1000)
    (0.75, 0.5, 0.25, 0.0)
    """

    points: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        """Turn the points into plain numbers and check them."""
        try:
            pairs = [(transitions, value) for transitions, value in self.points]
        except (TypeError, ValueError) as error:
            raise ScheduleError(
                f"points must be pairs (transitions, value), got points={self.points!r}"
            ) from error
        points = tuple((_whole("transitions", t, least=0), _real("value", v)) for t, v in pairs)
        if not points or any(b[0] <= a[0] for a, b in pairwise(points)):
            raise ScheduleError(
                "points must be at least one pair, with strictly increasing transitions; "
                f"got {points=}: sort them and keep one value for each number of transitions"
            )
        self._set(points=points)

    def spec(self) -> dict[str, Any]:  # noqa: D102  (inherited)
        return {"kind": "Piecewise", "points": [list(point) for point in self.points]}

    def __call__(self, transitions: int) -> float:
        """Return the value on the line between the two neighbouring points."""
        right = bisect_right(self.points, transitions, key=lambda point: point[0])
        if right == 0:
            return self.points[0][1]
        if right == len(self.points):
            return self.points[-1][1]
        (t0, start), (t1, end) = self.points[right - 1], self.points[right]
        return _line(start, end, (transitions - t0) / (t1 - t0))

    def breakpoints(self) -> tuple[tuple[int, float], ...]:  # noqa: D102  (inherited)
        return self.points


@dataclass(frozen=True)
class VisitCount(_Spec):
    r"""A learning rate for each pair (s, a), which falls with its visits.

    Only legal as `learning_rate`::

        alpha(n) = min(1, scale / (n + offset)^omega),   n = updates of (s, a) before this one

    Tabular Q-learning converges to Q* with probability 1 when every pair is visited for ever and
    its rates satisfy the conditions of Robbins and Monro [1]_ [2]_::

        sum_n alpha(n) = infinity      far enough to forget any initial value
        sum_n alpha(n)^2 < infinity    small enough, in the end, for the noise to average out

    that is, for 1/2 < omega <= 1. (A constant rate satisfies only the first: it ends in some
    neighbourhood of Q*, unless the environment is deterministic.) The ends of that interval are not
    equally good: with scale = offset = 1, the time to come close to Q* is polynomial in
    1 / (1 - gamma) for omega < 1, but exponential for omega = 1 [3]_. So, with gamma near 1, take
    omega around 0.8, or omega = 1 with scale = offset about 1 / (1 - gamma): that falls like the
    (H + 1) / (H + n + 1) of [4]_, H being the horizon in steps.

    Parameters
    ----------
    omega : float, default 1.0
        How fast the rate falls, in (0, 1]. With all defaults, Q is the plain mean of its targets.
    offset : float, default 1.0
        Visits counted in advance; positive.
    scale : float, default 1.0
        Positive; the rate is capped at 1.

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
    """

    omega: float = 1.0
    offset: float = 1.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Turn the fields into plain floats and check them."""
        for name in ("omega", "offset", "scale"):
            self._set(**{name: _positive(name, getattr(self, name))})
        if self.omega > 1.0:
            raise ScheduleError(
                f"omega must be in (0, 1], got {self.omega=}: above 1 the rates have a finite sum, "
                "and learning stops short of Q*"
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
            In (0, 1].
        """
        return min(1.0, self.scale / math.pow(n + self.offset, self.omega))


_KINDS: dict[str, type[Schedule] | type[VisitCount]] = {
    kind.__name__: kind for kind in (Constant, Linear, Exponential, Piecewise, VisitCount)
}


def from_spec(spec: Mapping[str, Any]) -> Schedule | VisitCount:
    """Return the schedule that `spec` describes; the inverse of its `spec()`.

    Parameters
    ----------
    spec : dict

    Returns
    -------
    Schedule or VisitCount

    Raises
    ------
    ScheduleError
        When `spec` names no known kind, or has not that kind's fields.

    Examples
    --------
    >>> from_spec({"kind": "Linear", "start": 1.0, "end": 0.1, "over": 1000})
    Linear(start=1.0, end=0.1, over=1000)
    """
    fields = dict(spec)
    kind = _KINDS.get(str(fields.pop("kind", None)))
    if kind is None:
        raise ScheduleError(f"expected a kind of {sorted(_KINDS)}, got {spec=}")
    try:
        return kind(**fields)
    except TypeError as error:
        raise ScheduleError(f"{kind.__name__} has other fields than {spec=}: {error}") from error


def as_schedule(
    value: float | Schedule, *, name: str, low: float = 0.0, high: float = 1.0
) -> Schedule:
    """Return `value` as a schedule that stays in [low, high]; a number becomes `Constant`.

    Parameters
    ----------
    value : float or Schedule
    name : str
        The parameter's name, for the error's message.
    low, high : float
        The range, ends included.

    Returns
    -------
    Schedule

    Raises
    ------
    ScheduleError
        When `value` is neither a number nor one of this module's schedules, or leaves the range.

    Examples
    --------
    >>> as_schedule(0.1, name="epsilon")
    Constant(value=0.1)
    """
    if isinstance(value, VisitCount):
        raise ScheduleError(
            f"{name}={value!r}: VisitCount is a learning rate, from the visits of a pair; {name} "
            "must be a number or a function of the transitions, e.g. Linear(1.0, 0.05, 10_000_000)"
        )
    if not isinstance(value, Real) and type(value) not in _KINDS.values():
        kinds = sorted(set(_KINDS) - {"VisitCount"})
        raise ScheduleError(f"{name} must be a number or one of {kinds}, got {value!r}")
    schedule = value if isinstance(value, Schedule) else Constant(value)
    for transitions, number in schedule.breakpoints():
        if not low <= number <= high:
            raise ScheduleError(
                f"{name} must stay in [{low}, {high}], got {number} at {transitions=} of {schedule}"
            )
    return schedule


def as_learning_rate(
    value: float | Schedule | VisitCount, *, name: str = "learning_rate"
) -> Schedule | VisitCount:
    """Return `value` as a learning rate: what `as_schedule` takes, or a `VisitCount`.

    Parameters
    ----------
    value : float, Schedule or VisitCount
    name : str, default "learning_rate"
        The parameter's name, for the error's message.

    Returns
    -------
    Schedule or VisitCount

    Raises
    ------
    ScheduleError
        As `as_schedule` does.

    Examples
    --------
    >>> as_learning_rate(VisitCount(omega=0.8))
    VisitCount(omega=0.8, offset=1.0, scale=1.0)
    """
    return value if isinstance(value, VisitCount) else as_schedule(value, name=name)


def _line(start: float, end: float, fraction: float) -> float:
    return _between(start, end, fraction, start + (end - start) * fraction)


def _between(start: float, end: float, fraction: float, value: float) -> float:
    """Hold `value` between `start` and `end`, and make both ends exact: rounding may miss them."""
    if fraction <= 0.0:
        return start
    if fraction >= 1.0:
        return end
    return min(max(value, min(start, end)), max(start, end))


def _real(name: str, value: object) -> float:
    if not isinstance(value, Real):
        raise ScheduleError(f"{name} must be a number, got {value!r}")
    return float(value)


def _positive(name: str, value: object) -> float:
    number = _real(name, value)
    if not 0.0 < number < math.inf:
        raise ScheduleError(f"{name} must be positive and finite, got {value!r}")
    return number


def _whole(name: str, value: object, *, least: int) -> int:
    """Accept 2e7 for 20_000_000: it is what people write."""
    number = _real(name, value)
    if not number.is_integer() or number < least:
        raise ScheduleError(f"{name} must be a whole number >= {least}, got {value!r}")
    return int(value)  # type: ignore[call-overload, no-any-return]
