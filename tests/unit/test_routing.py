"""Route: targets, sorted by the chunk that owns their pair."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqlearn.kernels.codes import NO_BOOTSTRAP
from dqlearn.stages.route import TILE, route
from dqlearn.statistics import RoundStats
from dqlearn.table.grid import ChunkGrid
from dqlearn.table.transitions import Transitions

TALLY = RoundStats(100, 0.25, n_transitions=5)


def batch_of(rows: list[tuple[int, int, float, int]], dtype: Any = np.float32) -> Transitions:
    """Transitions of rows (state, action, reward, next_state)."""
    state, action, reward, next_state = zip(*rows, strict=True) if rows else ((),) * 4
    return Transitions(
        np.array(state, np.int32),
        np.array(action, np.uint8),
        np.array(reward, dtype),
        np.array(next_state, np.int32),
        TALLY,
    )


def test_targets_by_hand() -> None:
    """y = r + gamma * value(s'), and y = r where the episode terminated."""
    value = np.array([10.0, 20.0, 40.0], np.float32)
    batch = batch_of([(0, 0, 1.0, 1), (1, 0, 2.0, NO_BOOTSTRAP), (2, 1, -3.0, 0), (2, 0, 0.0, 2)])
    piece = route(batch, value, 0.5, ChunkGrid((3,), (2,))).piece(0)
    assert piece.columns[0].tolist() == [0, 2, 5, 4]
    assert piece.columns[-1].tolist() == [11.0, 2.0, 2.0, 20.0]
    assert piece.tally is TALLY


def test_pieces_by_hand() -> None:
    r"""Four chunks of 2 x 1 pairs; the second receives nothing.

    ::

        0 │ 1        state 0        offset in a chunk: 0, for the upper state
        0 │ 1        state 1                           1, for the lower
        ──┼──
        2 │ 3        state 2
        2 │ 3        state 3
    """
    batch = batch_of([(3, 1, 1.0, -1), (0, 0, 2.0, -1), (2, 0, 3.0, -1), (3, 1, 4.0, -1)])
    routed = route(batch, np.zeros(4, np.float32), 1.0, ChunkGrid((2, 2), (1, 1)))
    pieces = [routed.piece(c) for c in range(4)]
    assert [piece.columns[0].tolist() for piece in pieces] == [[0], [], [0], [1, 1]]
    assert [piece.columns[-1].tolist() for piece in pieces] == [[2.0], [], [3.0], [1.0, 4.0]]


def check_against_a_sort(grid: ChunkGrid, n: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    n_states, n_actions = grid.shape
    pairs = random.integers([0, 0, -1], [n_states, n_actions, n_states], (n, 3)).tolist()
    rows = [(s, a, float(t), after) for t, (s, a, after) in enumerate(pairs)]
    value = random.integers(100, size=n_states).astype(np.float32)
    located = (
        (*grid.locate(s, a), r + 0.5 * value[after] * (after >= 0)) for s, a, r, after in rows
    )
    routed = route(batch_of(rows), value, 0.5, grid)
    assert sorted(located, key=itemgetter(0)) == [
        (c, *row)
        for c in range(grid.n_chunks)
        for row in zip(
            routed.piece(c).columns[0].tolist(), routed.piece(c).columns[-1].tolist(), strict=True
        )
    ]


sizes = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


@given(st.builds(ChunkGrid, sizes, sizes), st.integers(0, 50), st.integers(0, 2**32))
def test_equals_a_plain_stable_sort(grid: ChunkGrid, n: int, seed: int) -> None:
    check_against_a_sort(grid, n, seed)


@pytest.mark.parametrize("n", [TILE - 1, TILE, TILE + 1, 2 * TILE + 5])
@pytest.mark.parametrize("grid", [ChunkGrid((3, 1, 200), (2, 1)), ChunkGrid((7,), (3,))], ids=str)
def test_equals_a_plain_stable_sort_beyond_one_tile(grid: ChunkGrid, n: int) -> None:
    check_against_a_sort(grid, n, seed=n)


def test_what_a_chunk_owns_is_what_is_cut_out_for_it() -> None:
    random, n = np.random.default_rng(0), 2 * TILE + 5
    rows = random.integers([0, 0, -1], [9, 2, 9], (n, 3)).tolist()
    batch = batch_of([(s, a, float(t), after) for t, (s, a, after) in enumerate(rows)])
    routed = route(batch, np.zeros(9, np.float32), 0.5, ChunkGrid((4, 5), (2,)))
    for c in range(2):
        own, cut = routed.own(c), routed.piece(c)
        assert own.columns[0] is routed.columns[0]
        assert len(own.where) == 3
        assert own.n == cut.n == len(cut.columns[0])
        runs = [slice(*run) for run in own.where.tolist()]
        assert (
            np.concatenate([own.columns[-1][run] for run in runs]).tolist()
            == cut.columns[-1].tolist()
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_targets_are_computed_in_the_tables_own_arithmetic(dtype: Any) -> None:
    reward, value, gamma = dtype(0.1), dtype(0.3), 0.7
    routed = route(
        batch_of([(0, 0, 0.1, 0)], dtype), np.array([value]), gamma, ChunkGrid((1,), (1,))
    )
    assert routed.columns[-1].dtype == dtype
    assert routed.columns[-1][0] == reward + dtype(gamma) * value


def test_the_batch_is_not_written_to() -> None:
    batch, value = batch_of([(1, 0, 1.0, 0), (0, 0, 2.0, 1)]), np.ones(2, np.float32)
    columns = (batch.state, batch.action, batch.reward, batch.next_state, value)
    before = [column.tolist() for column in columns]
    assert route(batch, value, 1.0, ChunkGrid((1, 1), (1,))).columns[-1].tolist() == [3.0, 2.0]
    assert [column.tolist() for column in columns] == before
