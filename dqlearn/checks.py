"""Counts: whole numbers of something that there must be.

Invariant: a bool is no count, though Python has it for an integer: it stands where something else
was meant.
"""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from dqlearn.errors import ConfigurationError

__all__ = ["check_count", "is_number", "is_whole"]


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
    """Return a count of something that there must be.

    Parameters
    ----------
    name : str
        What is counted, for the error.
    value : object
        What was given.

    Returns
    -------
    int
        A Python integer of at least 1.

    Raises
    ------
    ConfigurationError
        If it is none.
    """
    if not is_whole(value) or value < 1:
        raise ConfigurationError(f"{name} must be an integer of at least 1, got {value!r}")
    return int(value)
