"""Certificates hold: the exact solution is inside, with rational arithmetic as the judge too."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import dask
import dask.array as da
import gymnasium
import numpy as np
import numpy.typing as npt
import pytest
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st
from recipes import RECIPES
from test_exact import Array, chain, evaluate, keyed, of_model, optimal_q

import dqlearn
from dqlearn import Certificate, TabularEnv, certify, envs, exact
from dqlearn.callbacks import Callback, StopWhenCertified
from dqlearn.certificates.bounds import Extremes
from dqlearn.envs import TabularGymEnv, garnet, torus
from dqlearn.errors import (
    ConfigurationError,
    IncompatibleTableError,
    NotEnumerableError,
    ProbabilityError,
    RewardError,
    StateRangeError,
)
from dqlearn.events import TrainingEnd

FAMILIES = [
    name if name == "TrafficGrid-small" else pytest.param(name, marks=pytest.mark.slow)
    for name, recipe in RECIPES.items()
    if recipe.size == "small"
]


def check_holds(certificate: Certificate, q: Array, best: Array, slack: float) -> None:
    """Check all bounds against Q*, which is known up to `slack`."""
    value = best.max(axis=1)
    assert (certificate.lower <= value + slack).all()
    assert (value - slack <= certificate.upper).all()
    assert np.abs(q - best).max() <= certificate.q_error + slack


def loss(mdp: Any, q: Array, best: Array, gamma: float, rng: np.random.Generator) -> Array:
    """Return what a greedy policy is worth less than the best, ties broken at random."""
    top = q == q.max(axis=1, keepdims=True)
    policy = np.where(top, rng.random(q.shape), -1.0).argmax(axis=1)
    return best.max(axis=1) - evaluate(mdp, policy, gamma)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    n_states=st.integers(1, 12),
    n_actions=st.integers(1, 4),
    gamma=st.sampled_from([0.0, 0.5, 0.95, 0.999]),
    scale=st.sampled_from([0.0, 1e-6, 1.0, 100.0]),
    shift=st.sampled_from([0.0, -30.0, 30.0]),
)
def test_random_models(
    seed: int, n_states: int, n_actions: int, gamma: float, scale: float, shift: float
) -> None:
    """The values of garnets, near the optimum and far from it, above it and below."""
    model, rng = garnet(n_states, n_actions, seed=seed), np.random.default_rng(seed)
    mdp = of_model(model)
    best = optimal_q(mdp, gamma)
    noise = rng.integers(-2, 3, best.shape) if seed % 2 else rng.normal(size=best.shape)
    q = (best + shift + scale * noise).astype(np.float32)
    certificate = certify(q, model, gamma)
    check_holds(certificate, q, best, 1e-9)
    lost = loss(mdp, q, best, gamma, rng)
    assert lost.max() <= certificate.policy_loss + 1e-9
    assert (best.max(axis=1) - lost >= certificate.policy_lower - 1e-9).all()
    if gamma < 1.0:
        most = 2 * certificate.residual / (1 - gamma)
        assert certificate.policy_loss <= most * (1 + 1e-9) + 1e-12


class Tabled(gymnasium.Env[int, int]):
    """An environment that follows a table."""

    def __init__(self, table: Any) -> None:
        self.P, n = table, len(table)
        self.initial_state_distrib = np.full(n, 1 / n)


@st.composite
def tables(draw: st.DrawFn) -> dict[int, dict[int, list[tuple[float, int, float, bool]]]]:
    """Draw a table with ends, absorbing states, and equal rewards."""
    n_states, n_actions = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    outcome = st.tuples(
        st.sampled_from([1, 2, 5]),
        st.integers(0, n_states - 1),
        st.sampled_from([-1.0, 0.0, 1.0, 0.1]),
        st.booleans(),
    )
    table: dict[int, dict[int, list[tuple[float, int, float, bool]]]] = {}
    for s in range(n_states):
        table[s] = {}
        for a in range(n_actions):
            found = draw(st.lists(outcome, min_size=1, max_size=4))
            whole = sum(weight for weight, *_ in found)
            table[s][a] = [(w / whole, after, r, ends) for w, after, r, ends in found]
    return table


@settings(max_examples=40)
@given(table=tables(), gamma=st.sampled_from([0.0, 0.5, 0.9]), seed=st.integers(0, 100))
def test_random_tables(table: Any, gamma: float, seed: int) -> None:
    model, rng = envs.from_table(Tabled(table)), np.random.default_rng(seed)
    mdp = of_model(model)
    best = optimal_q(mdp, gamma)
    q = best + rng.integers(-1, 2, best.shape)
    certificate = certify(q, Tabled(table), gamma)
    check_holds(certificate, q, best, 1e-9)
    assert loss(mdp, q, best, gamma, rng).max() <= certificate.policy_loss + 1e-9


def third(s: Any, a: Any, params: Any) -> tuple[float, float]:
    return 0.1, 0.7


def hop(s: Any, a: Any, happened: Any, params: Any) -> tuple[Any, float, bool]:
    return (s + happened + a) % 7, 0.1 * happened - 1e8 * (happened == 3), s == 6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_is_bounded_in_rational_numbers(dtype: Any) -> None:
    """The residual, with the float64 numbers of the model taken as they are, is not exceeded."""
    model = TabularEnv(7, 2, lambda key, params: 0, hop, third, 2)
    q = np.random.default_rng(0).normal(size=(7, 2)).astype(dtype) * dtype(1e7)
    gamma, chances = Fraction(0.9), (Fraction(0.1), Fraction(0.7))
    value = [max(map(Fraction, row.tolist())) for row in q]
    residual = Fraction(0)
    for s in range(7):
        for a in range(2):
            total = Fraction(0)
            for k in range(4):
                p = (chances[0] if k & 1 else 1 - chances[0]) * (
                    chances[1] if k & 2 else 1 - chances[1]
                )
                after, r, ends = hop(s, a, k, ())
                total += p * (Fraction(r) + (0 if ends else gamma * value[after]))
            residual = max(residual, abs(total - Fraction(float(q[s, a]))))
    certificate = certify(q, model, 0.9)
    assert (
        residual <= Fraction(certificate.residual) <= residual + 3 * Fraction(certificate.rounding)
    )
    assert 0.0 < certificate.rounding < 1e-6


@pytest.mark.parametrize("name", FAMILIES)
def test_small_networks(name: str) -> None:
    """Every small network: a table that is nearly right, one of zeros, and float32 of the best."""
    recipe = RECIPES[name]
    model, gamma = getattr(envs, recipe.name).make(recipe.size), recipe.gamma
    best = exact.solve(model, gamma, tolerance=1e-10)
    rng = np.random.default_rng(0)
    for q in (best.q, 0.0 * best.q, best.q + rng.normal(size=best.q.shape)):
        single = q.astype(np.float32)
        certificate = certify(single, model, gamma)
        check_holds(certificate, single, best.q, 1e-9)
        worth = exact.policy_value(model, single.argmax(axis=1), gamma, tolerance=1e-10)
        assert (certificate.policy_lower <= worth + 1e-9).all()
        assert (best.value - worth).max() <= certificate.policy_loss + 1e-9


def test_a_float32_copy_of_the_best_is_certified_to_its_rounding() -> None:
    model = garnet(200, 4, seed=3)
    best = exact.solve(model, 0.9, tolerance=1e-12)
    certificate = certify(best.q.astype(np.float32), model, 0.9)
    ulp = float(np.spacing(np.float32(best.value.max())))
    assert 0.0 < certificate.residual <= 2 * ulp
    assert certificate.policy_loss <= 40 * ulp
    assert certificate.rounding < 1e-12


def test_gamma_0() -> None:
    """Without a future V* is the best expected reward, and nothing is uncertain but rounding."""
    model = garnet(20, 3, seed=1)
    rewards = of_model(model)[1]
    certificate = certify(np.zeros((20, 3), np.float32), model, 0.0)
    np.testing.assert_allclose(certificate.lower, rewards.max(axis=1), atol=1e-15)
    np.testing.assert_allclose(certificate.upper, rewards.max(axis=1), atol=1e-15)
    assert certificate.q_error == pytest.approx(rewards.max(), abs=1e-14)
    assert certificate.policy_loss == pytest.approx(np.ptp(rewards, axis=1).max(), abs=1e-14)


def test_an_absorbing_state() -> None:
    """A loop without rewards is no end, but is worth as much as one."""

    def stay(s: Any, a: Any, happened: Any, params: Any) -> tuple[Any, float, bool]:
        return (s if s == 1 or not happened else 1), 0.0 if s == 1 else -1.0, False

    model = TabularEnv(2, 1, lambda key, params: 0, stay, lambda s, a, params: (0.5,), 1)
    q = np.array([[-1.0 / (1 - 0.45)], [0.0]])
    certificate = certify(q, model, 0.9)
    assert certificate.policy_loss < 1e-12
    assert certificate.lower[1] <= 0.0 <= certificate.upper[1]


def test_episodes_that_all_may_end_shrink_more() -> None:
    """Where each pair ends with chance 1/2, gamma = 1 is as gamma = 1/2 without ends."""

    def toss(s: Any, a: Any, happened: Any, params: Any) -> tuple[int, float, bool]:
        return 0, 1.0, bool(happened)

    model = TabularEnv(1, 1, lambda key, params: 0, toss, lambda s, a, params: (0.5,), 1)
    certificate = certify(np.array([[1.0]]), model, gamma=1.0)
    assert certificate.lower[0] <= 2.0 <= certificate.upper[0]
    assert certificate.width < 1e-8
    assert certificate.q_error == pytest.approx(1.0)


def test_gamma_1_bounds_the_residual_alone() -> None:
    certificate = certify(np.zeros((48, 4)), "CliffWalking-v1", gamma=1.0)
    assert certificate.residual == pytest.approx(100.0)
    assert certificate.q_error == certificate.policy_loss == np.inf
    assert certificate.lower.max() == -np.inf
    assert "inf" in repr(certificate)


def test_a_policy_of_ties_is_as_bad_as_the_worst_of_them() -> None:
    """All values are equal, and one of the two actions earns nothing."""
    certificate = certify(np.zeros((2, 2)), chain(), 0.8)
    assert certificate.policy_loss >= 1.0 - 1e-12
    # State 1 pays under both actions: waiting in 0 for ever loses V(0) = 2/3.
    assert certificate.policy_lower[0] <= 0.0


def test_a_time_limit_changes_nothing() -> None:
    q = np.zeros((16, 4), np.float32)
    limited = certify(q, "FrozenLake-v1", 0.9)
    free = certify(q, gymnasium.make("FrozenLake-v1").unwrapped, 0.9)
    np.testing.assert_array_equal(limited.lower, free.lower)
    np.testing.assert_array_equal(limited.upper, free.upper)


def bits(certificate: Certificate) -> tuple[bytes, ...]:
    arrays = (certificate.lower, certificate.upper, certificate.policy_lower)
    numbers = (certificate.residual, certificate.rounding, certificate.policy_loss)
    return *(array.tobytes() for array in arrays), np.array(numbers).tobytes()


@pytest.mark.parametrize("chunks", [(7, 4), (100, 1), (33, 3)])
@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_the_chunks_and_the_scheduler_change_no_bit(chunks: Any, scheduler: str) -> None:
    model, q = garnet(100, 4, seed=5), np.random.default_rng(5).normal(size=(100, 4))
    whole = certify(q, model, 0.9)
    with dask.config.set(scheduler=scheduler):
        assert bits(certify(da.from_array(q, chunks), model, 0.9)) == bits(whole)


@pytest.mark.cluster
def test_a_cluster_changes_no_bit(client: Client) -> None:
    model, q = garnet(100, 4, seed=5), np.random.default_rng(5).normal(size=(100, 4))
    there = certify(da.from_array(q, (30, 2)), model, 0.9)
    with dask.config.set(scheduler="synchronous"):
        assert bits(certify(q, model, 0.9)) == bits(there)


@pytest.mark.parametrize("form", ["learner", "table", "dataset", "stored", "array"])
def test_forms_of_a_table(form: str, tmp_path: Any) -> None:
    """All say the same of one table."""
    learner = dqlearn.QLearner(torus(side=6), gamma=0.9, seed=0, chunks=(10, 2))
    learner.learn(20_000, store=tmp_path / "run")
    expected = bits(certify(learner.table, learner.model, 0.9))
    env: Any = learner.model
    if form == "learner":
        assert bits(certify(learner)) == expected
    elif form == "stored":
        assert bits(certify(dqlearn.open_table(tmp_path / "run"), env)) == expected
    elif form == "dataset":
        assert bits(certify(learner.table.to_xarray(), TabularGymEnv(env))) == expected
    else:
        q = learner.table.q.compute() if form == "array" else learner.table
        assert bits(certify(q, env, 0.9)) == expected


def test_factors_of_a_state_may_have_any_name() -> None:
    """Those of a learner or a table of ours, too."""
    model = replace(torus(side=4), state_dims={"grid": 2, "table": 4, "model": 2}, picture=None)
    table = dqlearn.QLearner(model, gamma=0.9, num_envs=2, shards=1).table.to_xarray()
    assert bits(certify(table, model)) == bits(certify(table["q"].values, model, 0.9))


def test_of_members_the_mean_is_certified() -> None:
    learner = dqlearn.QLearner(
        torus(side=4), gamma=0.9, seed=0, algorithm="double_q", learning_rate=0.5
    ).learn(50_000)
    certificate, best = certify(learner), exact.solve(torus(side=4), 0.9)
    mean: npt.NDArray[Any] = learner.table.q.compute().mean(axis=1, dtype=np.float64)
    check_holds(certificate, mean, best.q, 1e-8)
    policy = learner.table.policy.compute().astype(np.int64)
    worth = exact.policy_value(torus(side=4), policy, 0.9)
    assert (best.value - worth).max() <= certificate.policy_loss + 1e-8


def test_it_can_be_unfolded_and_shown() -> None:
    certificate = certify(np.zeros((16, 4)), torus(side=4), 0.5)
    unfolded = dqlearn.unfold(certificate.to_xarray())
    assert unfolded["upper"].dims == ("row", "column")
    assert unfolded["lower"].attrs["units"] == "reward"
    assert "|Q - Q*|" in certificate._repr_html_()


def test_bounds_that_rise_and_fall() -> None:
    """MacQueen's numbers by hand: gamma = 1/2, c = -1, C = 2, and 1/4 of some pairs end."""
    extremes = Extremes(2.0, 0.0, 0.0, 0.25, -1.0, 2.0, -1.0)
    assert extremes.lower(0.5) == pytest.approx(0.5 * -1.0 / 0.5)
    assert extremes.upper(0.5) == pytest.approx(0.5 * 2.0 / 0.5)
    rising = Extremes(2.0, 0.0, 0.0, 0.25, 1.0, 2.0, 1.0)
    assert rising.lower(0.5) == pytest.approx(0.375 * 1.0 / 0.625)
    assert rising.lower(0.5) <= 0.6
    falling = Extremes(2.0, 0.0, 0.0, 1.0, -2.0, -1.0, -2.0)
    assert falling.upper(0.5) == pytest.approx(0.0, abs=1e-9)


def outside(s: Any, a: Any, happened: Any, params: Any) -> tuple[int, float, bool]:
    return 9, 0.0, False


def half(s: Any, a: Any, params: Any) -> tuple[float]:
    return (0.5,)


@pytest.mark.parametrize(
    ("table", "env", "gamma", "error", "message"),
    [
        ([[0.0]], "CartPole-v1", 0.9, ConfigurationError, "Box"),
        ([[0.0]], "Blackjack-v1", 0.9, NotEnumerableError, "only be sampled"),
        (
            [[0.0]],
            TabularEnv(1, 1, lambda key, params: 0, keyed),
            0.9,
            NotEnumerableError,
            "key form",
        ),
        ([[0.0]], chain(), 0.9, IncompatibleTableError, r"shape \(2, 2\)"),
        ([[0.0, np.nan]] * 2, chain(), 0.9, IncompatibleTableError, "finite"),
        ([[0.0, 0.0]] * 2, chain(), 1.5, ConfigurationError, "gamma must be in 0 .. 1"),
        ([[0.0, 0.0]] * 2, chain(), None, ConfigurationError, "pass gamma="),
        ([[0.0, 0.0]] * 2, None, 0.9, ConfigurationError, "env is needed"),
        ("a table", chain(), 0.9, ConfigurationError, "table must be"),
        ([[0.0, 0.0]] * 2, chain(p=1.5), 0.9, ProbabilityError, "probability"),
        ([[0.0, 0.0]] * 2, chain(p=np.nan), 0.9, ProbabilityError, "nan"),
        ([[0.0, 0.0]] * 2, chain(reward=np.inf), 0.9, RewardError, "inf"),
        (
            [[0.0]],
            TabularEnv(1, 1, lambda key, params: 0, outside, half, 1),
            0.9,
            StateRangeError,
            "got 9",
        ),
    ],
)
def test_errors(table: Any, env: Any, gamma: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        certify(table, env, gamma)


@pytest.mark.parametrize("enough", [True, False])
def test_learning_stops_when_it_is_proved_to_be_good(enough: bool) -> None:
    """A chance of steps to one side, rewards of one: what is proved is so."""
    model, eps = torus(side=4, slip=0.0), 0.05 if enough else 1e-9
    proof, ends = StopWhenCertified(eps, every=5), EndedBy()
    learner = dqlearn.QLearner(model, gamma=0.8, epsilon=1.0, learning_rate=0.5, seed=0)
    learner.learn(600_000 if enough else 100_000, callback=[proof, ends])
    assert proof.certificate is not None
    assert proof.history[-1][1] == proof.certificate.policy_loss
    assert (proof.certificate.policy_loss <= eps) == enough
    assert ends.reason.startswith("the policy loses at most") == enough
    assert len(proof.history) == 1 or proof.history[0][1] > eps


class EndedBy(Callback):
    """Keeps the reason why learning has ended."""

    every_rounds = None
    reason = ""

    def on_training_end(self, event: TrainingEnd) -> None:
        self.reason = event.reason


@pytest.mark.parametrize(("eps", "every"), [(0.0, 1), (np.inf, 1), (1.0, 0), (1.0, 1.5)])
def test_a_proof_that_cannot_be(eps: Any, every: Any) -> None:
    with pytest.raises(ConfigurationError):
        StopWhenCertified(eps, every)


def in_a_task() -> tuple[bytes, ...]:
    """Learn and certify where this runs."""
    learner = dqlearn.QLearner(torus(side=4), gamma=0.8, seed=0, num_envs=64, shards=2)
    learner.learn(10_000, callback=StopWhenCertified(1e-9, every=20))
    return bits(certify(learner))


@pytest.mark.cluster
def test_learners_in_tasks_are_certified_there(client: Client) -> None:
    """The task does not wait for the cluster that waits for it."""
    there = client.submit(in_a_task, pure=False).result(timeout=120)
    with dask.config.set(scheduler="threads"):
        assert there == in_a_task()


@pytest.mark.cluster
def test_it_stops_on_a_cluster_after_as_many_transitions(client: Client) -> None:
    made = []
    for scheduler in (None, "synchronous"):
        with dask.config.set({} if scheduler is None else {"scheduler": scheduler}):
            proof = StopWhenCertified(0.05, every=20)
            model = torus(side=4, slip=0.0)
            learner = dqlearn.QLearner(
                model, gamma=0.8, epsilon=1.0, learning_rate=0.5, seed=0, num_envs=256, shards=2
            )
            made.append((learner.learn(2_000_000, callback=proof).num_timesteps, proof.history))
    assert made[0] == made[1]


def test_a_learner_of_a_python_environment_is_refused_by_its_name() -> None:
    learner = dqlearn.QLearner("FrozenLake-v1", compile=False, num_envs=2, shards=1)
    with pytest.raises(NotEnumerableError, match="QLearner"):
        certify(learner)


def test_a_sparse_table_is_refused() -> None:
    learner = dqlearn.QLearner("dqlearn/Torus-v0", num_envs=64, sparse=True, seed=0).learn(640)
    with pytest.raises(IncompatibleTableError, match="sparse"):
        certify(learner)


def test_a_table_out_of_core_is_certified() -> None:
    """From its files, with the bits of the same table in memory."""
    found = []
    for limit in ("1 B", "1 GiB"):
        with dask.config.set({"dqlearn.memory-limit": limit}):
            learner = dqlearn.QLearner(
                torus(side=32), gamma=0.9, seed=0, exchange="gather", chunks=(300, 2), num_envs=256
            ).learn(20_000)
            found.append((bits(certify(learner)), "out of core" in repr(learner)))
    assert found[0][0] == found[1][0]
    assert [out for _, out in found] == [True, False]
