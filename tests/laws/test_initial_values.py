"""Initial values of each pair: an array or a function, in any chunks, and as good as shaping."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from distributed import Client, LocalCluster
from fused import apart, contents

import dqlearn
from dqlearn import QLearner, TabularEnv
from dqlearn.envs.problems.torus import torus
from dqlearn.errors import ConfigurationError
from dqlearn.random import bernoulli

MODEL = torus(side=5, slip=0.2)
SHAPE = MODEL.n_states, MODEL.n_actions
GUESS = np.random.default_rng(0).normal(size=SHAPE)


def guess(states: npt.NDArray[np.int64]) -> Any:
    return GUESS[states]


def test_before_learning_the_table_has_them() -> None:
    for initial in (GUESS, GUESS.tolist(), guess):
        learner = QLearner(MODEL, initial_value=initial, dtype="float64")
        np.testing.assert_array_equal(learner.table.q.compute(), GUESS)
    both = QLearner(MODEL, initial_value=guess, algorithm="double_q", dtype="float64").table.q
    np.testing.assert_array_equal(both.compute()[:, 1], GUESS)
    each = np.stack([GUESS, -GUESS], axis=1)
    other = QLearner(MODEL, initial_value=each, algorithm="double_q", dtype="float64").table.q
    np.testing.assert_array_equal(other.compute(), each)


def test_any_chunks_and_either_form_have_the_same_bits(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"num_envs": 24, "steps_per_round": 2, "shards": 2, "seed": 1}
    expected = contents(QLearner(MODEL, initial_value=GUESS, **settings).learn(2_000))
    for chunks in ("auto", (7, 4), (25, 1)):
        learner = QLearner(MODEL, initial_value=guess, chunks=chunks, **settings)
        assert contents(learner.learn(2_000)) == expected
    with apart():
        assert contents(QLearner(MODEL, initial_value=guess, **settings).learn(2_000)) == expected
    QLearner(MODEL, initial_value=guess, **settings).learn(500, store=tmp_path)
    resumed = dqlearn.resume(tmp_path, env=MODEL).learn(2_000)
    assert contents(resumed)[0] == expected[0]
    before = dqlearn.open_table(tmp_path, at=0)["q"].values
    np.testing.assert_array_equal(before, GUESS.astype(np.float32))


@pytest.mark.slow
def test_a_cluster_has_the_same_bits() -> None:
    settings: dict[str, Any] = {"num_envs": 24, "steps_per_round": 2, "shards": 2, "seed": 1}
    expected = contents(QLearner(MODEL, initial_value=guess, **settings).learn(1_000))
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        learner = QLearner(MODEL, initial_value=guess, chunks=(7, 4), **settings)
        assert contents(learner.learn(1_000)) == expected


def begin(key: Any, params: Any) -> Any:
    return 0


def move(state: Any, action: Any, key: Any, params: Any) -> Any:
    """A walk to the right, whose rewards are shaped by a potential if `params` says so."""
    potential, shaped = params
    after = min(max(state + (1 if bernoulli(key, 0, 0.7) == (action == 1) else -1), 0), 9)
    over = after == 9
    onward = 0.0 if over else potential[after]
    return after, -1.0 + shaped * (0.9 * onward - potential[state]), over


def test_a_potential_in_the_rewards_is_one_in_the_initial_values() -> None:
    """Wiewiora (2003): update for update, where both act alike."""
    potential = -np.arange(10.0)[::-1]
    settings: dict[str, Any] = {"gamma": 0.9, "epsilon": 1.0, "dtype": "float64", "seed": 2}

    def learned(shaped: float, **more: Any) -> npt.NDArray[np.float64]:
        model = TabularEnv(10, 2, begin, move, params=(potential, shaped))
        return QLearner(model, **settings, **more).learn(5_000).table.q.compute()

    plain = learned(0.0, initial_value=np.repeat(potential[:, None], 2, axis=1))
    by_reward = learned(1.0)
    np.testing.assert_allclose(by_reward[:-1] + potential[:-1, None], plain[:-1], atol=1e-12)


@pytest.mark.parametrize(
    ("initial", "more", "match"),
    [
        (GUESS[:3], {}, "shape"),
        (np.full(SHAPE, np.nan), {}, "finite"),
        ([["a", "b"]], {}, "number, an array"),
        (GUESS, {"sparse": True}, "sparse"),
        (guess, {"sparse": True}, "sparse"),
    ],
)
def test_what_cannot_be_is_refused(initial: Any, more: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        QLearner(MODEL, initial_value=initial, **more)


@pytest.mark.parametrize("returned", [np.zeros(3), "text", np.full(SHAPE, np.inf)])
def test_a_function_must_return_numbers(returned: Any) -> None:
    with pytest.raises(ConfigurationError, match="initial_value must return a number"):
        QLearner(MODEL, initial_value=lambda states: returned, chunks=SHAPE).learn(100)
