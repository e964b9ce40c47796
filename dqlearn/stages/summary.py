"""Maxima: the best action of each state, per chunk, combined over actions and joined over states.

::

    chunk (i, 0) ─► (max, argmax) ┐
    chunk (i, 1) ─► (max, argmax) ┴ combine ─► rows i ┐
    chunk (k, 0) ─► ...                        rows k ┴ join ─► (max, argmax) of every state

Ties go to the largest hash(seed, round, state, action): states that nothing is known of are
explored evenly, and any grid gives the same winner. Invariant: combine is associative and
commutative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.kernels.buffers import copy, empty
from dqlearn.kernels.summary import greedy, merge
from dqlearn.table.chunk import Chunk
from dqlearn.table.transitions import Sized, Tally

__all__ = ["Maxima", "combine", "join", "maxima"]


@dataclass(frozen=True)
class Maxima(Sized):
    """Best action and its value, for successive states from `first_state` on.

    Attributes
    ----------
    value : float (n,)
        ``max_a Q(s, a)`` over the actions seen.
    action : unsigned int (n,)
        The action that attains it.
    first_state : int
        State of the first row.
    tally : Tally
        Of the round that made the table.
    td_abs_sum : float
        Over the chunks seen.
    """

    value: npt.NDArray[Any]
    action: npt.NDArray[Any]
    first_state: int
    tally: Tally
    td_abs_sum: float


def maxima(chunk: Chunk, origin: tuple[int, int], n_actions: int, tie_key: np.uint64) -> Maxima:
    """Find the best action of every state of a chunk, among the chunk's actions.

    Parameters
    ----------
    chunk : Chunk
        Of round r.
    origin : (int, int)
        Its first state and first action.
    n_actions : int
        Of the whole table; decides the dtype of the result.
    tie_key : uint64
        :func:`~dqlearn.kernels.summary.ties` of the seed and round r.

    Returns
    -------
    Maxima
        One row a state of the chunk.

    Examples
    --------
    >>> import numpy as np
    >>> from dqlearn.kernels.summary import ties
    >>> from dqlearn.table.transitions import Tally
    >>> chunk = Chunk(np.array([[1.0, 3.0], [2.0, 0.5]]), np.zeros((2, 2), np.uint32), Tally(0, 0))
    >>> best = maxima(chunk, (10, 4), 6, ties(seed=0, round_=1))
    >>> best.value, best.action
    (array([3., 2.]), array([5, 4], dtype=uint8))
    """
    value, action = greedy(chunk.q, origin, n_actions, tie_key)
    return Maxima(value, action, origin[0], chunk.tally, chunk.td_abs_sum)


def combine(a: Maxima, b: Maxima, n_actions: int, tie_key: np.uint64) -> Maxima:
    """Combine the maxima of two disjoint sets of actions over the same states."""
    value, action = copy(a.value), copy(a.action)
    merge((value, action), (b.value, b.action), n_actions, tie_key, a.first_state)
    return Maxima(value, action, a.first_state, a.tally, a.td_abs_sum + b.td_abs_sum)


def join(parts: Sequence[Maxima]) -> Maxima:
    """Join the maxima of successive states."""
    td_abs_sum = sum(part.td_abs_sum for part in parts)
    if len(parts) == 1:
        return parts[0]
    n = sum(len(part.value) for part in parts)
    value, action = empty(n, parts[0].value.dtype), empty(n, parts[0].action.dtype)
    np.concatenate([part.value for part in parts], out=value)
    np.concatenate([part.action for part in parts], out=action)
    return Maxima(value, action, parts[0].first_state, parts[0].tally, td_abs_sum)
