"""Observing between other calls: with a repository, with environments closed, and after errors."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import dqlearn
from dqlearn import Every, QLearner
from dqlearn.algorithms import Q_LEARNING
from dqlearn.errors import ConfigurationError, EnvironmentFault, RunInUseError, StoreError
from dqlearn.runs import checkpoints


def learner_of(**settings: Any) -> QLearner:
    plain: dict[str, Any] = {"num_envs": 4, "shards": 2, "steps_per_round": 1, "seed": 1}
    return QLearner("FrozenLake-v1", **{**plain, **settings})


def rows(n: int, seed: int = 0) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    return {
        "obs": draw.integers(16, size=n),
        "action": draw.integers(4, size=n),
        "reward": draw.random(n),
        "next_obs": draw.integers(16, size=n),
        "terminated": draw.random(n) < 0.1,
    }


def bits(learner: QLearner) -> list[bytes]:
    table = learner.table
    return [table.q.compute().tobytes(), table.visits.compute().tobytes()]


def test_learning_and_observing_share_a_repository(tmp_path: Path) -> None:
    def go_on(learner: QLearner, first: int, store: Path | None) -> QLearner:
        saving = {} if store is None else {"store": store, "checkpoint_every": Every(rounds=2)}
        for i in range(first, 6):
            learner.observe(**rows(10, i), source="log", seq=10 * i + np.arange(10), **saving)
            learner.learn((10 + 16) * (i + 1), **saving)
        return learner

    whole = go_on(learner_of(), 0, None)
    go_on(learner_of(), 0, tmp_path)
    assert bits(dqlearn.resume(tmp_path)) == bits(whole)
    number = next(it.number for it in checkpoints(tmp_path) if it.timesteps == 3 * 26)
    early = dqlearn.resume(tmp_path, at=number)
    assert early.sources == {"log": 29}
    assert early.observe(**rows(10, 2), source="log", seq=20 + np.arange(10)).duplicates == 10
    assert bits(go_on(early, 3, tmp_path)) == bits(whole)


def test_checkpoints_come_when_they_are_due(tmp_path: Path) -> None:
    learner = learner_of()
    for i in range(7):
        learner.observe(**rows(10, i), store=tmp_path, checkpoint_every=Every(transitions=30))
    learner.checkpoint()
    assert [it.timesteps for it in checkpoints(tmp_path)] == [70, 60, 30, 0]


def test_a_checkpoint_needs_a_store() -> None:
    with pytest.raises(ConfigurationError, match="needs a store="):
        learner_of().checkpoint()


def test_a_repository_that_another_run_took_is_left_alone(tmp_path: Path) -> None:
    first, second = learner_of(), learner_of()
    first.observe(**rows(10), store=tmp_path, checkpoint_every=Every(rounds=1))
    first.checkpoint()
    dqlearn.resume(tmp_path).learn(200, store=tmp_path)
    with pytest.raises((StoreError, RunInUseError)):
        second.observe(**rows(10), store=tmp_path)
    assert second.num_timesteps == 0
    with pytest.raises(RunInUseError):
        first.checkpoint()
    with pytest.raises(RunInUseError):
        first.observe(**rows(10, 1))
    assert first.num_timesteps == 10


def test_ctrl_c_comes_after_the_batch() -> None:
    learner, n = learner_of(), 400_000
    whole = rows(n)
    learner.observe(**rows(10))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.002, os.kill, (os.getpid(), signal.SIGINT))

    def observe() -> None:
        timer.start()
        while True:
            learner.observe(**whole)

    try:
        with pytest.raises(KeyboardInterrupt):
            observe()
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
    assert (learner.num_timesteps - 10) % n == 0
    assert learner.table.visits.sum().compute() == learner.num_timesteps


def dividing(q: Any, y: Any, alpha: Any) -> Any:
    return q + alpha * (y - q) / (y - 7.0)


def test_a_rule_that_raises_leaves_counters_that_fit_the_table(tmp_path: Path) -> None:
    """Its table is torn, so the run goes back to its last checkpoint; so do the sources."""
    rule = replace(Q_LEARNING, name=f"{__name__}:DIVIDING", step=dividing)
    learner, peaceful = (learner_of(algorithm=rule, chunks=(8, 4)) for _ in range(2))
    learner.observe(**rows(10), source="a", seq=range(10), store=tmp_path)
    learner.checkpoint()
    learner.observe(**rows(10, 1), source="a", seq=range(10, 20))
    for i in range(2):
        peaceful.observe(**rows(10, i))
    torn = [0, 9], [1, 1], [0.5, 7.0], [1, 1], [True, True]
    with pytest.warns(UserWarning, match="back at round 1"), pytest.raises(ZeroDivisionError):
        learner.observe(*torn, source="a", seq=[20, 21])
    assert (learner.num_timesteps, learner.sources) == (10, {"a": 9})
    told = learner.observe(**rows(10, 1), source="a", seq=range(10, 20))
    assert (told.learned, bits(learner)) == (10, bits(peaceful))


class Failing(gymnasium.Env[Any, Any]):
    """An environment that is out of order after some steps."""

    observation_space, action_space = spaces.Discrete(16), spaces.Discrete(4)

    def __init__(self, good: int = 5) -> None:
        self.good = good

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        return 0, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.good -= 1
        if self.good < 0:
            raise OSError("out of order")
        return 3, 1.0, False, False, {}


@pytest.mark.parametrize("settings", [{}, {"policy_lag": 1}, {"exchange": "gather"}], ids=str)
def test_a_learner_observes_while_its_environments_are_closed(settings: dict[str, Any]) -> None:
    def learned(*, close: bool) -> int:
        learner = QLearner(lambda: Failing(10**6), num_envs=2, shards=1, seed=1, **settings)
        learner.learn(20)
        if close:
            learner.close()
        learner.observe(**rows(10))
        if close:
            learner.close()
        learner.learn(learner.num_timesteps + 20)
        assert learner.table.visits.sum().compute() == learner.num_timesteps
        return learner.num_timesteps

    assert learned(close=True) == learned(close=False)


def test_a_learner_observes_after_its_environments_have_failed() -> None:
    learner = QLearner(Failing, num_envs=1, shards=1)
    for n in (1, 2, 3):
        with (
            pytest.warns(UserWarning, match="built and reset anew"),
            pytest.raises(EnvironmentFault, match="out of order"),
        ):
            learner.learn(100)
        learner.observe(**rows(10, n))
        assert learner.num_timesteps == 15 * n == learner.table.visits.sum().compute()
