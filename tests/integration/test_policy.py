"""Decisions with a stored table: those of the learner, without what the learner needs."""

from __future__ import annotations

import gc
import json
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import gymnasium
import numpy as np
import pytest
import zarr
from gymnasium import spaces
from gymnasium.utils.env_checker import data_equivalence as same
from gymnasium.vector.utils import batch_space, iterate
from hypothesis import given
from hypothesis import strategies as st

import dqlearn
from dqlearn import Policy, QLearner, runs
from dqlearn.algorithms import ALGORITHMS, Algorithm, Best
from dqlearn.algorithms.scores import score_of
from dqlearn.errors import (
    ConfigurationError,
    DamagedChunkError,
    IncompatibleTableError,
    NoCheckpointError,
    SpaceError,
)
from dqlearn.kernels.summary import untried
from dqlearn.kernels.ties import ties
from dqlearn.policy import Decision, choices
from dqlearn.policy.ties import tie_hashes, tie_key
from dqlearn.random import word

SIDE = 24
STATES = np.arange(SIDE * SIDE)
SMALL = {"num_envs": 16, "shards": 2, "steps_per_round": 8, "seed": 3}
KINDS: dict[str, dict[str, Any]] = {
    "q_learning": {},
    "expected_sarsa": {"algorithm": "expected_sarsa"},
    "double_q": {"algorithm": "double_q", "dtype": "float32"},
    "split actions": {"chunks": (101, 3)},
    "split actions of members": {"chunks": (101, 1), "algorithm": "double_q"},
    "sparse": {"sparse": True, "sparse_block": 4, "steps_per_round": 1},
    "sparse, members": {"sparse": True, "algorithm": "double_q", "steps_per_round": 1},
}


def least(q: Any, s: Any, a: Any) -> Any:
    return min(q[s, 0, a], q[s, 1, a])


def worst(values: Any, epsilon: Any, n_actions: Any, member: Any) -> Any:
    return values[0]


MAXMIN = Algorithm(f"{__name__}:MAXMIN", (Best(least),), worst, members=2)


def walk(**settings: Any) -> QLearner:
    return QLearner("dqlearn/Torus-v0", env_kwargs={"side": SIDE}, **(SMALL | settings))


@pytest.fixture(scope="module")
def learner() -> QLearner:
    return walk().learn(2_000)


@pytest.fixture
def table(learner: QLearner, tmp_path: Path) -> Path:
    learner.save(tmp_path / "q.zarr")
    return tmp_path / "q.zarr"


class Parts(gymnasium.Env[Any, Any]):
    """An environment with any spaces."""

    def __init__(self, observations: spaces.Space[Any], actions: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = observations, actions

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), float(self.np_random.random()), False, False, {}


# the same actions as the learner


@pytest.mark.parametrize("stored", ["saved", "run"])
@pytest.mark.parametrize("settings", [*KINDS.values(), {"algorithm": MAXMIN}], ids=[*KINDS, "own"])
def test_it_decides_as_the_learner_does(
    settings: dict[str, Any], stored: str, tmp_path: Path
) -> None:
    learner = walk(**settings).learn(2_000, store=tmp_path / "run")
    learner.save(tmp_path / "saved")
    policy = Policy.open(tmp_path / stored)
    expected, _ = learner.predict(STATES)
    chosen = policy.batch(STATES)
    assert chosen.dtype == expected.dtype
    assert chosen.tolist() == expected.tolist()
    assert [policy(s) for s in STATES.tolist()] == expected.tolist()
    visits = learner.table.visits.compute()
    visited = visits.any(axis=tuple(range(1, visits.ndim)))
    known = [policy.decide(s).known for s in STATES.tolist()]
    assert sum(known) == visited.sum() > 0
    assert not all(known)
    if not settings.get("sparse"):
        assert known == visited.tolist()


BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)
OBSERVATIONS: dict[str, tuple[spaces.Space[Any], Any]] = {
    "discrete": (spaces.Discrete(7, start=-3), None),
    "multi": (spaces.MultiDiscrete([3, 4]), None),
    "box": (BOX, 5),
    "tuple": (spaces.Tuple((spaces.Discrete(5), spaces.MultiBinary([3]))), None),
    "dict": (spaces.Dict(arm=spaces.MultiDiscrete([3, 2]), at=BOX), {"at": 3}),
}
ACTIONS: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(3, start=2),
    "multi": spaces.MultiDiscrete([2, 3]),
    "dict": spaces.Dict(a=spaces.Discrete(2), b=spaces.Discrete(2, start=5)),
}


@pytest.mark.parametrize("actions", ACTIONS.values(), ids=ACTIONS)
@pytest.mark.parametrize(("space", "bins"), OBSERVATIONS.values(), ids=OBSERVATIONS)
def test_spaces(
    space: spaces.Space[Any], bins: Any, actions: spaces.Space[Any], tmp_path: Path
) -> None:
    few = {"num_envs": 2, "shards": 1, "steps_per_round": 4, "seed": 0}
    learner = QLearner(partial(Parts, space, actions), bins=bins, **few).learn(64)
    learner.save(tmp_path / "q.zarr")
    policy = Policy.open(tmp_path / "q.zarr")
    assert (policy.observation_space, policy.action_space) == (space, actions)
    batched = batch_space(space, 50)
    batched.seed(0)
    batch = batched.sample()
    assert same(policy.batch(batch), learner.predict(batch)[0])
    for observation in iterate(batched, batch):
        action = policy(observation)
        assert actions.contains(action)
        assert not isinstance(actions, spaces.Discrete) or type(action) is int
        expected = learner.predict(observation)[0]
        assert action == expected if isinstance(action, int) else same(action, expected)


@given(st.integers(0, 2**64 - 1), st.lists(st.integers(0, 2**62), max_size=5))
def test_the_hash_is_that_of_the_kernels(seed: int, states: list[int]) -> None:
    key, n = tie_key(seed), 5
    assert key == ties(seed)
    hashes = tie_hashes(key, np.array(states, np.int64)[:, None], np.arange(n), n)
    for s, row in zip(states, hashes, strict=True):
        assert row.argmax() == untried(key, s, n)
        with np.errstate(over="ignore"):
            assert row[2] == word(key, np.int64(s) * n + 2)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_scores_are_those_of_the_rules(name: str) -> None:
    rule = ALGORITHMS[name]
    field = rule.summary[rule.behaviour]
    assert isinstance(field, Best)
    assert score_of(name) == (rule.members, field.score)


# versions


def test_a_version_is_named(learner: QLearner, table: Path, tmp_path: Path) -> None:
    saved = Policy.open(table).version
    assert (saved.name, saved.timesteps) == (str(table), learner.num_timesteps)
    assert (saved.checkpoint, saved.snapshot) == (None, None)
    run = tmp_path / "run"
    walk().learn(1_000, store=run).learn(2_000)
    first, *_, last = reversed(runs.checkpoints(run))
    runs.tag(run, "early", at=first.number)
    assert Policy.open(run).version.snapshot == last.snapshot
    for at in (first.number, "early"):
        policy = Policy.open(run, at=at)
        assert policy.decide(0).version is policy.version
        assert policy.version.checkpoint == first.number
        assert policy.version.timesteps == first.timesteps
        expected, _ = dqlearn.resume(run, at=at).predict(STATES)
        assert policy.batch(STATES).tolist() == expected.tolist()
    assert "checkpoint" in repr(Policy.open(run))
    assert Policy.open(runs.store_of(run)).version == Policy.open(run).version
    with pytest.raises(FrozenInstanceError):
        policy.version.round = 7  # type: ignore[misc]


def test_a_table_behind_a_url(learner: QLearner, tmp_path: Path) -> None:
    url = f"memory://{tmp_path}/q.zarr"
    learner.save(url)
    assert Policy.open(url).batch(STATES).tolist() == learner.predict(STATES)[0].tolist()


# what was never visited


def test_a_fallback_decides_where_nothing_is_known(table: Path) -> None:
    plain, constant = Policy.open(table), Policy.open(table, fallback=3)
    seen: list[Any] = []

    def parity(observation: Any) -> int:
        seen.append(observation)
        return int(observation % 2)

    asked = Policy.open(table, fallback=parity)
    known = np.array([plain.decide(s).known for s in STATES.tolist()])
    expected = plain.batch(STATES)
    assert constant.batch(STATES).tolist() == np.where(known, expected, 3).tolist()
    assert asked.batch(STATES).tolist() == np.where(known, expected, STATES % 2).tolist()
    assert seen == STATES[~known].tolist()
    unknown = int(STATES[~known][0])
    assert (constant(unknown), asked(unknown)) == (3, unknown % 2)
    assert constant.decide(unknown) == Decision(3, False, constant.version)


def test_a_fallback_must_be_an_action(table: Path) -> None:
    for wrong in (4, -1, "left", 0.5):
        with pytest.raises(SpaceError, match="fallback must be an action"):
            Policy.open(table, fallback=wrong)
    policy = Policy.open(table, fallback=lambda observation: 17)
    unknown = next(s for s in STATES.tolist() if not policy._choices.is_known(s))
    with pytest.raises(SpaceError, match=r"fallback must be an action.*got 17"):
        policy(unknown)


# bad input


@pytest.mark.parametrize("wrong", [-1, SIDE * SIDE, 0.5, "a", None, [1, 2], np.array([1]), {}])
def test_an_observation_outside_the_space_is_refused(wrong: Any, table: Path) -> None:
    policy = Policy.open(table)
    for decide in (policy, policy.decide):
        with pytest.raises(SpaceError, match="state: Discrete"):
            decide(wrong)


def test_a_batch_outside_the_space_is_refused(table: Path) -> None:
    policy = Policy.open(table)
    for wrong in (np.array([0, SIDE * SIDE]), np.array([[0]]), 3, np.array([0.5])):
        with pytest.raises(SpaceError, match="state: Discrete"):
            policy.batch(wrong)
    assert policy.batch(np.array([], np.int64)).shape == (0,)
    assert policy.batch([5, 6]).tolist() == [policy(5), policy(6)]


def test_a_place_without_a_table_is_refused(table: Path, tmp_path: Path) -> None:
    with pytest.raises(NoCheckpointError, match="got nothing at"):
        Policy.open(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoCheckpointError, match="there is no run"):
        Policy.open(tmp_path / "empty")
    (tmp_path / "file").write_text("text")
    with pytest.raises(IncompatibleTableError, match="expected a folder"):
        Policy.open(tmp_path / "file")
    zarr.open_group(tmp_path / "other", mode="w")
    with pytest.raises(IncompatibleTableError, match="expected a table that dqlearn saved"):
        Policy.open(tmp_path / "other")
    with pytest.raises(IncompatibleTableError, match="expected a table that dqlearn saved"):
        Policy.open(f"memory://{tmp_path}/nothing")
    with pytest.raises(ConfigurationError, match="must be a path"):
        Policy.open(7)
    with pytest.raises(ConfigurationError, match="leave out at=3"):
        Policy.open(table, at=3)
    walk().learn(1_000, store=tmp_path / "run")
    with pytest.raises(NoCheckpointError, match="expected a checkpoint"):
        Policy.open(tmp_path / "run", at=99)


def test_attributes_that_do_not_fit_are_refused(table: Path) -> None:
    header = table / "zarr.json"
    kept = header.read_text()
    discrete = {"kind": "Discrete", "n": 2**60, "start": 0, "dtype": "int64"}
    huge = json.dumps({"name": "observation", "space": discrete})
    for change in (
        {"observation_space": huge},
        {"action_space": "[]"},
        {"algorithm": "double_q"},
        {"algorithm": "no.module:RULE"},
        {"algorithm": None},
        {"seed": "-1"},
        {"seed": "9" * 10_000},
        {"sparse": "x"},
        {"sparse": 1},
        {"round": -1},
        {"timesteps": "many"},
    ):
        stored = json.loads(kept)
        stored["attributes"] |= change
        header.write_text(json.dumps(stored))
        with pytest.raises(IncompatibleTableError):
            Policy.open(table)
    header.write_text(kept)
    assert Policy.open(table)(0) in range(4)


def test_damage_is_named(tmp_path: Path) -> None:
    walk().learn(1_000, store=tmp_path / "run")
    for file in (tmp_path / "run" / "chunks").iterdir():
        file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(DamagedChunkError, match="go back to an earlier checkpoint"):
        Policy.open(tmp_path / "run")


# one version, whatever happens


def test_what_happens_to_the_store_does_not_matter(table: Path, tmp_path: Path) -> None:
    policy = Policy.open(table)
    before, version = policy.batch(STATES).tolist(), policy.version
    walk(seed=9).learn(50_000).save(table)
    assert policy.batch(STATES).tolist() == before
    shutil.rmtree(table)
    assert policy.batch(STATES).tolist() == before
    assert policy.decide(0).version is version


def test_threads_share_a_policy(table: Path) -> None:
    policy = Policy.open(table, fallback=lambda observation: int(observation) % 4)
    expected, barrier = policy.batch(STATES).tolist(), Barrier(8)

    def ask(thread: int) -> bool:
        barrier.wait()
        own = np.roll(STATES, thread)
        alone = {s: policy(s) for s in own.tolist()}
        return policy.batch(own).tolist() == [expected[s] for s in own] == [*alone.values()]

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(8)))


@pytest.mark.parametrize("sparse", [False, True])
def test_what_is_large_lies_in_a_file_without_a_name(
    sparse: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"sparse": True, "steps_per_round": 1} if sparse else {}
    learner = walk(**settings).learn(2_000)
    learner.save(tmp_path / "q.zarr")
    monkeypatch.setattr(choices, "_LARGE", 16)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    policy = Policy.open(tmp_path / "q.zarr")
    assert [*(tmp_path / "t").iterdir()] == []
    assert len(mapped(tmp_path / "t")) == 2 or not PROCESS_MAPS.exists()
    assert policy.batch(STATES).tolist() == learner.predict(STATES)[0].tolist()
    again = pickle.loads(pickle.dumps(policy))
    del policy
    gc.collect()
    assert len(mapped(tmp_path / "t")) == 2 or not PROCESS_MAPS.exists()
    assert again.batch(STATES).tolist() == learner.predict(STATES)[0].tolist()
    del again
    gc.collect()
    assert mapped(tmp_path / "t") == []


PROCESS_MAPS = Path("/proc/self/maps")


def mapped(folder: Path) -> list[str]:
    """Return the files of a folder that this process has mapped; none where that is not known."""
    lines = PROCESS_MAPS.read_text().splitlines() if PROCESS_MAPS.exists() else []
    return [line for line in lines if f"{folder}/" in line]


# without what a learner needs

PROGRAM = """
import sys
from dqlearn.policy import Policy
early = [m for m in {heavy} + ["zarr", "icechunk"] if m in sys.modules]
policy = Policy.open({path!r}, fallback=0)
answers = policy(5), policy.batch([1, 2]).tolist(), policy.decide(7).version.timesteps
print(early, [m for m in {heavy} if m in sys.modules], len(answers))
"""
HEAVY = ["dask", "numba", "distributed", "xarray", "pandas"]


@pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("stored", ["saved", "run"])
def test_neither_dask_nor_numba_is_needed(
    settings: dict[str, Any], stored: str, tmp_path: Path
) -> None:
    walk(**settings).learn(1_000, store=tmp_path / "run").save(tmp_path / "saved")
    program = PROGRAM.format(heavy=HEAVY, path=os.fspath(tmp_path / stored))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("[] [] 3\n", "")
