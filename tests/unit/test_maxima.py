"""Maxima: the best action of every state, however the table is cut."""

from __future__ import annotations

from functools import reduce
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from dqlearn.kernels.summary import action_dtype, ties
from dqlearn.stages.summary import Maxima, combine, join, maxima
from dqlearn.statistics import RoundStats
from dqlearn.table.chunk import Chunk

ROUND_SEED = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 10**6))


def tables(max_actions: int = 24) -> st.SearchStrategy[npt.NDArray[np.float32]]:
    """Tables of few different values, so that there are ties, on both sides of zero."""
    shapes = st.tuples(st.integers(1, 8), st.integers(1, max_actions))
    return st.builds(
        lambda shape, seed: np.random.default_rng(seed).integers(-1, 2, shape).astype(np.float32),
        shapes,
        st.integers(0, 2**32),
    )


def best_of(
    q: npt.NDArray[np.float32], first: int, last: int, key: np.uint64, first_state: int = 0
) -> Maxima:
    """Maxima over the actions ``first .. last - 1`` of a table."""
    own = np.ascontiguousarray(q[:, first:last])
    chunk = Chunk(own, np.zeros(own.shape, np.uint32), RoundStats(0, 0.1), td_abs_sum=last - first)
    return maxima(chunk, (first_state, first), q.shape[1], key)


def rows(best: Maxima) -> list[tuple[float, int]]:
    return list(zip(best.value.tolist(), best.action.tolist(), strict=True))


@given(tables(), ROUND_SEED)
def test_equals_the_reference(q: npt.NDArray[np.float32], at: tuple[int, int]) -> None:
    best = best_of(q, 0, q.shape[1], ties(*at))
    wanted = reference.policy_of(q, *at, timesteps=0)
    assert best.value.tolist() == wanted.value.tolist()
    assert best.action.tolist() == wanted.action.tolist()


@given(tables(), ROUND_SEED, st.data())
def test_any_cut_gives_the_same_winner(
    q: npt.NDArray[np.float32], at: tuple[int, int], data: st.DataObject
) -> None:
    """Pieces of actions in any order (commutative), combined in any nesting (associative)."""
    n, key = q.shape[1], ties(*at)
    cuts = data.draw(st.sets(st.integers(1, n - 1)) if n > 1 else st.just(set()))
    parts = [best_of(q, *edges, key) for edges in pairwise([0, *sorted(cuts), n])]
    while len(parts) > 1:
        a = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        b = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        parts.append(combine(a, b, n, key))
    assert rows(parts[0]) == rows(best_of(q, 0, n, key))
    assert parts[0].td_abs_sum == n


@given(tables(), ROUND_SEED, st.data())
def test_states_are_joined(
    q: npt.NDArray[np.float32], at: tuple[int, int], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(q) - 1))
    n, key = q.shape[1], ties(*at)
    edges = sorted({0, cut, len(q)})
    parts = [best_of(q[a:b], 0, n, key, first_state=a) for a, b in pairwise(edges)]
    assert rows(join(parts)) == rows(best_of(q, 0, n, key))


def test_by_hand() -> None:
    q = np.array([[1.0, 3.0, 2.0], [-5.0, -7.0, -6.0], [0.0, 0.0, 0.5]], np.float32)
    assert rows(best_of(q, 0, 3, ties(0, 0))) == [(3.0, 1), (-5.0, 0), (0.5, 2)]


def test_combining_does_not_write_to_its_arguments() -> None:
    q, key = np.array([[1.0, 3.0]], np.float32), ties(0, 0)
    a, b = best_of(q, 0, 1, key), best_of(q, 1, 2, key)
    assert rows(combine(a, b, 2, key)) == [(3.0, 1)]
    assert (rows(a), rows(b)) == ([(1.0, 0)], [(3.0, 1)])


@pytest.mark.parametrize("n_actions", [2, 3, 7, 40])
def test_ties_are_broken_evenly(n_actions: int) -> None:
    """Over the states of one round, and over the rounds of one state."""
    q = np.zeros((4_000, n_actions), np.float32)
    one_round = best_of(q, 0, n_actions, ties(5, 1)).action
    one_state = [best_of(q[:1], 0, n_actions, ties(5, r)).action[0] for r in range(4_000)]
    for winners in (one_round, one_state):
        assert chisquare(np.bincount(winners, minlength=n_actions)).pvalue > 1e-3


def test_ties_are_broken_independently_of_the_rounds_before() -> None:
    q = np.zeros((9_000, 3), np.float32)
    now, then = (best_of(q, 0, 3, ties(5, r)).action.astype(int) for r in (1, 2))
    assert chisquare(np.bincount(3 * now + then, minlength=9)).pvalue > 1e-3


@pytest.mark.parametrize(
    ("n_actions", "dtype"), [(1, "u1"), (256, "u1"), (257, "u2"), (65537, "u4")]
)
def test_actions_take_as_few_bytes_as_they_can(n_actions: int, dtype: str) -> None:
    assert action_dtype(n_actions) == np.dtype(dtype)


def test_ties_have_no_order_of_reduction() -> None:
    """`reduce` over columns, as a round does it, from the left and from the right."""
    q, key = np.zeros((50, 6), np.float32), ties(1, 2)
    parts = [best_of(q, a, a + 1, key) for a in range(6)]
    left = reduce(lambda a, b: combine(a, b, 6, key), parts)
    right = reduce(lambda a, b: combine(a, b, 6, key), parts[::-1])
    assert rows(left) == rows(right)
    assert len(set(left.action.tolist())) == 6
