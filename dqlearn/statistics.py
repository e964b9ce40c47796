"""Statistics of a round: each is declared here, once.

::

    environments ── count ──► RoundStats of a shard ── + ──► RoundStats of all shards
                                                                   │ + what chunks and client know
                                  history, reference  ◄──  RoundReport

Invariant: what is counted are sums and extremes, never means: they combine over shards and over
rounds, and "nothing happened" needs no special number. The order of the fields is that of the
stored columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from functools import reduce
from operator import add
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from dqlearn.text import with_entries

__all__ = ["Derived", "RoundReport", "RoundStats", "Statistic", "no_episodes", "statistic_of"]

Class = TypeVar("Class", bound=type[Any])

Columns = Any
"""Columns by their names: a structured array, or a mapping."""


@dataclass(frozen=True)
class Derived:
    """A column that people are shown instead of a sum, which says little by itself.

    Attributes
    ----------
    name, what, unit : str
        Name, description and unit of the column.
    column : callable
        ``column(columns) -> float64 (n,)``; NaN where it is the mean of nothing.
    """

    name: str
    what: str
    unit: str
    column: Callable[[Columns], npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Statistic:
    """What there is to know of a statistic besides its name, its type and its zero.

    Attributes
    ----------
    what, unit : str
        Description and unit.
    note : str
        A longer explanation.
    combine : callable, optional
        Function that pools the values of two shards in a round; None if no shard counts it.
    of_episodes : bool
        Whether the statistic is over the episodes that ended.
    shown : Derived, optional
        Column that people are shown in its place.
    """

    what: str
    unit: str
    note: str = ""
    combine: Callable[[Any, Any], Any] | None = None
    of_episodes: bool = False
    shown: Derived | None = None

    @property
    def description(self) -> str:
        """All in words."""
        what = f"{self.what}; {self.note}" if self.note else self.what
        return f"{what[0].upper()}{what[1:]}. Unit: {self.unit}."


def statistic_of(declared: Field[Any]) -> Statistic:
    """Return the statistic that a field declares."""
    it: Statistic = declared.metadata["statistic"]
    return it


def _statistic(what: str, unit: str, *, zero: Any = MISSING, **others: Any) -> Any:
    """Declare a statistic, which is `zero` where nothing happened."""
    return field(default=zero, metadata={"statistic": Statistic(what, unit, **others)})


def _mean(name: str, what: str, unit: str, total: str, count: str) -> Derived:
    return Derived(name, what, unit, lambda columns: _ratio(columns[total], columns[count]))


def _ratio(total: npt.NDArray[Any], count: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Divide; 0 / 0, the mean of nothing, is NaN without a warning."""
    ratio = np.full(len(total), np.nan)
    np.divide(total, count, out=ratio, where=count > 0)
    return ratio


def _deviation(columns: Columns) -> npt.NDArray[np.float64]:
    n = columns["n_episodes"]
    variance = _ratio(columns["return_sq_sum"], n) - _ratio(columns["return_sum"], n) ** 2
    return np.sqrt(np.maximum(variance, 0.0))  # rounding may leave -1e-17; NaN stays


_MEAN_RETURN = _mean(
    *("mean_return", "mean return of the episodes that ended", "reward"),
    *("return_sum", "n_episodes"),
)
_RETURN_STD = Derived("return_std", "standard deviation of their returns", "reward", _deviation)
_MEAN_LENGTH = _mean(
    *("mean_length", "mean length of the episodes that ended", "transitions"),
    *("length_sum", "n_episodes"),
)
_MEAN_ABS_TD = _mean(
    *("mean_abs_td", "mean absolute temporal-difference error", "reward"),
    *("td_abs_sum", "n_transitions"),
)


@dataclass(frozen=True)
class _Counted:
    """What shards count."""

    n_transitions: int = _statistic(
        "transitions in the round",
        "transitions",
        zero=0,
        combine=add,
    )
    n_episodes: int = _statistic(
        "episodes that ended in the round",
        "episodes",
        note="terminated or truncated",
        zero=0,
        combine=add,
        of_episodes=True,
    )
    return_sum: float = _statistic(
        "sum of their returns",
        "reward",
        note="undiscounted",
        zero=0.0,
        combine=add,
        of_episodes=True,
        shown=_MEAN_RETURN,
    )
    return_sq_sum: float = _statistic(
        "sum of the squares of their returns",
        "reward^2",
        zero=0.0,
        combine=add,
        of_episodes=True,
        shown=_RETURN_STD,
    )
    length_sum: int = _statistic(
        "sum of their lengths",
        "transitions",
        zero=0,
        combine=add,
        of_episodes=True,
        shown=_MEAN_LENGTH,
    )
    return_min: float = _statistic(
        "least of their returns",
        "reward",
        note="+inf without any",
        zero=math.inf,
        combine=min,
        of_episodes=True,
    )
    return_max: float = _statistic(
        "greatest of their returns",
        "reward",
        note="-inf without any",
        zero=-math.inf,
        combine=max,
        of_episodes=True,
    )
    n_restarts: int = _statistic(
        "environments restarted after an error",
        "environments",
        note="their steps that failed are no transitions",
        zero=0,
        combine=add,
    )


@dataclass(frozen=True)
class _Before:
    """What shards know before they count."""

    timesteps: int = _statistic("transitions made before the round", "transitions")
    epsilon: float = _statistic("probability of a random action", "1")


@dataclass(frozen=True)
class RoundStats(_Counted, _Before):
    """What one or more shards counted in a round.

    Attributes
    ----------
    timesteps : int
        Transitions made by all shards before this round.
    epsilon : float
        Probability of exploring that the transitions were made with.
    n_transitions, n_episodes, return_sum, return_sq_sum, length_sum, n_restarts
        Sums, as :class:`RoundReport` has them.
    return_min, return_max : float
        Extremes.

    Examples
    --------
    >>> one, two = RoundStats(100, 0.5, n_transitions=8), RoundStats(100, 0.5, n_transitions=4)
    >>> (one + two).n_transitions
    12
    """

    def __add__(self, other: RoundStats) -> RoundStats:
        """Pool with what another shard counted in the same round."""
        pooled = {
            name: combine(getattr(self, name), getattr(other, name))
            for name, combine in _COMBINED.items()
        }
        return replace(self, **pooled)

    @property
    def counts(self) -> dict[str, Any]:
        """What was counted, by its names."""
        return {name: getattr(self, name) for name in _COMBINED}

    @property
    def of_episodes(self) -> list[float]:
        """What was counted of episodes, in the order in which kernels count it."""
        return [getattr(self, it.name) for it in _OF_EPISODES]

    @staticmethod
    def pooled(episodes: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[Any]]:
        """Pool what kernels counted of episodes, over shards in their order.

        Parameters
        ----------
        episodes : float64 (rounds, shards, statistics)
            Statistics in the order of the fields.

        Returns
        -------
        dict
            A column (rounds,) for each statistic, by its name.
        """
        columns = {}
        for i, it in enumerate(_OF_EPISODES):
            combine = _UFUNCS[_COMBINED[it.name]]
            column = reduce(combine, (shard[:, i] for shard in episodes.swapaxes(0, 1)))
            columns[it.name] = column.astype(str(it.type))
        return columns

    @classmethod
    def of_rounds(cls, timesteps: int, epsilon: float, columns: Columns) -> Self:
        """Pool the reports of successive rounds, given as columns; see :class:`RoundReport`.

        Parameters
        ----------
        timesteps : int
            Transitions made before the first round.
        epsilon : float
            Probability of exploring in the first round.
        columns : mapping of str to array (rounds,)
            A column for each statistic.

        Returns
        -------
        RoundStats
        """
        pooled = {
            it.name: _TYPES[it.type](_UFUNCS[combine].reduce(columns[it.name]))
            for it in fields(cls)
            if (combine := statistic_of(it).combine)
        }
        return cls(timesteps=timesteps, epsilon=epsilon, **pooled)

    @classmethod
    def of_kernel(cls, episodes: Iterable[float], **others: Any) -> Self:
        """Take over what a kernel counted of episodes, which begins as :func:`no_episodes`.

        Parameters
        ----------
        episodes : iterable of float
            Statistics in the order of the fields.
        **others
            The other statistics, by name.

        Returns
        -------
        RoundStats
        """
        counted = zip(_OF_EPISODES, episodes, strict=True)
        return cls(**others, **{it.name: _TYPES[it.type](value) for it, value in counted})


_TYPES: Mapping[Any, Callable[[float], Any]] = {"int": int, "float": float}
_COMBINED = {it.name: combine for it in fields(RoundStats) if (combine := statistic_of(it).combine)}
_UFUNCS: Mapping[Any, Any] = {add: np.add, min: np.minimum, max: np.maximum}
_OF_EPISODES = [it for it in fields(RoundStats) if statistic_of(it).of_episodes]


def no_episodes() -> npt.NDArray[np.float64]:
    """Return the statistics of episodes before any has ended, for a kernel to count in."""
    return np.array([it.default for it in _OF_EPISODES], np.float64)


def _shows_statistics(cls: Class) -> Class:
    """Say in a class's docstring what each of its statistics is."""
    entries = [(it.name, str(it.type), statistic_of(it).description) for it in fields(cls)]
    cls.__doc__ = with_entries(cls.__doc__, "**statistics", entries)
    return cls


@dataclass(frozen=True)
class _Heading:
    """What is known of a round as a whole."""

    round: int = _statistic("the round that ended", "rounds", note="counted from 0")
    timesteps: int = _statistic("transitions from the beginning through the round", "transitions")
    epsilon: float = _statistic("probability of a random action", "1")
    learning_rate: float = _statistic("learning rate", "1", note="NaN when each pair has its own")


@_shows_statistics
@dataclass(frozen=True)
class RoundReport(_Counted, _Heading):
    """What one round did.

    Parameters
    ----------
    **statistics
        Each by its name, as it is declared.

    Examples
    --------
    >>> report = RoundReport(
    ...     round=0, timesteps=1000, n_transitions=1000, epsilon=1.0, learning_rate=0.1,
    ...     n_episodes=4, return_sum=6.0, return_sq_sum=10.0, length_sum=80,
    ...     return_min=1.0, return_max=2.0, td_abs_sum=250.0, wall_time=0.5,
    ... )
    >>> report.mean_return, report.mean_length, report.mean_abs_td
    (1.5, 20.0, 0.25)
    """

    td_abs_sum: float = _statistic(
        "sum of the absolute temporal-difference errors",
        "reward",
        note="abs(y - Q(s, a)) of each transition",
        zero=0.0,
        shown=_MEAN_ABS_TD,
    )
    wall_time: float = _statistic(
        "time since training started",
        "s",
        note="until the report arrived, by the client's clock",
        zero=math.nan,
    )

    @property
    def mean_return(self) -> float:
        """Mean return of the episodes that ended; NaN when none did."""
        return self._mean(self.return_sum, self.n_episodes)

    @property
    def mean_length(self) -> float:
        """Mean length of the episodes that ended, in transitions; NaN when none did."""
        return self._mean(self.length_sum, self.n_episodes)

    @property
    def mean_abs_td(self) -> float:
        """Mean abs(y - Q(s, a)); NaN when the round made no transition."""
        return self._mean(self.td_abs_sum, self.n_transitions)

    @staticmethod
    def _mean(total: float, count: int) -> float:
        return total / count if count else math.nan
