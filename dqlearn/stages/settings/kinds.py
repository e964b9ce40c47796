"""Kinds of hyperparameters: which values one takes, and what stands for them in a stored table.

::

    what a user gives ── check ──► value ── dump ──► attribute of a stored table
                                     ▲                          │
                                     └──────────── load ────────┘

Invariant: ``check(name, check(name, x))`` is ``check(name, x)``, and so is what `load` makes of its
`dump`. Attributes are JSON: `load` expects anything, and may raise anything.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from dqlearn.algorithms import ALGORITHMS, Algorithm, as_algorithm, find_algorithm
from dqlearn.checks import check_choice, check_number, check_whole, is_number
from dqlearn.errors import ConfigurationError
from dqlearn.schedules import Schedule, VisitCount, as_learning_rate, as_schedule, from_spec
from dqlearn.text import shortened

__all__ = [
    "ChunkSizes",
    "Flag",
    "FloatType",
    "Integer",
    "Kind",
    "Number",
    "OneOf",
    "Rule",
    "Scheduled",
    "Seconds",
    "Seed",
    "Values",
    "number",
    "whole_number",
]

_LARGEST_COUNT = 2**62


def whole_number(value: Any) -> int:
    """Return a counter that was read from a stored table.

    Parameters
    ----------
    value : int
        The stored value; it comes from JSON, so it may be of any type.

    Returns
    -------
    int
        The counter.

    Raises
    ------
    TypeError
        If it is no number; `ValueError` if it is no integer, negative, or more than 2**62.
    """
    if not isinstance(value, int | float):
        raise TypeError(f"expected an integer, got {shortened(value)}")
    if not (0 <= value <= _LARGEST_COUNT and value == int(value)):
        raise ValueError(f"expected an integer in 0 .. 2**62, got {shortened(value)}")
    return int(value)  # older tables may have true or 1.0 in place of 1


def number(value: Any) -> float:
    """Return a number that was read from a stored table, or raise TypeError."""
    if not isinstance(value, int | float):
        raise TypeError(f"expected a number, got {shortened(value)}")
    return float(value)


class Kind(Protocol):
    """What the values of a hyperparameter have in common.

    Attributes
    ----------
    label : str
        The type, as docstrings name it.
    """

    @property
    def label(self) -> str:
        """The type, as docstrings name it."""

    def check(self, name: str, value: Any) -> Any:
        """Return a value in the form that a run uses, or raise ConfigurationError."""

    def dump(self, value: Any) -> Any:
        """Return the attribute that stands for a checked value."""

    def load(self, stored: Any) -> Any:
        """Return the value that an attribute stands for."""


@dataclass(frozen=True)
class Integer:
    """An integer in ``least .. most``; without `most` there is no upper bound."""

    least: int = 1
    most: int | None = None
    label = "int"

    def check(self, name: str, value: Any) -> int:
        """Check the range; a range of only two numbers is shown as those two."""
        if self.most == self.least + 1:
            return check_choice(name, value, (self.least, self.most))
        return check_whole(name, value, self.least, self.most)

    def dump(self, value: int) -> Any:
        """Return the number."""
        return value

    def load(self, stored: Any) -> int:
        """Return the number."""
        return whole_number(stored)


class Seed(Integer):
    """An integer of 64 bits."""

    def dump(self, value: int) -> str:
        """Return a text: JSON readers in other languages lose bits beyond 2**53."""
        return str(value)

    def load(self, stored: Any) -> int:
        """Read the text."""
        return int(stored)


@dataclass(frozen=True)
class Number:
    """A finite number in ``least .. most``."""

    least: float = -np.inf
    most: float = np.inf
    label = "float"

    def check(self, name: str, value: Any) -> float:
        """Check the range."""
        return check_number(name, value, self.least, self.most)

    def dump(self, value: float) -> float:
        """Return the number."""
        return value

    def load(self, stored: Any) -> float:
        """Return the number."""
        return number(stored)


@dataclass(frozen=True)
class Values:
    """A finite number for all pairs, an array of them, or a function of states.

    Only a number is stored: with an array or a function every value is in the table itself.
    """

    label = "float, array or callable"

    def check(self, name: str, value: Any) -> Any:
        """Check that there are numbers, or a function."""
        if callable(value):
            return value
        if np.ndim(value) == 0:
            return check_number(name, value)
        try:
            values = np.array(value, np.float64)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"{name} must be a number, an array (n_states, n_actions) or a function of states, "
                f"got {shortened(value)}"
            ) from error
        if not (np.isfinite(values) | np.isneginf(values)).all():
            raise ConfigurationError(
                f"{name} must be finite, or minus infinity where an action is not valid, got "
                f"{shortened(value)}"
            )
        return values

    def dump(self, value: Any) -> float:
        """Return the number, or 0 in place of others."""
        return value if isinstance(value, float | int) else 0.0

    def load(self, stored: Any) -> float:
        """Return the number."""
        return number(stored)


@dataclass(frozen=True)
class Seconds:
    """A time to wait; None means for ever, and is stored too."""

    label = "float"

    def check(self, name: str, value: Any) -> float:
        """Check that it is a time that a thread can wait."""
        if is_number(value) and 0.0 < float(value) <= threading.TIMEOUT_MAX:
            return float(value)
        raise ConfigurationError(
            f"{name} must be None or a number of seconds above 0, got {value!r}"
        )

    def dump(self, value: float | None) -> str:
        """Return JSON text."""
        return json.dumps(value)

    def load(self, stored: Any) -> float | None:
        """Read the text."""
        seconds = json.loads(stored)
        return None if seconds is None else number(seconds)


@dataclass(frozen=True)
class Flag:
    """True or false; `cure` tells a user who gives something else what to do."""

    cure: str = ""
    label = "bool"

    def check(self, name: str, value: Any) -> bool:
        """Refuse everything but True and False, numbers too."""
        if isinstance(value, bool):
            return value
        raise ConfigurationError(
            f"{name} must be a bool, got {value!r}" + (f": {self.cure}" if self.cure else "")
        )

    def dump(self, value: bool) -> int:
        """Return 0 or 1."""
        return int(value)

    def load(self, stored: Any) -> bool:
        """Read any number."""
        return whole_number(stored) > 0


@dataclass(frozen=True)
class OneOf:
    """One of some names; the name `open_` lets the run choose, and is never stored."""

    names: tuple[str, ...]
    open_: str | None = None

    @property
    def label(self) -> str:
        """The names."""
        return "{" + ", ".join(f'"{name}"' for name in self.names) + "}"

    def check(self, name: str, value: Any) -> str:
        """Check that it is one."""
        return check_choice(name, value, self.names)

    def dump(self, value: str) -> str:
        """Return the name."""
        return value

    def load(self, stored: Any) -> str:
        """Return the name."""
        return one_of([name for name in self.names if name != self.open_], stored)


@dataclass(frozen=True)
class Rule:
    """A learning rule; one of the user's own is stored as the module and name that define it."""

    names = tuple(ALGORITHMS)
    label = (
        "{" + ", ".join(f'"{name}"' for name in names) + '}, "ensemble:N:AGGREGATE:TARGET" '
        "or Algorithm"
    )

    def check(self, name: str, value: Any) -> Algorithm:
        """Return the rule of a name."""
        return as_algorithm(value)

    def dump(self, value: Algorithm) -> str:
        """Return its name."""
        return value.name

    def load(self, stored: Any) -> Algorithm:
        """Return the rule of a name, in a module that is imported already."""
        return find_algorithm(str(stored))


@dataclass(frozen=True)
class FloatType:
    """The dtype of a table."""

    names = ("float32", "float64")
    label = '"float32" or "float64"'

    def check(self, name: str, value: Any) -> np.dtype[Any]:
        """Return the dtype; None, which NumPy would take for float64, is refused."""
        try:
            dtype: np.dtype[Any] | None = None if value is None else np.dtype(value)
        except (TypeError, ValueError, SyntaxError):  # NumPy parses texts
            dtype = None
        if dtype is None or dtype not in self.names:
            got = shortened(value) if dtype is None else dtype
            raise ConfigurationError(f"{name} must be float32 or float64, got {got}")
        return dtype

    def dump(self, value: np.dtype[Any]) -> str:
        """Return its name."""
        return str(value)

    def load(self, stored: Any) -> np.dtype[Any]:
        """Return the dtype of a name."""
        return np.dtype(one_of(self.names, stored))


@dataclass(frozen=True)
class Scheduled:
    """A number in 0 .. 1, or a schedule of it; with `visits` it may depend on a pair's visits."""

    visits: bool = False

    @property
    def label(self) -> str:
        """The types."""
        return "float, Schedule or VisitCount" if self.visits else "float or Schedule"

    def check(self, name: str, value: Any) -> Schedule | VisitCount:
        """Return the schedule; a number is a constant one."""
        return (as_learning_rate if self.visits else as_schedule)(value, name=name)

    def dump(self, value: Schedule | VisitCount) -> str:
        """Return JSON text."""
        return json.dumps(value.spec())

    def load(self, stored: Any) -> Schedule | VisitCount:
        """Read the text."""
        spec: Mapping[str, Any] = json.loads(stored)
        return from_spec(spec)


@dataclass(frozen=True)
class ChunkSizes:
    """How a table is cut; only the grid, which knows the table, checks it."""

    label = '"auto", int or tuple'

    def check(self, name: str, value: Any) -> Any:
        """Return what was given."""
        return value

    def dump(self, value: Any) -> str:
        """Return JSON text."""
        return json.dumps(value)

    def load(self, stored: Any) -> int | tuple[tuple[int, ...], tuple[int, ...]]:
        """Read the number of chunks of a sparse table, or the sizes of the chunks of another."""
        chunks = json.loads(stored)
        if not isinstance(chunks, list):
            return whole_number(chunks)
        rows, columns = chunks
        return tuple(map(whole_number, rows)), tuple(map(whole_number, columns))


def one_of(names: Iterable[str], value: Any) -> str:
    """Return a name that was read from a stored table, or raise ValueError if it is unknown."""
    if value not in list(names):
        raise ValueError(f"expected one of {', '.join(names)}, got {shortened(value)}")
    return str(value)
