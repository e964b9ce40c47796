"""Exact solutions against linear algebra, hand-made chains, and each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dqlearn import exact
from dqlearn.envs.faces.gym_view import TabularGymEnv
from dqlearn.envs.problems.garnet import garnet
from dqlearn.envs.problems.torus import torus
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import ConfigurationError, RewardError, StateRangeError

Array = npt.NDArray[np.float64]
Dense = tuple[Array, Array]


def dense(outcomes: Callable[[int, int], Any], n_states: int, n_actions: int) -> Dense:
    """Return P (S, A, S), without what terminates, and expected rewards (S, A)."""
    p, r = np.zeros((n_states, n_actions, n_states)), np.zeros((n_states, n_actions))
    for s, a in np.ndindex(n_states, n_actions):
        for chance, after, reward, terminated in outcomes(s, a):
            r[s, a] += chance * reward
            p[s, a, after] += 0.0 if terminated else chance
    return p, r


def evaluate(mdp: Dense, policy: npt.NDArray[Any], gamma: float) -> Array:
    """Solve (I - gamma P_policy) v = r_policy."""
    p, r = mdp
    rows = np.arange(len(r))
    return np.linalg.solve(np.eye(len(r)) - gamma * p[rows, policy], r[rows, policy])


def optimal_q(mdp: Dense, gamma: float) -> Array:
    """Policy iteration: evaluate, improve, until no action is better by more than rounding."""
    p, r = mdp
    policy = np.zeros(len(r), np.int64)
    while True:
        q = r + gamma * p @ evaluate(mdp, policy, gamma)
        rows = np.arange(len(r))
        better = q.max(axis=1) > q[rows, policy] + 1e-12
        if not better.any():
            return q
        policy = np.where(better, q.argmax(axis=1), policy)


def of_model(model: TabularEnv) -> Dense:
    return dense(model.outcomes, model.n_states, model.n_actions)


def of_table(env: gymnasium.Env[Any, Any]) -> Dense:
    table: Any = env.unwrapped.P
    return dense(lambda s, a: table[s][a], len(table), len(table[0]))


def chain(p: float = 0.5, reward: float = 1.0) -> TabularEnv:
    """State 0: wait for nothing, or try to reach state 1; state 1: leave for a reward."""

    def transition(s: Any, a: Any, happened: Any, params: Any) -> tuple[int, float, bool]:
        if s == 1:
            return 0, params[1], True
        return (1 if a == 1 and happened else 0), 0.0, False

    return TabularEnv(
        2, 2, lambda key, params: 0, transition, lambda s, a, params: (params[0],), 1, (p, reward)
    )


def test_chain_by_hand() -> None:
    """V(1) = 1; V(0) = 0.8 (V(1) + V(0)) / 2 = 0.8 / 1.2; to wait is worth 0.8 of it."""
    solution = exact.solve(chain(), gamma=0.8, tolerance=1e-12)
    two_thirds = 2 / 3
    np.testing.assert_allclose(solution.q, [[0.8 * two_thirds, two_thirds], [1, 1]], atol=1e-12)
    np.testing.assert_array_equal(solution.value, solution.q.max(axis=1))
    assert solution.policy.tolist() == [1, 0]
    assert solution.residual * 0.8 / 0.2 <= 1e-12


def test_chain_undiscounted() -> None:
    """Without a discount one tries until it works."""
    np.testing.assert_allclose(exact.solve(chain(), gamma=1.0).value, [1.0, 1.0], atol=1e-8)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    n_states=st.integers(1, 12),
    n_actions=st.integers(1, 4),
    branching=st.sampled_from([1, 2, 4]),
    gamma=st.sampled_from([0.0, 0.5, 0.95]),
)
def test_random_models(
    seed: int, n_states: int, n_actions: int, branching: int, gamma: float
) -> None:
    """The solution, the value of a policy and the residual, against linear algebra."""
    model = garnet(n_states, n_actions, branching, seed)
    mdp = of_model(model)
    solution = exact.solve(model, gamma)
    np.testing.assert_allclose(solution.q, optimal_q(mdp, gamma), rtol=0, atol=1e-9)
    policy = np.random.default_rng(seed).integers(n_actions, size=n_states)
    value = exact.policy_value(model, policy, gamma)
    np.testing.assert_allclose(value, evaluate(mdp, policy, gamma), rtol=0, atol=1e-9)
    q = np.random.default_rng(seed).normal(size=(n_states, n_actions))
    by_hand = np.abs(mdp[1] + gamma * mdp[0] @ q.max(axis=1) - q).max()
    assert exact.bellman_residual(q, model, gamma) == pytest.approx(by_hand)


@pytest.mark.parametrize("slip", [0.0, 0.3, 1.0])
def test_torus(slip: float) -> None:
    model = torus(side=5, slip=slip, step_reward=-0.1)
    np.testing.assert_allclose(
        exact.solve(model, 0.9).q, optimal_q(of_model(model), 0.9), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("tolerance", [1.0, 1e-2, 1e-5])
def test_stopping_rule_bounds_the_error(tolerance: float) -> None:
    """It stops as soon as it may, and no value is further off than it says."""
    model = garnet(30, 3, seed=2)
    loose, tight = exact.solve(model, 0.9, tolerance), exact.solve(model, 0.9, 1e-12)
    assert np.abs(loose.q - tight.q).max() <= tolerance
    assert loose.iterations < tight.iterations
    assert exact.bellman_residual(loose.q, model, 0.9) <= loose.residual


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("FrozenLake-v1", {}),
        ("FrozenLake-v1", {"map_name": "8x8", "is_slippery": False}),
        ("CliffWalking-v1", {"is_slippery": True}),
    ],
)
def test_gymnasium_tables(name: str, kwargs: dict[str, Any]) -> None:
    env = gymnasium.make(name, **kwargs)
    solution = exact.solve(env, gamma=0.97)
    expected = optimal_q(of_table(env), 0.97)
    np.testing.assert_allclose(solution.q, expected, rtol=0, atol=1e-9)


def as_model(env: gymnasium.Env[Any, Any]) -> TabularEnv:
    """Write a table of at most 3 equally likely outcomes as a model: events of 1/3 and 1/2."""
    table: Any = env.unwrapped.P
    shape = (len(table), len(table[0]), 3)
    after, reward, ends = np.empty(shape, int), np.empty(shape), np.empty(shape, bool)
    for s, a, k in np.ndindex(*shape):
        _, after[s, a, k], reward[s, a, k], ends[s, a, k] = table[s][a][k % len(table[s][a])]

    def transition(s: Any, a: Any, happened: Any, params: Any) -> tuple[Any, Any, Any]:
        k = 0 if happened & 1 else 1 + (happened >> 1)
        return params[0][s, a, k], params[1][s, a, k], params[2][s, a, k]

    return TabularEnv(
        shape[0],
        shape[1],
        lambda key, params: 0,
        transition,
        lambda s, a, params: (1 / 3, 1 / 2),
        n_events=2,
        params=(after, reward, ends),
    )


@pytest.mark.parametrize("gamma", [0.9, 1.0])
def test_a_table_and_a_model_of_it_are_one(gamma: float) -> None:
    env = gymnasium.make("FrozenLake-v1")
    model = as_model(env)
    expected = exact.solve(env, gamma).q
    np.testing.assert_allclose(exact.solve(model, gamma).q, expected, rtol=0, atol=1e-8)
    viewed = gymnasium.wrappers.TimeLimit(TabularGymEnv(model), 3)
    np.testing.assert_array_equal(exact.solve(viewed, gamma).q, exact.solve(model, gamma).q)


def test_blocks_kept_or_made_anew() -> None:
    """5.1 million outcomes are two blocks: with room for none, one or both, the same bits."""
    model = torus(side=400)
    one_block = 131_072 * 4 * (12 + 4 * 12)
    none, one, both = (
        exact.solve(model, 0.5, 1e-4, max_bytes=room) for room in (0, one_block + 100, 2**30)
    )
    assert none.iterations > 2
    for solution in (none, one):
        np.testing.assert_array_equal(solution.q, both.q)


class Tabled(gymnasium.Env[int, int]):
    """An environment that is nothing but a table."""

    def __init__(self, *outcomes: tuple[float, int, float, bool]) -> None:
        self.P = {0: {0: list(outcomes)}}


def keyed(s: Any, a: Any, key: Any, params: Any) -> tuple[int, float, bool]:
    return 0, 0.0, False


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: exact.solve(chain(), 1.1), ConfigurationError, "gamma must be in 0 .. 1"),
        (lambda: exact.solve(garnet(5, 2), 1.0, max_iterations=9), ConfigurationError, "9 sweeps"),
        (lambda: exact.solve(chain(p=1.5), 0.9), ConfigurationError, "probability"),
        (
            lambda: exact.solve(chain(p=np.nan), 0.9),
            ConfigurationError,
            "nan of event 0 in state 0",
        ),
        (lambda: exact.solve(chain(reward=np.inf), 0.9), RewardError, "inf in state 1, action 0"),
        (
            lambda: exact.solve(TabularEnv(1, 1, lambda key, params: 0, keyed), 0.9),
            ConfigurationError,
            "events form",
        ),
        (lambda: exact.solve(gymnasium.make("CartPole-v1"), 0.9), ConfigurationError, "table P"),
        (lambda: exact.solve(Tabled((0.5, 0, 0.0, True)), 0.9), ConfigurationError, "add up to 1"),
        (lambda: exact.solve(Tabled((1.0, 1, 0.0, True)), 0.9), StateRangeError, "0 .. 0, got 1"),
        (lambda: exact.policy_value(chain(), [0], 0.9), ConfigurationError, "2 integers in 0 .. 1"),
        (lambda: exact.policy_value(chain(), [0, 2], 0.9), ConfigurationError, "0 .. 1"),
        (lambda: exact.bellman_residual([[0.0]], chain(), 0.9), ConfigurationError, "shape"),
    ],
)
def test_errors(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
