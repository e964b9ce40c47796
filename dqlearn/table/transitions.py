"""Transitions as arrays, from the environments to the chunks that own them.

::

    rollout ──► Transitions (s, a, r, s')          one shard, all its environments
                    │ route: + what the next states are worth
                    ▼
                Routed: offset and target y, sorted by chunk, tile by tile
                    │ piece(c)
                    ▼
                Piece: what chunk c receives from this shard

Invariant: a transition is recorded once, in the documented order (see
:mod:`dqlearn.stages.rollout`); rows that an autoreset makes up are no transitions. Each piece
carries its shard's statistics of the round, so that counting costs no task of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.kernels.buffers import empty
from dqlearn.statistics import RoundStats
from dqlearn.table.paged import is_paged

__all__ = ["BATCH", "TRACED", "Masks", "Piece", "Routed", "Transitions"]

BATCH = ("state", "action", "reward", "next_state")
"""Columns of transitions."""

TRACED = (*BATCH, "lane", "edge")
"""Columns of transitions that wait for those that follow; see :mod:`dqlearn.stages.returns`."""


class Sized:
    """A dataclass of arrays, or of such dataclasses, whose size in memory Dask can see."""

    def __sizeof__(self) -> int:
        """Return the bytes of all arrays."""
        values = [getattr(self, f.name) for f in fields(self)]  # type: ignore[arg-type]
        return 256 + sum(map(_nbytes, values))


def _nbytes(value: Any) -> int:
    if isinstance(value, tuple):
        return sum(map(_nbytes, value))
    if isinstance(value, dict):
        return sum(map(_nbytes, value.values()))
    if isinstance(value, np.ndarray):
        return 0 if is_paged(value) else value.nbytes
    return value.__sizeof__() if isinstance(value, Sized) else 0


@dataclass(frozen=True)
class Masks(Sized):
    """Which actions are valid in some states, as environments say it when they come there.

    Attributes
    ----------
    states : int64 (m,)
        Different states.
    valid : bool (m, n_actions)
        Their valid actions.
    """

    states: npt.NDArray[np.int64]
    valid: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Transitions(Sized):
    """A shard's transitions of one round.

    Attributes
    ----------
    state, action : int (n,)
        The pairs. With several members, `action` is the column of the one that learns; see
        :mod:`dqlearn.kernels.members`.
    reward : float (n,)
        Rewards, in the table's dtype.
    next_state : int (n,)
        State to bootstrap from; -1 when the episode terminated. A truncated episode bootstraps.
    tally : RoundStats
        Statistics of the shard's round.
    masks : Masks, optional
        Masks of states in which the shard acted for the first time.
    lane : int32 (n,), optional
        Number of the environment in its shard; where the rule has returns of several steps.
    edge : uint8 (n,), optional
        Whether the transition begins an episode, or ends one; see
        :mod:`dqlearn.kernels.windows.links`.
    """

    state: npt.NDArray[Any]
    action: npt.NDArray[Any]
    reward: npt.NDArray[Any]
    next_state: npt.NDArray[Any]
    tally: RoundStats
    masks: Masks | None = None
    lane: npt.NDArray[np.int32] | None = None
    edge: npt.NDArray[np.uint8] | None = None


Columns = tuple[npt.NDArray[Any], ...]
"""Columns of transitions: (offset, target), or, for a sparse table, (state, action, target)."""


@dataclass(frozen=True)
class Piece(Sized):
    """What one chunk receives from one shard.

    Attributes
    ----------
    columns : tuple of arrays (m,)
        The transitions; with `runs`, those of other chunks are among them.
    tally : RoundStats
        Statistics of the shard's round.
    runs : int64 (tiles, 2), optional
        Begin and end of the chunk's own transitions in each tile; without it, all are its own.
    masks : Masks, optional
        Masks of states, of this chunk and of others.
    """

    columns: Columns
    tally: RoundStats
    runs: npt.NDArray[np.int64] | None = None
    masks: Masks | None = None

    @property
    def where(self) -> npt.NDArray[np.int64]:
        """The runs of the chunk's own transitions."""
        return np.array([[0, len(self.columns[0])]]) if self.runs is None else self.runs

    @property
    def n(self) -> int:
        """Number of transitions that the chunk receives."""
        return len(self.columns[0]) if self.runs is None else int(np.diff(self.runs).sum())

    def alone(self) -> Piece:
        """Return the piece without other chunks' transitions; those in one run are not copied."""
        runs = [slice(first, last) for first, last in self.where.tolist()]
        if len(runs) == 1:
            only = tuple(column[runs[0]] for column in self.columns)
            return Piece(only, self.tally, masks=self.masks)
        cut = tuple(empty(self.n, column.dtype) for column in self.columns)
        for column, out in zip(self.columns, cut, strict=True):
            np.concatenate([column[run] for run in runs], out=out)
        return Piece(cut, self.tally, masks=self.masks)


@dataclass(frozen=True)
class Routed(Sized):
    """A shard's transitions, sorted by owner within each tile of the batch.

    Attributes
    ----------
    columns : tuple of arrays (n,)
        The transitions, tile by tile.
    starts : int64 (tiles, chunks + 1)
        In tile i chunk c owns ``starts[i, c] : starts[i, c + 1]``.
    tally : RoundStats
        Statistics of the shard's round.
    masks : Masks, optional
        Masks of states in which the shard acted for the first time.
    """

    columns: Columns
    starts: npt.NDArray[np.int64]
    tally: RoundStats
    masks: Masks | None = None

    def own(self, chunk: int) -> Piece:
        """Return what a chunk receives, as a view."""
        return Piece(self.columns, self.tally, self.starts[:, chunk : chunk + 2], self.masks)

    def piece(self, chunk: int) -> Piece:
        """Return what a chunk receives, as a copy."""
        return self.own(chunk).alone()
