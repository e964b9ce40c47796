r"""Merge: the tables of federated members become one, chunk by chunk.

.. math:: Q_{r+1}(s, a) = \sum_k p_k(s, a) \, Q_k(s, a)

with the weights of :mod:`dqlearn.algorithms.federated`. A member's visits since the last merge are
what it has now less what all had then; they are added up, each once. Invariant: the chunk of
round r is not written to; a chunk that no member has touched is kept as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.algorithms import Algorithm
from dqlearn.algorithms.federated import Federated
from dqlearn.errors import ConfigurationError
from dqlearn.kernels.buffers import empty
from dqlearn.kernels.merging.means import merge_by, trim
from dqlearn.kernels.merging.weights import (
    powers_of,
    weigh_by_rate,
    weigh_by_visit_rates,
    weigh_by_visits,
    weigh_equally,
)
from dqlearn.kernels.update import td
from dqlearn.schedules import Constant, Schedule, VisitCount
from dqlearn.statistics import RoundStats
from dqlearn.table.chunk import Chunk
from dqlearn.table.transitions import Sized

__all__ = ["Learned", "check_mergeable", "merge"]


@dataclass(frozen=True)
class Learned(Sized):
    """What one member has made of a chunk.

    Attributes
    ----------
    q, visits : arrays, optional
        Its values and visits, shaped as those of the chunk; None if it has not touched the chunk.
    tally : RoundStats
        Statistics of all of the member's rounds since the last merge.
    td_abs_sum : float
        Sum of ``|y - q|`` over its updates of the chunk.
    """

    q: npt.NDArray[Any] | None
    visits: npt.NDArray[np.uint32] | None
    tally: RoundStats
    td_abs_sum: float


def merge(
    chunk: Chunk,
    learned: Sequence[Learned],
    federated: Federated,
    learning_rate: Schedule | VisitCount,
) -> Chunk:
    """Merge what all members have made of a chunk.

    Parameters
    ----------
    chunk : Chunk
        The chunk that the members began with.
    learned : sequence of Learned
        What each has made of it, in the members' order.
    federated : Federated
        How they are merged.
    learning_rate : Schedule or VisitCount
        The rate that they learned with, by which importance is measured.

    Returns
    -------
    Chunk
        The chunk of the next round; it has the same arrays if nobody has touched it.
    """
    tally = replace(reduce(add, (it.tally for it in learned)), timesteps=chunk.timesteps)
    td_abs_sum = sum(it.td_abs_sum for it in learned)
    if all(it.q is None for it in learned):
        return replace(chunk, tally=tally, td_abs_sum=td_abs_sum, answers=())
    q, visits = empty(chunk.q.shape, chunk.q.dtype), empty(chunk.visits.shape, np.uint32)
    kernel, rate = _kernel(federated, learning_rate)
    kernel(
        chunk.visits.reshape(-1),
        _stacked([it.visits for it in learned], chunk.visits),
        _stacked([it.q for it in learned], chunk.q),
        rate,
        q.reshape(-1),
        visits.reshape(-1),
    )
    changed = tally.timesteps + tally.n_transitions
    return Chunk(q, visits, tally, td_abs_sum, changed)


def _stacked(
    arrays: Sequence[npt.NDArray[Any] | None], untouched: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """Return the members' arrays as rows; those that were not touched are what they were."""
    rows = empty((len(arrays), untouched.size), untouched.dtype)
    for row, array in zip(rows, arrays, strict=True):
        row[:] = (untouched if array is None else array).reshape(-1)
    return rows


def _kernel(
    federated: Federated, learning_rate: Schedule | VisitCount
) -> tuple[Callable[..., None], Any]:
    """Return the kernel of a merge, and the numbers of the learning rate that it takes."""
    if federated.merge == "trimmed_mean":
        return trim, None
    if federated.merge == "equal":
        return merge_by(weigh_equally), None
    if federated.merge == "visits":
        return merge_by(weigh_by_visits), None
    if isinstance(learning_rate, VisitCount):
        return merge_by(weigh_by_visit_rates), learning_rate.numbers
    return merge_by(weigh_by_rate), powers_of(learning_rate(0))


def check_mergeable(
    federated: Federated, learning_rate: Schedule | VisitCount, rule: Algorithm
) -> None:
    """Check that the weights of members can be told from their visits.

    Raises
    ------
    ConfigurationError
        If they are to be merged by importance, and the weight of a visit depends on when it was.
    """
    if federated.merge != "importance":
        return
    if not isinstance(learning_rate, Constant | VisitCount):
        raise ConfigurationError(
            "merge='importance' weighs a member by the learning rates of its visits, which are "
            "known of a number and of a VisitCount, and not of a rate that depends on when a visit "
            f"was; got learning_rate={learning_rate!r}: pass VisitCount(), or merge='visits'"
        )
    if rule.step is not td:
        raise ConfigurationError(
            "merge='importance' weighs a member by what steps q + alpha (y - q) leave of the value "
            f"before; algorithm={rule.name!r} has a step of its own: pass merge='visits'"
        )
