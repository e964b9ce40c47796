"""The history of a run: one row a round, one column a quantity.

::

    RoundReport ── append ──►  rows[round - first]  ── to_xarray ──►  Dataset over `round`
                      ◄── truncate(round) ── (the run went back to a recovery point)

Invariant: the rows are of consecutive rounds, in order. A row has one number of 8 bytes for each
statistic; appending costs the same for the first row and for the millionth (the array doubles when
it is full).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from dqlearn.checks import check_count
from dqlearn.statistics import Derived, RoundReport, Statistic, statistic_of

__all__ = ["SHOWN", "STORED", "History", "learning_curve"]

_FIELDS = [field.name for field in fields(RoundReport)]
_report_row = attrgetter(*_FIELDS)
_ROW = np.dtype(
    [
        # A report's fields are annotated "int" or "float", which are NumPy's names too.
        *((field.name, str(field.type)) for field in fields(RoundReport)),
        # A running total, so that "the last 100 episodes" is found by one binary search.
        ("episodes_so_far", "int"),
    ]
)

STORED = {
    kind: [name for name in _FIELDS if _ROW[name] == np.dtype(kind)] for kind in ("int", "float")
}
"""The columns of the two arrays of a stored history, by their dtype."""

_DECLARED = {field.name: statistic_of(field) for field in fields(RoundReport)}
SHOWN: dict[str, Statistic | Derived] = {
    it.shown.name if it.shown else name: it.shown or it
    for name, it in _DECLARED.items()
    if name != "round"  # the dimension
}
"""The variables of a history, for people: statistics, and what is derived in place of sums."""

_SUMS = {name: it for name, it in _DECLARED.items() if it.shown}
"""The sums that a saved history has besides, so that it is exact."""


class History:
    """The reports of a run's rounds, as columns.

    Examples
    --------
    >>> history = History()
    >>> len(history), history.n_episodes, history.recent_mean_return()
    (0, 0, nan)
    """

    def __init__(self) -> None:
        self._rows = np.empty(16, _ROW)
        self._size = 0

    def __len__(self) -> int:
        """Return the number of rounds."""
        return self._size

    @property
    def n_episodes(self) -> int:
        """Number of episodes that ended, over all rounds."""
        return int(self._rows["episodes_so_far"][self._size - 1]) if self._size else 0

    @property
    def timesteps(self) -> int:
        """Number of transitions made through the last round; 0 before the first."""
        return int(self._rows["timesteps"][self._size - 1]) if self._size else 0

    @property
    def end(self) -> int | None:
        """Number of the round after the last one; None before the first."""
        return int(self._rows["round"][self._size - 1]) + 1 if self._size else None

    def append(self, report: RoundReport) -> None:
        """Add the report of the next round.

        Parameters
        ----------
        report : RoundReport

        Raises
        ------
        ValueError
            When the report is not of the round after the last one.
        """
        values = zip(_FIELDS, _report_row(report), strict=True)
        self.extend({name: np.array([value]) for name, value in values})

    def extend(self, columns: Mapping[str, npt.NDArray[Any]]) -> None:
        """Add the reports of the next rounds.

        Parameters
        ----------
        columns : mapping
            Each statistic of a report, an array over the rounds.

        Raises
        ------
        ValueError
            When the reports are not of successive rounds after the last one.
        """
        rounds = columns["round"]
        first = int(rounds[0]) if self.end is None else self.end
        if (rounds != np.arange(len(rounds)) + first).any():
            raise ValueError(
                f"expected the report of round {first}, got those of {rounds[0]} .. {rounds[-1]}: "
                "append in order, and truncate before going back"
            )
        episodes = self.n_episodes + np.cumsum(columns["n_episodes"])
        size = self._size + len(rounds)
        if size > len(self._rows):
            more = np.empty(max(len(self._rows), size - len(self._rows)), _ROW)
            self._rows = np.concatenate([self._rows, more])
        rows = self._rows[self._size : size]
        for name in _FIELDS:
            rows[name] = columns[name]
        rows["episodes_so_far"], self._size = episodes, size

    def truncate(self, round: int) -> None:
        """Drop the reports of `round` and of all rounds after it.

        Parameters
        ----------
        round : int
            The round that the run goes back to, and makes again.
        """
        if self._size:
            first = int(self._rows["round"][0])
            self._size = min(max(round - first, 0), self._size)

    def stored(self, first: int = 0) -> dict[str, npt.NDArray[np.generic]]:
        """Return a copy of the rows as two arrays, as they are stored.

        Parameters
        ----------
        first : int, default 0
            Number of rows to leave out at the beginning.

        Returns
        -------
        dict
            The arrays (round, column) by their dtypes; :data:`STORED` names the columns.
        """
        rows = self._rows[first : self._size]
        return {
            kind: np.stack([rows[name] for name in names], axis=1) for kind, names in STORED.items()
        }

    @classmethod
    def of(cls, stored: Mapping[str, npt.NDArray[np.generic]]) -> History:
        """Make a history from its stored arrays.

        Parameters
        ----------
        stored : mapping
            The arrays, as :meth:`stored` returns them.

        Returns
        -------
        History
        """
        history = cls()
        history._size = len(stored["int"])
        history._rows = np.empty(max(16, history._size), _ROW)
        rows = history._rows[: history._size]
        for kind, names in STORED.items():
            for column, name in enumerate(names):
                rows[name] = stored[kind][:, column]
        rows["episodes_so_far"] = np.cumsum(rows["n_episodes"])
        return history

    def recent_mean_return(self, n_episodes: int = 100) -> float:
        """Return the mean return of the last episodes.

        Parameters
        ----------
        n_episodes : int, default 100
            Least number of episodes: the mean is over the fewest last rounds that have so many, or
            over all rounds if they have fewer.

        Returns
        -------
        float
            The mean over all episodes of those rounds; NaN when there is none.
        """
        rows = self._rows[: self._size]
        # The first row after all those that end at least n_episodes before the end.
        first = bisect_right(rows["episodes_so_far"], self.n_episodes - n_episodes)
        count = rows["n_episodes"][first:].sum()
        return float(rows["return_sum"][first:].sum() / count) if count else math.nan

    def to_xarray(self) -> xr.Dataset:
        """Return a copy as a Dataset.

        Returns
        -------
        xarray.Dataset
            Dimension `round`, with the rounds' numbers as coordinate; each variable has the
            attributes `long_name` and `units`. A statistic over episodes is NaN where none ended.
        """
        rows = self._rows[: self._size].copy()
        return _labelled(rows, _columns(rows), SHOWN)

    def saved(self, before: int) -> xr.Dataset:
        """Return a copy as a Dataset that :meth:`of_saved` reads.

        Parameters
        ----------
        before : int
            The round that is made next: only the rounds before it are copied.

        Returns
        -------
        xarray.Dataset
            The Dataset of :meth:`to_xarray`, and the sums that it is derived from.
        """
        rows = self._rows[: self._size]
        rows = rows[rows["round"] < before]
        sums = {name: rows[name] for name in _SUMS}
        return _labelled(rows, _columns(rows) | sums, SHOWN | _SUMS)

    @classmethod
    def of_saved(cls, columns: Mapping[str, npt.NDArray[np.generic]]) -> History:
        """Make a history from the variables of :meth:`saved`.

        Parameters
        ----------
        columns : mapping
            Arrays by their names, among them ``round``.

        Returns
        -------
        History

        Raises
        ------
        ValueError
            If the rows are not of consecutive rounds.

        Examples
        --------
        >>> len(History.of_saved(History().saved(before=7)))
        0
        """
        history = cls()
        history._size = len(columns["round"])
        history._rows = np.empty(max(16, history._size), _ROW)
        rows = history._rows[: history._size]
        for name in _FIELDS:
            rows[name] = columns[name]
        without = rows["n_episodes"] == 0  # saved extremes are NaN there, in rows infinite
        rows["return_min"][without], rows["return_max"][without] = math.inf, -math.inf
        rows["episodes_so_far"] = np.cumsum(rows["n_episodes"])
        if (np.diff(rows["round"]) != 1).any():
            raise ValueError("expected the rows of consecutive rounds")
        return history


def learning_curve(history: xr.Dataset, n_episodes: int = 100) -> xr.DataArray:
    """Return the mean return of the last episodes, over the episodes that have ended.

    A round in which no episode ends has no mean return, and most rounds may be such; here there is
    a point wherever there is something to show.

    Parameters
    ----------
    history : xarray.Dataset
        The history of a learner, or of :func:`dqlearn.open_history`.
    n_episodes : int, default 100
        Each point is the mean over the fewest rounds, up to its own, that have so many episodes;
        over all of them at the beginning.

    Returns
    -------
    xarray.DataArray
        Dimension `episode`, whose coordinate counts the episodes that had ended; coordinates
        `round` and `timesteps`. Empty if none has ended.

    Raises
    ------
    ConfigurationError
        If `n_episodes` is not a positive integer.

    Examples
    --------
    >>> rounds = {"n_episodes": [2, 0, 1], "mean_return": [1.0, np.nan, 4.0]}
    >>> columns = {name: ("round", values) for name, values in rounds.items()}
    >>> history = xr.Dataset(columns | {"timesteps": ("round", [10, 20, 30])})
    >>> curve = learning_curve(history.assign_coords(round=[0, 1, 2]))
    >>> curve.values.tolist(), curve["episode"].values.tolist()
    ([1.0, 2.0], [2, 3])
    """
    check_count("n_episodes", n_episodes)
    ended = history.isel(round=history["n_episodes"].values > 0)
    counts = ended["n_episodes"].values
    total = np.concatenate([[0], np.cumsum(counts)])
    returns = np.concatenate([[0.0], np.cumsum(ended["mean_return"].values * counts)])
    first = np.maximum(np.searchsorted(total, total[1:] - n_episodes, side="right") - 1, 0)
    attrs = {"long_name": f"mean return of the last {n_episodes} episodes", "units": "reward"}
    return xr.DataArray(
        (returns[1:] - returns[first]) / (total[1:] - total[first]),
        dims="episode",
        coords={
            "episode": ("episode", total[1:], {"long_name": "episodes that have ended"}),
            "round": ("episode", ended["round"].values),
            "timesteps": ("episode", ended["timesteps"].values, ended["timesteps"].attrs),
        },
        name="mean_return",
        attrs=attrs,
    )


def _labelled(
    rows: npt.NDArray[np.void],
    columns: Mapping[str, npt.NDArray[np.generic]],
    declared: Mapping[str, Statistic | Derived],
) -> xr.Dataset:
    variables = {
        name: ("round", column, {"long_name": declared[name].what, "units": declared[name].unit})
        for name, column in columns.items()
    }
    return xr.Dataset(variables, coords={"round": ("round", rows["round"])})


def _columns(rows: npt.NDArray[np.void]) -> dict[str, npt.NDArray[np.generic]]:
    """Return the Dataset's variables: the columns of the rows, and what is derived from sums."""
    return {
        name: it.column(rows) if isinstance(it, Derived) else _finite(rows[name], it)
        for name, it in SHOWN.items()
    }


def _finite(column: npt.NDArray[np.generic], it: Statistic) -> npt.NDArray[np.generic]:
    """Return a column with NaN for an extreme over no episodes, which is infinite in the rows."""
    if it.combine not in (min, max):
        return column
    return np.where(np.isfinite(column), column, np.nan)
