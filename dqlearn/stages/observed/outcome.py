"""What became of the rows of one call of `observe`."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = ["Observed"]


def _rows() -> npt.NDArray[np.int64]:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class Observed:
    """What became of the rows that were observed: each is learned, a duplicate, or skipped.

    Parameters
    ----------
    learned : int
        Rows that the table has learned.
    duplicates : int
        Rows that were dropped, as their source has given their number, or a higher one, before.
    gaps : int
        Numbers that sources have left out before these rows.
    skipped : int
        Rows that were bad, and skipped.
    duplicate_rows, gap_rows, skipped_rows : int64 (k,)
        Positions of the duplicates, of the rows before which numbers are missing, and of bad rows.
    reasons : tuple of str
        What was wrong with each bad row.

    Examples
    --------
    >>> Observed(learned=3, duplicates=1)
    Observed(learned=3, duplicates=1, gaps=0, skipped=0)
    """

    learned: int
    duplicates: int = 0
    gaps: int = 0
    skipped: int = 0
    duplicate_rows: npt.NDArray[np.int64] = field(default_factory=_rows, repr=False, compare=False)
    gap_rows: npt.NDArray[np.int64] = field(default_factory=_rows, repr=False, compare=False)
    skipped_rows: npt.NDArray[np.int64] = field(default_factory=_rows, repr=False, compare=False)
    reasons: tuple[str, ...] = field(default=(), repr=False, compare=False)
