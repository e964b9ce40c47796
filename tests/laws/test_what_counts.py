"""P1, from the other side: what must not change the bits of a result, and what must."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import reference
from cases import PLACES, RUNS, Bits, Run, bits, dask_at, undisturbed
from reference import Settings

import dqlearn
from dqlearn.envs.problems.torus import torus
from dqlearn.events import RoundEnd
from dqlearn.schedules import Exponential, VisitCount

SMALL = Run(lambda: torus(side=12, max_episode_steps=40), Settings(256, 8), 12_000, 144, 4)


@pytest.fixture(autouse=True)
def _synchronous() -> Any:
    with dask_at(PLACES[0]):
        yield


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("policy_lag", [0, 1])
@pytest.mark.parametrize("learning_rate", [Exponential(0.9, 0.1, 8_000), VisitCount(0.7, 2.0)])
def test_equals_the_reference(dtype: str, policy_lag: int, learning_rate: Any) -> None:
    settings = Settings(
        100,
        17,
        3,
        gamma=0.9,
        learning_rate=learning_rate,
        epsilon=Exponential(1.0, 0.1, 8_000),
        initial_value=0.25,
        policy_lag=policy_lag,
        dtype=dtype,
        seed=3,
    )
    run = Run(SMALL.make, settings, 10_000, 144, 4)
    wanted = Bits.of(*reference.learn(run.make(), run.timesteps, settings))
    assert bits(run.learner(chunks=(50, 3)).learn(run.timesteps)) == wanted


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("policy_lag", [0, 1])
def test_learning_in_two_calls_is_learning_in_one(name: str, policy_lag: int) -> None:
    run = RUNS[name]
    learner = run.learner(policy_lag=policy_lag)
    half = learner.learn(run.timesteps // 2).num_timesteps
    assert run.timesteps // 2 <= half < run.timesteps // 2 + run.settings.round_timesteps
    assert bits(learner.learn(run.timesteps)) == undisturbed(run, policy_lag=policy_lag)


def test_learning_in_two_places_is_learning_in_one() -> None:
    run = RUNS["lake"]
    learner = run.learner().learn(run.timesteps // 2)
    with dask_at(PLACES[2]):
        assert bits(learner.learn(run.timesteps)) == undisturbed(run)


@pytest.mark.parametrize("shards", [2, 3, 4])
def test_shards_that_begin_at_multiples_of_64_do_not_count(shards: int) -> None:
    assert undisturbed(SMALL, shards=shards) == undisturbed(SMALL, shards=1)


def test_callbacks_and_progress_bars_do_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[int] = []

    def callback(event: RoundEnd) -> None:
        seen.append(event.report.round)
        event.learner.evaluate(n_episodes=2)
        event.learner.table.q.sum().compute()

    watched = SMALL.learner().learn(SMALL.timesteps, callback=callback, progress_bar=True)
    assert bits(watched) == undisturbed(SMALL)
    assert seen == list(range(6))
    assert "12.3" in capsys.readouterr().err  # thousand transitions, on the progress bar


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"num_envs": 192},
        {"steps_per_round": 16},
        {"gamma": 0.98},
        {"learning_rate": 0.2},
        {"epsilon": 0.2},
        {"initial_value": 0.5},
        {"policy_lag": 1},
        {"shards": 5},  # which begin in the middle of blocks
        {"dtype": "float64"},
    ],
    ids=str,
)
def test_what_must_change_the_bits(change: dict[str, Any]) -> None:
    """Else the other tests would compare nothing with nothing."""
    assert undisturbed(SMALL, **change).q != undisturbed(SMALL).q


@pytest.mark.parametrize("chunks", [-1, (50, 3), ((3, 141), (1, 3))])
def test_a_saved_table_comes_back_to_the_bit(tmp_path: Path, chunks: Any) -> None:
    path = str(tmp_path / "q.zarr")
    learner = SMALL.learner(chunks=chunks, dtype="float64").learn(SMALL.timesteps)
    learner.save(path)
    loaded = dqlearn.load(path, SMALL.make())
    assert loaded.num_timesteps == learner.num_timesteps
    assert bits(loaded) == bits(learner)
    assert bits(dqlearn.load(path, SMALL.make(), chunks="auto")) == bits(learner)


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("policy_lag", [0, 1])
def test_every_transition_is_one_visit(name: str, policy_lag: int) -> None:
    learner = RUNS[name].learner(policy_lag=policy_lag).learn(3_000)
    assert dask.compute(learner.table.visits.sum(dtype=np.int64))[0] == learner.num_timesteps
    assert learner.num_timesteps < 3_000 + RUNS[name].settings.round_timesteps
