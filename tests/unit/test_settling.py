"""A sparse chunk learns what a chunk with room for all states learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqlearn.algorithms import Q_LEARNING, Extent
from dqlearn.kernels.ties import ties
from dqlearn.schedules import Constant, VisitCount
from dqlearn.stages.lookup import answer
from dqlearn.stages.route import route, route_pairs
from dqlearn.stages.update import update
from dqlearn.statistics import RoundStats
from dqlearn.table.chunk import Chunk, filled
from dqlearn.table.grid import ChunkGrid
from dqlearn.table.hash_grid import HashGrid
from dqlearn.table.insert import filled_with, unsettled, visited
from dqlearn.table.transitions import Transitions

N, ACTIONS, VALUE = 40, 3, 0.5
TALLY = RoundStats(10, 0.1, n_transitions=5)
ROWS = st.tuples(
    st.integers(0, N - 1), st.integers(0, ACTIONS - 1), st.floats(-2, 2), st.integers(-1, N - 1)
)
BATCHES = st.lists(st.lists(ROWS, max_size=30), min_size=1, max_size=4)


def batch_of(rows: list[tuple[int, int, float, int]]) -> Transitions:
    """Return a batch of (state, action, reward, next state)."""
    s, a, r, after = zip(*rows, strict=True) if rows else ((), (), (), ())
    reward = np.array(r, np.float64)
    return Transitions(
        np.array(s, np.int64), np.array(a, np.uint8), reward, np.array(after, int), TALLY
    )


def learn_all(
    batches: list[list[tuple[int, int, float, int]]], grid: HashGrid, donated: bool
) -> list[Chunk]:
    """Let sparse chunks learn batches, each by two shards."""
    chunks = [unsettled(grid, VALUE, np.dtype(np.float64))] * grid.n_chunks
    value = np.linspace(0, 1, N)
    for rows in batches:
        parts = [batch_of(rows[0::2]), batch_of(rows[1::2])]
        routed = [route_pairs(part, value, 0.9, grid) for part in parts]
        chunks = [
            update(chunk, [each.piece(c) for each in routed], Constant(0.3), donated and n > 0)
            for c, (chunk, n) in enumerate((chunk, len(chunk.visits)) for chunk in chunks)
        ]
    return chunks


def laid_out(batches: list[list[tuple[int, int, float, int]]]) -> Chunk:
    """Let a chunk with room for all states learn the same."""
    chunk, value = filled((N, ACTIONS), VALUE, np.float64), np.linspace(0, 1, N)
    for rows in batches:
        parts = [batch_of(rows[0::2]), batch_of(rows[1::2])]
        routed = [route(part, value, 0.9, ChunkGrid((N,), (ACTIONS,))) for part in parts]
        chunk = update(chunk, [each.piece(0) for each in routed], Constant(0.3))
    return chunk


@given(BATCHES, st.integers(1, 5), st.sampled_from([1, 4, 64]))
def test_it_learns_the_same(
    batches: list[list[tuple[int, int, float, int]]], n_chunks: int, block: int
) -> None:
    """The same values, counts, answers, and visited states, for any chunks and blocks."""
    grid, expected = HashGrid(2**62, ACTIONS, n_chunks, block), laid_out(batches)
    chunks = learn_all(batches, grid, donated=False)
    owner, key = grid.find_rows(np.arange(N)), ties(3)
    for c, chunk in enumerate(chunks):
        states = np.flatnonzero(owner == c)
        rows = chunk.known.rows(states) if chunk.known else states
        np.testing.assert_array_equal(chunk.q[rows], expected.q[states])
        np.testing.assert_array_equal(chunk.visits[rows], expected.visits[states])
        extent = Extent(ACTIONS, key)
        said, other = (
            answer(each, states, Q_LEARNING, extent).found[0] for each in (chunk, expected)
        )
        np.testing.assert_array_equal(said, other)
        learned = states[expected.visits[states].any(axis=1)]
        np.testing.assert_array_equal(visited(chunk)[0], learned)


@given(BATCHES, st.sampled_from([1, 4]))
def test_it_learns_the_same_in_place(
    batches: list[list[tuple[int, int, float, int]]], block: int
) -> None:
    """What is found is what a chunk that was copied has; rows that are free hold anything."""
    grid = HashGrid(2**62, ACTIONS, 1, block)
    (copied,) = learn_all(batches, grid, donated=False)
    empty = unsettled(grid, VALUE, np.dtype(np.float64))
    mine = replace(empty, q=empty.q.copy(), visits=empty.visits.copy())
    for rows in batches:
        parts = [batch_of(rows[0::2]), batch_of(rows[1::2])]
        routed = [route_pairs(part, np.linspace(0, 1, N), 0.9, grid) for part in parts]
        mine = update(mine, [each.piece(0) for each in routed], Constant(0.3), donated=True)
    assert mine.known is not None
    assert copied.known is not None
    assert mine.known.states.tolist() == copied.known.states.tolist()
    used = slice(0, copied.known.n_rows)
    np.testing.assert_array_equal(mine.q[used], copied.q[used])
    np.testing.assert_array_equal(mine.visits[used], copied.visits[used])


def test_a_chunk_that_others_hold_is_not_written_to() -> None:
    grid = HashGrid(2**62, ACTIONS, 1)
    (chunk,) = learn_all([[(3, 1, 1.0, -1), (9, 0, 1.0, 3)]], grid, donated=False)
    assert chunk.known is not None
    arrays = chunk.q, chunk.visits, chunk.known.blocks, chunk.known.slots
    before = [array.copy() for array in arrays]
    routed = route_pairs(batch_of([(3, 1, 5.0, -1), (8, 2, 5.0, -1)]), np.zeros(N), 0.9, grid)
    after = update(chunk, [routed.piece(0)], VisitCount(0.5))
    assert after.known is not None
    assert after.known.n == 4
    for array, old in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, old)


def test_what_was_stored_is_known_again() -> None:
    """In any order, and whether or not whole blocks were stored."""
    grid = HashGrid(2**62, 2, 1, 4)
    states = np.array([2**61, 9, 8])
    q, visits = np.arange(6.0).reshape(3, 2), np.array([[1, 0], [0, 0], [0, 2]], np.uint32)
    chunk = filled_with(
        unsettled(grid, VALUE, np.dtype(float)), states, {"q": q, "visits": visits}, 40
    )
    assert chunk.known is not None
    rows = chunk.known.rows(np.array([9, 2**61, 8, 10, 77]))
    assert chunk.q[rows].tolist() == [[2, 3], [0, 1], [4, 5], [VALUE] * 2, [VALUE] * 2]
    assert visited(chunk)[0].tolist() == [8, 2**61]
    assert (chunk.timesteps, chunk.changed) == (40, 40)


def test_only_sparse_chunks_settle() -> None:
    with pytest.raises(TypeError, match="expected a sparse chunk"):
        visited(filled((2, 2), 0.0, np.float64))
