"""One chunk of the table: its Q-values, its visit counts, and what its last update counted.

It also holds what it answers to the shards: its whole summary to all of them, or, on the gather
path, to each what that asked for (see :mod:`dqlearn.stages.lookup`). Its arrays may be *donated*:
the next round writes to them, and what was round r's chunk keeps only what it counted and answered.
A stamp that goes with the arrays says which round they are in. Invariant: the arrays of a chunk
that is not donated are never written to, so that round r stays readable while round r + 1 is made
from it; those of one that is are read in their round, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from dqlearn.algorithms.rule import Found
from dqlearn.errors import StaleShardError
from dqlearn.statistics import RoundStats
from dqlearn.table.columns import COLUMNS, Column
from dqlearn.table.paged import is_paged, put
from dqlearn.table.row_index import Known
from dqlearn.table.transitions import Sized

__all__ = ["Answer", "Chunk", "Stamp", "filled"]


class Stamp:
    """The round that arrays are in, shared by all chunks that refer to them.

    Parameters
    ----------
    round : int
        -1 while they are written to.
    """

    __slots__ = ("round",)

    def __init__(self, round: int) -> None:
        self.round = round


@dataclass(frozen=True)
class Answer(Sized):
    """What a chunk, or all chunks of some states, say of Q_r.

    Attributes
    ----------
    found : tuple
        What the rule's summary says of each state that was asked for, columns of shape (m,).
    timesteps : int
        Transitions that Q_r has been learned from.
    """

    found: Found
    timesteps: int


@dataclass(frozen=True)
class Chunk(Sized):
    """A chunk of round r.

    Attributes
    ----------
    q : float (states, actions) or (states, members, actions)
        Q_r; the latter of several members.
    visits : uint32, shaped as q
        How often each pair was updated.
    tally : RoundStats
        Of the round that made this chunk, pooled over shards.
    td_abs_sum : float
        Sum of ``|y - q|`` over the updates of that round in this chunk.
    changed : int
        Transitions made through the round that last changed its arrays; -1 when none has.
    answers : tuple of Answer
        To what each shard asked of round r; on the broadcast path one, for all of its states.
    stamp : Stamp, optional
        Of arrays that this chunk may donate; None of those that others hold too.
    known : Known, optional
        Of a sparse chunk: which rows of its arrays are which states. There may be more rows.
    more : mapping
        The arrays of further columns, by their names; see :mod:`dqlearn.table.columns`.
    """

    q: npt.NDArray[Any]
    visits: npt.NDArray[np.uint32]
    tally: RoundStats
    td_abs_sum: float = 0.0
    changed: int = -1
    answers: tuple[Answer, ...] = ()
    stamp: Stamp | None = None
    known: Known | None = None
    more: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, columns: Mapping[str, npt.NDArray[Any]], tally: RoundStats, **rest: Any) -> Self:
        """Make a chunk of its arrays by their names."""
        return cls(tally=tally, **_own(columns), **rest)

    def with_columns(self, columns: Mapping[str, npt.NDArray[Any]], **changes: Any) -> Chunk:
        """Return this chunk with other arrays, and what else is given."""
        return replace(self, **_own(columns), **changes)

    @property
    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Its arrays by their names."""
        return {"q": self.q, "visits": self.visits, **self.more}

    @property
    def timesteps(self) -> int:
        """Transitions that Q_r has been learned from."""
        return self.tally.timesteps + self.tally.n_transitions

    def at(self, round_: int) -> Chunk:
        """Return this chunk, if its arrays are still in a round.

        Raises
        ------
        StaleShardError
            If they have left it.
        """
        if self.stamp is not None and self.stamp.round != round_:
            raise StaleShardError(
                f"the arrays of a chunk are in round {self.stamp.round}, expected {round_}: the "
                "run goes back to its last cut"
            )
        return self

    def paged(self) -> Chunk:
        """Return this chunk with its arrays out of core; they are copied if they are not."""
        if is_paged(self.q):
            return self
        return self.with_columns({name: put(array) for name, array in self.columns.items()})


def _own(columns: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """Return arrays as a chunk has them: two by themselves, and more."""
    more = {name: array for name, array in columns.items() if name not in ("q", "visits")}
    return {"q": columns["q"], "visits": columns["visits"], "more": more}


def filled(
    shape: tuple[int, int],
    value: float,
    dtype: npt.DTypeLike,
    zeros: Callable[[tuple[int, ...], npt.DTypeLike], npt.NDArray[Any]] = np.zeros,
    columns: Sequence[Column] = COLUMNS,
) -> Chunk:
    """Make a chunk that nothing has been learned into yet; of zeros, it takes no memory before."""
    arrays = {}
    for column in columns:
        arrays[column.name] = zeros(column.shape(*shape), column.dtype_in(np.dtype(dtype)))
        if fill := column.fill_in(value):
            arrays[column.name].fill(fill)
    return Chunk.of(arrays, RoundStats(0, 0.0))
