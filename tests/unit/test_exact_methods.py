"""Modified policy iteration and average reward, against linear algebra and published numbers."""

from __future__ import annotations

from itertools import product
from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_certificates import Tabled, tables
from test_exact import Array, chain, evaluate, of_model, optimal_q

from dqlearn import certify, envs, exact
from dqlearn.envs import garnet, torus
from dqlearn.errors import ConfigurationError
from dqlearn.exact import AverageSolution

Outcomes = dict[int, dict[int, list[tuple[float, int, float, bool]]]]


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), gamma=st.sampled_from([0.0, 0.5, 0.95, 0.9999]))
def test_policies_of_models_without_ends(seed: int, gamma: float) -> None:
    model = garnet(12, 3, seed=seed)
    solution = exact.solve(model, gamma, method="policies")
    expected = optimal_q(of_model(model), gamma)
    np.testing.assert_allclose(solution.q, expected, rtol=1e-12, atol=1e-8)
    assert solution.iterations < 60


@settings(max_examples=25)
@given(table=tables(), gamma=st.sampled_from([0.0, 0.5, 0.99]))
def test_policies_of_models_with_ends(table: Outcomes, gamma: float) -> None:
    env = Tabled(table)
    solution = exact.solve(env, gamma, method="policies")
    by_values = exact.solve(env, gamma)
    np.testing.assert_allclose(solution.q, by_values.q, rtol=0, atol=1e-8)


@pytest.mark.parametrize("tolerance", [1.0, 1e-3, 1e-8])
@pytest.mark.parametrize("model", [garnet(30, 3, seed=2), torus(side=8)], ids=["garnet", "torus"])
def test_the_middle_of_the_interval_is_as_near_as_it_says(tolerance: float, model: Any) -> None:
    loose = exact.solve(model, 0.99, tolerance, method="policies")
    tight = exact.solve(model, 0.99, 1e-11)
    assert np.abs(loose.value - tight.value).max() <= tolerance + 1e-10


def test_near_gamma_1_it_takes_few_sweeps() -> None:
    """Value iteration takes some hundred thousand here."""
    model = envs.TrafficGrid.make()
    solution = exact.solve(model, 0.9999, 1e-6, method="policies")
    assert solution.iterations < 100
    certificate = certify(solution.q, model, 0.9999)
    assert certificate.q_error < 1e-4
    assert (certificate.lower <= solution.value + 1e-6).all()
    assert (solution.value <= certificate.upper + 1e-6).all()


@settings(max_examples=25)
@given(table=tables(), gamma=st.sampled_from([0.0, 0.5, 0.99]), seed=st.integers(0, 100))
def test_values_of_a_policy_by_bounds(table: Outcomes, gamma: float, seed: int) -> None:
    env = Tabled(table)
    policy = np.random.default_rng(seed).integers(len(table[0]), size=len(table))
    found = exact.policy_value(env, policy, gamma, method="policies")
    np.testing.assert_allclose(found, exact.policy_value(env, policy, gamma), rtol=0, atol=1e-8)


def test_values_of_a_policy_near_gamma_1() -> None:
    model, policy = garnet(50, 3, seed=7), np.zeros(50, np.int64)
    found = exact.policy_value(model, policy, 0.99999, 1e-6, max_iterations=100, method="policies")
    np.testing.assert_allclose(found, evaluate(of_model(model), policy, 0.99999), atol=1e-5)


def test_blocks_do_not_matter_to_policies() -> None:
    model = torus(side=400)
    none, both = (
        exact.solve(model, 0.5, 1e-4, max_bytes=room, method="policies") for room in (0, 2**30)
    )
    np.testing.assert_array_equal(none.q, both.q)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gamma": 1.0, "method": "policies"}, "gamma below 1"),
        ({"gamma": 0.9, "method": "guesses"}, "method must be 'values' or 'policies'"),
        ({"gamma": 0.99, "method": "policies", "max_iterations": 1}, "after 1 sweeps"),
    ],
)
def test_errors_of_methods(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        exact.solve(garnet(5, 2), **arguments)


# Average reward


def gain_of(mdp: Any, policy: Any) -> float:
    """Return the average reward of a policy with one recurrent class, by its stationary chances."""
    p, r = mdp
    rows, n = np.arange(len(r)), len(r)
    system = np.vstack([p[rows, policy].T - np.eye(n), np.ones(n)])
    chances = np.linalg.lstsq(system, np.append(np.zeros(n), 1.0), rcond=None)[0]
    return float(chances @ r[rows, policy])


def taxicab() -> Outcomes:
    """Howard's taxicab: three towns; cruise, wait at the stand, or wait for a call."""
    chances = {
        0: ([8, 4, 4], [1, 12, 3], [4, 2, 10]),
        1: ([8, 0, 8], [1, 14, 1], [1, 14, 1]),
        2: ([4, 4, 8], [2, 12, 2], [12, 1, 3]),
    }
    pays = {
        0: ([10, 4, 8], [8, 2, 4], [4, 6, 4]),
        1: ([14, 0, 18], [8, 16, 8], [8, 16, 8]),
        2: ([10, 2, 8], [6, 4, 2], [4, 0, 8]),
    }
    return {
        s: {
            a: [(chances[s][a][k] / 16, k, float(pays[s][a][k]), False) for k in range(3)]
            for a in range(3)
        }
        for s in range(3)
    }


def test_howard_s_taxicab() -> None:
    """Howard (1960), Dynamic programming and Markov processes: 13.34, waiting at the stands."""
    solution = exact.average_reward(Tabled(taxicab()))
    assert solution.gain == pytest.approx(13.3445, abs=5e-5)
    assert solution.policy.tolist() == [1, 1, 1]
    assert solution.bias[0] == 0.0


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_the_gain_of_garnets_is_the_best_of_all_policies(seed: int) -> None:
    """Each of the policies has one recurrent class, or its best class is in reach of all states."""
    model = garnet(5, 2, branching=4, seed=seed)
    mdp = of_model(model)
    solution = exact.average_reward(model)
    best = max(gain_of(mdp, np.array(policy)) for policy in product(range(2), repeat=5))
    assert solution.gain_lower - 1e-9 <= best <= solution.gain_upper + 1e-9
    assert gain_of(mdp, solution.policy) >= solution.gain_lower - 1e-9


def test_discounted_values_agree_with_the_gain() -> None:
    """(1 - gamma) V* tends to the gain, and differences of V* to the bias."""
    model = garnet(40, 3, seed=4)
    average = exact.average_reward(model)
    value: Array = exact.solve(model, 0.99999, method="policies").value
    assert (1 - 0.99999) * value.mean() == pytest.approx(average.gain, abs=1e-4)
    np.testing.assert_allclose(value - value[0], average.bias, atol=1e-3)


def test_a_period_does_no_harm() -> None:
    """Two states in turn, which pay 0 and 3."""
    table = {0: {0: [(1.0, 1, 0.0, False)]}, 1: {0: [(1.0, 0, 3.0, False)]}}
    solution = exact.average_reward(Tabled(table))
    assert solution.gain == pytest.approx(1.5)
    np.testing.assert_allclose(solution.bias, [0.0, 1.5], atol=1e-8)


def test_a_network_s_gain() -> None:
    """The bounds after few sweeps hold the gain after many."""
    model = envs.TrafficGrid.make()
    rough, fine = (exact.average_reward(model, tolerance) for tolerance in (0.1, 1e-8))
    assert rough.gain_lower <= fine.gain_lower <= fine.gain_upper <= rough.gain_upper
    assert rough.iterations < fine.iterations


def apart() -> Outcomes:
    """Two states that never meet, of which the second pays."""
    return {s: {0: [(1.0, s, float(s), False)]} for s in range(2)}


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (chain(), "without ends"),
        (gymnasium.make("FrozenLake-v1"), "without ends"),
        (Tabled(apart()), "between 0 and 1 after 50 sweeps"),
    ],
)
def test_errors_of_the_average(env: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        exact.average_reward(env, max_iterations=50)


def test_an_average_shows_its_gain() -> None:
    solution = AverageSolution(0.5, 1.5, np.zeros(3), np.zeros(3, np.int64), 7)
    assert repr(solution) == "AverageSolution(gain 1 +- 0.5, 3 states, 7 sweeps)"
    assert "<td>0.5 .. 1.5</td>" in solution._repr_html_()
