"""Rules that look several steps ahead: windows that no round's end, cut, or death changes.

The reference of the whole learner is in `reference.py`; here are its runs on threads, fused and
not, and what depends on windows alone.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import dask
import gymnasium
import numpy as np
import numpy.typing as npt
import pytest
from cases import ALL_RUNS, PLACES, WINDOWS, bits, dask_at, reference_bits
from fused import apart, contents
from gymnasium.spaces import Discrete

import dqlearn
from dqlearn import Policy, QLearner, TabularEnv
from dqlearn.algorithms import (
    DOUBLE_Q,
    EXPECTED_SARSA,
    Algorithm,
    Extent,
    Returns,
    as_algorithm,
    ensemble,
    n_step,
)
from dqlearn.envs.problems.torus import torus
from dqlearn.errors import ConfigurationError
from dqlearn.kernels.ties import ties
from dqlearn.stages.policy import Policy as RoundPolicy
from dqlearn.stages.returns import joined, nothing_waits, returned, traced, waiting, worth_of
from dqlearn.stages.rollout import open_shard, rollout
from dqlearn.statistics import RoundStats

MODEL = torus(side=5, slip=0.2, max_episode_steps=9)
NAMES = ["n_step:4", "watkins:0.9:6", "peng:0.9:3", "tree_backup:16"]


def learner(name: str, **settings: Any) -> QLearner:
    common: dict[str, Any] = {"num_envs": 150, "shards": 2, "steps_per_round": 2, "seed": 3}
    common |= {"chunks": (7, -1), "epsilon": 0.3, "gamma": 0.9}
    return QLearner(MODEL, algorithm=name, **(common | settings))


# The reference


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("name", WINDOWS)
def test_it_learns_what_the_reference_learns(name: str, fuse: bool) -> None:
    """Both kinds of environment, lags and dtypes; windows shorter than a round, and longer."""
    run = ALL_RUNS[name]
    with dask.config.set({"scheduler": "threads", "num_workers": 2, "dqlearn.fuse": fuse}):
        made = run.learner(chunks=run.chunks("states")).learn(run.timesteps)
    assert bits(made) == reference_bits(name)


@pytest.mark.slow
@pytest.mark.cluster
def test_one_worker_makes_the_rounds_of_a_model() -> None:
    run, place = ALL_RUNS["short torus, watkins:0.9:16"], PLACES[-1]
    assert place.fuse
    with dask_at(place):
        made = run.learner(chunks=run.chunks("states")).learn(run.timesteps)
        assert bits(made) == reference_bits("short torus, watkins:0.9:16")


# Identities


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("name", ["n_step:1", "peng:0.3:1", "watkins:0.9:1", "tree_backup:1"])
def test_a_window_of_one_transition_is_q_learning(name: str, lag: int) -> None:
    plain = learner("q_learning", policy_lag=lag).learn(4_000)
    assert contents(learner(name, policy_lag=lag).learn(4_000)) == contents(plain)


@pytest.mark.parametrize(
    "rule", [EXPECTED_SARSA, pytest.param(DOUBLE_Q, marks=pytest.mark.slow)], ids=lambda it: it.name
)
def test_other_rules_look_ahead_too(rule: Algorithm) -> None:
    """In windows of one they are what they were; in longer ones they learn other values."""
    plain = contents(QLearner(MODEL, algorithm=rule, seed=2).learn(4_000))

    def ahead(n: int) -> list[bytes]:
        own = replace(rule, name=f"my.rules:AHEAD_{n}", returns=Returns(n))
        made = contents(QLearner(MODEL, algorithm=own, seed=2).learn(4_000))
        with apart():
            assert contents(QLearner(MODEL, algorithm=own, seed=2).learn(4_000)) == made
        return made

    assert ahead(1) == plain
    assert ahead(3) != plain


def first(key: Any, params: Any) -> Any:
    return 0


def onward(state: Any, action: Any, key: Any, params: Any) -> Any:
    after = (state + 1) % 7
    return after, 1.0 + state, after == 0


def test_members_that_are_identical_are_one() -> None:
    """Of a model in which nothing is left to chance, all environments make the same steps."""
    model = TabularEnv(7, 1, first, onward)
    settings: dict[str, Any] = {"steps_per_round": 2, "shards": 1, "seed": 4}
    alone = QLearner(model, num_envs=4, algorithm=n_step(3), **settings).learn(600)
    rule = replace(ensemble(2), name="my.rules:PAIR", returns=Returns(3))
    together = QLearner(model, num_envs=8, algorithm=rule, **settings).learn(1_200)
    for member in range(2):
        np.testing.assert_array_equal(together.table.q.compute()[:, member], alone.table.q)


# Cuts


@pytest.mark.parametrize("name", NAMES)
def test_fusing_threads_and_shards_change_no_bit(name: str) -> None:
    with apart():
        alone = contents(learner(name).learn(4_000))
        # Sums over shards are rounded in their order, so histories may differ.
        assert contents(learner(name, shards=1).learn(4_000))[:3] == alone[:3]
        assert contents(learner(name, chunks=((9, 16), (1, 3))).learn(4_000))[:3] == alone[:3]
    for threads in (1, 3):
        with dask.config.set(scheduler="threads", num_workers=threads):
            assert contents(learner(name).learn(4_000)) == alone


def played(n_steps: int, name: str) -> dict[tuple[int, int], list[tuple[int, int, float]]]:
    """What each environment's transitions teach, on a policy that stays; and what waits at last."""
    rng, rule = np.random.default_rng(0), as_algorithm(name)
    value = rng.normal(size=25).astype(np.float32)
    tied = rng.integers(1, 16, 25).astype(np.uint8)
    stats, extent = RoundStats(0, 0.3), Extent(4, ties(7))
    policy = RoundPolicy(value, tied, 0, stats, extent)
    shard, waits = open_shard(MODEL, 0, 100, 7), nothing_waits(25, 4, value.dtype)
    learned = defaultdict(list)
    for _ in range(48 // n_steps):
        made, after = rollout(MODEL, shard, policy, 0.3, 7, n_steps)
        batch = joined(waits, traced(made, shard.elapsed, n_steps, MODEL.limits[2]))
        known = worth_of(batch.next_state, value, 1), tied
        whole, rest = returned(batch, 100, known, 0.9, rule, 4)
        assert len(whole.state) + len(rest.state) == len(batch.state)
        np.testing.assert_array_equal(rest.state, waiting(batch, 100, rule).state)
        lanes: Any = batch.lane
        left = np.array([(rest.lane == e).sum() for e in range(100)])
        seen = np.zeros(100, np.int64)
        of_env = np.bincount(lanes, minlength=100) - left
        own = []
        for lane in lanes.tolist():
            seen[lane] += 1
            if seen[lane] <= of_env[lane]:  # those that wait are an environment's last
                own.append(lane)
        for e, s, a, y in zip(own, whole.state, whole.action, whole.reward, strict=True):
            learned[0, e].append((int(s), int(a), float(y)))
        shard, waits = after, rest
    for e, s, a, r in zip(waits.lane, waits.state, waits.action, waits.reward, strict=True):  # type: ignore[arg-type]
        learned[1, int(e)].append((int(s), int(a), float(r)))
    return learned


@pytest.mark.parametrize("name", NAMES)
def test_what_is_learned_does_not_depend_on_where_rounds_end(name: str) -> None:
    """On fixed values, each environment teaches the same (s, a, y) in the same order."""
    each = played(1, name)
    assert sum(map(len, each.values())) == 4_800  # each transition once
    for n_steps in (3, 8, 24):
        assert played(n_steps, name) == each


@pytest.mark.parametrize("name", NAMES)
def test_each_transition_is_learned_once(name: str) -> None:
    """What environments made is what was learned, and at most n - 1 that wait of each."""
    made = learner(name, steps_per_round=1)
    n: Any = as_algorithm(name).returns
    for target in (150, 300, 3_000):
        made.learn(target)
        visits = int(made.table.visits.compute().sum())
        assert made.num_timesteps == target
        assert target - 150 * (n.n_steps - 1) <= visits <= target


# Checkpoints


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("fuse", [True, False])
def test_a_run_goes_on_in_the_middle_of_a_window(fuse: bool, lag: int, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"policy_lag": lag, "steps_per_round": 1}
    with dask.config.set({"dqlearn.fuse": fuse}):
        whole = learner("watkins:0.9:6", **settings).learn(3_000)
        learner("watkins:0.9:6", **settings).learn(1_050, store=tmp_path / "run")
        stored = dqlearn.open_table(tmp_path / "run")
        assert stored["visits"].sum() < 1_050  # some wait
        again = dqlearn.resume(tmp_path / "run", env=MODEL).learn(2_100)
        assert again.num_timesteps == 2_100
        last = dqlearn.resume(tmp_path / "run", env=MODEL).learn(3_000)
    assert contents(last) == contents(whole)


def test_python_environments_begin_anew_and_what_waits_is_learned(tmp_path: Path) -> None:
    """A resume ends their episodes: the windows that were open bootstrap where they were left."""
    settings: dict[str, Any] = {"num_envs": 2, "steps_per_round": 1, "shards": 1, "gamma": 1.0}
    settings |= {"algorithm": "n_step:4", "learning_rate": 1.0, "dtype": "float64", "seed": 1}
    QLearner(Corridor, **settings).learn(6, store=tmp_path / "run")  # 3 steps each, none is whole
    assert int(dqlearn.open_table(tmp_path / "run")["visits"].sum()) == 0
    resumed = dqlearn.resume(tmp_path / "run", env=Corridor).learn(8)
    q, visits = resumed.table.q.compute()[:, 0], resumed.table.visits.compute()[:, 0]
    assert visits.tolist() == [2, 2, 2, 0, 0, 0]
    assert q.tolist() == [3.0, 2.0, 1.0, 0.0, 0.0, 0.0]


class Corridor(gymnasium.Env[Any, Any]):
    """States 0 .. 5, one after another, for a reward of 1 each; in `broken` ones it fails once."""

    observation_space, action_space = Discrete(6), Discrete(1)
    broken: ClassVar[list[int]] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.at = 0
        return 0, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        if self.at in self.broken:
            self.broken.remove(self.at)
            raise RuntimeError("a sensor failed")
        self.at += 1
        return self.at, 1.0, self.at == 5, False, {}


@pytest.mark.parametrize("fuse", [True, False])
def test_an_environment_that_is_built_anew_ends_its_windows(
    fuse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It broke in state 3, so the rewards of 0, 1 and 2 are all that their windows have."""
    monkeypatch.setattr(Corridor, "broken", [3])
    settings: dict[str, Any] = {"num_envs": 1, "steps_per_round": 1, "gamma": 1.0, "seed": 1}
    settings |= {"algorithm": "n_step:5", "learning_rate": 1.0, "dtype": "float64"}
    with dask.config.set({"dqlearn.fuse": fuse, "scheduler": "synchronous"}):
        made = QLearner(Corridor, on_env_error="restart", **settings).learn(4)
    assert made.table.visits.compute()[:, 0].tolist() == [1, 1, 1, 0, 0, 0]
    assert made.table.q.compute()[:, 0].tolist() == [3.0, 2.0, 1.0, 0.0, 0.0, 0.0]
    assert made.learn(8).table.q.compute()[0, 0] == 5.0


# As a user meets it


def test_a_table_has_the_rule_and_decides_with_it(tmp_path: Path) -> None:
    made = QLearner("FrozenLake-v1", algorithm="watkins:.9:8", seed=1).learn(100_000)
    assert made.table.to_xarray().attrs["algorithm"] == "watkins:0.9:8"
    made.save(tmp_path / "q.zarr")
    loaded = dqlearn.load(tmp_path / "q.zarr")
    np.testing.assert_array_equal(loaded.table.q, made.table.q)
    states: npt.NDArray[Any] = np.arange(16)
    policy = Policy.open(tmp_path / "q.zarr")
    np.testing.assert_array_equal(policy.batch(states), made.predict(states)[0])


@pytest.mark.parametrize("settings", [{"exchange": "gather"}, {"sparse": True}], ids=str)
def test_what_cannot_be_combined_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="targets read the values of all states"):
        QLearner(MODEL, algorithm="n_step:4", num_envs=64, **settings)


# What it is for


def right(state: Any, action: Any, key: Any, params: Any) -> Any:
    """A corridor of 50 states: action 1 leads to the right, whose end pays; 0 leads back."""
    after = min(state + 1, 49) if action == 1 else max(state - 1, 0)
    return after, 1.0 if after == 49 else 0.0, after == 49


def transitions_to_the_start(name: str) -> int:
    """Transitions until the way to the end is known everywhere."""
    model = TabularEnv(50, 2, first, right, max_episode_steps=5_000)
    settings: dict[str, Any] = {"num_envs": 4, "steps_per_round": 1, "shards": 1, "seed": 2}
    made = QLearner(model, algorithm=name, gamma=0.98, learning_rate=0.5, **settings)
    while (made.table.policy.compute()[:49] != 1).any():
        made.learn(made.num_timesteps + 400)
        assert made.num_timesteps < 100_000
    return made.num_timesteps


def test_news_travel_faster_down_a_corridor() -> None:
    one = transitions_to_the_start("q_learning")
    for name in ("n_step:8", "watkins:0.9:16", "peng:0.9:16", "tree_backup:16"):
        assert transitions_to_the_start(name) < one / 3
