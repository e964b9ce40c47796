"""Text to values, and back: what the command line's options are written in.

::

    3_000_000   3e6                        a whole number
    0.1                                    Constant
    linear:1.0:0.05:2e6                    Linear(start, end, over)
    exponential:1.0:0.05:2e6               Exponential(start, end, over)
    piecewise:0=1.0,1e6=0.5,3e6=0.05       Piecewise of (transitions, value)
    visits   visits:0.8:1:1:0.01           VisitCount(omega, offset, scale, floor)
    auto   1000000   1000000,4             chunks along states, and along actions
    20   20,10                             bins of all dimensions, or of each
    {"arm": [4, 2], "lamp": null}          those of a Dict; [4, [2, 2]] those of a Tuple
    {"low": -3, "high": 3, "n": [6, 2]}    between ends, where a Box has none of its own
    side=64   map_name=8x8                 an environment's argument: JSON, else a string
    1e6   100r   60s   5min   2h   1d      Every so many transitions, rounds or seconds
    36h   7d                               timedelta
    latest   best   12   before-change     a checkpoint: by its number, else by a name

Invariant: ``parse_schedule(format_schedule(s)) == s``, and so for `Every`: what a table says of its
run can be typed again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, cast

import click

from dqlearn.checks import check_count
from dqlearn.errors import ScheduleError
from dqlearn.schedules import (
    Constant,
    Exponential,
    Linear,
    Piecewise,
    Schedule,
    VisitCount,
)
from dqlearn.spaces import Bins, BinsLike
from dqlearn.training.every import Every

__all__ = [
    "AT",
    "BINS",
    "DURATION",
    "EVERY",
    "PAIR",
    "TAG",
    "Parsed",
    "Whole",
    "format_every",
    "format_schedule",
    "parse_chunks",
    "parse_every",
    "parse_schedule",
    "parse_whole",
]

_FORMS = (
    "a number, linear:START:END:OVER, exponential:START:END:OVER, piecewise:T=V,T=V,.. or, for a "
    "learning rate, visits:OMEGA:OFFSET:SCALE:FLOOR"
)
_BINS = (
    "expected N, N,N,.. or JSON of the structure of the observations, such as "
    '{"arm": [4, 2]}, with {"low": -1, "high": 1, "n": 4} where a bound is not finite'
)
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
_QUANTITY = re.compile(r"(?P<number>.*\d|inf)\s*(?P<unit>s|min|h|d|r)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def parse_whole(text: str) -> int:
    """Return a whole number, written with underscores or as 3e6 if one likes.

    Parameters
    ----------
    text : str
        Such as ``3000000``, ``3_000_000`` or ``3e6``.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If it is not a whole number.

    Examples
    --------
    >>> parse_whole("3_000_000"), parse_whole("2.5e6")
    (3000000, 2500000)
    """
    with suppress(ValueError):
        return int(text)  # first, because a float has only 53 bits
    with suppress(ValueError):
        if (number := float(text)).is_integer():
            return int(number)
    raise ValueError(f"expected a whole number such as 3_000_000 or 3e6, got {text!r}")


def parse_schedule(text: str) -> Schedule | VisitCount:
    """Return the schedule that a text describes.

    Parameters
    ----------
    text : str
        See the module's head.

    Returns
    -------
    Schedule or VisitCount

    Raises
    ------
    ValueError
        If it describes none; `ScheduleError` if its numbers make none.

    Examples
    --------
    >>> parse_schedule("linear:1.0:0.05:2e6")
    Linear(start=1.0, end=0.05, over=2000000)
    >>> parse_schedule("visits:0.8")
    VisitCount(omega=0.8, offset=1.0, scale=1.0, floor=0.0)
    """
    kind, _, rest = text.partition(":")
    fields = rest.split(":") if rest else []
    if kind in ("linear", "exponential") and len(fields) == 3:
        ramp = Linear if kind == "linear" else Exponential
        return ramp(_number(fields[0]), _number(fields[1]), parse_whole(fields[2]))
    if kind == "piecewise" and len(fields) == 1:
        return Piecewise(tuple(_point(point) for point in rest.split(",")))
    if kind == "visits" and len(fields) <= 4:
        return VisitCount(*map(_number, fields))
    with suppress(ValueError):
        return Constant(float(text))
    raise ValueError(f"expected {_FORMS}; got {text!r}")


def format_schedule(schedule: Schedule | VisitCount) -> str:
    """Return the text that `parse_schedule` reads as this schedule.

    Parameters
    ----------
    schedule : Schedule or VisitCount

    Returns
    -------
    str

    Examples
    --------
    >>> format_schedule(Linear(1.0, 0.05, over=2_000_000))
    'linear:1.0:0.05:2000000'
    """
    match schedule:
        case Constant(value):
            return str(value)
        case Linear(start, end, over):
            return f"linear:{start}:{end}:{over}"
        case Exponential(start, end, over):
            return f"exponential:{start}:{end}:{over}"
        case Piecewise(points):
            return "piecewise:" + ",".join(f"{t}={value}" for t, value in points)
        case VisitCount(omega, offset, scale, floor):
            return f"visits:{omega}:{offset}:{scale}" + (f":{floor}" if floor else "")
    raise ScheduleError(f"expected a schedule of dqlearn.schedules, got {schedule!r}")


def parse_every(text: str) -> Every:
    """Return the interval that a text describes.

    Parameters
    ----------
    text : str
        See the module's head.

    Returns
    -------
    Every

    Raises
    ------
    ValueError
        If it describes none.

    Examples
    --------
    >>> parse_every("1e6"), parse_every("100r").rounds, parse_every("5min").seconds
    (Every(transitions=1000000, rounds=None, seconds=None), 100, 300.0)
    """
    found = _QUANTITY.fullmatch(text)
    with suppress(ValueError):
        number = found["number"] if found else text
        if found and found["unit"] != "r":
            return Every(seconds=float(number) * _SECONDS[found["unit"]])
        return Every(rounds=parse_whole(number)) if found else Every(parse_whole(number))
    raise ValueError(
        "expected transitions such as 1e6, rounds such as 100r, or time such as 60s, 5min or 2h, "
        f"more than nothing; got {text!r}"
    )


def format_every(every: Every) -> str:
    """Return the text that `parse_every` reads as this interval.

    Parameters
    ----------
    every : Every

    Returns
    -------
    str

    Examples
    --------
    >>> format_every(Every(rounds=100)), format_every(Every(seconds=300))
    ('100r', '300s')
    """
    if every.seconds is not None:
        return f"{str(float(every.seconds)).removesuffix('.0')}s"
    return str(every.transitions) if every.rounds is None else f"{every.rounds}r"


class Parsed(click.ParamType):  # type: ignore[type-arg]  # generic since Click 8.4
    """A type of option that is a function of its text; a ValueError becomes a usage error.

    Parameters
    ----------
    name : str
        What the help calls a value.
    parse : callable
        ``parse(text) -> value``.
    """

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self.parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse a text; what is no text was parsed before."""
        if not isinstance(value, str):
            return value
        try:
            return self.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Whole(click.IntRange):
    """A whole number in a range, as `parse_whole` reads it."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse a text, and check the range."""
        try:
            number = parse_whole(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return super().convert(number, param, ctx)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"expected a number, got {text!r}") from None


def _point(text: str) -> tuple[int, float]:
    transitions, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"expected points TRANSITIONS=VALUE, such as 1e6=0.5, got {text!r}")
    return parse_whole(transitions), _number(value)


def parse_chunks(text: str) -> str | int | tuple[int, ...]:
    """Return the chunks that a text describes.

    Parameters
    ----------
    text : str
        Such as ``auto``, ``1000000`` or ``1000000,4``; -1 stands for all.

    Returns
    -------
    "auto", int or tuple

    Raises
    ------
    ValueError
        If it describes none.

    Examples
    --------
    >>> parse_chunks("1e6"), parse_chunks("1_000,-1")
    (1000000, (1000, -1))
    """
    if text == "auto":
        return text
    sizes = _parse_counts(text, all_of_them=-1)
    if isinstance(sizes, tuple) and len(sizes) != 2:
        raise ValueError(f"expected auto, STATES or STATES,ACTIONS, got {text!r}")
    return sizes


def _parse_duration(text: str) -> timedelta:
    found = _QUANTITY.fullmatch(text)
    with suppress(ValueError, OverflowError):
        if found and found["unit"] != "r":
            time = timedelta(seconds=float(found["number"]) * _SECONDS[found["unit"]])
            if timedelta(0) <= time < timedelta(days=365_000):
                return time
    raise ValueError(f"expected a time such as 90s, 30min, 36h or 7d, got {text!r}")


def _parse_at(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


def _parse_tag(text: str) -> str:
    """Refuse names that `--at` could not find again, or that a repository could not hold."""
    if not _NAME.fullmatch(text) or text.isdecimal():
        raise ValueError(
            f"expected a name of letters, digits, '.', '_' and '-' that is no number, got {text!r}"
        )
    return text


def _parse_counts(text: str, all_of_them: int | None = None) -> int | tuple[int, ...]:
    numbers = tuple(parse_whole(part) for part in text.split(","))
    for number in numbers:
        if number != all_of_them:
            check_count(f"each number of {text!r}", number)
    return numbers if len(numbers) > 1 else numbers[0]


def _parse_bins(text: str) -> BinsLike:
    """Read numbers, or JSON of the structure of the space."""
    if not text.lstrip().startswith(("{", "[")):
        return _parse_counts(text)
    try:
        return _bins(json.loads(text))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{_BINS}; got {text!r}: {error}") from None


def _bins(given: Any) -> BinsLike:
    match given:
        case {"low": low, "high": high, "n": n, **others} if not others:
            return Bins.uniform(low, high, n)
        case dict():
            return {name: _bins(part) for name, part in given.items()}
        case list():
            return tuple(map(_bins, given))
        case bool() | float() | str():
            raise ValueError(f"{given!r} is no number of bins")
        case int() if given < 1:
            raise ValueError(f"{given!r} is no number of bins")
    return cast("BinsLike", given)


def _parse_pair(text: str) -> tuple[str, Any]:
    """Split KEY=VALUE. Python's words are refused: as strings, "False" would be true."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise ValueError(f"expected KEY=VALUE, such as side=64, got {text!r}")
    if value in ("True", "False", "None"):
        raise ValueError(f"values are JSON: write true, false or null, got {text!r}")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


BINS = Parsed("n[,n...]|json", _parse_bins)
PAIR = Parsed("key=value", _parse_pair)
EVERY = Parsed("transitions|rounds|time", parse_every)
DURATION = Parsed("time", _parse_duration)
AT = Parsed("checkpoint", _parse_at)
TAG = Parsed("name", _parse_tag)
