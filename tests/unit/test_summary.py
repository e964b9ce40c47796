"""Summary: what every state is worth by each rule, however the table is cut."""

from __future__ import annotations

from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from dqlearn.algorithms import ALGORITHMS, Q_LEARNING, Algorithm, Best, Extent, Sum, as_algorithm
from dqlearn.errors import ConfigurationError
from dqlearn.kernels.summary import action_dtype, ties
from dqlearn.stages.summary import Summary, combine, join, summarize
from dqlearn.statistics import RoundStats
from dqlearn.table.chunk import Chunk

ROUND_SEED = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 10**6))


EPSILON = 0.3
RULES = pytest.mark.parametrize("rule", ALGORITHMS.values(), ids=lambda rule: rule.name)


def tables(max_actions: int = 5) -> st.SearchStrategy[npt.NDArray[np.float32]]:
    """Tables (state, 2, action) of few different values, so that there are ties."""
    shapes = st.tuples(st.integers(1, 8), st.just(2), st.integers(1, max_actions))
    return st.builds(
        lambda shape, seed: np.random.default_rng(seed).integers(-1, 2, shape).astype(np.float32),
        shapes,
        st.integers(0, 2**32),
    )


def best_of(
    q: npt.NDArray[np.float32],
    first: int,
    last: int,
    key: np.uint64,
    first_state: int = 0,
    rule: Algorithm = Q_LEARNING,
) -> Summary:
    """Summary over the actions ``first .. last - 1``, of as many members as a rule has."""
    own = np.ascontiguousarray(q[:, : rule.members, first:last])
    chunk = Chunk(own, np.zeros(own.shape, np.uint32), RoundStats(0, 0.1), td_abs_sum=last - first)
    return summarize(chunk, rule, Extent(q.shape[-1], key, first_state, first))


def rows(found: Summary) -> list[list[list[float]]]:
    return [[column.tolist() for column in columns] for columns in found.found]


def one(values: list[list[float]]) -> npt.NDArray[np.float32]:
    """A table of one member."""
    return np.array(values, np.float32)[:, None]


@RULES
@given(tables(), ROUND_SEED)
def test_equals_the_reference(
    rule: Algorithm, q: npt.NDArray[np.float32], at: tuple[int, int]
) -> None:
    q = q[:, : rule.members]
    n = q.shape[-1]
    best = best_of(q, 0, n, ties(*at), rule=rule)
    wanted = reference.policy_of(q, *at, 0, rule.name, EPSILON)
    assert rule.bootstrap(best.found, EPSILON, n).tolist() == wanted.value.ravel().tolist()
    assert rule.greedy(best.found).tolist() == wanted.action.tolist()


@pytest.mark.parametrize(("name", "max_actions"), [("q_learning", 24), ("double_q", 5)])
@given(st.data(), ROUND_SEED)
def test_any_cut_gives_the_same_winner(
    name: str, max_actions: int, data: st.DataObject, at: tuple[int, int]
) -> None:
    """Pieces of actions in any order (commutative), combined in any nesting (associative)."""
    q = data.draw(tables(max_actions))
    n, key, rule = q.shape[-1], ties(*at), as_algorithm(name)
    cuts = data.draw(st.sets(st.integers(1, n - 1)) if n > 1 else st.just(set()))
    parts = [best_of(q, *edges, key, rule=rule) for edges in pairwise([0, *sorted(cuts), n])]
    while len(parts) > 1:
        a = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        b = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        parts.append(combine(a, b, rule, Extent(n, key)))
    assert rows(parts[0]) == rows(best_of(q, 0, n, key, rule=rule))
    assert parts[0].td_abs_sum == n


@RULES
@given(tables(), ROUND_SEED, st.data())
def test_states_are_joined(
    rule: Algorithm, q: npt.NDArray[np.float32], at: tuple[int, int], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(q) - 1))
    n, key = q.shape[-1], ties(*at)
    edges = sorted({0, cut, len(q)})
    parts = [best_of(q[a:b], 0, n, key, first_state=a, rule=rule) for a, b in pairwise(edges)]
    assert rows(join(parts)) == rows(best_of(q, 0, n, key, rule=rule))


def test_by_hand() -> None:
    q = one([[1.0, 3.0, 2.0], [-5.0, -7.0, -6.0], [0.0, 0.0, 0.5]])
    assert rows(best_of(q, 0, 3, ties(0, 0))) == [[[3.0, -5.0, 0.5], [1, 0, 2]]]


def test_each_of_two_tables_values_what_the_other_chooses() -> None:
    """A chooses 1, which B has for 30; B chooses 0, which A has for 1; on average 1 is best."""
    rule = as_algorithm("double_q")
    found = best_of(np.array([[[1, 4, 2], [31, 30, 0]]], np.float32), 0, 3, ties(0, 0), rule=rule)
    assert rule.bootstrap(found.found, 0.5, 3).tolist() == [30.0, 1.0]
    assert rule.greedy(found.found).tolist() == [1]
    assert rule.value(found.found).tolist() == [17.0]


def test_an_expectation_by_hand() -> None:
    """0.8 * 6 + 0.2 * (6 + 0 - 3) / 3."""
    rule = as_algorithm("expected_sarsa")
    found = best_of(one([[6.0, 0.0, -3.0]]), 0, 3, ties(0, 0), rule=rule)
    assert rule.bootstrap(found.found, 0.2, 3).tolist() == [np.float32(5.0)]


def test_combining_does_not_write_to_its_arguments() -> None:
    q, key = one([[1.0, 3.0]]), ties(0, 0)
    a, b = best_of(q, 0, 1, key), best_of(q, 1, 2, key)
    assert rows(combine(a, b, Q_LEARNING, Extent(2, key))) == [[[3.0], [1]]]
    assert (rows(a), rows(b)) == ([[[1.0], [0]]], [[[3.0], [1]]])


@pytest.mark.parametrize("n_actions", [2, 3, 7, 40])
def test_ties_are_broken_evenly(n_actions: int) -> None:
    """Over the states of one round, and over the rounds of one state."""
    q = np.zeros((4_000, 1, n_actions), np.float32)
    one_round = winners_of(q, 1)
    one_state = np.array([winners_of(q[:1], r)[0] for r in range(4_000)])
    for winners in (one_round, one_state):
        assert chisquare(np.bincount(winners, minlength=n_actions)).pvalue > 1e-3


def winners_of(q: npt.NDArray[np.float32], round_: int) -> npt.NDArray[Any]:
    return Q_LEARNING.greedy(best_of(q, 0, q.shape[-1], ties(5, round_)).found)


def test_ties_are_broken_independently_of_the_rounds_before() -> None:
    q = np.zeros((9_000, 1, 3), np.float32)
    now, then = (winners_of(q, r).astype(int) for r in (1, 2))
    assert chisquare(np.bincount(3 * now + then, minlength=9)).pvalue > 1e-3


@pytest.mark.parametrize(
    ("n_actions", "dtype"), [(1, "u1"), (256, "u1"), (257, "u2"), (65537, "u4")]
)
def test_actions_take_as_few_bytes_as_they_can(n_actions: int, dtype: str) -> None:
    assert action_dtype(n_actions) == np.dtype(dtype)


def test_ties_have_no_order_of_reduction() -> None:
    """`reduce` over columns, as a round does it, from the left and from the right."""
    q, key = np.zeros((50, 1, 6), np.float32), ties(1, 2)
    parts = [best_of(q, a, a + 1, key) for a in range(6)]
    left = reduce(lambda a, b: combine(a, b, Q_LEARNING, Extent(6, key)), parts)
    right = reduce(lambda a, b: combine(a, b, Q_LEARNING, Extent(6, key)), parts[::-1])
    assert rows(left) == rows(right)
    assert len(set(Q_LEARNING.greedy(left.found).tolist())) == 6


def own(q: Any, s: Any, a: Any) -> Any:
    return q[s, 0, a]


def test_bad_declarations() -> None:
    with pytest.raises(ConfigurationError, match="behaviour must be the number of a Best"):
        Algorithm("x", (Sum(own),), lambda values, epsilon, n: values[0])
    with pytest.raises(ConfigurationError, match="behaviour must be the number of a Best"):
        Algorithm("x", (Best(own),), lambda values, epsilon, n: values[0], behaviour=1)
    with pytest.raises(ConfigurationError, match="members must be an integer of at least 1"):
        Algorithm("x", (Best(own),), lambda values, epsilon, n: values[0], members=0)
    with pytest.raises(ConfigurationError, match="algorithm must be one of 'q_learning', "):
        as_algorithm("sarsa")


def test_a_target_of_another_shape() -> None:
    rule = Algorithm("x", (Best(own),), lambda values, epsilon, n: values[0], members=2)
    found = best_of(np.zeros((5, 2, 3), np.float32), 0, 3, ties(0, 0), rule=rule)
    with pytest.raises(ConfigurationError, match=r"shape \(5, 2\), .* got \(5,\)"):
        rule.bootstrap(found.found, 0.0, 3)
