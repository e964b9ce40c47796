"""Fused rounds of Python environments: their bits are those of single rounds, and so are faults."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import dask
import gymnasium
import numpy as np
import pytest
from distributed import Client, LocalCluster
from fused import apart, contents
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from killing import two_workers

import dqlearn
from dqlearn import Every, QLearner
from dqlearn.algorithms import Q_LEARNING
from dqlearn.callbacks import StopTrainingOnMaxTime
from dqlearn.errors import EnvironmentFault
from dqlearn.schedules import Linear, VisitCount

TOTAL = 6_000


class Walk(gymnasium.Env[Any, Any]):
    """A walk that slips, ends and is cut off; its steps are few enough to be counted."""

    observation_space = spaces.Discrete(23)
    action_space = spaces.Discrete(3)

    def __init__(self, raises_at: int = -1) -> None:
        self.at, self.steps, self.left, self.raises_at = 0, 0, 0, raises_at

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Begin somewhere."""
        super().reset(seed=seed)
        self.at, self.left = int(self.np_random.integers(23)), 30
        return self.at, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Go, or raise at a step that was said."""
        self.steps += 1
        if self.steps == self.raises_at:
            raise OSError("out of order")
        slip = int(self.np_random.integers(3)) - 1
        self.at, self.left = (self.at + int(action) + slip) % 23, self.left - 1
        return self.at, float(self.at % 5), self.at == 22, self.left == 0, {}


def walks(mode: AutoresetMode) -> Any:
    """A factory of vector environments."""

    def make(num_envs: int) -> SyncVectorEnv:
        return SyncVectorEnv([Walk] * num_envs, autoreset_mode=mode)

    return make


def learner_of(make: Any = Walk, **settings: Any) -> QLearner:
    return QLearner(make, **{"seed": 5, "num_envs": 12, "steps_per_round": 1, **settings})


def is_fused(learner: QLearner) -> bool:
    assert learner._run is not None
    return learner._run._placement.fused


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "as it comes": (Walk, {}),
    "one environment": (Walk, {"num_envs": 1}),
    "shards that are stepped side by side": (Walk, {"shards": 3, "steps_per_round": 5}),
    "more than a block": (Walk, {"num_envs": 150, "shards": 2, "steps_per_round": 3}),
    "chunks": (Walk, {"chunks": (4, -1), "shards": 2}),
    "rates of pairs": (Walk, {"learning_rate": VisitCount(0.8), "dtype": "float64"}),
    "schedules": (
        Walk,
        {"epsilon": Linear(1.0, 0.1, TOTAL), "learning_rate": Linear(0.5, 0.1, TOTAL)},
    ),
    "two tables": (Walk, {"algorithm": "double_q", "chunks": (5, -1)}),
    "an expectation": (Walk, {"algorithm": "expected_sarsa"}),
    "rows that are no transitions": (walks(AutoresetMode.NEXT_STEP), {"shards": 2}),
    "the same step": (walks(AutoresetMode.SAME_STEP), {}),
    "resets by a mask": (walks(AutoresetMode.DISABLED), {"steps_per_round": 2}),
    "built anew": (partial(Walk, 37), {"on_env_error": "restart", "steps_per_round": 4}),
    "a time limit": (Walk, {"env_timeout": 60.0, "shards": 2}),
}


@pytest.mark.parametrize(("make", "settings"), CASES.values(), ids=CASES)
def test_the_bits_are_those_of_single_rounds(make: Any, settings: dict[str, Any]) -> None:
    with apart():
        alone = learner_of(make, **settings).learn(TOTAL)
        assert not is_fused(alone)
    for threads in (1, 3):
        with dask.config.set(scheduler="threads", num_workers=threads):
            learner = learner_of(make, **settings).learn(TOTAL)
            assert is_fused(learner)
            assert contents(learner) == contents(alone)


def test_many_rounds_are_made_in_a_task() -> None:
    arrivals = learner_of().learn(40_000).history["wall_time"].values
    assert len(arrivals) == 3_334
    assert len(np.unique(arrivals)) < 100


@pytest.mark.parametrize("shards", [1, 2])
def test_an_environment_raises(shards: int) -> None:
    """The rounds before are kept, its error is seen at once, and learning goes on with new ones."""
    found = []
    for fuse in (True, False):
        with dask.config.set({"dqlearn.fuse": fuse}):
            learner = learner_of(partial(Walk, 101), shards=shards)
            with (
                pytest.warns(UserWarning, match="round 100 failed.*built and reset anew"),
                pytest.raises(EnvironmentFault, match="failed at step 100: OSError"),
            ):
                learner.learn(TOTAL)
            assert learner.num_timesteps == int(learner.table.visits.sum()) == 1_200
            learner.learn(2_000)
            found.append(contents(learner))
    assert found[0] == found[1]


def failing(q: Any, y: Any, alpha: Any) -> Any:
    return q + alpha * (y - q) / (y - 7.0)


class Paying(Walk):
    """Steps of an episode each, of which one, after many rounds, pays 7; others pay it later."""

    pays = 0

    def reset(self, *, seed: int | None = None, **kwargs: Any) -> tuple[int, dict[str, Any]]:
        """Begin."""
        if seed is not None:
            self.pays = 100 + seed % 3
        return 0, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Pay."""
        self.steps += 1
        return 0, 7.0 if self.steps == self.pays else 1.0, True, False, {}


def test_a_rule_that_raises_leaves_a_whole_table() -> None:
    """It raises in the middle of what a round learns, after rounds of the same task."""
    rule = replace(Q_LEARNING, name=f"{__name__}:FAILING", step=failing)
    learner = learner_of(Paying, algorithm=rule)
    with pytest.warns(UserWarning, match="built and reset anew"), pytest.raises(ZeroDivisionError):
        learner.learn(TOTAL)
    assert int(learner.table.visits.sum()) == learner.num_timesteps < 12 * 100
    learner.learn(learner.num_timesteps + 600)
    assert int(learner.table.visits.sum()) == learner.num_timesteps


def test_an_error_that_nobody_saw_yet_comes_with_the_next_round() -> None:
    """A run that a clock stopped at the end of the rounds before it goes on with the error."""
    learner = learner_of(partial(Walk, 8_000), num_envs=1)

    def in_pieces() -> None:
        while True:
            before = learner.num_timesteps
            learner.learn(10**9, callback=StopTrainingOnMaxTime(0.05))
            assert int(learner.table.visits.sum()) == learner.num_timesteps > before

    with (
        pytest.warns(UserWarning, match="round 7999 failed"),
        pytest.raises(EnvironmentFault, match="failed at step 7999: OSError"),
    ):
        in_pieces()
    assert learner.num_timesteps == 7_999
    assert learner.learn(8_100).num_timesteps == int(learner.table.visits.sum()) == 8_100


def test_checkpoints_and_tables_while_it_learns(tmp_path: Path) -> None:
    """A reader sees one round; a run that is resumed begins new episodes, with the same bits."""
    learner = learner_of().learn(120)
    over, sums = threading.Event(), []

    def look() -> None:
        while not over.is_set():
            visits = learner.table.visits.compute()
            sums.append(int(visits.sum()))

    thread = threading.Thread(target=look)
    thread.start()
    learner.learn(60_000)
    over.set()
    thread.join()
    assert all(n % 12 == 0 for n in sums)
    assert len(set(sums)) > 2

    found = []
    for name, fuse in (("fused", True), ("single", False)):
        with dask.config.set({"dqlearn.fuse": fuse}):
            saving: dict[str, Any] = {"checkpoint_every": Every(rounds=50)}
            learner_of().learn(3_000, store=tmp_path / name, **saving)
            resumed = dqlearn.resume(tmp_path / name, env=Walk).learn(TOTAL, **saving)
            found.append(contents(resumed))
    assert found[0] == found[1]


@pytest.mark.cluster
def test_on_one_worker() -> None:
    """One process fuses; several step side by side, in rounds of many steps."""
    with apart():
        alone = learner_of(chunks=(4, -1)).learn(TOTAL)
    with LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as one:
        with Client(one):
            learner = learner_of().learn(TOTAL)
            assert is_fused(learner)
            assert contents(learner) == contents(alone)
    with two_workers(fuse=True) as cluster, Client(cluster):
        spread = QLearner(Walk, seed=5)
        assert (spread._plan.num_envs, spread._plan.steps_per_round) == (64, 2)
        assert not is_fused(spread.learn(256))
    here = QLearner(Walk, seed=5)
    assert (here._plan.num_envs, here._plan.steps_per_round) == (16, 1)
