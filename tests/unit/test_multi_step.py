"""Returns of several steps: published vectors, numbers worked by hand, and the recursion itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from walks import EPISODES, Walks, walk_error

from dqlearn.algorithms import Returns, as_algorithm, n_step, q_lambda, tree_backup
from dqlearn.algorithms.registry import is_ours
from dqlearn.algorithms.returns import parse_returns
from dqlearn.algorithms.scores import own, score_of
from dqlearn.errors import ConfigurationError
from dqlearn.kernels.windows.links import BEGINS, END, ENDS, OPEN, edges_of_walk, link
from dqlearn.kernels.windows.returns import find_returns, greedy_traces

# The vectors of rlax's QLambdaTest: two sequences of three steps, whose table after a step, q_t, is
# not the one before the next, q_tm1; what bootstraps, and what is greedy, is q_t here.
Q_TM1 = np.array([[[1.1, 2.1], [-1.1, 1.1], [3.1, -3.1]], [[2.1, 3.1], [-1.1, 0.1], [-2.1, -1.1]]])
Q_T = np.array([[[1.2, 2.2], [-1.2, 0.2], [2.2, -1.2]], [[4.2, 2.2], [1.2, 1.2], [-1.2, -2.2]]])
A_TM1 = np.array([[0, 1, 0], [1, 0, 0]])
DISCOUNT = np.array([[0.0, 0.89, 0.85], [0.88, 1.0, 0.83]])
R_T = np.array([[-1.3, -1.3, 2.3], [1.3, 5.3, -3.3]])
LAMBDA = 0.75


def returns_of(
    reward: npt.NDArray[Any],
    discount: npt.NDArray[Any],
    worth: npt.NDArray[Any],
    trace: npt.NDArray[Any],
    n: int,
) -> npt.NDArray[Any]:
    """Returns of sequences (lane, step), whose last step ends an episode, by the kernels."""
    lanes, steps = reward.shape
    lane = np.repeat(np.arange(lanes, dtype=np.int32), steps)
    edge = np.zeros((lanes, steps), np.uint8)
    edge[:, -1] = ENDS
    after, whole = np.empty(reward.size, np.int64), np.empty(reward.size, np.bool_)
    link(lane, edge.ravel(), lanes, n, after, whole)
    assert whole.all()
    y = np.empty(reward.size)
    rows = reward.ravel(), discount.ravel(), np.zeros(reward.size, np.int64)
    find_returns(rows, worth.reshape(-1, 1), trace.ravel(), after, whole, n, y)
    return y.reshape(reward.shape)


def errors(trace: npt.NDArray[Any]) -> npt.NDArray[Any]:
    y = returns_of(R_T, DISCOUNT, Q_T.max(axis=2), trace, 3)
    return y - np.take_along_axis(Q_TM1, A_TM1[..., None], 2)[..., 0]


def test_peng_is_that_of_rlax() -> None:
    expected = [[-2.4, 0.427975, 1.07], [0.69348, 3.478, -2.196]]
    np.testing.assert_allclose(errors(np.full((2, 3), LAMBDA)), expected, rtol=1e-6)


def test_watkins_cuts_where_an_action_is_not_greedy_by_value() -> None:
    """On the same arrays: step 2 of the first explores; in the second an action is tied."""
    state = np.arange(6)
    before = np.concatenate([np.full((2, 1, 2), 9.0), Q_T[:, :-1]], axis=1).reshape(6, 2)
    tied = ((before == before.max(axis=1)[:, None]) * [1, 2]).sum(axis=1).astype(np.uint8)
    trace = np.empty(6)
    greedy_traces(tied, state, A_TM1.ravel(), 2, LAMBDA, False, trace)
    expected = [[-2.4, -2.222, 1.07], [0.69348, 3.478, -2.196]]
    np.testing.assert_allclose(errors(trace.reshape(2, 3)), expected, rtol=1e-6)
    greedy_traces(tied, state, A_TM1.ravel(), 2, LAMBDA, True, trace)
    assert trace.tolist() == [LAMBDA / 2, LAMBDA, 0.0, LAMBDA / 2, LAMBDA, LAMBDA / 2]


def test_sets_of_many_actions_are_asked_as_well() -> None:
    tied = np.array([[0, 1], [1, 0]], np.uint64)  # action 64 of state 0, action 0 of state 1
    trace = np.empty(4)
    state, column = np.array([0, 0, 1, 1]), np.array([64, 0, 64, 100])
    greedy_traces(tied, state, column, 100, 0.5, False, trace)
    assert trace.tolist() == [0.5, 0.0, 0.0, 0.5]  # 100 is action 0 of the second member


def recursion(
    reward: npt.NDArray[Any],
    discount: npt.NDArray[Any],
    worth: npt.NDArray[Any],
    trace: npt.NDArray[Any],
    n: int,
) -> npt.NDArray[Any]:
    """The equation, of each window from its end."""
    steps = reward.shape[1]
    found = np.empty_like(reward)
    for lane, t in np.ndindex(*reward.shape):
        last = min(t + n, steps) - 1
        total = reward[lane, last] + discount[lane, last] * worth[lane, last]
        for j in range(last - 1, t - 1, -1):
            followed = trace[lane, j + 1]
            mixed = (1 - followed) * worth[lane, j] + followed * total
            total = reward[lane, j] + discount[lane, j] * mixed
        found[lane, t] = total
    return found


@given(st.integers(0, 2**32), st.integers(1, 3), st.integers(1, 9), st.integers(1, 12))
def test_the_sum_is_the_recursion(seed: int, lanes: int, steps: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    reward, worth = rng.normal(size=(2, lanes, steps))
    discount = np.where(rng.random((lanes, steps)) < 0.2, 0.0, 0.9)
    trace = rng.choice([0.0, 0.5, 1.0], (lanes, steps))
    expected = recursion(reward, discount, worth, trace, n)
    found = returns_of(reward, discount, worth, trace, n)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_links_follow_an_environment_to_the_end_of_its_episode() -> None:
    """Lanes A and B in turn: B's episode ends in row 3; C was built anew before row 7."""
    lane = np.array([0, 1, 0, 1, 0, 1, 2, 2], np.int32)
    edge = np.array([BEGINS, 0, 0, ENDS, 0, BEGINS, 0, BEGINS], np.uint8)
    after, whole = np.empty(8, np.int64), np.empty(8, np.bool_)
    link(lane, edge, 3, 3, after, whole)
    assert after.tolist() == [2, 3, 4, END, OPEN, OPEN, END, OPEN]
    assert whole.tolist() == [True, True, False, True, False, False, True, False]


def test_edges_of_a_walk_are_those_of_its_episodes() -> None:
    """Two environments, in blocks of one; episodes are cut off after 3 steps, or terminate."""
    elapsed, next_state = np.array([2, 0]), np.array([5, 5, 5, 5, 5, -1, 5, 5])
    lane, edge = np.empty(8, np.int32), np.empty(8, np.uint8)
    edges_of_walk(elapsed, 4, 1, 3, next_state, lane, edge)
    assert lane.tolist() == [0] * 4 + [1] * 4
    assert edge.tolist() == [ENDS, BEGINS, 0, ENDS, BEGINS, ENDS, BEGINS, 0]


@pytest.mark.slow
def test_n_step_prediction_is_that_of_a_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the same walks: Sutton and Barto (2018), section 7.1, one update at a time."""
    seen: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = []
    step = Walks.step

    def watched(walks: Walks, actions: Any) -> Any:
        made = step(walks, actions)
        seen.append((walks.at.copy(), walks.over.copy()))
        return made

    monkeypatch.setattr(Walks, "step", watched)
    error, _ = walk_error("n_step:4", 0.4, 5, seed=3)
    paths = [[(int(at[e]), bool(over[e])) for at, over in seen] for e in range(5)]
    assert error == pytest.approx(np.mean([plain_error(path, 4, 0.4) for path in paths]), rel=1e-12)


def plain_error(path: list[tuple[int, bool]], n: int, alpha: float) -> float:
    """Mean error after each of ten episodes; the step after an end is none."""
    value, errors, steps = np.zeros(21), [], iter(path)
    for _ in range(EPISODES):
        states, rewards, over = [10], [0.0], False
        while not over:
            at, over = next(steps)
            states.append(at)
            rewards.append((at == 20) - (at == 0) if over else 0.0)
            last = len(states) - 1
            for t in range(max(last - n, 0), last if over else last - n + 1):
                target = sum(rewards[t + 1 :]) + (0.0 if over else value[at])
                value[states[t]] += alpha * (target - value[states[t]])
        next(steps, None)
        errors.append(np.sqrt(((value[1:20] - np.arange(-18, 20, 2) / 20) ** 2).mean()))
    return float(np.mean(errors))


# Names


NAMES = ["n_step:1", "n_step:1024", "watkins:0.9:16", "peng:0.5:3", "tree_backup:4"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_stands_for_a_rule(name: str) -> None:
    rule = as_algorithm(name)
    assert rule.name == name
    assert is_ours(rule)
    assert rule.returns == parse_returns(name)
    assert score_of(name) == (1, own)
    assert "returns" in rule.functions


def test_rules_are_made_by_functions_too() -> None:
    assert n_step(4) is as_algorithm("n_step:4")
    assert q_lambda(0.9, 16) == as_algorithm("watkins:.9:16")
    assert q_lambda(0.9, 16, cut="peng") == as_algorithm("peng:0.9:16")
    assert q_lambda(1.0, 4, cut="peng") == n_step(4)  # the same returns
    assert tree_backup(2).returns == Returns(2, trace="shared")
    assert "returns" not in as_algorithm("q_learning").functions  # whose fingerprint stays


@pytest.mark.parametrize(
    "name",
    [
        *("n_step", "n_step:0", "n_step:1025", "n_step:2:3", "n_step:x", "peng:2.0:4"),
        *("peng:nan:4", "watkins:0.5", "watkins:0.5:2.5", "tree_backup:-1", "retrace:0.9:4"),
    ],
)
def test_bad_names(name: str) -> None:
    with pytest.raises(ConfigurationError, match="'n_step:N', 'watkins:LAMBDA:N'"):
        as_algorithm(name)
    assert score_of(name) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: n_step(0), "n must be an integer in 1 .. 1024, got 0"),
        (lambda: n_step(2.5), "n must be an integer"),  # type: ignore[arg-type]
        (lambda: q_lambda(1.5, 4), "lambda_ must be"),
        (lambda: q_lambda(float("nan"), 4), "lambda_ must be"),
        (lambda: q_lambda(0.5, 4, cut="never"), "cut must be"),
        (lambda: tree_backup(2000), "n must be an integer"),
        (lambda: Returns(4, trace="tree"), "trace must be"),
        (lambda: Returns(0), "n_steps must be"),
    ],
)
def test_bad_returns(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()
