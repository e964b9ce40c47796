"""Observed transitions are learned as those of a shard, to the bit, wherever and however."""

from __future__ import annotations

from typing import Any

import dask
import numpy as np
import pytest
from fused import apart
from observing import Log, Walk, recorded, tell

from dqlearn import QLearner
from dqlearn.schedules import Linear, VisitCount

SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "schedules": {
        "epsilon": Linear(1.0, 0.1, over=1_500),
        "learning_rate": Linear(0.5, 0.1, over=1_000),
    },
    "visits": {"learning_rate": VisitCount(), "dtype": "float64"},
    "double": {"algorithm": "double_q"},
    "sarsa": {"algorithm": "expected_sarsa", "epsilon": 0.2},
}


def contents(learner: QLearner) -> list[bytes]:
    """The table, and the history but for its clock and its episodes, as bytes."""
    table, history = learner.table, learner.history
    arrays = [table.q.compute(), table.visits.compute(), table.policy.compute()]
    names = ("timesteps", "n_transitions", "epsilon", "learning_rate", "mean_abs_td")
    return [array.tobytes() for array in (*arrays, *(history[name].values for name in names))]


@pytest.fixture(scope="module", params=SETTINGS)
def log(request: pytest.FixtureRequest) -> Log:
    return recorded(**SETTINGS[request.param], seed=7)


def observer_of(settings: dict[str, Any], **others: Any) -> QLearner:
    return QLearner(Walk, **{"seed": 7, "num_envs": 1, "shards": 1, **settings, **others})


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "apart"])
def test_observing_what_an_environment_did_makes_its_table(name: str, fused: bool) -> None:
    log = recorded(**SETTINGS[name], seed=7)
    learner = observer_of(SETTINGS[name])
    with dask.config.set({"dqlearn.fuse": fused}):
        outcomes = tell(learner, log.rounds)
    assert contents(learner) == contents(log.learner)
    assert sum(it.learned for it in outcomes) == learner.num_timesteps
