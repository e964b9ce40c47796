"""Lookup: a shard asks for what it must know of the states it is concerned with, and no others.

::

    shard w         where its environments are,  ─► ask ─► Asked: states, by row of chunks
                    next states of its batch                 │ piece(i)
                                                             ▼
    chunk (i, j)                                  answer: a summary over its actions
                                                             │
    shard w         told: combined over j, put together over i

The answers of round r serve twice: what s' is worth is the bootstrap of the step that was made, and
the greedy action is the next one. What is asked follows from (shard, batch) alone: a shard
derives it again, rather than keep it, to know which answer is whose. Invariant: an answer has the
same bits as :mod:`dqlearn.stages.summary` finds for these states, whatever the grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, starmap
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.algorithms.fields import Extent
from dqlearn.algorithms.rule import Algorithm
from dqlearn.errors import StaleShardError
from dqlearn.kernels.buffers import empty
from dqlearn.kernels.lookup import follow, sort_by_owner, want
from dqlearn.kernels.route import count_owners
from dqlearn.stages.summary import joined
from dqlearn.table.chunk import Answer, Chunk
from dqlearn.table.hash_grid import Grid
from dqlearn.table.transitions import Piece, Routed, Sized

__all__ = ["Asked", "Parcel", "ParcelPiece", "answer", "ask", "told"]


@dataclass(frozen=True)
class Asked(Sized):
    """States that a shard asks for, sorted by the row of chunks that they are in.

    Attributes
    ----------
    state : int (m,)
        The states; row i of chunks is asked for ``state[starts[i] : starts[i + 1]]``.
    starts : int64 (rows + 1,)
        Index in `state` at which the states of each row of chunks begin.
    of_env : int32 (n_envs,)
        Index in `state` of the state of each environment.
    of_next : int32 (n,)
        Index in `state` of the next state of each transition; -1 where its episode terminated.
    """

    state: npt.NDArray[Any]
    starts: npt.NDArray[np.int64]
    of_env: npt.NDArray[np.int32]
    of_next: npt.NDArray[np.int32]

    def piece(self, row: int) -> npt.NDArray[Any]:
        """Return what a row of chunks is asked for."""
        return self.state[int(self.starts[row]) : int(self.starts[row + 1])]


@dataclass(frozen=True)
class Parcel(Sized):
    """What a shard sends to all chunks in a round: what to learn, and then which states to answer.

    Attributes
    ----------
    routed : Routed, optional
        The shard's batch of round r; None before the first round.
    asked : Asked
        The states that the shard asks for, for round r + 1.
    """

    routed: Routed | None
    asked: Asked

    def own(self, c: int, row: int) -> ParcelPiece:
        """Return what chunk c, in this row of chunks, receives, as runs of the shard's arrays."""
        return ParcelPiece(self.routed.own(c) if self.routed else None, self.asked.piece(row))

    def piece(self, c: int, row: int) -> ParcelPiece:
        """Return what chunk c, in this row of chunks, receives, cut out of the shard's arrays."""
        return ParcelPiece(self.routed.piece(c) if self.routed else None, self.asked.piece(row))


@dataclass(frozen=True)
class ParcelPiece(Sized):
    """What one chunk receives from one shard: what to learn, and the (m,) states to answer for."""

    piece: Piece | None
    states: npt.NDArray[Any]


def ask(state: npt.NDArray[Any], next_state: npt.NDArray[Any], grid: Grid) -> Asked:
    """Collect the states that a shard asks the chunks for.

    Parameters
    ----------
    state : int (n_envs,)
        The present state of each environment of the shard.
    next_state : int (n,)
        The next states of the shard's batch; -1 needs no answer.
    grid : ChunkGrid or HashGrid
        The chunks that answer.

    Returns
    -------
    Asked
        The state of each environment, and the next states; the latter only where they differ from
        the state of the environment in the same place, as they do where an episode ended.

    Examples
    --------
    >>> import numpy as np
    >>> from dqlearn.table.grid import ChunkGrid
    >>> asked = ask(np.array([7, 1]), np.array([7, -1]), ChunkGrid((4, 4), (2,)))
    >>> asked.state, asked.of_env, asked.of_next
    (array([1, 7]), array([1, 0], dtype=int32), array([ 1, -1], dtype=int32))
    """
    n_envs, of_next = len(state), empty(len(next_state), np.int32)
    wanted = empty(n_envs + len(next_state), state.dtype)
    wanted[:n_envs] = state
    wanted = wanted[: want(state, next_state, wanted, of_next)]
    if grid.n_rows == 1:
        starts = np.array([0, len(wanted)], np.int64)
        return Asked(wanted, starts, np.arange(n_envs, dtype=np.int32), of_next)
    owner = grid.find_rows(wanted)
    starts = np.zeros(grid.n_rows + 1, np.int64)
    count_owners(owner, starts[1:])
    np.cumsum(starts, out=starts)
    place, ordered = empty(len(wanted), np.int32), empty(len(wanted), state.dtype)
    sort_by_owner(owner, starts[:-1].copy(), wanted, place, ordered)
    follow(of_next, place)
    return Asked(ordered, starts, place[:n_envs], of_next)


def answer(chunk: Chunk, states: npt.NDArray[Any], rule: Algorithm, extent: Extent) -> Answer:
    """Find what a chunk says of some of its states, among the chunk's actions.

    Parameters
    ----------
    chunk : Chunk
        The chunk, as it is at round r.
    states : int (m,)
        States that are in the chunk.
    rule : Algorithm
        The learning rule, which says what to find.
    extent : Extent
        The chunk's states and actions; a chunk of a sparse table may have any state.

    Returns
    -------
    Answer
        The summary of each state, in the order of `states`.
    """
    rows = None if chunk.known is None else chunk.known.rows(states)
    return Answer(rule.find(chunk.q, replace(extent, states=states, rows=rows)), chunk.timesteps)


def told(
    asked: Asked, answers: Sequence[Answer], grid: Grid, rule: Algorithm, extent: Extent
) -> Answer:
    """Combine what chunks answered.

    Parameters
    ----------
    asked : Asked
        The states that the chunks were asked for.
    answers : sequence of Answer
        The answer of every chunk, in the order of the chunks.
    grid : ChunkGrid or HashGrid
        The chunks.
    rule : Algorithm
        The learning rule, which says what was to be found.
    extent : Extent
        The states and actions of the whole table.

    Returns
    -------
    Answer
        The summary of each state over all actions, in the order of ``asked.state``.

    Raises
    ------
    StaleShardError
        If the answers are not to these states.
    """
    columns = grid.n_columns
    expected = np.repeat(np.diff(asked.starts), columns).tolist()
    if (got := [len(answer.found[0][0]) for answer in answers]) != expected:
        raise StaleShardError(
            f"chunks must answer for {expected} states, got answers for {got}: the run goes back "
            "to its last cut"
        )
    if grid.n_chunks == 1:
        return answers[0]
    rows = [answers[i : i + columns] for i in range(0, len(answers), columns)]
    found = joined([first.found for first, *_ in rows])
    for own, (_, *others) in zip(
        starmap(slice, pairwise(asked.starts.tolist())), rows, strict=True
    ):
        mine = tuple(tuple(column[own] for column in field) for field in found)
        for other in others:
            rule.merge(mine, other.found, replace(extent, states=asked.state[own]))
    return Answer(found, answers[0].timesteps)
