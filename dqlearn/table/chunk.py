"""One chunk of the table: its Q-values, its visit counts, and what its last update counted.

It also holds its answers to the shards: on the broadcast path one answer to all, its whole summary;
on the gather path one to each shard (see :mod:`dqlearn.stages.lookup`). Its arrays may be
*donated*: the next round writes to them, and the chunk of round r keeps only its counts and
answers. A stamp that goes with the arrays says which round they are in. Invariant: the arrays of a
chunk that is not donated are never written to, so that round r stays readable while round r + 1 is
made from it; donated arrays are read in their round, or not at all.
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
        The round; -1 while the arrays are written to.
    """

    __slots__ = ("round",)

    def __init__(self, round: int) -> None:
        self.round = round


@dataclass(frozen=True)
class Answer(Sized):
    """What a chunk, or all chunks of some states, say about Q_r.

    Attributes
    ----------
    found : tuple
        The rule's summary of each state that was asked for, columns of shape (m,).
    timesteps : int
        Number of transitions that Q_r has been learned from.
    """

    found: Found
    timesteps: int


@dataclass(frozen=True)
class Chunk(Sized):
    """A chunk of round r.

    Attributes
    ----------
    q : float (states, actions) or (states, members, actions)
        Q_r; the second shape is that of several members.
    visits : uint32, shaped as q
        How often each pair was updated.
    tally : RoundStats
        Statistics of the round that made this chunk, pooled over shards.
    td_abs_sum : float
        Sum of ``|y - q|`` over the updates of that round in this chunk.
    changed : int
        Number of transitions made through the round that last changed the arrays; -1 if none has.
    answers : tuple of Answer
        Answers to what each shard asked about round r; on the broadcast path one, for all states.
    stamp : Stamp, optional
        Stamp of arrays that this chunk may donate; None if others hold the arrays too.
    known : Known, optional
        Index of a sparse chunk: which rows of the arrays are which states. There may be more rows.
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
        """Make a chunk from its arrays by their names."""
        return cls(tally=tally, **_own(columns), **rest)

    def with_columns(self, columns: Mapping[str, npt.NDArray[Any]], **changes: Any) -> Chunk:
        """Return this chunk with other arrays, and with the given values of other fields."""
        return replace(self, **_own(columns), **changes)

    @property
    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays by their names."""
        return {"q": self.q, "visits": self.visits, **self.more}

    @property
    def timesteps(self) -> int:
        """Number of transitions that Q_r has been learned from."""
        return self.tally.timesteps + self.tally.n_transitions

    def at(self, round_: int) -> Chunk:
        """Return this chunk, if its arrays are still in the given round.

        Raises
        ------
        StaleShardError
            If the arrays are in another round.
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
    """Return arrays as the fields of a chunk: `q` and `visits`, and the others in `more`."""
    more = {name: array for name, array in columns.items() if name not in ("q", "visits")}
    return {"q": columns["q"], "visits": columns["visits"], "more": more}


def filled(
    shape: tuple[int, int],
    value: float,
    dtype: npt.DTypeLike,
    zeros: Callable[[tuple[int, ...], npt.DTypeLike], npt.NDArray[Any]] = np.zeros,
    columns: Sequence[Column] = COLUMNS,
) -> Chunk:
    """Make a chunk before any learning; zeros take no memory until they are written to."""
    arrays = {}
    for column in columns:
        arrays[column.name] = zeros(column.shape(*shape), column.dtype_in(np.dtype(dtype)))
        if fill := column.fill_in(value):
            arrays[column.name].fill(fill)
    return Chunk.of(arrays, RoundStats(0, 0.0))
