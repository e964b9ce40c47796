"""Ask and answer: what a shard is told is what the maxima of the whole table say of its states."""

from __future__ import annotations

import sys
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqlearn.algorithms import Q_LEARNING, Extent
from dqlearn.algorithms.fields import Columns
from dqlearn.errors import StaleShardError
from dqlearn.kernels.codes import NO_BOOTSTRAP
from dqlearn.kernels.ties import ties
from dqlearn.stages.lookup import Asked, Parcel, answer, ask, told
from dqlearn.stages.summary import Summary, combine, join, summarize
from dqlearn.statistics import RoundStats
from dqlearn.table.chunk import Answer, Chunk
from dqlearn.table.grid import ChunkGrid
from dqlearn.table.transitions import Routed

SEEDS = st.integers(0, 2**64 - 1)
SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)
GRIDS = st.builds(ChunkGrid, SIZES, SIZES)
TALLY = RoundStats(70, 0.1, n_transitions=30)


def table(shape: tuple[int, int], dtype: Any, seed: int) -> npt.NDArray[Any]:
    """Few different values, so that there are ties, on both sides of zero."""
    return np.random.default_rng(seed).integers(-1, 2, shape).astype(dtype)


def chunks_of(q: npt.NDArray[Any], grid: ChunkGrid) -> list[Chunk]:
    chunks = []
    for c in range(grid.n_chunks):
        (s, a), (n, width) = grid.origin(c), grid.chunk_shape(c)
        own = np.ascontiguousarray(q[s : s + n, a : a + width])
        chunks.append(Chunk(own, np.zeros(own.shape, np.uint32), TALLY))
    return chunks


def everything(q: npt.NDArray[Any], grid: ChunkGrid, key: np.uint64) -> Summary:
    """Reduce the summaries of all states, as the broadcast path does."""
    n_actions, columns = q.shape[1], len(grid.columns)
    best = [
        summarize(chunk, Q_LEARNING, Extent(n_actions, key, *grid.origin(c)))
        for c, chunk in enumerate(chunks_of(q, grid))
    ]

    def over_actions(a: Summary, b: Summary) -> Summary:
        return combine(a, b, Q_LEARNING, Extent(n_actions, key))

    rows = range(0, grid.n_chunks, columns)
    return join([reduce(over_actions, best[first : first + columns]) for first in rows])


def answer_of(
    chunk: Chunk, states: npt.NDArray[Any], origin: tuple[int, int], n_actions: int, key: np.uint64
) -> Answer:
    return answer(chunk, states, Q_LEARNING, Extent(n_actions, key, *origin))


def told_all(asked: Asked, answers: list[Answer], grid: ChunkGrid, key: np.uint64) -> Columns:
    """Put answers together; return values and sets of actions."""
    (best,) = told(asked, answers, grid, Q_LEARNING, Extent(grid.shape[1], key)).found
    return best


def answered(q: npt.NDArray[Any], grid: ChunkGrid, asked: Asked, key: np.uint64) -> Columns:
    """Let every chunk answer, and put together what they say."""
    answers = [
        answer_of(chunk, asked.piece(grid.position(c)[0]), grid.origin(c), q.shape[1], key)
        for c, chunk in enumerate(chunks_of(q, grid))
    ]
    return told_all(asked, answers, grid, key)


def asked_for(state: list[int], next_state: list[int], grid: ChunkGrid) -> Asked:
    return ask(np.array(state, np.int32), np.array(next_state, np.int32), grid)


@st.composite
def questions(draw: st.DrawFn) -> tuple[ChunkGrid, list[int], list[int]]:
    """A grid, where environments are, and the next states of a batch.

    Those are often the states of their environments, sometimes -1 or another state; some batches
    are shorter, as those of environments that reset, or empty.
    """
    grid = draw(GRIDS)
    states = st.integers(0, grid.shape[0] - 1)
    state = draw(st.lists(states, min_size=1, max_size=30))
    after = [
        draw(st.sampled_from([s, s, s, NO_BOOTSTRAP, draw(states)]))
        for s in state
        if draw(st.sampled_from([True, True, True, False]))
    ]
    return grid, state, draw(st.sampled_from([after, []]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(questions(), SEEDS, st.integers(0, 2**32))
def test_equals_the_maxima_of_all_states(
    dtype: Any, question: tuple[ChunkGrid, list[int], list[int]], seed_: int, seed: int
) -> None:
    grid, state, next_state = question
    q, key = table(grid.shape, dtype, seed), ties(seed_)
    best = everything(q, grid, key)
    asked = asked_for(state, next_state, grid)
    for answer_, column in zip(answered(q, grid, asked, key), best.found[0], strict=True):
        assert answer_.dtype == column.dtype
        assert answer_.tolist() == column[asked.state].tolist()


@given(questions())
def test_everything_is_asked_for_where_it_belongs(
    question: tuple[ChunkGrid, list[int], list[int]],
) -> None:
    """Every environment and every next state has its place, each row of chunks its own states."""
    grid, state, next_state = question
    asked = asked_for(state, next_state, grid)
    assert asked.state[asked.of_env].tolist() == state
    future = asked.of_next >= 0
    wanted = np.array(next_state, int)
    assert future.tolist() == (wanted != NO_BOOTSTRAP).tolist()
    assert asked.state[asked.of_next[future]].tolist() == wanted[future].tolist()
    for row, (first, last) in enumerate(pairwise(grid.row_edges)):
        own = asked.piece(row)
        assert ((first <= own) & (own < last)).all()
    assert asked.starts[-1] == len(asked.state) <= len(state) + len(next_state)


def test_by_hand() -> None:
    """Two rows of chunks, two environments; the second one's episode was cut off in state 4.

    ::

        environment 0   5 ─► 0           is in 0
        environment 1   3 ─► 4, cut off  is in 1     asked: 0, 1 of row 0; 4 of row 1
        environment 2   2 ─► terminal    is in 5            5 of row 1
    """
    grid = ChunkGrid((3, 3), (1, 1))
    asked = asked_for([0, 1, 5], [0, 4, NO_BOOTSTRAP], grid)
    assert [asked.piece(row).tolist() for row in (0, 1)] == [[0, 1], [5, 4]]
    assert asked.of_env.tolist() == [0, 1, 2]
    assert asked.of_next.tolist() == [0, 3, -1]
    q = np.array([[1, 2], [4, 3], [9, 9], [9, 9], [-5, -6], [7, 8]], np.float32)
    value, tied = answered(q, grid, asked, ties(0))
    assert value.tolist() == [2.0, 4.0, 8.0, -5.0]
    assert tied.tolist() == [0b10, 0b01, 0b10, 0b01]


def test_answers_to_another_question_are_refused() -> None:
    """Of one chunk, and of several: nothing is read beyond their end."""
    for grid in (ChunkGrid((6,), (2,)), ChunkGrid((3, 3), (1, 1))):
        q, key = table((6, 2), np.float32, 0), ties(0)
        chunks, before = chunks_of(q, grid), asked_for([0, 5], [], grid)
        answers = [
            answer_of(chunk, before.piece(grid.position(c)[0]), grid.origin(c), 2, key)
            for c, chunk in enumerate(chunks)
        ]
        assert len(told_all(before, answers, grid, key)[0]) == 2
        with pytest.raises(StaleShardError, match=r"must answer for .* got answers for"):
            told_all(asked_for([0, 5], [1, 5], grid), answers, grid, key)


def test_states_that_many_are_in_are_each_answered() -> None:
    """In the order of the environments: nothing is gained by sorting out what is asked twice."""
    asked = asked_for([2, 2, 0], [2, 0, 2], ChunkGrid((2, 1), (2,)))
    assert asked.state.tolist() == [0, 0, 2, 2, 2]
    assert asked.state[asked.of_env].tolist() == [2, 2, 0]
    assert asked.state[asked.of_next].tolist() == [2, 0, 2]


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_dtypes(dtype: Any) -> None:
    """States keep theirs, and places have few bytes, on one row of chunks and on several."""
    state, after = np.array([3, 1], dtype), np.array([3, 0], np.int32)
    for grid in (ChunkGrid((4,), (2,)), ChunkGrid((2, 2), (2,))):
        asked = ask(state, after, grid)
        assert (asked.state.dtype, asked.starts.dtype) == (dtype, np.int64)
        assert asked.of_env.dtype == asked.of_next.dtype == np.int32


def test_states_beyond_32_bits() -> None:
    """They are found, and their ties broken, as what they are."""
    grid = ChunkGrid((2**29,) * 20 + (3,), (2, 1))
    far = 20 * 2**29
    asked = ask(np.array([far + 1, far + 2]), np.array([far, far + 2]), grid)
    assert len(asked.piece(19)) == 0
    assert asked.piece(20).tolist() == [far + 1, far + 2, far]
    q, key = np.zeros((3, 3), np.float32), ties(1)
    whole = Q_LEARNING.find(q, Extent(3, key, far))
    nothing = answer_of(Chunk(q[:0], q[:0], TALLY), asked.piece(0), (0, 0), 3, key)
    answers = [nothing] * 2 * 20
    for a, b in ((0, 2), (2, 3)):
        own = np.ascontiguousarray(q[:, a:b])
        chunk = Chunk(own, np.zeros(own.shape, np.uint32), TALLY)
        answers.append(answer_of(chunk, asked.piece(20), (far, a), 3, key))
    best = (told_all(asked, answers, grid, key),)
    action = Q_LEARNING.greedy(best, Extent(3, key, states=asked.state))
    assert action.tolist() == Q_LEARNING.greedy(whole, Extent(3, key, far))[[1, 2, 0]].tolist()


def test_arguments_are_not_written_to() -> None:
    state, after = np.array([5, 1]), np.array([2, -1])
    q, grid = table((6, 3), np.float32, 1), ChunkGrid((2, 4), (1, 2))
    kept = [array.copy() for array in (state, after, q)]
    answered(q, grid, ask(state, after, grid), ties(0))
    for array, before in zip((state, after, q), kept, strict=True):
        np.testing.assert_array_equal(array, before)


def test_a_parcel_is_cut_for_chunks() -> None:
    """A chunk gets its transitions and its row's states; before the first batch, states alone."""
    grid = ChunkGrid((2, 2), (1, 1))
    asked = asked_for([3, 0], [], grid)
    columns = np.arange(4, dtype=np.int32), np.ones(4, np.float32)
    routed = Routed(columns, np.array([[0, 1, 1, 3, 4]]), TALLY)
    pieces = [Parcel(routed, asked).piece(c, grid.position(c)[0]) for c in range(4)]
    assert [p.piece.columns[0].tolist() for p in pieces if p.piece] == [[0], [], [1, 2], [3]]
    owned = [Parcel(routed, asked).own(c, grid.position(c)[0]).piece for c in range(4)]
    assert [p.where.tolist() for p in owned if p] == [[[0, 1]], [[1, 1]], [[1, 3]], [[3, 4]]]
    assert [p.states.tolist() for p in pieces] == [[0], [0], [3], [3]]
    assert Parcel(None, asked).piece(0, 0).piece is None


def test_dask_sees_the_size_of_what_is_sent() -> None:
    """Of all arrays, however deep."""
    asked = asked_for(list(range(1_000)), list(range(1_000)), ChunkGrid((500, 500), (2,)))
    routed = Routed((np.zeros(900, np.int32), np.zeros(900)), np.zeros((1, 3), np.int64), TALLY)
    parcel = Parcel(routed, asked)
    assert 0 <= sys.getsizeof(parcel) - 900 * 12 - 1_000 * 12 < 2_000
    said = Answer(((np.zeros(500), np.zeros(500, np.uint8)),), 0)
    chunk = Chunk(np.zeros((9, 2)), np.zeros((9, 2), np.uint32), TALLY, answers=(said, said))
    assert 0 <= sys.getsizeof(chunk) - 2 * 500 * 9 - 18 * 12 < 2_000
