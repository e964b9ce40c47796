"""Checks of plain values that a user gives: counts, whole numbers, numbers, probabilities, choices.

A check raises a `ConfigurationError`, or the class that is passed as `error`; `cure` tells the user
what to do.

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
from dqlearn.text import shortened

__all__ = [
    "check_amount",
    "check_choice",
    "check_count",
    "check_number",
    "check_positive",
    "check_probability",
    "check_real",
    "check_whole",
    "is_number",
    "is_whole",
]

T = TypeVar("T")
Error = type[ConfigurationError]

_LARGEST_PLAIN = 2**30
"""Bounds beyond this are printed as powers of two, if they are next to one."""


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
        Name of what is counted, for the error.
    value : object
        Value that was given.

    Returns
    -------
    int

    Raises
    ------
    ConfigurationError
        If the value is no count.
    """
    return check_whole(name, value, 1)


def check_whole(
    name: str,
    value: Any,
    least: int,
    most: int | None = None,
    *,
    error: Error = ConfigurationError,
) -> int:
    """Return an integer of a range.

    Parameters
    ----------
    name : str
        Name of the parameter, for the error.
    value : object
        Value that was given.
    least, most : int
        The range, ends included; without `most` it has no end.
    error : type
        Class of the error.

    Returns
    -------
    int

    Raises
    ------
    ConfigurationError
        If the value is no integer, or out of range.

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
    else:
        expected = f"an integer in {_bound(least)} .. {_bound(most)}"
    raise _said(error, name, expected, value)


def check_amount(name: str, value: Any, least: int, *, error: Error = ConfigurationError) -> int:
    """Return a whole number, which may be written as a float: 2e7 is what people write.

    Parameters
    ----------
    name : str
        Name of the parameter, for the error.
    value : object
        Value that was given.
    least : int
        Least value that is allowed.
    error : type
        Class of the error.

    Returns
    -------
    int

    Raises
    ------
    ConfigurationError
        If the value is no whole number, or too small.

    Examples
    --------
    >>> check_amount("over", 2e7, 1)
    20000000
    """
    if is_number(value) and value == value // 1 and value >= least:
        return int(value)
    raise _said(error, name, f"a whole number >= {least}, such as 1_000_000", value)


def check_number(
    name: str,
    value: Any,
    least: float = -math.inf,
    most: float = math.inf,
    *,
    cure: str = "",
    error: Error = ConfigurationError,
) -> float:
    """Return a finite real number of a range.

    Parameters
    ----------
    name : str
        Name of the parameter, for the error.
    value : object
        Value that was given.
    least, most : float
        The range, ends included.
    cure : str
        What the user can do about it.
    error : type of ConfigurationError
        The error to raise.

    Returns
    -------
    float

    Raises
    ------
    ConfigurationError
        If the value is no finite number, or out of range.

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
    raise _said(error, name, expected, value, cure)


def check_real(name: str, value: Any, *, error: Error = ConfigurationError) -> float:
    """Return a real number of any range, also one that is not finite.

    Parameters
    ----------
    name : str
        Name of the parameter, for the error.
    value : object
        Value that was given.
    error : type
        Class of the error.

    Returns
    -------
    float

    Raises
    ------
    ConfigurationError
        If the value is no number.
    """
    if is_number(value):
        return float(value)
    raise _said(error, name, "a number", value)


def check_positive(name: str, value: Any, *, error: Error = ConfigurationError) -> float:
    """Return a number above 0.

    Parameters
    ----------
    name : str
        Name of the parameter, for the error.
    value : object
        Value that was given.
    error : type
        Class of the error.

    Returns
    -------
    float

    Raises
    ------
    ConfigurationError
        If the value is no positive number, or infinite.
    """
    if is_number(value) and 0.0 < value < math.inf:
        return float(value)
    raise _said(error, name, "positive and finite", value)


def check_probability(name: str, value: Any, *, cure: str = "") -> float:
    """Return a probability.

    Parameters
    ----------
    name : str
        Name of the parameter, for the error.
    value : object
        Value that was given.
    cure : str
        What the user can do about it.

    Returns
    -------
    float

    Raises
    ------
    ConfigurationError
        If the value is no number in 0 .. 1.
    """
    if is_number(value) and 0.0 <= value <= 1.0:
        return float(value)
    raise _said(ConfigurationError, name, "a probability, 0 .. 1", value, cure)


def check_choice(name: str, value: Any, choices: Iterable[T]) -> T:
    """Return one of several values.

    Parameters
    ----------
    name : str
        Name of the parameter, for the error.
    value : object
        Value that was given.
    choices : iterable
        Values that are allowed.

    Returns
    -------
    object
        The allowed value that is equal to the given one.

    Raises
    ------
    ConfigurationError
        If the value is none of them.

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
    raise _said(ConfigurationError, name, expected, value)


def _said(error: Error, name: str, expected: str, got: Any, cure: str = "") -> ConfigurationError:
    told = f": {cure}" if cure else ""
    return error(f"{name} must be {expected}, got {shortened(got)}{told}")


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
