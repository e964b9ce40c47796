"""Check: rows become numbers of states and actions; those that cannot are named by their position.

::

    all rows ─► encode ─┬─► states
                        └─ refused ─► the first half, the second half, ... ─► the row that is bad

Invariant: rows that are good are encoded as one batch, whatever the others hold. A row that is
terminated has no next state, and its next observation is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import Space, spaces

from dqlearn.checks import is_whole
from dqlearn.errors import BadRowError, ConfigurationError, SpaceError
from dqlearn.spaces import SpaceIndex
from dqlearn.stages.observed.sources import LARGEST
from dqlearn.stages.observed.told import array_of, column
from dqlearn.text import shortened

__all__ = ["Bad", "Elements", "flags", "numbers", "rewards", "sources"]

_WHOLE = 2**53  # whole numbers below it are floats


class Bad:
    """The rows that cannot be learned, and why.

    Parameters
    ----------
    skip : bool
        Whether they are left out; else the first of them raises.

    Attributes
    ----------
    reasons : dict
        What is wrong, by the row's position.
    asked : bool (n,), optional
        The rows that matter; what is wrong with others is not noted. By default all.
    """

    def __init__(self, skip: bool) -> None:
        self._skip = skip
        self.asked: npt.NDArray[np.bool_] | None = None
        self.reasons: dict[int, str] = {}

    def add(self, row: int, name: str, expected: str, got: Any) -> None:
        """Note a row.

        Raises
        ------
        BadRowError
            Unless bad rows are skipped.
        """
        if self.asked is not None and not self.asked[row]:
            return
        plain = got.item() if isinstance(got, np.generic) else got
        what = f"row {row}: {name} must be {expected}, got {shortened(plain)}"
        if not self._skip:
            raise BadRowError(
                f"{what}; nothing of the batch is learned: correct the row, or pass "
                'on_bad_row="skip"',
                row,
            )
        self.reasons.setdefault(row, what)

    def good(self, n: int) -> npt.NDArray[np.bool_]:
        """Return which of `n` rows were not noted, bool (n,)."""
        good = np.ones(n, np.bool_)
        if self.reasons:
            good[list(self.reasons)] = False
        return good


class Elements:
    """A space whose elements are numbered, and its batches.

    Parameters
    ----------
    index : SpaceIndex
        The numbers.
    """

    def __init__(self, index: SpaceIndex) -> None:
        self.index = index

    @cached_property
    def space(self) -> Space[Any]:
        """The space."""
        return self.index.space

    def encode(
        self, name: str, batch: Any, n: int, rows: npt.NDArray[np.int64] | None, bad: Bad
    ) -> npt.NDArray[np.int64]:
        """Return the number of each row's element; 0 of rows that are bad, or not asked for.

        Parameters
        ----------
        name : str
            Name of the batch, for errors.
        batch : array, tuple or dict of arrays
            The elements.
        n : int
            Number of rows.
        rows : int64 (m,), optional
            The rows to encode, by default all.
        bad : Bad
            The rows that are bad, to which others are added.

        Returns
        -------
        int64 (n,)
            The numbers.

        Raises
        ------
        ConfigurationError
            If the batch does not have `n` rows of the space's shape.
        """
        parts = _map(lambda leaf, values: _leaf(name, leaf, values, n), name, self.space, batch)
        if rows is None:
            return self._encode(name, parts, None, n, bad)
        out = np.zeros(n, np.int64)
        some = _take(parts, rows)
        out[rows] = self._encode(name, some, rows, len(rows), bad)
        return out

    def _encode(
        self, name: str, parts: Any, rows: npt.NDArray[np.int64] | None, n: int, bad: Bad
    ) -> npt.NDArray[np.int64]:
        """Encode `n` rows, whose positions are `rows`; in halves, if some of them are refused."""
        if n == 0:
            return np.zeros(0, np.int64)
        try:
            return self.index.encode(_map(_numeric, name, self.space, parts))
        except (SpaceError, TypeError, ValueError, OverflowError):
            rows = np.arange(n) if rows is None else rows
        if n == 1:
            got = _map(lambda _, leaf: leaf[0], name, self.space, parts)
            bad.add(int(rows[0]), name, f"an element of {self.space}", got)
            return np.zeros(1, np.int64)
        halves = slice(0, n // 2), slice(n // 2, n)
        return np.concatenate(
            [
                self._encode(name, _take(parts, half), rows[half], half.stop - half.start, bad)
                for half in halves
            ]
        )


def _map(
    function: Callable[[Space[Any], Any], Any], name: str, space: Space[Any], value: Any
) -> Any:
    """Apply a function to each part of a batch that is an array."""
    if isinstance(space, spaces.Dict):
        if not isinstance(value, Mapping) or value.keys() != space.spaces.keys():
            raise _parts_missing(name, list(space.spaces), value)
        return {k: _map(function, name, it, value[k]) for k, it in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        if not isinstance(value, tuple | list) or len(value) != len(space.spaces):
            raise _parts_missing(name, list(range(len(space.spaces))), value)
        pairs = zip(space.spaces, value, strict=True)
        return tuple(_map(function, name, it, part) for it, part in pairs)
    return function(space, value)


def _parts_missing(name: str, expected: list[Any], got: Any) -> ConfigurationError:
    return ConfigurationError(f"{name} must have the parts {expected}, got {shortened(got)}")


def _leaf(name: str, space: Space[Any], values: Any, n: int) -> npt.NDArray[Any]:
    """Return one part of a batch as an array of `n` rows."""
    array, shape = array_of(values), space.shape or ()
    rows = array.shape[:1] == (n,)
    if not rows or (array.dtype.kind != "O" and array.shape[1:] != shape):
        expected = ", ".join(map(str, (n, *shape)))
        raise ConfigurationError(
            f"{name} must have {n} rows, as reward has, each an element of {space}: the shape "
            f"({expected}); got {array.shape}"
        )
    return array


def _numeric(space: Space[Any], array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array of numbers, as environments are made to return them.

    Real numbers are of the space's dtype; whole ones are integers, if the space has integers.
    """
    if array.dtype.kind == "O":
        array = np.array(array.tolist())
    if array.dtype.kind == "f" and np.dtype(space.dtype).kind == "f":
        with np.errstate(over="ignore"):  # what is infinite then is in an outermost bin
            return array.astype(space.dtype, copy=False)
    whole = array.dtype.kind == "f" and np.dtype(space.dtype).kind in "iu"
    if whole and (np.abs(array) < _WHOLE).all() and (array == np.floor(array)).all():
        return array.astype(np.int64)
    return array


def _take(parts: Any, rows: Any) -> Any:
    if isinstance(parts, Mapping):
        return {key: _take(part, rows) for key, part in parts.items()}
    if isinstance(parts, tuple):
        return tuple(_take(part, rows) for part in parts)
    return parts[rows]


def rewards(values: npt.NDArray[Any], dtype: np.dtype[Any], bad: Bad) -> npt.NDArray[Any]:
    """Return the rewards in the table's dtype; those that are not finite there are bad.

    Parameters
    ----------
    values : array (n,)
        The rewards.
    dtype : dtype
        The table's dtype.
    bad : Bad
        The rows that are bad, to which others are added.

    Returns
    -------
    float (n,)
        The rewards.
    """
    plain = _each(values, float, np.nan) if values.dtype.kind == "O" else values
    with np.errstate(over="ignore"):
        cast = plain.astype(np.float64, copy=False).astype(dtype, copy=False)
    if not (finite := np.isfinite(cast)).all():
        for row in np.flatnonzero(~finite).tolist():
            bad.add(row, "reward", f"a number that is finite in {dtype}", values[row])
    return cast


def flags(name: str, values: npt.NDArray[Any], bad: Bad) -> npt.NDArray[np.bool_]:
    """Return flags as bools; those that are neither true nor false are bad.

    Parameters
    ----------
    name : str
        Name of the flags, for errors.
    values : array (n,)
        The flags.
    bad : Bad
        The rows that are bad, to which others are added.

    Returns
    -------
    bool (n,)
        The flags.
    """
    if values.dtype == np.bool_:
        return values
    plain = _each(values, float, np.nan) if values.dtype.kind == "O" else values
    for row in np.flatnonzero((plain != 0) & (plain != 1)).tolist():
        bad.add(row, name, "true or false (bool, 0 or 1)", values[row])
    ones: npt.NDArray[np.bool_] = plain == 1
    return ones


def _each(values: npt.NDArray[Any], kind: Callable[[Any], Any], otherwise: Any) -> npt.NDArray[Any]:
    """Return objects as numbers, one by one; texts are none."""

    def plain(value: Any) -> Any:
        try:
            return otherwise if isinstance(value, str | bytes) else kind(value)
        except (TypeError, ValueError, OverflowError):
            return otherwise

    return np.array([plain(value) for value in values])


def numbers(values: Any, n: int, bad: Bad) -> npt.NDArray[np.int64] | None:
    """Return the numbers that sources gave their rows; one number stands for all rows.

    Parameters
    ----------
    values : int or array (n,), optional
        The numbers.
    n : int
        Number of rows.
    bad : Bad
        The rows that are bad, to which others are added.

    Returns
    -------
    int64 (n,) or None
        The numbers; 0 of bad rows.
    """
    if values is None:
        return None
    array = np.array([values] * n) if np.ndim(values) == 0 else column("seq", values, n)
    if array.dtype.kind not in "iu":
        whole = [is_whole(it) or (isinstance(it, float) and it == it // 1) for it in array.tolist()]
        for row in np.flatnonzero(~np.array(whole, np.bool_)).tolist():
            bad.add(row, "seq", "an integer", array[row])
        array = np.where(whole, array, 0).astype(np.int64)
    outside = (array < 0) | (array > LARGEST)
    for row in np.flatnonzero(outside).tolist():
        bad.add(row, "seq", "an integer in 0 .. 2**62", array[row])
    return np.where(outside, 0, array).astype(np.int64)


def sources(values: Any, n: int, bad: Bad) -> Any:
    """Return the sources of rows, as :meth:`Sources.sift` takes them.

    Parameters
    ----------
    values : str, int or array (n,), optional
        The source of all rows, or of each.
    n : int
        Number of rows.
    bad : Bad
        The rows that are bad, to which others are added.

    Returns
    -------
    str, int, array (n,) or None
        The sources; of bad rows anything.

    Raises
    ------
    ConfigurationError
        If the only source is neither text nor an integer.
    """
    if values is None or isinstance(values, str):
        return values
    if np.ndim(values) == 0:
        if is_whole(values):
            return int(values)
        raise ConfigurationError(
            f"source must be text or an integer, or one for each row, got {shortened(values)}"
        )
    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        array = np.empty(len(values), object)
        array[:] = [it.item() if isinstance(it, np.generic) else it for it in values]
        for row, it in enumerate(array.tolist()):
            if not (isinstance(it, str) or is_whole(it)):
                bad.add(row, "source", "text or an integer", it)
    return column("source", array, n)
