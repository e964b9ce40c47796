"""What all schedules share: their form as JSON, and the checks of their numbers."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from dqlearn.checks import is_number
from dqlearn.errors import ScheduleError

__all__ = ["Spec", "positive", "real", "whole"]


class Spec:
    """Anything of this module that can be written down as JSON."""

    def spec(self) -> dict[str, Any]:
        """Return the kind and the fields, as JSON types.

        Returns
        -------
        dict

        Examples
        --------
        >>> from dqlearn.schedules import Linear
        >>> Linear(1.0, 0.1, over=1000).spec()
        {'kind': 'Linear', 'start': 1.0, 'end': 0.1, 'over': 1000}
        """
        names = [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]
        return {"kind": type(self).__name__, **{name: getattr(self, name) for name in names}}

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


def real(name: str, value: Any) -> float:
    if not is_number(value):
        raise ScheduleError(f"{name} must be a number, got {value!r}")
    return float(value)


def positive(name: str, value: object) -> float:
    number = real(name, value)
    if not 0.0 < number < math.inf:
        raise ScheduleError(f"{name} must be positive and finite, got {value!r}")
    return number


def whole(name: str, value: object, *, least: int) -> int:
    """Accept 2e7 for 20_000_000: it is what people write."""
    number = real(name, value)
    if not number.is_integer() or number < least:
        raise ScheduleError(f"{name} must be a whole number >= {least}, got {value!r}")
    return int(value)  # type: ignore[call-overload, no-any-return]
