"""Fused rounds: whoever makes them, in however many tasks, the bits are those of single rounds."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster
from fused import apart, contents
from killing import killed_in_turn, two_workers

import dqlearn
from dqlearn import Every, QLearner, TabularEnv
from dqlearn.algorithms import Q_LEARNING, Algorithm, Best
from dqlearn.callbacks import Callback, StopTrainingOnMaxTime
from dqlearn.engine.fusing import Pace
from dqlearn.envs.problems.garnet import garnet
from dqlearn.envs.problems.torus import torus
from dqlearn.errors import RewardError
from dqlearn.events import RoundEnd
from dqlearn.random import integers
from dqlearn.schedules import Linear, VisitCount

TOTAL = 60_000
SETTINGS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "one chunk for each state": {"chunks": (7, -1), "num_envs": 192, "steps_per_round": 3},
    "chunks that a round touches wholly": {"chunks": (16, -1), "num_envs": 2_048},
    "an uneven number of environments": {"num_envs": 33, "shards": 4, "steps_per_round": 5},
    "rates of pairs": {"learning_rate": VisitCount(0.8), "dtype": "float64"},
    "schedules": {"epsilon": Linear(1.0, 0.1, TOTAL), "learning_rate": Linear(0.5, 0.1, TOTAL)},
    "two tables": {"algorithm": "double_q"},
    "two tables in many chunks": {"algorithm": "double_q", "chunks": (10, -1), "num_envs": 320},
    "an expectation": {"algorithm": "expected_sarsa", "epsilon": Linear(1.0, 0.0, TOTAL)},
}
MODELS = {
    "torus": lambda: torus(side=9, slip=0.1),
    "20 actions": lambda: garnet(40, 20, 4, seed=1),
    "70 actions": lambda: garnet(30, 70, 4, seed=2),
}


FAST = {("as it comes", "70 actions"), ("two tables in many chunks", "20 actions")}
SLOW = [pytest.mark.slow]


def learner_of(model: str, settings: dict[str, Any], seed: int = 3) -> QLearner:
    return QLearner(MODELS[model](), **{"seed": seed, "shards": 2, **settings})


def single(model: str, settings: dict[str, Any], total: int = TOTAL) -> list[bytes]:
    with apart():
        return contents(learner_of(model, settings).learn(total))


def undisturbed(model: str, settings: dict[str, Any], total: int, seed: int = 3) -> list[bytes]:
    """Return what long runs end with, in fused rounds: single ones would take minutes."""
    with dask.config.set(scheduler="threads", num_workers=1):
        return contents(learner_of(model, settings, seed).learn(total))


@pytest.mark.parametrize(
    ("name", "model"),
    [
        # Each pair compiles kernels of its own.
        pytest.param(name, model, marks=[] if model == "torus" or (name, model) in FAST else SLOW)
        for name in SETTINGS
        for model in MODELS
    ],
)
def test_the_bits_are_those_of_single_rounds(name: str, model: str) -> None:
    wanted = single(model, SETTINGS[name])
    for threads in (1, 2, 4):
        with dask.config.set(scheduler="threads", num_workers=threads):
            learner = learner_of(model, SETTINGS[name])
            assert contents(learner.learn(TOTAL)) == wanted
            assert learner._run is not None
            assert learner._run._placement.fused


def thirds(q: Any, s: Any, a: Any) -> Any:
    return (q[s, 0, a] + q[s, 1, a]) / 3


def first_field(values: Any, epsilon: Any, n_actions: Any, member: Any) -> Any:
    return values[0]


def test_scores_of_more_digits_than_the_table() -> None:
    """Thirds of float32 are float64, where more are different than the stored ones tell."""
    rule = Algorithm(f"{__name__}:THIRDS", (Best(thirds),), first_field, members=2)
    settings = {"algorithm": rule, "learning_rate": 0.3}
    assert contents(learner_of("torus", settings).learn(TOTAL)) == single("torus", settings)


def in_first(q: Any, s: Any, a: Any) -> Any:
    return q[s, 0, a]


def in_second(q: Any, s: Any, a: Any) -> Any:
    return q[s, 1, a]


def in_third(q: Any, s: Any, a: Any) -> Any:
    return q[s, 2, a]


def of_member(values: Any, epsilon: Any, n_actions: Any, member: Any) -> Any:
    return values[member]


def test_a_rule_of_several_fields_of_one_form() -> None:
    """Numba loses some of several inlined functions that are nested and have the same code."""
    fields = Best(in_first), Best(in_second), Best(in_third)
    rule = Algorithm(f"{__name__}:ALONE", fields, of_member, members=3)
    assert contents(learner_of("torus", {"algorithm": rule}).learn(TOTAL)) == single(
        "torus", {"algorithm": rule}
    )


def test_many_rounds_are_made_in_a_task() -> None:
    learner = learner_of("torus", {"num_envs": 64, "steps_per_round": 1}).learn(500_000)
    reports = learner.history
    arrivals = np.unique(reports["wall_time"].values)
    assert reports.sizes["round"] == 7_813
    assert len(arrivals) < 1_000


@pytest.mark.parametrize("every", [1, 2, 7])
def test_callbacks_see_the_rounds_that_they_wait_for(every: int) -> None:
    class Looking(Callback):
        every_rounds = every

        def __init__(self) -> None:
            self.seen: list[tuple[int, int, bytes]] = []

        def on_round_end(self, event: RoundEnd) -> None:
            q = event.learner.table.q.compute().tobytes()
            assert event.learner.num_timesteps == event.report.timesteps
            self.seen.append((event.report.round, event.report.timesteps, q))

    fused, alone = Looking(), Looking()
    learner_of("torus", {}).learn(12_000, callback=fused)
    with apart():
        learner_of("torus", {}).learn(12_000, callback=alone)
    assert fused.seen == alone.seen
    assert [round_ for round_, _, _ in fused.seen] == [*range(every - 1, 47, every)]


def test_a_clock_ends_no_task() -> None:
    """Whoever stops by the clock is told of the last round of a task, and waits for no other."""
    settings = {"num_envs": 64, "steps_per_round": 1}
    learner_of("torus", settings).learn(1_000)  # compiling may take longer than the clock allows
    learner = learner_of("torus", settings)
    learner.learn(10**12, callback=StopTrainingOnMaxTime(1.0))
    arrivals = learner.history["wall_time"].values
    assert arrivals[-1] >= 1.0 > arrivals[0]
    assert len(np.unique(arrivals)) < 200 < len(arrivals)


@pytest.mark.parametrize("every", [Every(rounds=5), Every(transitions=3_000), 5_000])
def test_checkpoints_are_where_they_are_due(every: Any, tmp_path: Path) -> None:
    for name, fuse in (("fused", True), ("single", False)):
        with dask.config.set({"dqlearn.fuse": fuse}):
            learner_of("torus", {}).learn(
                30_000, store=tmp_path / name, checkpoint_every=every, keep_checkpoints=None
            )
    fused, alone = (dqlearn.runs.checkpoints(tmp_path / name) for name in ("fused", "single"))
    assert [it.round for it in fused] == [it.round for it in alone]
    assert len(fused) > 5
    for it in fused:
        tables = [dqlearn.open_table(tmp_path / name, at=it.number) for name in ("fused", "single")]
        xr.testing.assert_equal(*(table[["q", "visits"]] for table in tables))


def test_a_table_stays_as_it_was() -> None:
    """Tables, and answers, that were taken while it learned do not change."""
    learner = learner_of("torus", {"num_envs": 256}).learn(10_000)
    taken, over = [], threading.Event()

    def look() -> None:
        while not over.is_set():
            table = learner.table
            actions = learner.predict(np.arange(81))[0]
            taken.append((table, table.q.compute().tobytes(), actions))

    thread = threading.Thread(target=look)
    thread.start()
    learner.learn(4_000_000)
    over.set()
    thread.join()
    assert len({q for _, q, _ in taken}) > 2
    for table, q, _ in taken:
        assert table.q.compute().tobytes() == q
    assert contents(learner) == undisturbed("torus", {"num_envs": 256}, 4_000_000)


def somewhere(key: Any, params: Any) -> Any:
    return integers(key, 0, 50)


def onward(state: Any, action: Any, key: Any, params: Any) -> Any:
    after = integers(key, 0, params[0])
    return (after, np.nan if after == params[1] else 1.0, False)


@pytest.mark.parametrize("shards", [1, 3])
def test_a_fault_leaves_the_round_before_it(shards: int) -> None:
    """Rounds of one task that came before it are kept; what it had begun is taken back."""
    model = TabularEnv(100_000, 3, somewhere, onward, params=(100_000, 77_777))
    settings: dict[str, Any] = {"num_envs": 192, "steps_per_round": 2, "shards": shards}
    with apart(), pytest.raises(RewardError) as wanted:
        (alone := QLearner(model, **settings)).learn(10**7)
    here = QLearner(model, **settings)
    for _ in range(2):  # it is there again
        with pytest.raises(RewardError) as found:
            here.learn(10**7)
        assert str(found.value) == str(wanted.value)
        assert contents(here) == contents(alone)
    assert here.num_timesteps > 384


def dividing(state: Any, action: Any, key: Any, params: Any) -> Any:
    after = integers(key, 0, params[0])
    return (after, 1.0 / (after - params[1]), False)


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_a_model_that_raises_leaves_the_round_before_it(shards: int) -> None:
    """Whichever thread it raises in."""
    model = TabularEnv(100_000, 3, somewhere, dividing, params=(100_000, 77_777))
    settings: dict[str, Any] = {"num_envs": 192, "steps_per_round": 2, "shards": shards}
    with apart(), pytest.raises(ZeroDivisionError):
        (alone := QLearner(model, **settings)).learn(10**7)
    here = QLearner(model, **settings)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            here.learn(10**7)
        assert contents(here) == contents(alone)
    assert here.num_timesteps > 384


def failing(q: Any, y: Any, alpha: Any) -> Any:
    return q + alpha * (y - q) / (y - 7.0)


def rare(state: Any, action: Any, key: Any, params: Any) -> Any:
    return state, 7.0 if integers(key, 0, 100_000) == 7 else 1.0, True


def first(key: Any, params: Any) -> Any:
    return 0


def test_a_rule_that_raises_goes_back() -> None:
    """To its beginning, as the table was being written to and there is no checkpoint."""
    rule = replace(Q_LEARNING, name=f"{__name__}:FAILING", step=failing)
    learner = QLearner(TabularEnv(9, 2, first, rare), algorithm=rule)
    with (
        pytest.warns(UserWarning, match="failed while it wrote to the table"),
        pytest.raises(ZeroDivisionError),
    ):
        learner.learn(10**8)
    assert learner.num_timesteps == 0
    assert learner.learn(256).table.round == 1


def test_a_rule_that_does_not_compile_loses_nothing() -> None:
    model = TabularEnv(9, 2, somewhere, lambda s, a, key, params: (s, 1.0, False))
    learner = QLearner(model, num_envs=64)
    with pytest.raises(dqlearn.DQLearnError, match="initial"):
        learner.learn(1_000)


def test_ctrl_c_is_soon_answered() -> None:
    learner = learner_of("torus", {"num_envs": 4_096}).learn(10_000)
    timer = threading.Timer(
        0.5, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)
    )
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        learner.learn(10**12)
    stopped = learner.num_timesteps
    assert contents(learner) == undisturbed("torus", {"num_envs": 4_096}, stopped)
    assert learner.learn(stopped + 10_000).num_timesteps >= stopped + 10_000


def test_two_learners_in_two_threads() -> None:
    learners = [learner_of("torus", {"num_envs": 512}, seed=seed) for seed in (1, 2)]
    threads = [threading.Thread(target=it.learn, args=(3_000_000,)) for it in learners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, learner in zip((1, 2), learners, strict=True):
        assert contents(learner) == undisturbed("torus", {"num_envs": 512}, 3_000_000, seed)


def test_the_pace_finds_the_faster_way() -> None:
    """Two threads that are slower than one are given up, and tried again now and then."""
    pace, made = Pace(), []
    for _ in range(300):
        threads = pace.threads(2)
        rounds = pace.rounds(threads, 10**9)
        made.append(threads)
        pace.note(rounds, threads, rounds * (1e-4 if threads == 1 else 1e-3))
    assert made[:2] == [2, 2]
    assert 5 < made[10:].count(2) < 15
    assert 1_490 < pace.rounds(1, 10**9) < 1_510
    assert pace.rounds(1, 10) == 10


# On a cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with two_workers(fuse=True) as cluster:
        yield cluster


BIG = {"num_envs": 512, "steps_per_round": 8}


@pytest.mark.cluster
@pytest.mark.parametrize("name", ["as it comes", "two tables in many chunks", "an expectation"])
def test_one_worker_makes_the_bits_of_single_rounds(cluster: LocalCluster, name: str) -> None:
    with Client(cluster) as client:
        learner = learner_of("torus", SETTINGS[name]).learn(TOTAL)
        assert learner._run is not None
        state, executor = learner._run.ownership.state, learner._run.executor
        held = client.who_has([executor._futures[key] for key in state.keys])  # type: ignore[attr-defined]
        assert len(set().union(*held.values())) == 1
        assert contents(learner) == single("torus", SETTINGS[name])


@pytest.mark.cluster
def test_it_moves_to_threads_and_back(cluster: LocalCluster) -> None:
    learner = learner_of("torus", BIG)
    for at in (TOTAL, 3 * TOTAL):
        with Client(cluster):
            learner.learn(at)
        learner.learn(at + TOTAL)
    assert contents(learner) == single("torus", BIG, 4 * TOTAL)


@pytest.mark.cluster
def test_a_fault_on_a_worker_leaves_the_round_before_it(cluster: LocalCluster) -> None:
    model = TabularEnv(100_000, 3, somewhere, onward, params=(100_000, 77_777))
    settings: dict[str, Any] = {"num_envs": 192, "steps_per_round": 2, "shards": 2}
    with apart(), pytest.raises(RewardError) as wanted:
        (alone := QLearner(model, **settings)).learn(10**7)
    with Client(cluster):
        here = QLearner(model, **settings)
        with pytest.raises(RewardError) as found:
            here.learn(10**7)
        assert str(found.value) == str(wanted.value)
        assert contents(here) == contents(alone)


@pytest.mark.cluster
@pytest.mark.parametrize("stored", [False, True])
def test_its_worker_dies(stored: bool, tmp_path: Path) -> None:
    """SIGKILL of all workers, in turn, at moments that are not chosen."""
    saving: dict[str, Any] = {}
    if stored:
        saving = {"store": tmp_path / "run", "checkpoint_every": Every(transitions=5_000_000)}
    with two_workers(fuse=True) as cluster, Client(cluster):
        learner = learner_of("torus", BIG).learn(100_000)
        with killed_in_turn(cluster, 4) as killed:
            # However fast the machine is, both workers die while it learns.
            while len(killed) < 2:
                learner.learn(learner.num_timesteps + 20_000_000, **saving)
        # The last of them may have died when it had learned: a table that died so is read no more.
        learner.learn(learner.num_timesteps + 1_000_000, **saving)
        total, found = learner.num_timesteps, contents(learner)
    assert found == undisturbed("torus", BIG, total)


@pytest.mark.cluster
def test_ctrl_c_on_a_cluster(cluster: LocalCluster) -> None:
    with Client(cluster):
        learner = learner_of("torus", BIG).learn(100_000)
        began = time.monotonic()
        timer = threading.Timer(
            1.0, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)
        )
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            learner.learn(10**12)
        assert time.monotonic() - began < 60
        stopped, found = learner.num_timesteps, contents(learner)
    assert found == undisturbed("torus", BIG, stopped)


@pytest.mark.cluster
def test_what_one_worker_has_no_room_for_is_spread(cluster: LocalCluster) -> None:
    with Client(cluster):
        for settings in ({"num_envs": 2**17, "steps_per_round": 8}, {"policy_lag": 1}):
            learner = learner_of("torus", settings).learn(1)
            assert learner._run is not None
            assert learner._run.executor.memories == 2
