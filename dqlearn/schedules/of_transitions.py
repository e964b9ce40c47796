"""Schedules that are functions of the transitions made so far."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from dqlearn.checks import check_amount, check_positive, check_real
from dqlearn.errors import ScheduleError
from dqlearn.schedules._spec import Spec

__all__ = ["Constant", "Exponential", "Linear", "Piecewise", "Schedule"]


class Schedule(Spec, ABC):
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
        The value.

    Examples
    --------
    >>> Constant(0.1)(1_000_000)
    0.1
    """

    value: float

    def __post_init__(self) -> None:
        """Turn the field into a plain float."""
        self._set(value=check_real("value", self.value, error=ScheduleError))

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
        self._set(
            start=check_real("start", self.start, error=ScheduleError),
            end=check_real("end", self.end, error=ScheduleError),
        )
        self._set(over=check_amount("over", self.over, 1, error=ScheduleError))

    def breakpoints(self) -> tuple[tuple[int, float], ...]:
        return ((0, self.start), (self.over, self.end))


@dataclass(frozen=True)
class Linear(_Ramp):
    """A straight line from `start` to `end`, then constant.

    Parameters
    ----------
    start, end : float
        The first and the last value.
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
    """Geometric from `start` to `end`, by the same factor at each transition, then constant.

    Parameters
    ----------
    start, end : float
        The first and the last value, both positive.
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
        check_positive("start", self.start, error=ScheduleError)
        check_positive("end", self.end, error=ScheduleError)

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
        When there are no points, or they are not pairs, or they are out of order.

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
        points = tuple(
            (
                check_amount("transitions", t, 0, error=ScheduleError),
                check_real("value", v, error=ScheduleError),
            )
            for t, v in pairs
        )
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


def _line(start: float, end: float, fraction: float) -> float:
    return _between(start, end, fraction, start + (end - start) * fraction)


def _between(start: float, end: float, fraction: float, value: float) -> float:
    """Clip `value` to `start` and `end`, and make both ends exact: rounding may miss them."""
    if fraction <= 0.0:
        return start
    if fraction >= 1.0:
        return end
    return min(max(value, min(start, end)), max(start, end))
