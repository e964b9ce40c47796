"""What is shown of an object: in a line, and as a table in a notebook."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

import dqlearn
from dqlearn import EvaluationResult, QLearner, learning_curve, schedules
from dqlearn.envs.problems.torus import torus
from dqlearn.envs.problems.traffic import TrafficGrid
from dqlearn.errors import ConfigurationError
from dqlearn.exact import Solution
from dqlearn.runs import CheckpointInfo
from dqlearn.table.history import History

HOSTILE = "<script>alert(1)</script>"
INFO = CheckpointInfo(3, 40, 5000, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), (HOSTILE,), "ABC")


def html(value: Any) -> str:
    return str(value._repr_html_())


def test_a_learner_shows_its_hyperparameters() -> None:
    learner = QLearner(
        torus(side=4), gamma=0.875, epsilon=schedules.Linear(1.0, 0.05, 1000), seed=12345
    )
    shown = html(learner)
    assert "<th>gamma</th><td>0.875</td>" in shown
    assert "<th>seed</th><td>12345</td>" in shown
    assert "Linear(" in shown
    assert "<th>learning rate</th><td>Constant(" in shown


def test_a_model_shows_its_name_and_size() -> None:
    assert repr(TrafficGrid.make()) == (
        "TabularEnv('TrafficGrid': 9604 states x 4 actions, 3 events)"
    )
    assert "<td>TrafficGrid</td>" in html(TrafficGrid.make())
    model = replace(torus(side=4), name=HOSTILE)
    assert HOSTILE not in html(model)
    assert "&lt;script&gt;" in html(model)
    assert "row (4), column (4)" in html(model)
    assert "_transition" in repr(replace(model, name=None))


@pytest.mark.parametrize("name", ["", 5, b"x"])
def test_a_name_that_is_none(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="name must be a text that is not empty, got"):
        replace(torus(side=4), name=name)


def test_a_solution_does_not_print_its_arrays() -> None:
    q = np.arange(2000.0).reshape(500, 4)
    solution = Solution(q, q.max(axis=1), q.argmax(axis=1), 7, 1e-10)
    assert repr(solution) == "Solution(500 states x 4 actions, 7 sweeps, residual 1e-10)"
    assert "<td>3 .. 1999</td>" in html(solution)


def test_an_evaluation_shows_its_returns() -> None:
    shown = html(EvaluationResult(np.array([1.0, 3.0]), np.array([5, 7]), 1))
    assert "<td>2 ± 1</td>" in shown
    assert "<th>cut off</th><td>1</td>" in shown
    assert "nan" in html(EvaluationResult(np.array([1.0]), np.array([5]), 0))


def test_a_checkpoint_shows_when_it_was_written() -> None:
    assert repr(replace(INFO, tags=("best",))) == (
        "CheckpointInfo(3: round 40, 5000 transitions, 2026-01-02 03:04:05, 'best')"
    )
    assert "2026-01-02 03:04:05 UTC" in html(INFO)
    assert HOSTILE not in html(INFO)


def test_only_public_names_are_listed() -> None:
    names = [name for name in dir(dqlearn) if not name.startswith("__")]
    assert names == sorted(dqlearn.__all__)


def test_a_learning_curve_has_no_gaps() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 4, size=60) * (rng.random(60) < 0.3)
    returns = [rng.normal(size=n) for n in counts]
    history = History().to_xarray().reindex(round=np.arange(60))
    history["n_episodes"] = ("round", counts)
    history["mean_return"] = ("round", [g.mean() if len(g) else np.nan for g in returns])
    history["timesteps"] = ("round", 10 * np.arange(1, 61))
    curve = learning_curve(history, 5)
    assert curve["episode"].values.tolist() == np.cumsum(counts)[counts > 0].tolist()
    for point, round_ in zip(curve.values, curve["round"].values, strict=True):
        first = round_
        while first > 0 and counts[first : round_ + 1].sum() < 5:
            first -= 1
        assert point == pytest.approx(np.concatenate(returns[first : round_ + 1]).mean())


def test_a_learning_curve_of_nothing_is_empty() -> None:
    assert len(learning_curve(History().to_xarray())) == 0
    with pytest.raises(ConfigurationError, match="n_episodes"):
        learning_curve(History().to_xarray(), 0)


def test_a_learner_shows_the_name_of_its_model() -> None:
    assert repr(QLearner(torus(side=4))).startswith("QLearner('Torus'")
