"""Transitions as arrays, from the environments to the chunks that own them.

::

    rollout ──► Transitions (s, a, r, s')          one shard, all its environments
                    │ route: + maxima of the next states
                    ▼
                Routed: offset and target y, sorted by chunk
                    │ piece(c)
                    ▼
                Piece: what chunk c receives from this shard

Invariant: a transition is recorded once, in the documented order (see :mod:`dqlearn.rollout`); rows
that an autoreset makes up are none. Each piece carries its shard's tally of the round, so that
counting costs no task of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["NO_BOOTSTRAP", "Piece", "Routed", "Tally", "Transitions"]

NO_BOOTSTRAP = -1
"""In `next_state`: the episode terminated here, so the future is worth nothing."""


class Sized:
    """A dataclass of arrays, or of other such classes, whose size Dask can see."""

    def __sizeof__(self) -> int:
        """Bytes of all arrays."""
        values = [getattr(self, f.name) for f in fields(self)]  # type: ignore[arg-type]
        return 256 + sum(map(_nbytes, values))


def _nbytes(value: Any) -> int:
    if isinstance(value, tuple):
        return sum(map(_nbytes, value))
    if isinstance(value, np.ndarray):
        return value.nbytes
    return value.__sizeof__() if isinstance(value, Sized) else 0


@dataclass(frozen=True)
class Tally:
    """What one or more shards counted in a round.

    Attributes
    ----------
    timesteps : int
        Transitions made by all shards before this round.
    epsilon : float
        Probability of exploring that the transitions were made with.
    n_transitions, n_episodes : int
        Transitions made; episodes ended.
    return_sum, return_sq_sum, length_sum : float
        Sums over those episodes.
    return_min, return_max : float
        Over those episodes; +inf and -inf without any.
    n_restarts : int
        Environments built anew after an error; their steps that failed are no transitions.
    """

    timesteps: int
    epsilon: float
    n_transitions: int = 0
    n_episodes: int = 0
    return_sum: float = 0.0
    return_sq_sum: float = 0.0
    length_sum: int = 0
    return_min: float = float("inf")
    return_max: float = float("-inf")
    n_restarts: int = 0

    def __add__(self, other: Tally) -> Tally:
        """Pool with another shard's tally of the same round."""
        return Tally(
            self.timesteps,
            self.epsilon,
            self.n_transitions + other.n_transitions,
            self.n_episodes + other.n_episodes,
            self.return_sum + other.return_sum,
            self.return_sq_sum + other.return_sq_sum,
            self.length_sum + other.length_sum,
            min(self.return_min, other.return_min),
            max(self.return_max, other.return_max),
            self.n_restarts + other.n_restarts,
        )


@dataclass(frozen=True)
class Transitions(Sized):
    """A shard's transitions of one round.

    Attributes
    ----------
    state, action : int (n,)
        The pairs.
    reward : float (n,)
        In the table's dtype.
    next_state : int (n,)
        Where to bootstrap; -1 when the episode terminated. A truncated episode bootstraps.
    tally : Tally
        Counts of the round.
    """

    state: npt.NDArray[Any]
    action: npt.NDArray[Any]
    reward: npt.NDArray[Any]
    next_state: npt.NDArray[Any]
    tally: Tally


@dataclass(frozen=True)
class Piece(Sized):
    """What one chunk receives from one shard: offsets (n,), targets (n,), and the tally."""

    offset: npt.NDArray[np.int32]
    target: npt.NDArray[Any]
    tally: Tally


@dataclass(frozen=True)
class Routed(Sized):
    """A shard's offsets and targets sorted by owner; chunk c owns ``starts[c] : starts[c + 1]``."""

    offset: npt.NDArray[np.int32]
    target: npt.NDArray[Any]
    starts: npt.NDArray[np.int64]
    tally: Tally

    def piece(self, chunk: int) -> Piece:
        """Return what a chunk receives."""
        own = slice(int(self.starts[chunk]), int(self.starts[chunk + 1]))
        return Piece(self.offset[own], self.target[own], self.tally)
