"""Each rule learns what its equation says: numbers known beforehand, and what it is there for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

import dqlearn
from dqlearn import QLearner, TabularEnv
from dqlearn.algorithms import ALGORITHMS, Q_LEARNING, Algorithm, Best, Sum, find_algorithm
from dqlearn.cli import main
from dqlearn.errors import CheckError, ConfigurationError, IncompatibleTableError
from dqlearn.random import bernoulli
from dqlearn.schedules import Linear, VisitCount
from dqlearn.testing import check_rule

START, EPSILON = 36, 0.1


def cliff(**settings: Any) -> QLearner:
    """Learn the cliff walk, undiscounted; there is no noise, so steps go all the way."""
    common: dict[str, Any] = {"gamma": 1.0, "learning_rate": 1.0, "epsilon": EPSILON, "seed": 1}
    common |= {"dtype": "float64", "num_envs": 64, "steps_per_round": 4}
    return QLearner("CliffWalking-v1", **(common | settings))


def expected(q: np.ndarray[Any, Any], epsilon: float) -> float:
    """What an epsilon-greedy policy expects at the start."""
    return float((1 - epsilon) * q[START].max() + epsilon * q[START].mean())


def steps_to_the_goal(learner: QLearner) -> float:
    return learner.evaluate(1, max_steps=200).mean_length


def test_expected_sarsa_keeps_its_distance_from_the_cliff() -> None:
    """Its fixed point, by exact evaluation, and its greedy path, around the cliff's edge."""
    learner = cliff(algorithm="expected_sarsa", epsilon=Linear(1.0, EPSILON, over=200_000))
    q = learner.learn(3_000_000).table.q.compute()
    assert expected(q, EPSILON) == pytest.approx(-20.70768, abs=1e-4)
    assert steps_to_the_goal(learner) == 15


def test_q_learning_walks_along_the_edge() -> None:
    learner = cliff(algorithm="q_learning").learn(500_000)
    assert learner.table.value.compute()[START] == -13
    assert steps_to_the_goal(learner) == 13


@pytest.mark.parametrize("name", ALGORITHMS)
def test_rules_learn_the_optimum_when_they_stop_exploring(name: str) -> None:
    check_rule(name)


def start(key: Any, params: Any) -> Any:
    return 0


def lottery(state: Any, action: Any, key: Any, params: Any) -> Any:
    """From 0 to 1 for nothing; from there to the end, for a noisy reward of -0.1 on average."""
    if state == 0:
        return 1, 0.0, False
    return 0, (0.9 if bernoulli(key, 0, 0.5) else -1.1), True


def overestimate(name: str) -> float:
    """How much too large the value of ten noisy actions is, on average over some runs."""
    model = TabularEnv(2, 10, start, lottery)
    settings: dict[str, Any] = {"num_envs": 1, "steps_per_round": 1, "gamma": 1.0, "epsilon": 1.0}
    values = []
    for seed in range(10):
        learner = QLearner(model, algorithm=name, learning_rate=0.1, seed=seed, **settings)
        q = learner.learn(600).table.q.compute()
        values.append(q[0].max() + 0.1)
    return float(np.mean(values))


def test_double_q_does_not_overestimate() -> None:
    """Of ten actions that are worth -0.1 each, the best estimate is 0.3 to 0.4 too large."""
    single, double = overestimate("q_learning"), overestimate("double_q")
    assert single > 0.2
    assert abs(double) < single / 2


def test_members_are_a_dimension_of_the_dataset(tmp_path: Path) -> None:
    learner = QLearner("FrozenLake-v1", algorithm="double_q", seed=1).learn(20_000)
    dataset = learner.table.to_xarray()
    assert "16 states x 4 actions x 2 members" in repr(learner.table)
    assert "double_q" in learner._repr_html_()
    assert dqlearn.unfold(dataset)["q"].sizes["member"] == 2
    assert dataset["q"].dims == dataset["visits"].dims == ("state", "member", "action")
    assert dataset["value"].dims == ("state",)
    assert dataset.attrs["algorithm"] == "double_q"
    share = dataset["visits"].sum(["state", "action"]) / dataset["visits"].sum()
    assert share.values == pytest.approx([0.5, 0.5], abs=0.02)
    learner.save(tmp_path / "q.zarr")
    stored = xr.open_zarr(tmp_path / "q.zarr")
    xr.testing.assert_equal(stored["q"].compute(), dataset["q"].compute())
    value = dataset["q"].mean("member").max("action")
    np.testing.assert_allclose(dataset["value"], value, rtol=1e-6)


SETTINGS: dict[str, dict[str, Any]] = {
    "in chunks": {"chunks": (5, 3)},
    "lagged": {"policy_lag": 1},
    "gather": {"exchange": "gather", "chunks": (5, -1)},
    "sparse": {"sparse": True, "chunks": 3},
}


def of_double_q(**settings: Any) -> QLearner:
    common: dict[str, Any] = {"num_envs": 64, "shards": 2, "algorithm": "double_q", "seed": 3}
    return QLearner("FrozenLake-v1", **common, **settings)


def arrays(learner: QLearner) -> list[Any]:
    table = learner.table
    return [table.q.compute().tolist(), table.visits.compute().tolist()]


@pytest.mark.parametrize("name", SETTINGS)
def test_several_members_live_on_in_a_store(name: str, tmp_path: Path) -> None:
    """Half a run, resumed, ends with the bits of the whole; readers see them, too."""
    settings = SETTINGS[name]
    whole = of_double_q(**settings).learn(20_000)
    of_double_q(**settings).learn(10_000, store=tmp_path / "run")
    resumed = dqlearn.resume(tmp_path / "run")
    assert arrays(resumed.learn(20_000)) == arrays(whole)
    stored = dqlearn.open_table(tmp_path / "run")
    live = whole.table.to_xarray()
    for variable in ("q", "visits", "value", "policy"):
        np.testing.assert_array_equal(stored[variable], live[variable])


@pytest.mark.parametrize("name", SETTINGS)
def test_several_members_are_saved_and_loaded(name: str, tmp_path: Path) -> None:
    learner = of_double_q(**SETTINGS[name]).learn(10_000)
    learner.save(tmp_path / "q.zarr")
    loaded = dqlearn.load(tmp_path / "q.zarr")
    assert arrays(loaded) == arrays(learner)
    assert loaded.predict(0) == learner.predict(0)
    assert arrays(loaded.learn(20_000))[1] != arrays(learner)[1]


def test_the_command_line_knows_several_members(tmp_path: Path) -> None:
    run, table, copy = (str(tmp_path / name) for name in ("run", "table", "copy"))
    rule = ["--algorithm", "double_q", "--seed", "1", "--out", table, "--store", run]
    for words in (
        ["train", "FrozenLake-v1", "--timesteps", "5000", *rule],
        ["runs", "export", run, copy],
        ["runs", "info", run],
        ["evaluate", copy, "--episodes", "2"],
    ):
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, done.output
    said = json.loads(CliRunner().invoke(main, ["info", copy, "--json"]).stdout)
    assert "double_q" in json.dumps(said)
    assert 0 < said["visited_pairs"] <= 64


def test_another_rule_cannot_go_on_with_other_members(tmp_path: Path) -> None:
    of_double_q().learn(5_000).save(tmp_path / "q.zarr")
    with pytest.raises(IncompatibleTableError, match="members"):
        dqlearn.load(tmp_path / "q.zarr", algorithm="q_learning").learn(10_000)


def test_a_sum_needs_its_actions_together() -> None:
    with pytest.raises(ConfigurationError, match=r"chunks must not split the 4 actions"):
        QLearner("FrozenLake-v1", algorithm="expected_sarsa", chunks=(4, 2))


# Rules of one's own


def least(q: Any, s: Any, a: Any) -> Any:
    return min(q[s, 0, a], q[s, 1, a], q[s, 2, a])


def same(values: Any, epsilon: Any, n_actions: Any, member: Any) -> Any:
    return values[0]


MAXMIN = Algorithm(f"{__name__}:MAXMIN", (Best(least),), target=same, members=3)


def test_a_rule_of_ones_own_is_one_declaration() -> None:
    check_rule(MAXMIN)


def test_a_rule_of_ones_own_is_found_where_it_stands(tmp_path: Path) -> None:
    learner = QLearner("FrozenLake-v1", algorithm=MAXMIN, seed=1).learn(
        10_000, store=tmp_path / "run"
    )
    assert arrays(dqlearn.resume(tmp_path / "run")) == arrays(learner)
    assert dqlearn.open_table(tmp_path / "run")["q"].sizes["member"] == 3


def test_a_rule_that_was_changed_does_not_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run only goes on to the same end with the same rule."""
    QLearner("FrozenLake-v1", algorithm=MAXMIN, seed=1).learn(5_000, store=tmp_path / "run")
    changed = replace(MAXMIN, summary=(Best(other_least),))
    monkeypatch.setitem(globals(), "MAXMIN", changed)
    with pytest.raises(IncompatibleTableError, match="another version of the algorithm"):
        dqlearn.resume(tmp_path / "run")


def other_least(q: Any, s: Any, a: Any) -> Any:
    return min(q[s, 0, a], q[s, 1, a], q[s, 2, a] + 1)


def test_nothing_is_imported_because_a_table_says_so(tmp_path: Path) -> None:
    rule = replace(MAXMIN, name="a_module_that_is_not_imported:MAXMIN")
    QLearner("FrozenLake-v1", algorithm=rule, seed=1).learn(5_000).save(tmp_path / "q.zarr")
    with pytest.raises(IncompatibleTableError, match="import the module that declares it"):
        dqlearn.load(tmp_path / "q.zarr")
    assert dqlearn.load(tmp_path / "q.zarr", algorithm=MAXMIN).table.q.shape == (16, 3, 4)


def test_find_algorithm_reads_modules_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sly(ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise AssertionError("this is code of a module")

    monkeypatch.setitem(__import__("sys").modules, "sly", Sly("sly"))
    with pytest.raises(ValueError, match="expected an algorithm of dqlearn's"):
        find_algorithm("sly:RULE")


def of_others(q: Any, s: Any, a: Any) -> Any:
    """A score that looks at other actions: what they are depends on the cut."""
    return q[s, 0, a] - q[s, 0, q.shape[2] - 1]


def test_check_rule_finds_what_depends_on_the_cut() -> None:
    wrong = replace(Q_LEARNING, name="wrong", summary=(Best(of_others),))
    with pytest.raises(CheckError, match="the same bits with chunks of states and actions"):
        check_rule(wrong)


def smallest(values: Any, epsilon: Any, n_actions: Any, member: Any) -> Any:
    return -values[0]


def test_check_rule_finds_what_learns_nothing() -> None:
    wrong = replace(Q_LEARNING, name="wrong", target=smallest)
    with pytest.raises(CheckError, match="expected a greedy policy that loses at most"):
        check_rule(wrong, timesteps=20_000)
    check_rule(wrong, timesteps=20_000, optimal=False)


def own(q: Any, s: Any, a: Any) -> Any:
    return q[s, 0, a]


def mean(values: Any, epsilon: Any, n_actions: Any, member: Any) -> Any:
    return values[1] / n_actions


def test_a_rule_for_a_random_policy_evaluates_it() -> None:
    """A target that is the mean over all actions learns the value of a random walk, exactly."""
    rule = Algorithm("random_walk", (Best(own), Sum(own)), target=mean)
    env = gymnasium.make("FrozenLake-v1", is_slippery=False)
    learner = QLearner(
        "FrozenLake-v1",
        env_kwargs={"is_slippery": False},
        algorithm=rule,
        gamma=0.9,
        epsilon=1.0,
        learning_rate=1.0,
        dtype="float64",
        num_envs=64,
        steps_per_round=4,
    ).learn(200_000)
    q = learner.table.q.compute()
    visited = learner.table.visits.compute() > 0
    for s, a in np.argwhere(visited):
        ((_, after, reward, over),) = env.unwrapped.P[s][a]  # type: ignore[attr-defined]
        assert q[s, a] == pytest.approx(reward + (not over) * 0.9 * q[after].mean(), abs=1e-9)


def test_visit_counts_are_a_members_own() -> None:
    """A rate of 1/n makes the mean of a member's own targets: of a constant, the constant."""
    model = TabularEnv(1, 2, start, lambda state, action, key, params: (0, 3.0, True))
    q = QLearner(model, algorithm="double_q", num_envs=64, learning_rate=VisitCount()).learn(9_000)
    assert q.table.q.compute().tolist() == [[[3.0, 3.0], [3.0, 3.0]]]
