"""Ensembles: identities to the bit, and a plain NumPy reference of every target."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr

import dqlearn
from dqlearn import Policy, QLearner, TabularEnv
from dqlearn.algorithms import Extent, as_algorithm, ensemble
from dqlearn.envs.problems.torus import torus
from dqlearn.errors import ConfigurationError
from dqlearn.kernels.ties import ties
from dqlearn.policy.ties import tie_hashes
from dqlearn.random import bernoulli
from dqlearn.stages.policy import Policy as RoundPolicy
from dqlearn.stages.rollout import open_shard, rollout
from dqlearn.statistics import RoundStats
from dqlearn.testing import check_rule

SLOW = pytest.mark.slow  # each ensemble compiles kernels of its own
MODEL = torus(side=5, slip=0.2)
TARGETS = ["own", "shared", "mean", "aggregate"]


def everything(learner: QLearner) -> list[bytes]:
    table = learner.table
    arrays = table.q.compute(), table.visits.compute(), table.policy.compute()
    return [array.tobytes() for array in arrays]


def some(*fast: Any, of: list[Any]) -> list[Any]:
    """Values of a parameter, of which all but some are slow."""
    return [value if value in fast else pytest.param(value, marks=SLOW) for value in of]


# Identities


@pytest.mark.parametrize("target", some("own", of=TARGETS))
def test_one_member_is_the_plain_learner(target: str) -> None:
    settings: dict[str, Any] = {"num_envs": 48, "shards": 2, "seed": 4}
    alone = QLearner(MODEL, **settings).learn(5_000)
    learner = QLearner(MODEL, algorithm=ensemble(1, "sum", target), **settings).learn(5_000)
    assert everything(learner) == everything(alone)


def first(key: Any, params: Any) -> Any:
    return 0


def onward(state: Any, action: Any, key: Any, params: Any) -> Any:
    after = (state + 1) % 7
    return after, 1.0 + state, after == 0


@pytest.mark.parametrize("target", some("shared", of=TARGETS))
def test_members_that_are_identical_are_one(target: str) -> None:
    """Of a model in which nothing is left to chance, all environments make the same steps."""
    model = TabularEnv(7, 1, first, onward)
    settings: dict[str, Any] = {"steps_per_round": 3, "shards": 1, "seed": 4}
    alone = QLearner(model, num_envs=4, **settings).learn(600)
    rule = ensemble(4, "sum", target)
    together = QLearner(model, num_envs=16, algorithm=rule, **settings).learn(2_400)
    q, visits = together.table.q.compute(), together.table.visits.compute()
    for member in range(4):
        np.testing.assert_array_equal(q[:, member], alone.table.q.compute())
        np.testing.assert_array_equal(visits[:, member], alone.table.visits.compute())


@pytest.mark.parametrize("n", [2, 4, 8])
def test_a_table_that_is_partitioned_decides_as_the_whole(n: int) -> None:
    """Each pair has one owner, and is 0 elsewhere."""
    rng = np.random.default_rng(n)
    whole = rng.normal(size=(200, 5)).astype(np.float32)
    whole[::3, 1] = whole[::3].max(axis=1)  # some are tied
    parts = np.zeros((200, n, 5), np.float32)
    owner = rng.integers(0, n, whole.shape)
    for s, a in np.ndindex(*whole.shape):
        parts[s, owner[s, a], a] = whole[s, a]
    extent, plain, rule = Extent(5, ties(1)), as_algorithm("q_learning"), ensemble(n)
    found, single = rule.find(parts, extent), plain.find(whole, extent)
    np.testing.assert_array_equal(rule.tied(found), plain.tied(single))
    np.testing.assert_array_equal(rule.value(found, extent) * n, plain.value(single, extent))


@pytest.mark.parametrize("aggregate", some("sum", of=["sum", "max", "min", "vote"]))
def test_fusing_and_threads_change_no_bit(aggregate: str) -> None:
    settings: dict[str, Any] = {"num_envs": 150, "shards": 3, "steps_per_round": 2, "seed": 3}
    settings |= {"algorithm": ensemble(4, aggregate, "own"), "chunks": (7, -1)}
    with dask.config.set({"dqlearn.fuse": False}):
        alone = everything(QLearner(MODEL, **settings).learn(6_000))
    for threads in (1, 3):
        with dask.config.set(scheduler="threads", num_workers=threads):
            assert everything(QLearner(MODEL, **settings).learn(6_000)) == alone


NAMES = ["ensemble:2:sum:own", "ensemble:3:min:aggregate", "ensemble:3:max:shared"]
NAMES += ["ensemble:3:vote:own"]


@pytest.mark.parametrize("name", some(NAMES[1], of=NAMES))
def test_any_cut_and_path_has_the_bits(name: str) -> None:
    """In chunks of states and actions, on both paths, sparse; and it learns the optimum."""
    check_rule(name)


def test_python_environments_teach_the_same_members() -> None:
    """The same steps, taken in Python one by one."""
    settings: dict[str, Any] = {"num_envs": 6, "shards": 2, "steps_per_round": 3, "seed": 2}
    rule = ensemble(3)
    learner = QLearner("FrozenLake-v1", compile=False, algorithm=rule, **settings).learn(3_600)
    visits = learner.table.visits.compute().sum(axis=(0, 2))
    assert visits.tolist() == [1_200] * 3


# The reference

N, ENVS, STEPS, SHARE, GAMMA, ALPHA = 3, 12, 2, 60, 0.9, 0.5
AGGREGATE: dict[str, Any] = {"sum": np.mean, "max": np.max, "min": np.min}
AGGREGATE["vote"] = lambda rows, axis: (rows == rows.max(axis=1)[:, None]).sum(axis=axis)


def worth(q: npt.NDArray[np.float64], s: int, i: int, aggregate: str, target: str) -> float:
    """What state s is worth to member i, from the page on algorithms."""
    rows = q[s]
    if target == "own":
        return float(rows[i].max())
    if target == "mean":
        return float(rows.mean(axis=0).max())
    together = AGGREGATE[aggregate](rows, axis=0)
    hashes = tie_hashes(ties(7), np.array([[s]]), np.arange(4), 4)[0]
    best = np.where(together == together.max(), hashes, 0).argmax()  # votes are often tied
    return float(together.max() if target == "aggregate" else rows[i, best])


def reference(aggregate: str, target: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Learn from steps at random, of which the table's values decide nothing."""
    q, visits = np.zeros((25, N, 4)), np.zeros((25, N, 4), np.int64)
    # Values that differ everywhere, so that no action is tied with another.
    q += np.random.default_rng(0).normal(size=q.shape)
    shard = open_shard(MODEL, 0, ENVS, 7)
    nobody = RoundPolicy(
        np.zeros(25), np.ones(25, np.uint8), 0, RoundStats(0, 1.0), Extent(4, ties(7))
    )
    for _ in range(SHARE):
        batch, shard = rollout(MODEL, shard, nobody, 1.0, 7, STEPS)
        before = q.copy()
        for t in range(ENVS * STEPS):
            s, a, i = int(batch.state[t]), int(batch.action[t]), t % ENVS % N
            after = int(batch.next_state[t])
            future = worth(before, after, i, aggregate, target) if after >= 0 else 0.0
            q[s, i, a] += ALPHA * (float(batch.reward[t]) + GAMMA * future - q[s, i, a])
            visits[s, i, a] += 1
    return q, visits


EQUATIONS = [*product(["sum", "max", "min"], TARGETS), *product(["vote"], TARGETS[:3])]


@pytest.mark.parametrize(
    ("aggregate", "target"),
    [
        pytest.param(*it, marks=() if it in {("sum", "own"), ("vote", "shared")} else SLOW)
        for it in EQUATIONS
    ],
)
def test_it_learns_what_the_equations_say(aggregate: str, target: str) -> None:
    begun = np.random.default_rng(0).normal(size=(25, N, 4))
    settings: dict[str, Any] = {"num_envs": ENVS, "steps_per_round": STEPS, "shards": 1, "seed": 7}
    settings |= {"gamma": GAMMA, "learning_rate": ALPHA, "epsilon": 1.0, "dtype": "float64"}
    settings |= {"algorithm": ensemble(N, aggregate, target), "initial_value": begun}
    learner = QLearner(MODEL, **settings).learn(SHARE * ENVS * STEPS)
    q, visits = reference(aggregate, target)
    np.testing.assert_allclose(learner.table.q.compute(), q, rtol=1e-12)
    np.testing.assert_array_equal(learner.table.visits.compute(), visits)


# As a user meets it


def test_it_is_a_dimension_and_has_a_name(tmp_path: Path) -> None:
    learner = QLearner("FrozenLake-v1", algorithm="ensemble:4:min:aggregate", seed=1)
    learner.learn(20_000, store=tmp_path / "run")
    dataset = learner.table.to_xarray()
    assert dataset["q"].dims == dataset["visits"].dims == ("state", "member", "action")
    assert dataset["q"].sizes["member"] == 4
    least = dataset["q"].min("member").max("action")
    np.testing.assert_array_equal(dataset["value"], least)
    assert float(dataset["spread"].max()) > 0.0
    np.testing.assert_allclose(dataset["spread"], dataset["q"].std("member"), rtol=1e-6)
    learner.save(tmp_path / "q.zarr")
    xr.testing.assert_equal(
        xr.open_zarr(tmp_path / "q.zarr")["q"].compute(), dataset["q"].compute()
    )
    alone = QLearner("FrozenLake-v1", algorithm=ensemble(4, "min", "aggregate"), seed=1)
    resumed = dqlearn.resume(tmp_path / "run").learn(40_000)
    assert everything(resumed) == everything(alone.learn(40_000))
    policy = Policy.open(tmp_path / "q.zarr")
    states = np.arange(16)
    np.testing.assert_array_equal(policy.batch(states), learner.predict(states)[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "n must be"),
        ((65,), "n must be"),
        ((2.5,), "n must be"),
        ((2, "mean"), "aggregate must be"),
        ((2, "sum", "others"), "target must be"),
        ((2, "vote", "aggregate"), "votes are none"),
    ],
)
def test_bad_ensembles(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ensemble(*arguments)


def test_each_member_has_an_environment() -> None:
    """Else some would learn nothing."""
    with pytest.raises(ConfigurationError, match="num_envs=3: pass at least 4"):
        QLearner(MODEL, algorithm="ensemble:4:sum:own", num_envs=3)


@pytest.mark.parametrize(
    "name",
    [
        "ensemble",
        "ensemble:4",
        "ensemble:x:sum:own",
        "ensemble:0:sum:own",
        "ensemble:2:a:b",
        "ensemble:2:vote:aggregate",
    ],
)
def test_bad_names(name: str) -> None:
    with pytest.raises(ConfigurationError, match="ensemble:N:AGGREGATE:TARGET"):
        QLearner(MODEL, algorithm=name)


# What it is for


def start(key: Any, params: Any) -> Any:
    return 0


def lottery(state: Any, action: Any, key: Any, params: Any) -> Any:
    """From 0 to 1 for nothing; from there to the end, for a noisy reward of -0.1 on average."""
    if state == 0:
        return 1, 0.0, False
    return 0, (0.9 if bernoulli(key, 0, 0.5) else -1.1), True


@SLOW
def test_maxmin_does_not_overestimate() -> None:
    """Of ten actions that are worth -0.1 each, the best estimate is far too large; Maxmin's not."""
    model = TabularEnv(2, 10, start, lottery)
    settings: dict[str, Any] = {"steps_per_round": 1, "gamma": 1.0, "epsilon": 1.0, "shards": 1}
    found = {}
    for name, n in (("q_learning", 1), ("ensemble:4:min:aggregate", 4)):
        values = []
        for seed in range(10):
            learner = QLearner(model, algorithm=name, num_envs=n, seed=seed, **settings)
            values.append(float(learner.learn(600 * n).table.to_xarray()["value"][0]) + 0.1)
        found[n] = np.mean(values)
    assert found[1] > 0.2
    assert abs(found[4]) < found[1] / 4
