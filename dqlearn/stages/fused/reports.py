"""Reports of successive rounds, as columns.

Invariant: row i is the :class:`~dqlearn.statistics.RoundReport` of round ``first + i``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.statistics import RoundReport

__all__ = ["RoundReports"]

_KINDS: Mapping[str, type[int] | type[float]] = {"int": int, "float": float}
_TYPES = {field.name: _KINDS[str(field.type)] for field in fields(RoundReport)}


@dataclass(frozen=True)
class RoundReports:
    """What some successive rounds did.

    Attributes
    ----------
    columns : mapping of str to array (n,)
        Each statistic of a :class:`~dqlearn.statistics.RoundReport`.
    threads : int
        Number of threads that made them in one task; 0 if they were not fused.
    seconds : float
        Duration of that task.
    """

    columns: Mapping[str, npt.NDArray[Any]]
    threads: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, report: RoundReport) -> RoundReports:
        """Return the reports of a single round."""
        return cls({name: np.array([getattr(report, name)]) for name in _TYPES})

    def __len__(self) -> int:
        """Return the number of rounds."""
        return len(self.columns["round"])

    def __getitem__(self, i: int) -> RoundReport:
        """Return the report of one round."""
        row: dict[str, Any] = {name: kind(self.columns[name][i]) for name, kind in _TYPES.items()}
        return RoundReport(**row)

    def __iter__(self) -> Iterator[RoundReport]:
        """Yield the reports, round by round."""
        return map(self.__getitem__, range(len(self)))

    def arrived(self, wall_time: float) -> RoundReports:
        """Return these reports with the time at which they arrived."""
        times = np.full(len(self), wall_time)
        return replace(self, columns={**self.columns, "wall_time": times})
