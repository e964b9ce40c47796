"""Sources: which rows were learned before, by the numbers that their sources gave them.

::

    source   highest number so far        a row of number   <= highest   dropped: learned before
    "till"   41                                             == 42        learned
    7        1038                                           >= 43        learned; 42 .. are missing

Invariant: what is learned of a source has rising numbers, so nothing is learned twice, however
often, and from where on, a log is sent again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.checks import is_whole

__all__ = ["LARGEST", "Sifted", "Sources"]

LARGEST = 2**62
"""The largest number that a source may give."""

_NONE = -1  # the highest number of a source that has given none

Marks = dict[str | int, int | None]


@dataclass(frozen=True)
class Sifted:
    """Which rows of a batch are new.

    Attributes
    ----------
    new : bool (n,)
        Whether a row is to be learned.
    index : int64 (n,)
        The index of each row's source among all sources, in the order of their first rows.
    missing : int64 (n,)
        How many numbers are missing before a row.
    marks : dict
        The highest number of each source of the batch; None of one that gives none.
    """

    new: npt.NDArray[np.bool_]
    index: npt.NDArray[np.int64]
    missing: npt.NDArray[np.int64]
    marks: Marks = field(default_factory=dict)


class Sources:
    """The highest number of each source.

    Parameters
    ----------
    marks : mapping, optional
        The numbers by their sources, in the order of the sources' first rows.

    Examples
    --------
    >>> sources = Sources({"till": 41})
    >>> sifted = sources.sift("till", np.array([41, 42, 45]), 3)
    >>> sifted.new, sifted.missing
    (array([False,  True,  True]), array([0, 0, 2]))
    >>> sources.advance(sifted.marks)
    >>> sources.marks
    {'till': 45}
    """

    def __init__(self, marks: Mapping[str | int, int | None] | None = None) -> None:
        self.marks: Marks = dict(marks or {})
        self._index = {source: i for i, source in enumerate(self.marks)}

    def advance(self, marks: Mapping[str | int, int | None]) -> None:
        """Note the highest numbers of sources whose rows were learned."""
        for source, mark in marks.items():
            self._index.setdefault(source, len(self._index))
            before = self.marks.get(source)
            self.marks[source] = before if mark is None else mark

    def copy(self) -> Sources:
        """Return a copy."""
        return Sources(self.marks)

    def sift(
        self, source: str | int | npt.NDArray[Any] | None, seq: npt.NDArray[np.int64] | None, n: int
    ) -> Sifted:
        """Say which rows are new.

        Parameters
        ----------
        source : str, int or array (n,), optional
            The source of all rows, or of each.
        seq : int64 (n,), optional
            The number of each row, at most :data:`LARGEST`; without it every row is new.
        n : int
            Number of rows.

        Returns
        -------
        Sifted
            The rows that are new; nothing is noted.
        """
        new, missing = np.ones(n, np.bool_), np.zeros(n, np.int64)
        if n == 0 or (source is None and seq is None):
            return Sifted(new, np.zeros(n, np.int64), missing)
        names, own = _distinct("" if source is None else source, n)
        marks: Marks = dict.fromkeys(names)
        if seq is not None:
            for name, rows in zip(names, _rows_of(own, len(names)), strict=True):
                before = _NONE if (known := self.marks.get(name)) is None else known
                marks[name] = _sift_one(seq, rows, before, new, missing)
        unknown = iter(range(len(self._index), len(self._index) + len(names)))
        index = [self._index[it] if it in self._index else next(unknown) for it in names]
        return Sifted(new, np.array(index, np.int64)[own], missing, marks)

    def to_json(self) -> str:
        """Return the numbers as text."""
        return json.dumps({"sources": list(self.marks), "last": list(self.marks.values())})

    @classmethod
    def from_json(cls, text: str) -> Sources:
        """Make them from what :meth:`to_json` returned.

        Raises
        ------
        ValueError
            If it is something else.
        """
        stored = json.loads(text)
        sources, last = stored["sources"], stored["last"]
        named = all(isinstance(it, str) or is_whole(it) for it in sources)
        counted = all(it is None or (is_whole(it) and 0 <= it <= LARGEST) for it in last)
        marks = dict(zip(sources, last, strict=True))
        if not (named and counted and len(marks) == len(sources)):
            raise ValueError("the sources of observed transitions are not those of one table")
        return cls(marks)


def _distinct(source: Any, n: int) -> tuple[list[str | int], npt.NDArray[np.int64]]:
    """Return the sources in the order of their first rows, and the place there of each row's."""
    if not isinstance(source, np.ndarray):
        return [source], np.zeros(n, np.int64)
    if source.dtype.kind == "O":
        places: dict[str | int, int] = {}
        seen = [places.setdefault(it, len(places)) for it in source.tolist()]
        return list(places), np.array(seen, np.int64)
    if (source == source[0]).all():
        return [source[0].item()], np.zeros(n, np.int64)
    names, first, own = np.unique(source, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return names[order].tolist(), place[own]


def _rows_of(own: npt.NDArray[np.int64], n: int) -> Iterable[Any]:
    """Return the rows of each source, in their order."""
    if n == 1:
        return [slice(None)]
    edges = np.cumsum(np.bincount(own, minlength=n))[:-1]
    return np.split(np.argsort(own, kind="stable"), edges)


def _sift_one(
    seq: npt.NDArray[np.int64],
    rows: Any,
    before: int,
    new: npt.NDArray[np.bool_],
    missing: npt.NDArray[np.int64],
) -> int | None:
    """Sift the rows of one source; return its highest number."""
    numbers = seq[rows]
    highest = np.maximum.accumulate(np.concatenate([[before], numbers]))
    fresh = numbers > highest[:-1]
    new[rows] = fresh
    missing[rows] = np.where(fresh & (highest[:-1] != _NONE), numbers - highest[:-1] - 1, 0)
    return int(highest[-1])
