"""The merge of federated members' tables, against its equations in extended precision."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dqlearn.algorithms.federated import MERGES, Federated
from dqlearn.kernels.merging.weights import (
    log_weight,
    powers_of,
    weigh_by_rate,
    weigh_by_visit_rates,
)
from dqlearn.schedules import Constant, Schedule, VisitCount
from dqlearn.stages.merge import Learned, merge
from dqlearn.statistics import RoundStats
from dqlearn.table.chunk import Chunk

Longs = npt.NDArray[np.longdouble]

TALLY = RoundStats(100, 0.1, n_transitions=10)
RATES: list[Schedule | VisitCount] = [
    Constant(0.1),
    Constant(0.0),
    Constant(1.0),
    VisitCount(),
    VisitCount(0.7, offset=3.0, scale=2.0, floor=0.05),
]
VALUES = st.floats(-1e3, 1e3, width=32)


def merged(
    q: npt.NDArray[Any],
    before: npt.NDArray[np.uint32],
    since: npt.NDArray[np.uint32],
    kind: Any,
    rate: Schedule | VisitCount,
) -> Chunk:
    """Merge members' values (members, pairs) of one row of pairs."""
    base = Chunk(q[:1], before[None], RoundStats(90, 0.1, n_transitions=10))
    learned = [Learned(q[k : k + 1], (before + since[k])[None], TALLY, 0.5) for k in range(len(q))]
    return merge(base, learned, Federated(len(q), 1, kind), rate)


def shares(
    before: npt.NDArray[np.uint32],
    since: npt.NDArray[np.uint32],
    kind: str,
    rate: Schedule | VisitCount,
) -> Longs:
    """How much each member counts, (members, pairs)."""
    weights = np.ones(since.shape, np.longdouble)
    if kind == "visits":
        weights = since.astype(np.longdouble)
    elif kind == "importance":
        logs = np.zeros(since.shape, np.longdouble)
        infinite = np.zeros(since.shape, bool)
        for k, x in np.ndindex(*since.shape):
            for i in range(int(before[x]), int(before[x] + since[k, x])):
                alpha = rate.rate(i) if isinstance(rate, VisitCount) else rate(0)
                if alpha < 1.0:
                    logs[k, x] -= np.log1p(-np.longdouble(alpha))
                else:
                    infinite[k, x] = True
        logs[infinite.any(axis=0) & ~infinite] = -np.inf
        weights = np.exp(logs - logs.max(axis=0))
    total: Longs = weights / weights.sum(axis=0)
    return total


@st.composite
def cases(draw: st.DrawFn) -> tuple[Any, ...]:
    members, pairs = draw(st.integers(3, 5)), draw(st.integers(1, 6))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    q = draw(arrays(dtype, (members, pairs), elements=VALUES))
    before = draw(arrays(np.uint32, pairs, elements=st.integers(0, 9)))
    since = draw(arrays(np.uint32, (members, pairs), elements=st.integers(0, 30)))
    q[:, since.sum(axis=0) == 0] = q[0, since.sum(axis=0) == 0]  # nobody has moved them
    return q, before, since


@given(cases(), st.sampled_from(MERGES), st.sampled_from(RATES))
def test_merges_are_their_equations(
    case: tuple[Any, ...], kind: str, rate: Schedule | VisitCount
) -> None:
    q, before, since = case
    after = merged(q, before, since, kind, rate)
    visited = since.sum(axis=0) > 0
    wide = q.astype(np.longdouble)
    if kind == "trimmed_mean":
        wanted = np.sort(wide, axis=0)[1:-1].mean(axis=0)
    else:
        with np.errstate(invalid="ignore"):
            wanted = (shares(before, since, kind, rate) * wide).sum(axis=0)
    tolerance = 4 * np.finfo(q.dtype).eps * np.abs(wide).max()
    np.testing.assert_allclose(after.q[0, visited], wanted[visited], rtol=0, atol=tolerance)
    np.testing.assert_array_equal(after.q[0, ~visited], q[0, ~visited])
    np.testing.assert_array_equal(after.visits[0], before + since.sum(axis=0, dtype=np.uint32))


@given(cases(), st.sampled_from(MERGES), st.sampled_from(RATES))
def test_members_that_agree_are_not_moved(
    case: tuple[Any, ...], kind: str, rate: Schedule | VisitCount
) -> None:
    """To the bit, whoever has visited a pair, and however often."""
    q, before, since = case
    q[:] = q[0]
    np.testing.assert_array_equal(merged(q, before, since, kind, rate).q[0], q[0])


@given(cases(), st.sampled_from(MERGES), st.sampled_from(RATES))
def test_a_merged_value_lies_between_those_of_members(
    case: tuple[Any, ...], kind: str, rate: Schedule | VisitCount
) -> None:
    q, before, since = case
    found = merged(q, before, since, kind, rate).q[0]
    slack = 4 * np.finfo(q.dtype).eps * np.abs(q).max()
    assert (found >= q.min(axis=0) - slack).all()
    assert (found <= q.max(axis=0) + slack).all()


@pytest.mark.parametrize("kind", ["equal", "importance", "visits"])
@pytest.mark.parametrize("rate", RATES)
def test_one_member_is_itself(kind: str, rate: Schedule | VisitCount) -> None:
    q = np.random.default_rng(1).normal(size=(1, 50))
    since = np.arange(50, dtype=np.uint32)[None]
    found = merged(q, np.arange(50, dtype=np.uint32), since, kind, rate)
    np.testing.assert_array_equal(found.q, q)


@pytest.mark.parametrize("visits", [10**6, 2**31])
def test_weights_of_many_visits_are_numbers(visits: int) -> None:
    """(1 - .1)^-N overflows beyond 6,736 visits."""
    w = np.zeros(4)
    weigh_by_rate(0, np.array([visits, visits - 1, 0, visits]), powers_of(0.1), w)
    np.testing.assert_allclose(w, [1.0, 0.9, 0.0, 1.0], rtol=1e-12)
    weigh_by_rate(0, np.array([visits, visits - 200_000, 0, visits]), powers_of(1e-5), w)
    np.testing.assert_allclose(w[:2], [1.0, np.exp(2e5 * np.log1p(-1e-5))], rtol=1e-10)
    assert np.isfinite(w).all()


def test_visit_rates_of_a_million_visits() -> None:
    """Of the mean, the product of i / (i + 1) telescopes: the weight is (n0 + N) / n0."""
    log_w, infinite = log_weight(1_000, 10**6, VisitCount().numbers)
    assert not infinite
    assert math.isclose(log_w, math.log(1_001_000 / 1_000), rel_tol=1e-9)
    w = np.zeros(3)
    weigh_by_visit_rates(1_000, np.array([10**6, 0, 9_000]), VisitCount().numbers, w)
    np.testing.assert_allclose(w, [1.0, 1_000 / 1_001_000, 10_000 / 1_001_000], rtol=1e-9)


def test_an_idle_member_counts_as_before_and_not_nothing() -> None:
    w = np.zeros(2)
    weigh_by_rate(0, np.array([1, 0]), powers_of(0.25), w)
    np.testing.assert_allclose(w, [1.0, 0.75])


def test_a_step_that_leaves_nothing_counts_infinitely() -> None:
    """Its members share equally at a constant rate; with visits, by what they did besides."""
    w = np.zeros(3)
    weigh_by_rate(0, np.array([5, 0, 1]), powers_of(1.0), w)
    assert w.tolist() == [1.0, 0.0, 1.0]
    weigh_by_visit_rates(0, np.array([6, 0, 3]), VisitCount().numbers, w)  # alpha = 1, 1/2, 1/3, ..
    np.testing.assert_allclose(w, [1.0, 0.0, 0.5])


def test_a_chunk_that_nobody_touched_is_kept() -> None:
    chunk = Chunk(np.ones((2, 2)), np.ones((2, 2), np.uint32), RoundStats(90, 0.1), changed=7)
    idle = Learned(None, None, TALLY, 0.0)
    after = merge(chunk, [idle, idle], Federated(2), Constant(0.1))
    assert after.q is chunk.q
    assert after.visits is chunk.visits
    assert after.changed == 7
    assert after.tally.n_transitions == 20
    own = Learned(chunk.q + 1, chunk.visits + np.uint32(1), TALLY, 0.0)
    after = merge(chunk, [idle, own], Federated(2, 1, "visits"), Constant(0.1))
    np.testing.assert_array_equal(after.q, 2.0)
    np.testing.assert_array_equal(chunk.q, 1.0)
