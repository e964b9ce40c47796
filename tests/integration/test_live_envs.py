"""Live environments, which cannot be copied; beside them, copyable ones that lose their worker.

Each `Device` writes down in a common folder when it is built and in which process, and keeps
something that no copy can have. So a test can count how often environments were built anew.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import dask
import gymnasium
import numpy as np
import pytest
from distributed import Client, LocalCluster
from gymnasium import spaces

from dqlearn import QLearner
from dqlearn.callbacks import Callback
from dqlearn.envs.python.gymnasium_env import PythonEnv, freeze, open_python_shard
from dqlearn.events import RoundEnd
from dqlearn.spaces import SpaceIndex

N_STATES, N_ENVS = 12, 8


class Refuses:
    """Says no to every pickler."""

    def __reduce__(self) -> Any:
        raise RuntimeError("a device has no copy")


HELD = {
    "socket": socket.socket,  # warns, which is an error here, if nobody closes it
    "lock": threading.Lock,
    "thread": threading.Thread,
    "reduce": Refuses,
    "nothing": lambda: None,
}


class Device(gymnasium.Env[Any, Any]):
    """A walk on a line, one step forward or back; the end pays 1."""

    observation_space = spaces.Discrete(N_STATES)
    action_space = spaces.Discrete(2)

    def __init__(self, log: Path, holds: str) -> None:
        self.held, self.state = HELD[holds](), 0
        (log / f"{os.getpid()}-{threading.get_ident()}-{time.monotonic_ns()}").touch()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Go to the beginning."""
        super().reset(seed=seed)
        self.state = int(self.np_random.integers(N_STATES // 2))
        return self.state, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Take a step."""
        self.state = max(self.state + (1 if action else -1), 0)
        over = self.state == N_STATES - 1
        return self.state, float(over), over, False, {}

    def close(self) -> None:
        """Let the socket go."""
        if isinstance(self.held, socket.socket):
            self.held.close()


class Alone(Device):
    """A device of which a process can have one only."""

    def __init__(self, log: Path) -> None:
        self.mark = log / f"alone-in-{os.getpid()}"
        self.mark.touch(exist_ok=False)
        super().__init__(log, "lock")

    def close(self) -> None:
        """Make room for another."""
        self.mark.unlink(missing_ok=True)


def learner_of(log: Path, holds: str, **settings: Any) -> QLearner:
    defaults = {"num_envs": N_ENVS, "shards": 2, "steps_per_round": 32, "epsilon": 0.5, "seed": 4}
    return QLearner(partial(Device, log, holds), **(defaults | settings))


def builders(log: Path) -> Counter[int]:
    """How many environments each process has built, the one that was only looked at included."""
    return Counter(int(path.name.split("-")[0]) for path in log.iterdir())


class At(Callback):
    """Does something once, at the end of one round."""

    def __init__(self, round: int, action: Any) -> None:
        self.round, self.action = round, action

    def on_round_end(self, event: RoundEnd) -> None:
        """Do it."""
        if event.report.round == self.round:
            self.action()


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Workers that may be killed: their nannies start others."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 10}),
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
    ):
        yield cluster


@pytest.fixture
def own_client(cluster: LocalCluster) -> Iterator[Client]:
    """A client of that cluster, both its workers up."""
    with Client(cluster) as client:
        client.wait_for_workers(2, timeout=60)
        yield client


def kill_one(client: Client) -> None:
    """SIGKILL a worker's process."""
    pids = client.run(os.getpid)
    os.kill(pids[sorted(pids)[0]], signal.SIGKILL)


def often_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a recovery point every few rounds instead of every few hundred."""
    monkeypatch.setattr("dqlearn.training.recovery_points._TASKS", 40)
    monkeypatch.setattr("dqlearn.training.recovery_points._SHARE", 1.0)


@pytest.mark.parametrize("holds", HELD)
def test_what_has_a_copy(holds: str, tmp_path: Path) -> None:
    """A shard of live environments has none; any other has."""
    index = SpaceIndex.from_space
    env = PythonEnv(
        partial(Device, tmp_path, holds),
        index(Device.observation_space),
        index(Device.action_space),
    )
    shard = open_python_shard(env, 0, 2, seed=0)
    assert isinstance(freeze(shard), bytes) == (holds == "nothing")
    shard.envs.close()


def learned(learner: QLearner, timesteps: int) -> None:
    """It made the transitions and learned the way."""
    assert learner.num_timesteps == timesteps
    assert int(learner.table.visits.sum()) == timesteps
    assert int(learner.history["n_transitions"].sum()) == timesteps
    assert learner.predict(np.arange(N_STATES - 1))[0].tolist() == [1] * (N_STATES - 1)


@pytest.mark.parametrize("policy_lag", [0, 1])
@pytest.mark.parametrize("holds", ["socket", "reduce"])
def test_on_threads(holds: str, policy_lag: int, tmp_path: Path) -> None:
    """Built once and stepped where they are."""
    learner = learner_of(tmp_path, holds, policy_lag=policy_lag)
    learner.learn(40 * 256)
    learned(learner, 40 * 256)
    assert builders(tmp_path) == {os.getpid(): 1 + N_ENVS}
    del learner
    gc.collect()


@pytest.mark.cluster
@pytest.mark.parametrize("policy_lag", [0, 1])
def test_on_a_cluster_they_stay(
    policy_lag: int, tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built once, half of them on each worker, and not built again at a recovery point."""
    often_taken(monkeypatch)
    learner = learner_of(tmp_path, "lock", policy_lag=policy_lag)
    learner.learn(30 * 256)
    assert learner._run is not None
    assert learner._run.points.last is not None
    learned(learner, 30 * 256)
    pids = client.run(os.getpid).values()
    assert builders(tmp_path) == {os.getpid(): 1, **dict.fromkeys(pids, N_ENVS // 2)}


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.parametrize("taken", [True, False])
def test_after_their_worker_died(
    taken: bool, tmp_path: Path, own_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are built and reset anew, the run says so and goes on to the end."""
    if taken:
        often_taken(monkeypatch)
    learner = learner_of(tmp_path, "lock")
    with pytest.warns(UserWarning, match="cannot be copied.* built and reset anew"):
        learner.learn(40 * 256, callback=At(12, partial(kill_one, own_client)))
    learned(learner, 40 * 256)
    assert builders(tmp_path).total() >= 1 + N_ENVS + N_ENVS // 2


@pytest.mark.slow
@pytest.mark.cluster
def test_one_per_process_after_a_worker_died(tmp_path: Path, own_client: Client) -> None:
    """Those of the living are closed before they are built anew, each on a worker of its own."""
    make = partial(Alone, tmp_path)
    learner = QLearner(make, num_envs=2, shards=2, steps_per_round=128, epsilon=0.5, seed=4)
    with pytest.warns(UserWarning, match="cannot be copied.* built and reset anew"):
        learner.learn(40 * 256, callback=At(12, partial(kill_one, own_client)))
    learned(learner, 40 * 256)


@pytest.mark.slow
@pytest.mark.cluster
def test_one_per_process_whose_successor_is_late(tmp_path: Path) -> None:
    """It is waited for, longer than most need."""
    slow, preload, log = tmp_path / "slow", tmp_path / "slowly.py", tmp_path / "log"
    preload.write_text(f"import os, time\nif os.path.exists({str(slow)!r}):\n    time.sleep(20)\n")
    log.mkdir()
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(preload=[str(preload)], **options) as cluster, Client(cluster) as client:

        def kill() -> None:
            slow.touch()
            kill_one(client)

        make = partial(Alone, log)
        learner = QLearner(make, num_envs=2, shards=2, steps_per_round=128, epsilon=0.5, seed=4)
        with pytest.warns(UserWarning, match="cannot be copied.* built and reset anew"):
            learner.learn(40 * 256, callback=At(12, kill))
        learned(learner, 40 * 256)


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("policy_lag", [0, 1])
@pytest.mark.parametrize("taken", [False, True])
def test_copyable_ones_go_on_with_the_same_bits(
    taken: bool,
    policy_lag: int,
    tmp_path: Path,
    own_client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The death of a worker does not show in the table, nor is there a warning: P2."""
    with dask.config.set(scheduler="threads"):
        alone = learner_of(tmp_path, "nothing", policy_lag=policy_lag).learn(30 * 256)
        q, visits = dask.compute(alone.table.q, alone.table.visits)
    if taken:
        often_taken(monkeypatch)
    learner = learner_of(tmp_path, "nothing", policy_lag=policy_lag)
    learner.learn(30 * 256, callback=At(9, partial(kill_one, own_client)))
    np.testing.assert_array_equal(learner.table.q.compute(), q)
    np.testing.assert_array_equal(learner.table.visits.compute(), visits)
    learned_alone, again = alone.history, learner.history
    assert again.drop_vars("wall_time").equals(learned_alone.drop_vars("wall_time"))


@pytest.mark.cluster
def test_moving_says_that_they_stay_behind(tmp_path: Path, client: Client) -> None:
    """From the cluster to threads: the table goes along, they are built anew."""
    learner = learner_of(tmp_path, "lock").learn(10 * 256)
    q = learner.table.q.compute()
    with dask.config.set(scheduler="threads"):
        with pytest.warns(UserWarning, match=r"cannot be copied.*round 10.*built and reset anew"):
            np.testing.assert_array_equal(learner.table.q.compute(), q)
        learned(learner.learn(30 * 256), 30 * 256)
    assert builders(tmp_path)[os.getpid()] == 1 + N_ENVS


@pytest.mark.cluster
def test_moving_copyable_ones_is_silent(tmp_path: Path, client: Client) -> None:
    """They come along, in mid-episode: the same bits as without a move."""
    alone = learner_of(tmp_path, "nothing")
    with dask.config.set(scheduler="threads"):
        alone.learn(20 * 256)
    learner = learner_of(tmp_path, "nothing").learn(10 * 256)
    with dask.config.set(scheduler="threads"), warnings.catch_warnings():
        warnings.simplefilter("error")
        learner.learn(20 * 256)
        np.testing.assert_array_equal(learner.table.q.compute(), alone.table.q.compute())


# the gather path, on which chunks hold what they answered to the environments of a round

ASKING = {"exchange": "gather", "steps_per_round": 1, "chunks": (5, 1), "seed": 4, "epsilon": 0.5}


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("what", ["compiled", "copyable"])
def test_shards_that_ask_go_on_from_a_recovery_point(
    what: str, tmp_path: Path, own_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recovery points without a store hold the answers, or have them given again: the same bits."""

    def make() -> QLearner:
        if what == "copyable":
            return learner_of(tmp_path, "nothing", **ASKING)
        return QLearner("dqlearn/Torus-v0", env_kwargs={"side": 4}, num_envs=8, shards=2, **ASKING)

    with dask.config.set(scheduler="threads"):
        q, visits = dask.compute(*(getattr(make().learn(240).table, n) for n in ("q", "visits")))
    often_taken(monkeypatch)
    learner = make().learn(240, callback=At(15, partial(kill_one, own_client)))
    assert learner._run is not None
    assert learner._run.points.last is not None
    np.testing.assert_array_equal(learner.table.q.compute(), q)
    np.testing.assert_array_equal(learner.table.visits.compute(), visits)


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.parametrize("taken", [True, False])
def test_live_ones_that_ask_are_built_anew(
    taken: bool, tmp_path: Path, own_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are elsewhere then, and chunks are asked again."""
    if taken:
        often_taken(monkeypatch)
    learner = learner_of(tmp_path, "lock", **ASKING)
    with pytest.warns(UserWarning, match="cannot be copied.* built and reset anew"):
        learner.learn(240, callback=At(15, partial(kill_one, own_client)))
    assert learner.num_timesteps == int(learner.table.visits.sum()) == 240
    assert learner.history["round"].values.tolist() == list(range(30))
