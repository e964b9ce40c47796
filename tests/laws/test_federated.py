"""Federated members: identities to the bit, a plain NumPy reference, and workers that die."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr
from distributed import Client, LocalCluster
from fused import contents
from killing import killed_in_turn, two_workers

import dqlearn
from dqlearn import Every, Federated, QLearner, TabularEnv
from dqlearn.algorithms import Extent
from dqlearn.callbacks import Callback
from dqlearn.envs.problems.torus import torus
from dqlearn.errors import ConfigurationError, RewardError, TableTooLargeError
from dqlearn.events import RoundEnd
from dqlearn.kernels.ties import ties
from dqlearn.random import integers
from dqlearn.schedules import Constant, Linear, Schedule, VisitCount
from dqlearn.stages.policy import Policy
from dqlearn.stages.rollout import open_shard, rollout
from dqlearn.statistics import RoundStats

SLOW = pytest.mark.slow
MODEL = torus(side=9, slip=0.1)
SETTINGS: dict[str, Any] = {"num_envs": 130, "steps_per_round": 3, "seed": 3}
MERGES = ["equal", "importance", "visits"]
RATES: dict[str, Any] = {
    "constant": 0.2,
    "visits": VisitCount(0.8),
    "schedule": Linear(0.5, 0.1, 30_000),
}
REFUSED = ("importance", "schedule")


def learned(total: int = 40_000, **settings: Any) -> list[bytes]:
    return contents(QLearner(MODEL, **SETTINGS | settings).learn(total))


def table_of(learner: QLearner) -> list[bytes]:
    return [it.compute().tobytes() for it in (learner.table.q, learner.table.visits)]


# Identities


@pytest.mark.parametrize(
    ("merge", "rate"),
    [(merge, rate) for merge in MERGES for rate in RATES if (merge, rate) != REFUSED],
)
def test_one_member_is_the_plain_learner(merge: Any, rate: str) -> None:
    """Whatever its shards, its schedules, and how often it is merged with itself."""
    settings = SETTINGS | {"shards": 3, "learning_rate": RATES[rate], "dtype": "float64"}
    settings |= {"epsilon": Linear(1.0, 0.1, 20_000)}
    total = 8 * 5 * 130 * 3
    plain = QLearner(MODEL, **settings).learn(total)
    one = QLearner(MODEL, federated=Federated(1, 5, merge), **settings).learn(total)
    assert table_of(one) == table_of(plain)
    assert one.num_timesteps == plain.num_timesteps
    assert one.n_episodes == plain.n_episodes
    assert one.history["n_transitions"].values.tolist() == [5 * 130 * 3] * 8


def first(key: Any, params: Any) -> Any:
    return 0


def onward(state: Any, action: Any, key: Any, params: Any) -> Any:
    after = (state + 1) % 7
    return after, 1.0 + state, after == 0


@pytest.mark.parametrize("merge", [*MERGES, "trimmed_mean"])
def test_members_that_see_the_same_are_one(merge: Any) -> None:
    """Of a model in which nothing is left to chance, all environments make the same steps."""
    model = TabularEnv(7, 1, first, onward)
    settings: dict[str, Any] = {"steps_per_round": 3, "seed": 4}
    alone = QLearner(model, num_envs=4, shards=1, **settings).learn(600)
    together = QLearner(model, num_envs=12, federated=Federated(3, 5, merge), **settings)
    together.learn(1_800)
    np.testing.assert_array_equal(together.table.q, alone.table.q)
    np.testing.assert_array_equal(together.table.visits, 3 * alone.table.visits)


GRIDS = [(7, 4), (81, 4), (16, 4)]


@pytest.mark.parametrize("merge", ["importance", pytest.param("trimmed_mean", marks=SLOW)])
@pytest.mark.parametrize("rate", ["constant", pytest.param("visits", marks=SLOW)])
def test_any_chunks_and_scheduler_have_the_bits(merge: Any, rate: str) -> None:
    settings = {"federated": Federated(4, 6, merge), "learning_rate": RATES[rate]}
    with dask.config.set(scheduler="synchronous"):
        wanted = learned(**settings)[:3]
    for threads, chunks in zip((1, 2, 4), GRIDS, strict=True):
        with dask.config.set(scheduler="threads", num_workers=threads):
            assert learned(chunks=chunks, **settings)[:3] == wanted


def test_rules_of_several_tables_are_merged_too() -> None:
    settings = {"federated": Federated(2, 6), "algorithm": "double_q"}
    found = QLearner(MODEL, **SETTINGS | settings).learn(20_000)
    assert found.table.q.shape == (81, 2, 4)
    assert int(found.table.visits.sum().compute()) == found.num_timesteps
    assert learned(20_000, chunks=(7, 4), **settings)[:3] == contents(found)[:3]


# The reference

K, ENVS, STEPS, LOCAL, MERGED, GAMMA = 3, 5, 2, 4, 6, 0.9


def logs(n: int, many: int, rate: Schedule | VisitCount) -> np.longdouble:
    """The logarithm of a member's weight after many visits from the n-th on."""
    total = np.longdouble(0)
    for i in range(n, n + many):
        alpha = rate.rate(i) if isinstance(rate, VisitCount) else rate(0)
        total -= np.log1p(-np.longdouble(alpha))
    return total


def reference(merge: str, rate: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Learn from steps at random, of which the table's values decide nothing."""
    q, visits = np.zeros((81, 4)), np.zeros((81, 4), np.int64)
    shards = [open_shard(MODEL, k * ENVS, ENVS, 7) for k in range(K)]
    nobody = Policy(np.zeros(81), np.ones(81, np.uint8), 0, RoundStats(0, 1.0), Extent(4, ties(7)))
    for _ in range(MERGED):
        own, counts = [q.copy() for _ in shards], [visits.copy() for _ in shards]
        for k, _ in enumerate(shards):
            for _ in range(LOCAL):
                batch, shards[k] = rollout(MODEL, shards[k], nobody, 1.0, 7, STEPS)
                before = own[k].copy()
                rows = zip(batch.state, batch.action, batch.reward, batch.next_state, strict=True)
                for s, a, r, after in rows:
                    n = int(counts[k][s, a])
                    alpha = rate.rate(n) if isinstance(rate, VisitCount) else rate(0)
                    y = float(r) + GAMMA * (before[after].max() if after >= 0 else 0.0)
                    own[k][s, a] += alpha * (y - own[k][s, a])
                    counts[k][s, a] += 1
        since = np.array(counts) - visits
        weights = np.ones(since.shape, np.longdouble)
        if merge == "visits":
            weights = since + (since.sum(axis=0) == 0)
        elif merge == "importance":
            for k, s, a in np.ndindex(*since.shape):
                weights[k, s, a] = np.exp(logs(int(visits[s, a]), int(since[k, s, a]), rate))
        q = ((weights * np.array(own)).sum(axis=0) / weights.sum(axis=0)).astype(float)
        if merge == "trimmed_mean":
            q = np.sort(own, axis=0)[1:-1].mean(axis=0)
        visits = visits + since.sum(axis=0)
    return q, visits


@pytest.mark.parametrize("merge", [*MERGES, "trimmed_mean"])
@pytest.mark.parametrize("rate", [Constant(0.3), VisitCount(0.7, offset=2.0)])
def test_it_learns_what_the_equations_say(merge: Any, rate: Any) -> None:
    settings: dict[str, Any] = {"gamma": GAMMA, "epsilon": 1.0, "dtype": "float64", "seed": 7}
    federated = Federated(K, LOCAL, merge)
    learner = QLearner(
        MODEL,
        federated=federated,
        num_envs=K * ENVS,
        steps_per_round=STEPS,
        learning_rate=rate,
        **settings,
    )
    learner.learn(MERGED * LOCAL * STEPS * K * ENVS)
    q, visits = reference(merge, rate)
    np.testing.assert_array_equal(learner.table.visits.compute(), visits)
    np.testing.assert_allclose(learner.table.q.compute(), q, rtol=1e-10, atol=1e-12)
    assert visits.sum() == learner.num_timesteps


# As a user meets it


def test_cuts_are_at_merges(tmp_path: Path) -> None:
    """Callbacks and checkpoints see the table when it is merged, and count all transitions."""

    class Looking(Callback):
        every_rounds = 1

        def __init__(self) -> None:
            self.seen: list[tuple[int, int]] = []

        def on_round_end(self, event: RoundEnd) -> None:
            visits = int(event.learner.table.visits.sum().compute())
            self.seen.append((event.report.timesteps, visits))

    looking, each = Looking(), 6 * 130 * 3
    learner = QLearner(MODEL, federated="2:6:importance", **SETTINGS)
    learner.learn(
        10 * each, callback=looking, store=tmp_path / "run", checkpoint_every=Every(rounds=3)
    )
    assert looking.seen == [(n * each, n * each) for n in range(1, 11)]
    assert [it.round for it in dqlearn.runs.checkpoints(tmp_path / "run")] == [10, 9, 6, 3, 0]
    assert learner.evaluate(20).mean > 0.0
    assert "2 members, merged every 6 rounds (importance)" in repr(learner)


def test_what_is_stored_goes_on(tmp_path: Path) -> None:
    settings = SETTINGS | {"federated": Federated(2, 6), "learning_rate": VisitCount(0.8)}
    wanted = contents(QLearner(MODEL, **settings).learn(40_000))
    QLearner(MODEL, **settings).learn(20_000, store=tmp_path / "run")
    resumed = dqlearn.resume(tmp_path / "run", env=MODEL).learn(40_000)
    assert contents(resumed) == wanted
    resumed.save(tmp_path / "q.zarr")
    stored = xr.open_zarr(tmp_path / "q.zarr")
    assert stored.attrs["federated"] == "2:6:importance"
    assert stored["q"].values.tobytes() == wanted[0]
    loaded = dqlearn.load(tmp_path / "q.zarr", env=MODEL)
    assert loaded.learn(50_000).table.q.shape == (81, 4)
    alone = dqlearn.load(tmp_path / "q.zarr", env=MODEL, federated=None)
    assert "members" not in repr(alone.learn(50_000))


def somewhere(key: Any, params: Any) -> Any:
    return integers(key, 0, 50)


def faulty(state: Any, action: Any, key: Any, params: Any) -> Any:
    after = integers(key, 0, params[0])
    return (after, np.nan if after == params[1] else 1.0, False)


def test_a_fault_leaves_the_merge_before_it() -> None:
    """In whichever of a member's rounds it is met; the environment has its number in the run."""
    model = TabularEnv(20_000, 3, somewhere, faulty, params=(20_000, 7_777))
    learner = QLearner(model, federated=Federated(2, 4), num_envs=64, steps_per_round=2)
    said = []
    for _ in range(2):
        with pytest.raises(RewardError, match="environment") as found:
            learner.learn(10**7)
        said.append(str(found.value))
        assert int(learner.table.visits.sum().compute()) == learner.num_timesteps
        assert learner.num_timesteps % (4 * 64 * 2) == 0
    assert said[0] == said[1]
    assert learner.num_timesteps > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"federated": "2", "exchange": "gather"}, "needs exchange='broadcast'"),
        ({"federated": "2", "sparse": True}, "no sparse table"),
        ({"federated": "2", "policy_lag": 1}, "policy_lag=0"),
        ({"federated": "2", "chunks": (9, 2)}, "do not split the 4 actions"),
        ({"federated": "2", "shards": 3}, "shards must be a multiple"),
        ({"federated": "8", "num_envs": 4}, "at most num_envs=4"),
        ({"federated": "2", "learning_rate": Linear(1.0, 0.1, 9)}, "pass VisitCount"),
        ({"federated": 2}, "federated must be a dqlearn.Federated"),
        ({"federated": "2:x"}, "MEMBERS:LOCAL_ROUNDS:MERGE"),
        ({"federated": "2:1:median"}, "merge must be"),
        ({"federated": "2:1:trimmed_mean"}, "at least 3, got 2"),
        ({"federated": "0"}, "members must be"),
        ({"federated": "2:0"}, "local_rounds must be"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        QLearner(MODEL, **settings)


def test_python_environments_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="compiled model"):
        QLearner("FrozenLake-v1", compile=False, federated="2")


def test_tables_that_do_not_fit_are_refused() -> None:
    """Eight members need some seventeen times the memory of a table."""
    with dask.config.set({"dqlearn.memory-limit": "20 kiB"}):
        QLearner(MODEL).learn(1_000)
        with pytest.raises(TableTooLargeError, match="8 members"):
            QLearner(MODEL, federated="8")


# On a cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with two_workers(fuse=True) as cluster:
        yield cluster


FEDERATED = {"federated": Federated(3, 6), "chunks": (16, 4)}


@pytest.mark.cluster
def test_workers_make_the_bits_of_threads(cluster: LocalCluster) -> None:
    """With members and chunks on both, and back on threads again."""
    learner = QLearner(MODEL, **SETTINGS | FEDERATED)
    with Client(cluster):
        learner.learn(20_000)
        assert learner._run is not None
        assert learner._run.executor.memories == 2
        learner.evaluate(4)
    assert contents(learner.learn(40_000)) == learned(40_000, **FEDERATED)


@pytest.mark.cluster
@pytest.mark.parametrize("stored", [False, pytest.param(True, marks=SLOW)])
def test_its_workers_die(stored: bool, tmp_path: Path) -> None:
    """SIGKILL of both workers, in turn, at moments that are not chosen."""
    settings = SETTINGS | FEDERATED | {"num_envs": 3_000, "steps_per_round": 8}
    each, saving = 3_000 * 8 * 6, {}
    if stored:
        saving = {"store": tmp_path / "run", "checkpoint_every": Every(rounds=10)}
    with two_workers(fuse=True) as cluster, Client(cluster):
        learner = QLearner(MODEL, **settings).learn(2 * each)
        with killed_in_turn(cluster, 3) as killed:
            while len(killed) < 2:  # however fast the machine is, both die while it learns
                learner.learn(learner.num_timesteps + 10 * each, **saving)
        learner.learn(learner.num_timesteps + 2 * each, **saving)
        total, found = learner.num_timesteps, contents(learner)
    assert found == contents(QLearner(MODEL, **settings).learn(total))
