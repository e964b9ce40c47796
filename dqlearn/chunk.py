"""One chunk of the table: its Q-values, its visit counts, and what its last update counted.

Invariant: a chunk is never written after it is made, so that round r stays readable while round
r + 1 is made from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.transitions import Sized, Tally

__all__ = ["Chunk", "filled"]


@dataclass(frozen=True)
class Chunk(Sized):
    """A chunk of round r.

    Attributes
    ----------
    q : float (states, actions)
        Q_r.
    visits : uint32 (states, actions)
        How often each pair was updated.
    tally : Tally
        Of the round that made this chunk, pooled over shards.
    td_abs_sum : float
        Sum of ``|y - q|`` over the updates of that round in this chunk.
    changed : int
        Transitions made through the round that last changed its arrays; -1 when none has.
    """

    q: npt.NDArray[Any]
    visits: npt.NDArray[np.uint32]
    tally: Tally
    td_abs_sum: float = 0.0
    changed: int = -1


def filled(shape: tuple[int, int], value: float, dtype: npt.DTypeLike) -> Chunk:
    """Make a chunk that nothing has been learned into yet."""
    return Chunk(np.full(shape, value, dtype), np.zeros(shape, np.uint32), Tally(0, 0.0))
