"""Masks of actions: what is not valid is never tried, and counts for nothing."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import dask
import gymnasium
import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr
from distributed import Client
from fused import apart, contents
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from killing import killed_in_turn, two_workers
from reference import Settings
from reference import learn as by_hand

import dqlearn
from dqlearn import Policy, QLearner, TabularEnv, exact
from dqlearn.cli.comparing import compared
from dqlearn.envs.faces.gym_view import TabularGymEnv
from dqlearn.envs.from_tables import from_table
from dqlearn.errors import ActionMaskError, BadRowError, ConfigurationError, SpaceError
from dqlearn.random import integers
from dqlearn.schedules import VisitCount
from dqlearn.testing import check_model

N, ACTIONS = 20, 5
RULES = ["q_learning", "double_q", "expected_sarsa"]
SLOW = pytest.mark.slow  # each rule compiles kernels of its own


def initial(key: Any, params: Any) -> Any:
    return integers(key, 0, N - 1)


def events(state: Any, action: Any, params: Any) -> Any:
    return (0.8, 0.3)


def transition(state: Any, action: Any, happened: Any, params: Any) -> Any:
    """Walk to the end; what is not valid would pay a fortune."""
    step = action - 2 if happened & 1 else 0
    after = min(max(state + step + ((happened >> 1) & 1), 0), N - 1)
    valid = (state * 7 + action * 3) % 5 < 3
    return after, (-1.0 if valid else 1e6), after == N - 1


def valid(state: Any, action: Any, params: Any) -> Any:
    return state < N - 1 and (state * 7 + action * 3) % 5 < 3


def everything(state: Any, action: Any, params: Any) -> Any:
    return action >= 0


def nothing_at_five(state: Any, action: Any, params: Any) -> Any:
    return state != 5


def model_of(mask: Any = valid) -> TabularEnv:
    return TabularEnv(N, ACTIONS, initial, transition, events, n_events=2, valid=mask)


MODEL = model_of()
MASKS = MODEL.masks(np.arange(N))


class Face(gymnasium.Env[Any, Any]):
    """The model as an environment that nobody takes for a model, and that is strict."""

    def __init__(self) -> None:
        self.inner = TabularGymEnv(MODEL)
        self.observation_space, self.action_space = spaces.Discrete(N), spaces.Discrete(ACTIONS)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        return self.inner.reset(seed=seed)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step; an action that is not valid is an error."""
        return self.inner.step(action)


def faces(num_envs: int, mode: AutoresetMode = AutoresetMode.NEXT_STEP) -> SyncVectorEnv:
    return SyncVectorEnv([Face] * num_envs, autoreset_mode=mode)


def known(learner: QLearner) -> npt.NDArray[np.bool_]:
    """The states that were acted in."""
    visits = learner.table.visits.compute()
    found: npt.NDArray[np.bool_] = visits.any(axis=tuple(range(1, visits.ndim)))
    return found


# By hand


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("lag", [0, 1])
def test_a_model_learns_what_plain_python_does(rule: str, lag: int) -> None:
    settings = Settings(6, 3, shards=2, algorithm=rule, policy_lag=lag, seed=3, epsilon=0.3)
    learner = QLearner(MODEL, **vars(settings)).learn(2_000)
    q, visits = by_hand(MODEL, 2_000, settings, MASKS)
    np.testing.assert_array_equal(learner.table.q.compute(), q)
    np.testing.assert_array_equal(learner.table.visits.compute(), visits)
    assert not visits[np.isneginf(q)].any()
    assert np.isneginf(q).any()


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("rule", RULES)
def test_python_environments_learn_what_plain_python_does(rule: str, mode: AutoresetMode) -> None:
    settings = Settings(6, 3, algorithm=rule, seed=3, epsilon=0.3)
    make = partial(faces, mode=mode)
    learner = QLearner(make, **vars(settings)).learn(2_000)
    q, visits = by_hand(make, 2_000, settings, MASKS)
    own = known(learner)
    np.testing.assert_array_equal(learner.table.q.compute()[own], q[own])
    np.testing.assert_array_equal(learner.table.visits.compute(), visits)


# Identities


@pytest.mark.parametrize("rule", [RULES[0], *(pytest.param(r, marks=SLOW) for r in RULES[1:])])
def test_a_mask_that_forbids_nothing_changes_no_bit(rule: str) -> None:
    settings: dict[str, Any] = {"num_envs": 32, "algorithm": rule, "seed": 1, "shards": 1}
    alone = QLearner(model_of(None), **settings).learn(4_000)
    masked = QLearner(model_of(everything), **settings).learn(4_000)
    assert contents(masked) == contents(alone)


@pytest.mark.parametrize("rule", ["q_learning", "double_q"])
def test_any_chunks_and_either_exchange_have_the_same_bits(rule: str) -> None:
    settings: dict[str, Any] = {"num_envs": 12, "shards": 2, "seed": 2, "algorithm": rule}
    settings |= {"steps_per_round": 1, "policy_lag": 1}
    expected = contents(QLearner(MODEL, exchange="broadcast", **settings).learn(3_000))
    for more in ({"chunks": (7, 2)}, {"chunks": (3, 5), "exchange": "gather"}):
        assert contents(QLearner(MODEL, **settings, **more).learn(3_000)) == expected
    with dask.config.set(scheduler="synchronous"):
        assert contents(QLearner(MODEL, **settings).learn(3_000)) == expected
    sparse = QLearner(MODEL, sparse=True, **settings).learn(3_000)
    dense = QLearner(MODEL, **settings).learn(3_000).table.q.compute()
    np.testing.assert_array_equal(sparse.table.q.compute(), dense[sparse.table.states])
    states = np.arange(N)
    np.testing.assert_array_equal(
        sparse.predict(states)[0], QLearner(MODEL, **settings).learn(3_000).predict(states)[0]
    )


@pytest.mark.parametrize("make", [MODEL, Face], ids=["model", "python"])
def test_fused_rounds_have_the_bits_of_single_ones(make: Any) -> None:
    settings: dict[str, Any] = {"num_envs": 12, "steps_per_round": 1, "shards": 2, "seed": 6}
    fused = contents(QLearner(make, **settings).learn(3_000))
    with apart():
        assert contents(QLearner(make, **settings).learn(3_000)) == fused


@pytest.mark.parametrize(
    "more",
    [{"chunks": (7, 2)}, {"exchange": "gather", "policy_lag": 1}, {"sparse": True}],
    ids=["chunks", "gather", "sparse"],
)
def test_python_environments_learn_with_masks_everywhere(more: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"num_envs": 12, "steps_per_round": 1, "shards": 2, "seed": 6}
    learner = QLearner(Face, **settings, **more).learn(4_000)
    like = {"policy_lag": 1} if more.get("sparse") or "exchange" in more else {}
    expected = QLearner(Face, **settings, **like).learn(4_000)
    states = learner.table.states if more.get("sparse") else np.arange(N)
    q = learner.table.q.compute()
    np.testing.assert_array_equal(q, expected.table.q.compute()[states])
    np.testing.assert_array_equal(np.isneginf(q[states < N - 1]), ~MASKS[states[states < N - 1]])
    assert learner.evaluate(3, max_steps=500).n_episodes == 3


@pytest.mark.parametrize("rule", ["q_learning", "expected_sarsa"])
def test_what_is_learned_is_near_the_exact_solution(rule: str) -> None:
    rate, epsilon = VisitCount(0.7), 1.0 if rule == "q_learning" else 0.001
    settings: dict[str, Any] = {"gamma": 0.9, "learning_rate": rate, "dtype": "float64"}
    learner = QLearner(MODEL, algorithm=rule, epsilon=epsilon, seed=1, **settings).learn(400_000)
    best = exact.solve(MODEL, gamma=0.9)
    np.testing.assert_allclose(learner.table.value.compute()[:-1], best.value[:-1], atol=0.2)
    np.testing.assert_array_equal(np.isneginf(best.q), ~MASKS)


def test_certificates_bound_the_exact_solution() -> None:
    learner = QLearner(MODEL, gamma=0.9, epsilon=1.0, seed=1).learn(100_000)
    best = exact.solve(MODEL, gamma=0.9)
    certificate = dqlearn.certify(learner)
    assert (certificate.lower <= best.value).all()
    assert (best.value <= certificate.upper).all()
    assert exact.bellman_residual(best.q, MODEL, gamma=0.9) < 1e-8
    by_policies = exact.solve(MODEL, gamma=0.9, method="policies")
    np.testing.assert_allclose(by_policies.value, best.value, atol=1e-8)
    estimate = dqlearn.estimate_residual(learner)
    assert estimate.residual_lower <= certificate.residual <= estimate.residual_upper * 1.2


# Tables at rest


@pytest.mark.parametrize("more", [{"chunks": (7, 2)}, {"sparse": True}], ids=["dense", "sparse"])
def test_a_run_goes_on_with_its_masks(more: dict[str, Any], tmp_path: Path) -> None:
    settings: dict[str, Any] = {"num_envs": 8, "shards": 1, "seed": 4, **more}
    whole = QLearner(MODEL, **settings).learn(2_000)
    QLearner(MODEL, **settings).learn(500, store=tmp_path)
    resumed = dqlearn.resume(tmp_path, env=MODEL).learn(2_000)
    np.testing.assert_array_equal(resumed.table.q.compute(), whole.table.q.compute())
    opened = dqlearn.open_table(tmp_path)
    np.testing.assert_array_equal(opened["valid"], MASKS[opened.get("state", np.arange(N))])


def test_a_table_says_what_is_valid_where_nobody_was(tmp_path: Path) -> None:
    learner = QLearner(MODEL, num_envs=1, steps_per_round=1, chunks=(4, 5), shards=1).learn(2)
    learner.learn(2, store=tmp_path / "run")
    learner.save(tmp_path / "table")
    for dataset in (
        learner.table.to_xarray(),
        dqlearn.open_table(tmp_path / "run"),
        xr.open_zarr(tmp_path / "table"),
    ):
        np.testing.assert_array_equal(dataset["valid"], MASKS)
        np.testing.assert_array_equal(np.isneginf(dataset["q"]), ~MASKS)
    again = dqlearn.load(tmp_path / "table", MODEL)
    np.testing.assert_array_equal(again.table.q.compute(), learner.table.q.compute())
    policy = Policy.open(tmp_path / "run")
    assert all(MASKS[s, policy(s)] for s in range(N - 1))


def test_a_table_of_all_actions_has_no_mask() -> None:
    learner = QLearner(MODEL, action_masks=False).learn(2_000)
    assert "valid" not in learner.table.to_xarray()
    assert np.isfinite(learner.table.q.compute()).all()


# Acting


def test_the_best_of_the_actions_that_a_caller_allows() -> None:
    learner = QLearner(MODEL, seed=1).learn(20_000)
    q, states = learner.table.q.compute(), np.arange(N - 1)
    rng = np.random.default_rng(0)
    masks = MASKS[:-1] & (rng.random((N - 1, ACTIONS)) < 0.7)
    masks |= ~masks.any(axis=1, keepdims=True) & MASKS[:-1]
    chosen, _ = learner.predict(states, action_masks=masks)
    expected = np.where(masks, q[:-1], -np.inf).max(axis=1)
    np.testing.assert_array_equal(q[states, chosen], expected)
    for s in states.tolist():
        assert learner.predict(s, action_masks=masks[s])[0] == chosen[s]
    drawn = [learner.predict(states, deterministic=False, action_masks=masks)[0] for _ in range(50)]
    assert all(masks[states, actions].all() for actions in drawn)
    sparse = QLearner(MODEL, num_envs=2, sparse=True, seed=1).learn(12)
    assert masks[states, sparse.predict(states, action_masks=masks)[0]].all()


@pytest.mark.parametrize(
    ("mask", "error"),
    [
        ([0] * ACTIONS, ActionMaskError),
        ([1, 0], SpaceError),
        ([2, 1, 1, 1, 1], SpaceError),
        (["a"] * ACTIONS, SpaceError),
    ],
)
def test_masks_that_are_none_are_refused(mask: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        QLearner(MODEL).predict(3, action_masks=mask)


def test_a_state_without_valid_actions_is_an_error_unless_an_end_leads_there() -> None:
    model = model_of(nothing_at_five)
    with pytest.raises(ActionMaskError, match="state 5"):
        QLearner(model, seed=1).learn(20_000)
    with pytest.raises(ActionMaskError, match="state 5"):
        exact.solve(model, gamma=0.9)
    with pytest.raises(ActionMaskError, match="state 5"):
        dqlearn.certify(np.zeros((N, ACTIONS)), model, 0.9)


def number(state: Any, action: Any, params: Any) -> Any:
    return state + action


def test_a_mask_must_be_a_bool() -> None:
    with pytest.raises(ConfigurationError, match="valid must return a bool"):
        QLearner(model_of(number))


class Fickle(Face):
    """Its mask does not follow from the observation."""

    calls = 0

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step; the mask changes with time."""
        self.calls += 1
        state, reward, over, cut, _ = self.inner.step(action)
        mask = MASKS[state].copy()
        if self.calls > 50:
            mask[np.flatnonzero(mask)[:1]] = False
        return state, reward, over, cut, {"action_mask": mask}


class Forgetful(Face):
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step, and say nothing of masks."""
        return (*self.inner.step(action)[:4], {})


class Short(Face):
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step; the mask has too few actions."""
        return (*self.inner.step(action)[:4], {"action_mask": [1, 1]})


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (Fickle, "must always be the same"),
        (Forgetful, "one after each step"),
        (Short, "0 or 1 for each of 5"),
    ],
)
@pytest.mark.filterwarnings("ignore:round \\d+ failed:UserWarning")
def test_masks_of_environments_that_cannot_be(make: Any, match: str) -> None:
    with pytest.raises(ActionMaskError, match=match):
        QLearner(make, num_envs=4, seed=1).learn(4_000)


# Taxi


def test_taxi_is_learned_with_its_mask() -> None:
    taxi = gymnasium.make("Taxi-v4").unwrapped
    masks = np.array([taxi.action_mask(s) for s in range(500)], bool)  # type: ignore[attr-defined]
    model = from_table("Taxi-v4")
    np.testing.assert_array_equal(model.masks(np.arange(500)), masks)
    chances = np.diff(model.params[0], prepend=0.0)
    best = exact.solve(model, gamma=1.0).value
    assert chances @ best == pytest.approx(7.93, abs=0.005)
    assert chances @ exact.solve(from_table("Taxi-v4", masks=False), gamma=1.0).value == (
        pytest.approx(chances @ best)
    )
    settings: dict[str, Any] = {"learning_rate": 0.5, "epsilon": 0.2, "gamma": 1.0, "seed": 1}
    learner = QLearner("Taxi-v4", num_envs=64, steps_per_round=1, shards=1, **settings)
    learner.learn(200_000)
    value = exact.policy_value(model, learner.table.policy.compute(), gamma=0.999)
    optimum = exact.solve(model, gamma=0.999).value
    assert chances @ value == pytest.approx(chances @ optimum, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("merge", ["equal", "importance", "visits", "trimmed_mean"])
def test_federated_members_learn_within_the_mask(merge: Any) -> None:
    rule = dqlearn.Federated(members=3, local_rounds=4, merge=merge)
    learner = QLearner(MODEL, federated=rule, num_envs=12, seed=1, epsilon=1.0).learn(20_000)
    q, visits = learner.table.q.compute(), learner.table.visits.compute()
    np.testing.assert_array_equal(np.isneginf(q), ~MASKS)
    assert not np.isnan(q).any()
    assert not visits[~MASKS].any()


def test_a_log_with_an_action_that_is_not_valid_is_refused() -> None:
    good, bad = int(np.flatnonzero(MASKS[3])[0]), int(np.flatnonzero(~MASKS[3])[0])
    learner = QLearner(MODEL, seed=1)
    with pytest.raises(BadRowError, match=r"row 1: action must be valid in state 3"):
        learner.observe([3, 3], [good, bad], [0.0, 0.0], [4, 4], [False, False])
    told = learner.observe([3, 3], [good, bad], [0.0, 0.0], [4, 4], [0, 0], on_bad_row="skip")
    assert (told.learned, told.skipped) == (1, 1)
    assert learner.table.visits.compute()[3].sum() == 1


@pytest.mark.parametrize("chunks", ["auto", (7, 2)])
@pytest.mark.filterwarnings("ignore:round \\d+ failed:UserWarning")
def test_a_log_of_python_environments_follows_the_masks_that_were_seen(chunks: Any) -> None:
    learner = QLearner(Face, num_envs=8, steps_per_round=1, seed=1, chunks=chunks).learn(4_000)
    before = learner.table.q.compute()
    bad = int(np.flatnonzero(~MASKS[3])[0])
    with pytest.raises(ActionMaskError, match="must be valid"):
        learner.observe([3], [bad], [1.0], [4], [False])
    np.testing.assert_array_equal(learner.table.q.compute(), before)
    good = int(np.flatnonzero(MASKS[3])[0])
    assert learner.observe([3], [good], [1.0], [4], [False]).learned == 1


def test_masks_wait_in_a_checkpoint_with_their_batch(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"num_envs": 12, "steps_per_round": 1, "policy_lag": 1, "seed": 6}
    learner = QLearner(Face, shards=2, **settings).learn(24, store=tmp_path)
    acted = known(learner)
    resumed = dqlearn.resume(tmp_path, env=Face).learn(36)
    more = known(resumed) & ~acted
    assert more.any()  # from the batch that waited
    np.testing.assert_array_equal(np.isneginf(resumed.table.q.compute())[more], ~MASKS[more])


def test_a_model_with_a_mask_is_checked_as_others() -> None:
    check_model(MODEL, n_steps=20_000)


def test_random_actions_of_the_command_line_are_valid() -> None:
    played = compared(MODEL, "none", {}, 20)
    assert played["random"].n_episodes == 20


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("make", [MODEL, Face], ids=["model", "python"])
def test_workers_die_and_the_masks_stay(make: Any) -> None:
    """SIGKILL of a worker in mid-run; the bits are those of an undisturbed run on threads."""
    settings: dict[str, Any] = {"num_envs": 24, "steps_per_round": 4, "shards": 2, "seed": 5}
    settings |= {"chunks": (7, 5)}
    with two_workers() as cluster, Client(cluster):
        learner = QLearner(make, **settings).learn(96 * 10)
        with killed_in_turn(cluster, 1) as killed:
            while not killed:
                learner.learn(learner.num_timesteps + 96 * 10)
        learner.learn(learner.num_timesteps + 96 * 10)
        total, q = learner.num_timesteps, learner.table.q.compute()
    np.testing.assert_array_equal(q, QLearner(make, **settings).learn(total).table.q.compute())
    assert np.isneginf(q).any()
