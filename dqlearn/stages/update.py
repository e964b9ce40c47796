r"""Update: temporal-difference steps on a copy of one chunk, or on a donated one.

.. math:: Q_{r+1}(s, a) = Q_r(s, a) + \alpha \, [y - Q_r(s, a)]

applied one transition after another, shard by shard, in the order of the batch: a pair that occurs
twice is updated twice, in sequence (Watkins and Dayan 1992). The targets y hold round r's values,
so they do not depend on the grid. Invariant: the chunk given is not written to, unless it is
donated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import add

from dqlearn.kernels.update import Step, td, update_by
from dqlearn.schedules import Schedule, VisitCount
from dqlearn.stages.initial.masks import Masking
from dqlearn.table.chunk import Chunk
from dqlearn.table.insert import settle
from dqlearn.table.paged import copy
from dqlearn.table.transitions import Piece

__all__ = ["update"]


def update(
    chunk: Chunk,
    pieces: Sequence[Piece],
    learning_rate: Schedule | VisitCount,
    donated: bool = False,
    step: Step = td,
    masking: Masking | None = None,
) -> Chunk:
    """Apply a round's transitions to the chunk that owns them.

    Parameters
    ----------
    chunk : Chunk
        The chunk, as it is at round r.
    pieces : sequence of Piece
        What the chunk receives from each shard, in the shards' order.
    learning_rate : Schedule or VisitCount
        A schedule is evaluated at the number of transitions made before the round, a VisitCount at
        each pair's number of visits before the update.
    donated : bool
        Whether to write to the chunk's own arrays.
    step : callable
        How a value moves to its target, as a rule declares it.
    masking : Masking, optional
        The masks of the chunk; by default all pairs are valid.

    Returns
    -------
    Chunk
        The chunk of round r + 1; it has the same arrays if the chunk received nothing.
    """
    # Not the pieces' own count: with policy_lag 1 they were made before the last round was learned.
    made = chunk.timesteps
    tally = replace(reduce(add, (piece.tally for piece in pieces)), timesteps=made)
    told = masking is not None and masking.concerns(chunk, pieces)
    if not told and not any(piece.n for piece in pieces):
        return Chunk(chunk.q, chunk.visits, tally, changed=chunk.changed, known=chunk.known)
    if chunk.known is not None:
        chunk, pieces = settle(chunk, pieces, donated, masking.of_rows if masking else None)
        donated = True
    q, visits = (chunk.q, chunk.visits) if donated else (copy(chunk.q), copy(chunk.visits))
    if masking is not None:
        masking.learn(replace(chunk, q=q), pieces)
    if isinstance(learning_rate, VisitCount):
        alpha, by_visits = q.dtype.type(0), learning_rate.numbers
    else:
        alpha, by_visits = q.dtype.type(learning_rate(tally.timesteps)), None
    td_abs_sum, kernel = 0.0, update_by(step)
    for piece in pieces:
        offset, target = piece.columns
        batch = (offset, target, piece.where)
        td_abs_sum += kernel(q.ravel(), visits.ravel(), *batch, alpha, by_visits)
    changed = made + tally.n_transitions
    return Chunk(q, visits, tally, td_abs_sum, changed, known=chunk.known)
