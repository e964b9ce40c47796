"""One chunk of the table: its Q-values, its visit counts, and what its last update counted.

On the gather path it also holds what it answers to each shard (see :mod:`dqlearn.asking`).
Invariant: a chunk is never written after it is made, so that round r stays readable while round
r + 1 is made from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.transitions import Sized, Tally

__all__ = ["Answer", "Chunk", "filled"]


@dataclass(frozen=True)
class Answer(Sized):
    """What a chunk, or all chunks of some states, say of Q_r.

    Attributes
    ----------
    value : float (m,)
        Greatest value of each state that was asked for.
    action : unsigned int (m,)
        The action that attains it.
    timesteps : int
        Transitions that Q_r has been learned from.
    """

    value: npt.NDArray[Any]
    action: npt.NDArray[Any]
    timesteps: int


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
    answers : tuple of Answer
        To what each shard asked of round r; empty on the broadcast path.
    """

    q: npt.NDArray[Any]
    visits: npt.NDArray[np.uint32]
    tally: Tally
    td_abs_sum: float = 0.0
    changed: int = -1
    answers: tuple[Answer, ...] = ()

    @property
    def timesteps(self) -> int:
        """Transitions that Q_r has been learned from."""
        return self.tally.timesteps + self.tally.n_transitions


def filled(shape: tuple[int, int], value: float, dtype: npt.DTypeLike) -> Chunk:
    """Make a chunk that nothing has been learned into yet."""
    return Chunk(np.full(shape, value, dtype), np.zeros(shape, np.uint32), Tally(0, 0.0))
