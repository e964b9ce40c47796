"""Checks of plain values that a user gives: counts, whole numbers, numbers, probabilities, choices.

Invariant: a bool is no number here, though Python has it for an integer: it stands where something
else was meant. What passes is returned as Python's own, which JSON can hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Real
from typing import Any, TypeVar

import numpy as np

from dqlearn.errors import ConfigurationError

__all__ = [
    "check_choice",
    "check_count",
    "check_number",
    "check_probability",
    "check_whole",
    "is_number",
    "is_whole",
]

T = TypeVar("T")

_LARGEST_PLAIN = 2**30
"""Bounds beyond this are told as powers of two, if they are next to one."""


def is_whole(value: Any) -> bool:
    """Return whether a value is an integer, Python's or NumPy's.

    Parameters
    ----------
    value : object
        Anything.

    Returns
    -------
    bool
        False for bools.

    Examples
    --------
    >>> is_whole(3), is_whole(np.int64(3)), is_whole(True), is_whole(3.0)
    (True, True, False, False)
    """
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Return whether a value is a real number, Python's or NumPy's.

    Parameters
    ----------
    value : object
        Anything.

    Returns
    -------
    bool
        False for bools.

    Examples
    --------
    >>> is_number(0.5), is_number(np.float32(1)), is_number(True), is_number("0.5")
    (True, True, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool)


def check_count(name: str, value: Any) -> int:
    """Return a count of something that there must be, an integer of at least 1.

    Parameters
    ----------
    name : str
        What is counted, for the error.
    value : object
        What was given.

    Returns
    -------
    int

    Raises
    ------
    ConfigurationError
        If it is none.
    """
    return check_whole(name, value, 1)


def check_whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """Return an integer of a range.

    Parameters
    ----------
    name : str
        Of the parameter, for the error.
    value : object
        What was given.
    least, most : int
        The range, ends included; without `most` it has no end.

    Returns
    -------
    int

    Raises
    ------
    ConfigurationError
        If it is none, or out of range.

    Examples
    --------
    >>> check_whole("seed", np.uint64(7), 0, 2**64 - 1)
    7
    >>> check_whole("seed", -1, 0, 2**64 - 1)
    Traceback (most recent call last):
    dqlearn.errors.ConfigurationError: seed must be an integer in 0 .. 2**64 - 1, got -1
    """
    if is_whole(value) and least <= value and (most is None or value <= most):
        return int(value)
    if most is None:
        expected = f"an integer of at least {_bound(least)}"
    elif most == least + 1:
        expected = f"{least} or {most}"
    else:
        expected = f"an integer in {_bound(least)} .. {_bound(most)}"
    raise ConfigurationError(f"{name} must be {expected}, got {value!r}")


def check_number(name: str, value: Any, least: float = -math.inf, most: float = math.inf) -> float:
    """Return a finite real number of a range.

    Parameters
    ----------
    name : str
        Of the parameter, for the error.
    value : object
        What was given.
    least, most : float
        The range, ends included.

    Returns
    -------
    float

    Raises
    ------
    ConfigurationError
        If it is none, or out of range.

    Examples
    --------
    >>> check_number("cost", np.float32(0.5), least=0)
    0.5
    >>> check_number("cost", "high", least=0)
    Traceback (most recent call last):
    dqlearn.errors.ConfigurationError: cost must be a number of at least 0, got 'high'
    """
    if is_number(value) and least <= value <= most and math.isfinite(value):
        return float(value)
    if math.isfinite(least) and math.isfinite(most):
        expected = f"in {least:g} .. {most:g}"
    elif math.isfinite(least):
        expected = f"a number of at least {least:g}"
    else:
        expected = "finite"
    raise ConfigurationError(f"{name} must be {expected}, got {value!r}")


def check_probability(name: str, value: Any) -> float:
    """Return a probability.

    Parameters
    ----------
    name : str
        Of the parameter, for the error.
    value : object
        What was given.

    Returns
    -------
    float

    Raises
    ------
    ConfigurationError
        If it is no number in 0 .. 1.
    """
    return check_number(name, value, 0, 1)


def check_choice(name: str, value: Any, choices: Iterable[T]) -> T:
    """Return one of several values.

    Parameters
    ----------
    name : str
        Of the parameter, for the error.
    value : object
        What was given.
    choices : iterable
        What it may be.

    Returns
    -------
    object
        The one of them that is equal to it.

    Raises
    ------
    ConfigurationError
        If it is none of them.

    Examples
    --------
    >>> check_choice("start", "middle", ["uniform", "empty", "full"])
    Traceback (most recent call last):
    dqlearn.errors.ConfigurationError: start must be 'uniform', 'empty' or 'full', got 'middle'
    """
    known = list(choices)
    for choice in known:
        if _equals(value, choice):
            return choice
    *others, last = map(repr, known)
    expected = f"{', '.join(others)} or {last}" if others else last
    raise ConfigurationError(f"{name} must be {expected}, got {value!r}")


def _equals(value: Any, choice: Any) -> bool:
    alike = is_whole(value) if is_whole(choice) else isinstance(value, type(choice))
    return alike and bool(value == choice)


def _bound(number: int) -> str:
    """Return a bound as people write it: 2**62 for 4611686018427387904."""
    for distance in (0, 1):
        power = number + distance
        if power > _LARGEST_PLAIN and power & (power - 1) == 0:
            return f"2**{power.bit_length() - 1}" + (" - 1" if distance else "")
    return str(number)
