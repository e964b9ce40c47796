"""Update: Q(s, a) += alpha * (y - Q(s, a)), one transition after another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqlearn.kernels.update import visit_rate
from dqlearn.schedules import Constant, Linear, VisitCount
from dqlearn.stages.update import update
from dqlearn.statistics import RoundStats
from dqlearn.table.chunk import Chunk, filled
from dqlearn.table.transitions import Piece


def piece_of(
    *rows: tuple[int, float], tally: RoundStats | None = None, dtype: Any = np.float32
) -> Piece:
    """What a chunk receives: rows (offset, target)."""
    offset, target = zip(*rows, strict=True) if rows else ((), ())
    counted = tally or RoundStats(0, 0.1, n_transitions=len(rows))
    return Piece((np.array(offset, np.int32), np.array(target, dtype)), counted)


def test_runs_are_learned_from_alone() -> None:
    """As if what lies between them were not there."""
    rows = [(0, 5.0), (3, 1.0), (1, 2.0), (1, -2.0), (2, 9.0)]
    runs = replace(piece_of(*rows), runs=np.array([[0, 1], [1, 1], [2, 4]]))
    before = filled((2, 2), 0.0, np.float32)
    expected = update(before, [piece_of(rows[0], *rows[2:4])], Constant(0.5))
    after = update(before, [runs], Constant(0.5))
    assert after.q.tolist() == expected.q.tolist() == [[2.5, -0.5], [0.0, 0.0]]
    assert after.visits.tolist() == expected.visits.tolist()
    assert after.td_abs_sum == expected.td_abs_sum


def test_by_hand() -> None:
    r"""alpha = 1/4.

    ::

        pair     q     y     q + (y - q) / 4
        (0, 1)   2     6     3
        (1, 0)   4    -4     2
        (1, 1)   8     -     8
    """
    before = Chunk(
        np.array([[1.0, 2.0], [4.0, 8.0]], np.float32),
        np.zeros((2, 2), np.uint32),
        RoundStats(0, 0.0),
        np.zeros((2, 2), np.uint32),
        RoundStats(0, 0.0),
    )
    after = update(before, [piece_of((1, 6.0), (2, -4.0))], Constant(0.25))
    assert after.q.tolist() == [[1.0, 3.0], [2.0, 8.0]]
    assert after.visits.tolist() == [[0, 1], [1, 0]]
    assert after.td_abs_sum == 4.0 + 8.0


def test_a_pair_that_occurs_twice_is_updated_twice_in_sequence() -> None:
    """From 0, half of the way to 8 is 4; half of the way on to 6 is 5. The other way round: 5.5."""
    blank = filled((1, 1), 0.0, np.float32)
    assert update(blank, [piece_of((0, 8.0), (0, 6.0))], Constant(0.5)).q.item() == 5.0
    assert update(blank, [piece_of((0, 6.0), (0, 8.0))], Constant(0.5)).q.item() == 5.5


def test_pieces_are_applied_in_the_shards_order() -> None:
    blank = filled((1, 1), 0.0, np.float32)
    after = update(blank, [piece_of((0, 8.0)), piece_of(), piece_of((0, 6.0))], Constant(0.5))
    assert after.q.item() == 5.0
    assert after.visits.item() == 2


def test_visit_count_makes_the_mean_of_targets() -> None:
    """alpha = 1, 1/2, 1/3, ...: each pair by its own visits, of earlier rounds too."""
    chunk = filled((1, 2), 100.0, np.float32)
    chunk = update(chunk, [piece_of((0, 3.0), (0, 5.0), (1, 7.0))], VisitCount())
    assert chunk.q.tolist() == [[4.0, 7.0]]
    chunk = update(chunk, [piece_of((0, 10.0))], VisitCount())
    assert chunk.q.tolist() == [[6.0, 7.0]]
    assert chunk.visits.tolist() == [[3, 1]]


@given(
    st.integers(0, 2**32 - 1),
    st.floats(0.5, 1.0) | st.just(1.0),
    st.floats(0.1, 1e6),
    st.floats(0.1, 1e6),
    st.floats(0.0, 1.0),
)
def test_the_kernels_rate_is_the_schedules(
    n: int, omega: float, offset: float, scale: float, floor: float
) -> None:
    schedule = VisitCount(omega, offset, scale, floor)
    assert visit_rate(np.uint32(n), schedule.numbers) == schedule.rate(n)


@pytest.mark.parametrize("policy_lag", [0, 1])
def test_the_schedule_is_read_at_the_transitions_made_before_the_round(policy_lag: int) -> None:
    """Also at lag 1, where the piece was made on the policy of the round before."""
    chunk = replace(filled((1, 1), 0.0, np.float32), tally=RoundStats(30, 0.0, n_transitions=10))
    piece = piece_of((0, 1.0), tally=RoundStats(40 - 10 * policy_lag, 0.2, n_transitions=10))
    after = update(chunk, [piece], Linear(1.0, 0.0, over=100))
    assert after.q.item() == np.float32(0.6)
    assert after.tally == RoundStats(40, 0.2, n_transitions=10)


def test_tallies_of_all_shards_are_pooled() -> None:
    pieces = [
        piece_of(tally=RoundStats(0, 0.1, 3, 1, 2.0, 4.0, 3, 2.0, 2.0, 1)),
        piece_of(tally=RoundStats(0, 0.1, 5, 2, 4.0, 10.0, 5, 1.0, 3.0, 4)),
    ]
    after = update(filled((1, 1), 0.0, np.float32), pieces, Constant(0.5))
    assert after.tally == RoundStats(0, 0.1, 8, 3, 6.0, 14.0, 8, 1.0, 3.0, 5)


def test_the_chunk_is_not_written_to() -> None:
    chunk = filled((2, 2), 1.0, np.float32)
    chunk.q.flags.writeable = chunk.visits.flags.writeable = False
    after = update(chunk, [piece_of((3, 9.0))], Constant(1.0))
    assert after.q.tolist() == [[1.0, 1.0], [1.0, 9.0]]
    assert chunk.q.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert not chunk.visits.any()


def test_a_chunk_that_receives_nothing_shares_its_arrays() -> None:
    chunk = filled((2, 2), 1.0, np.float32)
    after = update(chunk, [piece_of(tally=RoundStats(0, 0.1, 7)), piece_of()], Constant(1.0))
    assert after.q is chunk.q
    assert after.visits is chunk.visits
    assert after.td_abs_sum == 0.0
    assert after.tally.n_transitions == 7


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_steps_are_taken_in_the_tables_own_arithmetic(dtype: Any) -> None:
    after = update(filled((1, 1), 0.1, dtype), [piece_of((0, 0.7), dtype=dtype)], Constant(0.3))
    q, y, alpha = dtype(0.1), dtype(0.7), dtype(0.3)
    assert after.q.dtype == dtype
    assert after.q.item() == (q + alpha * (y - q)).item()
