"""Schedules made from what a user gives, or from what a stored table holds."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

from dqlearn.errors import ScheduleError
from dqlearn.schedules.of_transitions import Constant, Exponential, Linear, Piecewise, Schedule
from dqlearn.schedules.of_visits import VisitCount

__all__ = ["as_learning_rate", "as_schedule", "from_spec"]

_KINDS: dict[str, type[Schedule] | type[VisitCount]] = {
    kind.__name__: kind for kind in (Constant, Linear, Exponential, Piecewise, VisitCount)
}


def from_spec(spec: Mapping[str, Any]) -> Schedule | VisitCount:
    """Return the schedule that `spec` describes; the inverse of its `spec()`.

    Parameters
    ----------
    spec : dict
        The kind and the fields of the schedule.

    Returns
    -------
    Schedule or VisitCount
        The schedule.

    Raises
    ------
    ScheduleError
        When `spec` names no known kind, or has fields that do not fit that kind.

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
        What the user gave.
    name : str
        The parameter's name, for the error message.
    low, high : float
        The range, ends included.

    Returns
    -------
    Schedule
        The schedule.

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
        What the user gave.
    name : str, default "learning_rate"
        The parameter's name, for the error message.

    Returns
    -------
    Schedule or VisitCount
        The learning rate.

    Raises
    ------
    ScheduleError
        In the cases of `as_schedule`.

    Examples
    --------
    >>> as_learning_rate(VisitCount(omega=0.8))
    VisitCount(omega=0.8, offset=1.0, scale=1.0, floor=0.0)
    """
    return value if isinstance(value, VisitCount) else as_schedule(value, name=name)
