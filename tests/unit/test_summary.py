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
from dqlearn.kernels.choose import choose_actions
from dqlearn.kernels.summary import action_dtype
from dqlearn.kernels.ties import ties
from dqlearn.random import streams
from dqlearn.stages.summary import Summary, combine, join, summarize
from dqlearn.statistics import RoundStats
from dqlearn.table.chunk import Chunk

SEEDS = st.integers(0, 2**64 - 1)


EPSILON = 0.3
RULES = pytest.mark.parametrize("rule", ALGORITHMS.values(), ids=lambda rule: rule.name)


def tables(
    min_actions: int = 1, max_actions: int = 5
) -> st.SearchStrategy[npt.NDArray[np.float32]]:
    """Tables (state, 2, action) of few different values, so that there are ties."""
    shapes = st.tuples(st.integers(1, 8), st.just(2), st.integers(min_actions, max_actions))
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
@given(tables(), SEEDS)
def test_equals_the_reference(rule: Algorithm, q: npt.NDArray[np.float32], seed_: int) -> None:
    q = q[:, : rule.members]
    n = q.shape[-1]
    best = best_of(q, 0, n, ties(seed_), rule=rule)
    wanted = reference.policy_of(q, seed_, 0, rule.name, EPSILON)
    assert rule.bootstrap(best.found, EPSILON, n).tolist() == wanted.value.ravel().tolist()
    assert rule.greedy(best.found, Extent(n, ties(seed_))).tolist() == wanted.action.tolist()
    assert members(rule.tied(best.found), n) == wanted.tied.tolist()


@pytest.mark.parametrize(
    ("name", "n_actions"),
    [*(("q_learning", n) for n in (1, 2, 5, 24, 200)), ("double_q", 5), ("double_q", 80)],
)
@given(st.data(), SEEDS)
def test_any_cut_gives_the_same_winner(
    name: str, n_actions: int, data: st.DataObject, seed_: int
) -> None:
    """Pieces of actions in any order (commutative), combined in any nesting (associative)."""
    q = data.draw(tables(n_actions, n_actions))
    n, key, rule = q.shape[-1], ties(seed_), as_algorithm(name)
    cuts = data.draw(st.sets(st.sampled_from([c for c in (1, 3, n - 2) if 0 < c < n] or [0]))) - {0}
    parts = [best_of(q, *edges, key, rule=rule) for edges in pairwise([0, *sorted(cuts), n])]
    while len(parts) > 1:
        a = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        b = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        parts.append(combine(a, b, rule, Extent(n, key)))
    assert rows(parts[0]) == rows(best_of(q, 0, n, key, rule=rule))
    assert parts[0].td_abs_sum == n


@RULES
@given(tables(), SEEDS, st.data())
def test_states_are_joined(
    rule: Algorithm, q: npt.NDArray[np.float32], seed_: int, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(q) - 1))
    n, key = q.shape[-1], ties(seed_)
    edges = sorted({0, cut, len(q)})
    parts = [best_of(q[a:b], 0, n, key, first_state=a, rule=rule) for a, b in pairwise(edges)]
    assert rows(join(parts)) == rows(best_of(q, 0, n, key, rule=rule))


def test_by_hand() -> None:
    q = one([[1.0, 3.0, 2.0], [-5.0, -7.0, -6.0], [0.0, 0.0, 0.5]])
    assert rows(best_of(q, 0, 3, ties(0))) == [[[3.0, -5.0, 0.5], [0b010, 0b001, 0b100]]]


def test_each_of_two_tables_values_what_the_other_chooses() -> None:
    """A chooses 1, which B has for 30; B chooses 0, which A has for 1; on average 1 is best."""
    rule = as_algorithm("double_q")
    found = best_of(np.array([[[1, 4, 2], [31, 30, 0]]], np.float32), 0, 3, ties(0), rule=rule)
    assert rule.bootstrap(found.found, 0.5, 3).tolist() == [30.0, 1.0]
    assert rule.greedy(found.found, Extent(3, ties(0))).tolist() == [1]
    assert rule.value(found.found, Extent(3, ties(0))).tolist() == [17.0]


def test_an_expectation_by_hand() -> None:
    """0.8 * 6 + 0.2 * (6 + 0 - 3) / 3."""
    rule = as_algorithm("expected_sarsa")
    found = best_of(one([[6.0, 0.0, -3.0]]), 0, 3, ties(0), rule=rule)
    assert rule.bootstrap(found.found, 0.2, 3).tolist() == [np.float32(5.0)]


def test_combining_does_not_write_to_its_arguments() -> None:
    q, key = one([[1.0, 3.0]]), ties(0)
    a, b = best_of(q, 0, 1, key), best_of(q, 1, 2, key)
    assert rows(combine(a, b, Q_LEARNING, Extent(2, key))) == [[[3.0], [0b10]]]
    assert (rows(a), rows(b)) == ([[[1.0], [0b01]]], [[[3.0], [0b10]]])


@pytest.mark.parametrize("n_actions", [1, 2, 3, 7, 8, 9, 16, 17, 40, 64, 65, 200])
def test_ties_are_broken_evenly(n_actions: int) -> None:
    """By those who act in a state, and over states by the action that stands for its set."""
    q = np.zeros((4_000, 1, n_actions), np.float32)
    found, extent = best_of(q, 0, n_actions, ties(5)).found, Extent(n_actions, ties(5))
    tied, acted = Q_LEARNING.tied(found), np.empty(4_000, np.int64)
    keys = streams(np.uint64(3), np.uint64(1), 0, 4_000)
    choose_actions(keys, 0, np.zeros(4_000, np.int64), tied, np.uint64(0), n_actions, acted)
    for winners in (Q_LEARNING.greedy(found, extent), acted):
        counts = np.bincount(winners, minlength=n_actions)
        assert len(counts) == n_actions
        assert n_actions == 1 or chisquare(counts).pvalue > 1e-3


@given(st.integers(1, 150), st.data())
def test_those_who_act_draw_from_the_tied_actions(n_actions: int, data: st.DataObject) -> None:
    """All of them, none but them, and each of its turn of the key's lower half."""
    best = data.draw(st.sets(st.integers(0, n_actions - 1), min_size=1))
    q = np.zeros((1, 1, n_actions), np.float32)
    q[0, 0, sorted(best)] = 1.0
    tied = Q_LEARNING.tied(best_of(q, 0, n_actions, ties(0)).found)
    keys, acted = streams(np.uint64(7), np.uint64(1), 0, 40 * n_actions), None
    acted = np.empty(len(keys), np.int64)
    choose_actions(keys, 5, np.zeros_like(acted), tied, np.uint64(0), n_actions, acted)
    wanted = [reference.choose(reference.step_key(int(k), 5), sorted(best), 0.0, [0]) for k in keys]
    assert acted.tolist() == wanted
    assert set(acted.tolist()) <= best
    assert len(best) > 5 or set(acted.tolist()) == best


def test_a_score_that_is_no_number_has_an_action() -> None:
    for n_actions in (3, 70):
        q = np.full((2, 1, n_actions), np.nan, np.float32)
        found = best_of(q, 0, n_actions, ties(0)).found
        assert Q_LEARNING.greedy(found, Extent(n_actions, ties(0))).tolist() == [0, 0]


def members(tied: npt.NDArray[Any], n_actions: int) -> list[list[bool]]:
    """Which actions are in each set."""
    words = tied[:, None] if tied.ndim == 1 else tied
    bits = [[int(row[a // 64]) >> a % 64 & 1 == 1 for a in range(n_actions)] for row in words]
    return bits


@pytest.mark.parametrize(
    ("n_actions", "dtype"), [(1, "u1"), (256, "u1"), (257, "u2"), (65537, "u4")]
)
def test_actions_take_as_few_bytes_as_they_can(n_actions: int, dtype: str) -> None:
    assert action_dtype(n_actions) == np.dtype(dtype)


def test_ties_have_no_order_of_reduction() -> None:
    """`reduce` over columns, as a round does it, from the left and from the right."""
    q, key = np.zeros((50, 1, 6), np.float32), ties(1)
    parts = [best_of(q, a, a + 1, key) for a in range(6)]
    left = reduce(lambda a, b: combine(a, b, Q_LEARNING, Extent(6, key)), parts)
    right = reduce(lambda a, b: combine(a, b, Q_LEARNING, Extent(6, key)), parts[::-1])
    assert rows(left) == rows(right)
    assert len(set(Q_LEARNING.greedy(left.found, Extent(6, key)).tolist())) == 6


def own(q: Any, s: Any, a: Any) -> Any:
    return q[s, 0, a]


def test_bad_declarations() -> None:
    with pytest.raises(ConfigurationError, match="behaviour must be the number of a Best"):
        Algorithm("x", (Sum(own),), lambda values, epsilon, n, m: values[0])
    with pytest.raises(ConfigurationError, match="behaviour must be the number of a Best"):
        Algorithm("x", (Best(own),), lambda values, epsilon, n, m: values[0], behaviour=1)
    with pytest.raises(ConfigurationError, match="members must be an integer of at least 1"):
        Algorithm("x", (Best(own),), lambda values, epsilon, n, m: values[0], members=0)
    with pytest.raises(ConfigurationError, match="algorithm must be one of 'q_learning', "):
        as_algorithm("sarsa")


def test_a_target_with_other_arguments() -> None:
    with pytest.raises(ConfigurationError, match=r"target must be a function \(values, epsilon"):
        Algorithm("x", (Best(own),), lambda values, epsilon, n: values[0])
