"""Checks: what a network's parameters must be, whether they come from Python or from JSON.

::

    0.5          ─┐
    [0.4, 0.5]   ─┴──► (0.4, 0.5), one value an item, inside a range

Invariant: what comes out is plain values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sized
from itertools import pairwise
from typing import Any

from dqlearn.checks import check_choice, check_number, check_whole
from dqlearn.envs.problems.power.flow import layers
from dqlearn.envs.problems.topology import edges_of
from dqlearn.errors import ConfigurationError

__all__ = ["HOURS", "checked", "inside", "listed"]

HOURS = 24
# least, most
RANGES = {
    "voltage": (1e-3, 1e6),
    "volatility": (0.0, 1.0),
    "feed_in": (0.0, 1.0),
    "unit": (0.0, 1e9),
    "efficiency": (1e-3, 1.0),
    "penalty": (0.0, 1e9),
}


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a `PowerGrid` as plain values.

    Parameters
    ----------
    given : mapping
        By their names.

    Returns
    -------
    dict
        All but those that are plain whatever they are.

    Raises
    ------
    ConfigurationError
        If one is out of range, or there are too few or too many of one.
    """
    check_choice("start", given["start"], ["uniform", "empty"])
    check_choice("reward", given["reward"], ["cost", "saving"])
    n = check_whole("n_storages", given["n_storages"], 1, 9)
    most = given["max_commands"]
    capacity = check_whole("capacity", given["capacity"], 1, 14)
    if (capacity + 1) ** n > 2**32:
        raise ConfigurationError(
            f"storages may have 2**32 states together, got {capacity + 1}**{n}: "
            "lower n_storages or capacity"
        )
    return {
        "n_storages": n,
        "capacity": capacity,
        **{
            name: check_whole(name, given[name], 1, 7) for name in ("charge_rate", "discharge_rate")
        },
        "max_commands": None if most is None else check_whole("max_commands", most, 1, n),
        **{name: inside(name, given[name], *RANGES[name]) for name in RANGES},
        **_of_lines(given, n),
        **_of_loads(given, n),
    }


def _of_lines(given: Mapping[str, Any], n: int) -> dict[str, Any]:
    feeder = [(i, i + 1) for i in range(n)]
    lines = edges_of(feeder if given["topology"] is None else given["topology"], n + 1)
    layers(lines, n + 1)
    limit, impedance = given["limit"], given["impedance"]
    resistance = listed("resistance", given["resistance"], len(lines), 0.0, 1e9)
    if impedance is None and len(lines) > n and min(resistance) <= 0.0:
        raise ConfigurationError(
            "flows divide in meshes by the lines' resistances, so none may be 0 there, got "
            f"resistance={given['resistance']!r}: give impedance="
        )
    if impedance is not None:
        impedance = listed("impedance", impedance, len(lines), 1e-6, 1e6)
    return {
        "topology": lines,
        "resistance": resistance,
        "impedance": impedance,
        "limit": None if limit is None else listed("limit", limit, len(lines), 0.0),
    }


def _of_loads(given: Mapping[str, Any], n: int) -> dict[str, Any]:
    levels = given["demand_levels"]
    factors = listed(
        "demand_levels", levels, len(levels) if isinstance(levels, Sized) else 1, 0.0, 1e9
    )
    if not factors or any(b <= a for a, b in pairwise(factors)):
        raise ConfigurationError(f"demand_levels must be numbers that increase, got {levels!r}")
    return {
        "demand_levels": factors,
        "demand": listed("demand", given["demand"], n, 0.0, 1e9),
        "profile": listed("profile", given["profile"], HOURS, 0.0, 1e9),
        "tariff": listed("tariff", given["tariff"], HOURS, 0.0, 1e9),
    }


def inside(name: str, value: Any, least: float, most: float = math.inf) -> float:
    """Return a number, checked.

    Parameters
    ----------
    name : str
        The parameter's name, for the message.
    value : float
        Given.
    least, most : float
        The range, ends included.

    Returns
    -------
    float
        The value.

    Raises
    ------
    ConfigurationError
        If it is no number in the range.

    Examples
    --------
    >>> inside("volatility", 1, 0.0, 1.0)
    1.0
    """
    return math.inf if value == most == math.inf else check_number(name, value, least, most)


def listed(
    name: str, value: Any, n: int, least: float, most: float = math.inf
) -> tuple[float, ...]:
    """Return one number for each of n items, checked.

    Parameters
    ----------
    name : str
        The parameter's name, for the message.
    value : float, or sequence of float
        One for all, or one for each.
    n : int
        How many items there are.
    least, most : float
        The range, ends included.

    Returns
    -------
    tuple of float
        One an item.

    Raises
    ------
    ConfigurationError
        If there are more or fewer, or one is outside the range.

    Examples
    --------
    >>> listed("limit", 50, 2, 0.0)
    (50.0, 50.0)
    """
    several = isinstance(value, Iterable) and not isinstance(value, str)
    given = list(value) if several else [value] * n
    if len(given) != n:
        raise ConfigurationError(
            f"{name} must be one number, or one for each of {n}, got {len(given)}: {value!r}"
        )
    return tuple(inside(f"{name}[{i}]", number, least, most) for i, number in enumerate(given))
