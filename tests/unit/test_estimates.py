"""Estimates of the residual by samples: near what is exact, and the same wherever drawn."""

from __future__ import annotations

from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client
from test_exact import keyed

from dqlearn import ResidualEstimate, TabularEnv, estimate_residual, exact
from dqlearn.envs import garnet, torus
from dqlearn.errors import ConfigurationError, NotEnumerableError, RewardError, StateRangeError
from dqlearn.random import uniform


def drawn(s: Any, a: Any, key: Any, params: Any) -> tuple[Any, float, bool]:
    """Go anywhere, which is known only by drawing."""
    return int(uniform(key, 0) * 6), uniform(key, 1) + a, False


KEYED = TabularEnv(6, 2, lambda key, params: 0, drawn)


def test_the_interval_has_the_exact_residual_in_it() -> None:
    """In 40 tries at 0.8, all but a few: Bonferroni makes the intervals wide."""
    model, hits = garnet(20, 3, seed=1), 0
    for seed in range(40):
        q = np.random.default_rng(seed).normal(size=(20, 3))
        exact_one = exact.bellman_residual(q, model, 0.9)
        found = estimate_residual(q, model, 0.9, n_samples=50, confidence=0.8, seed=seed)
        hits += found.residual_lower <= exact_one <= found.residual_upper
    assert hits >= 30


def test_more_samples_are_nearer() -> None:
    model, q = torus(side=5), np.zeros((25, 4))
    few, many = (estimate_residual(q, model, 0.9, n_samples=n) for n in (20, 20_000))
    width = [it.residual_upper - it.residual_lower for it in (few, many)]
    assert width[1] < width[0] / 10
    expected = exact.bellman_residual(q, model, 0.9)
    assert many.residual_lower <= expected <= many.residual_upper


def test_a_model_in_key_form() -> None:
    """Q is the constant expected reward over 1 - gamma, and what actions add: TQ = Q."""
    q = np.array([[0.5, 1.5]] * 6) + 0.5 * 1.5 / 0.5
    found = estimate_residual(q, KEYED, 0.5, n_samples=10_000)
    assert found.residual_lower == 0.0
    assert found.residual_upper < 0.06
    assert found.root_mean_square < 0.01
    off = estimate_residual(q + np.array([0.0, 1.0]), KEYED, 0.5, n_samples=10_000)
    # TQ gains 0.5 in both columns, so the residuals are 0.5 each.
    assert off.residual_lower <= 0.5 <= off.residual_upper
    assert off.root_mean_square == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_chunks_and_schedulers_change_no_bit(scheduler: str) -> None:
    q = np.random.default_rng(0).normal(size=(6, 2))
    whole = estimate_residual(q, KEYED, 0.5)
    with dask.config.set(scheduler=scheduler):
        assert estimate_residual(da.from_array(q, (4, 1)), KEYED, 0.5) == whole


@pytest.mark.cluster
def test_a_cluster_changes_no_bit(client: Client) -> None:
    q = np.random.default_rng(0).normal(size=(6, 2))
    there = estimate_residual(da.from_array(q, (4, 1)), KEYED, 0.5)
    with dask.config.set(scheduler="synchronous"):
        assert estimate_residual(q, KEYED, 0.5) == there


@pytest.mark.parametrize("n_samples", [30, 300])
def test_rare_outcomes_that_were_not_drawn_are_allowed_for(n_samples: int) -> None:
    """Q is exact, and steps that slip are too few to be normal: the interval still reaches to 0."""
    model = torus(side=4)
    q = exact.solve(model, 0.9).q
    for seed in range(20):
        found = estimate_residual(q, model, 0.9, n_samples=n_samples, seed=seed)
        assert found.residual_lower < 1e-8


def test_it_is_shown() -> None:
    found = ResidualEstimate(0.1, 0.3, 0.05, 100, 0.95)
    assert "<td>0.1 .. 0.3</td>" in found._repr_html_()


def escapes(s: Any, a: Any, key: Any, params: Any) -> tuple[int, float, bool]:
    return 5, 0.0, False


def blows(s: Any, a: Any, key: Any, params: Any) -> tuple[int, float, bool]:
    return 0, np.inf, False


@pytest.mark.parametrize(
    ("env", "options", "error", "message"),
    [
        ("Blackjack-v1", {}, NotEnumerableError, "only be sampled"),
        (keyed, {"n_samples": 5}, ConfigurationError, "n_samples"),
        (keyed, {"confidence": 1.0}, ConfigurationError, "confidence must be above 0"),
        (keyed, {"seed": -1}, ConfigurationError, "seed"),
        (escapes, {}, StateRangeError, "got 5"),
        (blows, {}, RewardError, "inf"),
    ],
)
def test_errors(env: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    model = env if isinstance(env, str) else TabularEnv(1, 1, lambda key, params: 0, env)
    with pytest.raises(error, match=message):
        estimate_residual([[0.0]], model, 0.9, **options)
