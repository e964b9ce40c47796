"""Summary: what each state is worth, found per chunk, combined over actions, joined over states.

::

    chunk (i, 0) ─► summary ┐
    chunk (i, 1) ─► summary ┴ combine ─► rows i ┐
    chunk (k, 0) ─► ...                  rows k ┴ join ─► summary of every state

A rule says what a summary is made of; in Q-learning it is (max, set of argmax). Invariant: combine
is associative and commutative where chunks may split the actions, so any grid gives the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.algorithms.fields import Columns, Extent
from dqlearn.algorithms.rule import Algorithm, Found
from dqlearn.kernels.buffers import copy, empty
from dqlearn.statistics import RoundStats
from dqlearn.table.chunk import Chunk
from dqlearn.table.transitions import Sized

__all__ = ["Summary", "combine", "join", "summarize"]


@dataclass(frozen=True)
class Summary(Sized):
    """What is known of successive states from `first_state` on.

    Attributes
    ----------
    found : tuple
        For each field of the rule's summary, its columns, each of shape (n,) or (n, words).
    first_state : int
        State of the first row.
    tally : RoundStats
        Counts of the round that made the table.
    td_abs_sum : float
        Sum of ``|y - q|`` over that round's updates of the chunks seen.
    """

    found: Found
    first_state: int
    tally: RoundStats
    td_abs_sum: float


def summarize(chunk: Chunk, rule: Algorithm, extent: Extent) -> Summary:
    """Summarise all states of a chunk over the chunk's actions.

    Parameters
    ----------
    chunk : Chunk
        The chunk, as it is at round r.
    rule : Algorithm
        The learning rule, which says what to find.
    extent : Extent
        The chunk's states and actions.

    Returns
    -------
    Summary
        One row a state of the chunk.

    Examples
    --------
    >>> import numpy as np
    >>> from dqlearn.algorithms import Q_LEARNING
    >>> from dqlearn.kernels.ties import ties
    >>> from dqlearn.statistics import RoundStats
    >>> q, visits = np.array([[1.0, 3.0], [2.0, 0.5]]), np.zeros((2, 2), np.uint32)
    >>> chunk = Chunk(q, visits, RoundStats(0, 0))
    >>> extent = Extent(6, ties(seed=0), first_state=10, first_action=4)
    >>> summarize(chunk, Q_LEARNING, extent).found
    ((array([3., 2.]), array([32, 16], dtype=uint8)),)
    """
    found = rule.find(chunk.q, extent)
    return Summary(found, extent.first_state, chunk.tally, chunk.td_abs_sum)


def combine(a: Summary, b: Summary, rule: Algorithm, extent: Extent) -> Summary:
    """Combine the summaries of two disjoint sets of actions over the same states."""
    found = tuple(tuple(map(copy, columns)) for columns in a.found)
    rule.merge(found, b.found, replace(extent, first_state=a.first_state))
    return Summary(found, a.first_state, a.tally, a.td_abs_sum + b.td_abs_sum)


def join(parts: Sequence[Summary]) -> Summary:
    """Join the summaries of successive states."""
    td_abs_sum = sum(part.td_abs_sum for part in parts)
    if len(parts) == 1:
        return parts[0]
    found = joined([part.found for part in parts])
    return Summary(found, parts[0].first_state, parts[0].tally, td_abs_sum)


def joined(parts: Sequence[Found]) -> Found:
    """Join the columns that were found for successive ranges of states."""
    return tuple(
        tuple(_end_to_end(columns) for columns in zip(*fields, strict=True))
        for fields in zip(*parts, strict=True)
    )


def _end_to_end(columns: Columns) -> npt.NDArray[Any]:
    whole = empty((sum(map(len, columns)), *columns[0].shape[1:]), columns[0].dtype)
    return np.concatenate(columns, out=whole)
