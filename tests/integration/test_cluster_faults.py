"""Clusters that cannot be used, or stop to be there: a named error, and a learner that goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dask
import gymnasium
import numpy as np
import pytest
from distributed import Client, LocalCluster
from gymnasium import spaces

from dqlearn import Every, QLearner
from dqlearn.errors import (
    ClusterLostError,
    EnvironmentFault,
    RewardError,
    StateRangeError,
    VersionMismatchError,
)
from dqlearn.events import RoundEnd
from dqlearn.random import SEEDS, streams

pytestmark = pytest.mark.cluster

ROUND = 128 * 4


def walk(**settings: Any) -> QLearner:
    """Return a learner of a small torus, rounds of 512 transitions."""
    defaults = {"num_envs": 128, "shards": 2, "steps_per_round": 4, "chunks": (16, 4)}
    return QLearner("dqlearn/Torus-v0", env_kwargs={"side": 8}, **(defaults | settings))


def assert_as_on_threads(learner: QLearner, timesteps: int) -> None:
    """It has the bits that it would have without all that."""
    with dask.config.set(scheduler="threads"):
        alone = walk().learn(timesteps)
        assert learner.num_timesteps == alone.num_timesteps
        np.testing.assert_array_equal(learner.table.q.compute(), alone.table.q.compute())


def test_no_workers() -> None:
    """It says how to wait for them; afterwards all is well."""
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        with pytest.raises(ClusterLostError, match=r"no workers: .*wait_for_workers\(1\)"):
            walk()
        cluster.scale(1)
        client.wait_for_workers(1, timeout=60)
        learner = walk().learn(2 * ROUND)
    assert_as_on_threads(learner, 2 * ROUND)


def another_version(folder: Path) -> str:
    """Return a file to preload: it lets a worker say that another dqlearn is installed."""
    installed = folder / "dqlearn-0.0.7.dist-info" / "METADATA"
    installed.parent.mkdir()
    installed.write_text("Metadata-Version: 2.1\nName: dqlearn\nVersion: 0.0.7\n")
    (folder / "preload.py").write_text(f"import sys; sys.path.insert(0, {str(folder)!r})")
    return str(folder / "preload.py")


def test_other_versions(tmp_path: Path) -> None:
    """A worker with another dqlearn would make other bits: both versions are shown."""
    learner = walk().learn(ROUND)
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            dashboard_address=":0",
            preload=[another_version(tmp_path)],
        ) as cluster,
        Client(cluster),
    ):
        for use in (walk, lambda: learner.learn(2 * ROUND)):
            with pytest.raises(VersionMismatchError, match=r"'dqlearn': '0\.0\.7'.*install"):
                use()
    assert_as_on_threads(learner.learn(2 * ROUND), 2 * ROUND)


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Dask command; kill it at the end."""
    with subprocess.Popen(
        [sys.executable, "-m", "distributed.cli." + command[0], *command[1:]],
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def own_cluster(folder: Path) -> Iterator[tuple[Client, list[int]]]:
    """Yield a client of a scheduler and a worker, and the two's process ids."""
    file = str(folder / "scheduler.json")
    with ExitStack() as stack:
        options = ("--scheduler-file", file)
        scheduler = stack.enter_context(
            running("dask_scheduler", *options, "--port", "0", "--dashboard-address", ":0")
        )
        worker = stack.enter_context(
            running("dask_worker", *options, "--no-nanny", "--nthreads", "1", "--no-dashboard")
        )
        # A client that loses its scheduler leaves itself behind as Dask's default.
        with dask.config.set({"scheduler": None, "distributed.comm.timeouts.connect": "3s"}):
            client = stack.enter_context(Client(scheduler_file=file))
            client.wait_for_workers(1, timeout=60)
            yield client, [scheduler.pid, worker.pid]


def kill(pid: int, round: int) -> Any:
    """Return a callback that kills a process at the end of a round."""

    def callback(event: RoundEnd) -> None:
        if event.report.round == round:
            os.kill(pid, signal.SIGKILL)

    return callback


def test_the_scheduler_dies(tmp_path: Path) -> None:
    """A named error; without the client, the learner goes on from where it can: same bits."""
    with own_cluster(tmp_path) as (client, (scheduler, _)):
        learner = walk().learn(4 * ROUND)
        with pytest.raises(ClusterLostError, match=r"scheduler .*gone: connect a new Client"):
            learner.learn(1000 * ROUND, callback=kill(scheduler, 9))
        client.close()
        with pytest.raises(ClusterLostError, match=r"(?i)connect a new client"):
            learner.learn(1000 * ROUND)
    with (
        pytest.warns(UserWarning, match=r"rounds 4 \.\. 9: going back to round 4"),
    ):
        assert learner.table.round == 4
    assert learner.num_timesteps == 4 * ROUND
    assert_as_on_threads(learner.learn(12 * ROUND), 12 * ROUND)


@pytest.mark.slow
def test_another_version_joins(tmp_path: Path) -> None:
    """It is refused, however often one asks; without it the run goes on."""
    file, preload = str(tmp_path / "scheduler.json"), another_version(tmp_path)
    saving = {"store": tmp_path / "run", "checkpoint_every": Every(rounds=2)}
    with own_cluster(tmp_path) as (client, _):
        learner = walk().learn(2 * ROUND, **saving)
        options = ("--no-nanny", "--nthreads", "1", "--no-dashboard", "--preload", preload)
        with running("dask_worker", "--scheduler-file", file, *options) as worker:
            client.wait_for_workers(2, timeout=60)
            for _ in range(2):
                with pytest.raises(VersionMismatchError, match=r"'dqlearn': '0\.0\.7'"):
                    learner.learn(20 * ROUND)
            worker.terminate()
            worker.wait()
        while len(client.scheduler_info()["workers"]) > 1:
            time.sleep(0.1)
        learner.learn(20 * ROUND)
        assert_as_on_threads(learner, 20 * ROUND)


@pytest.mark.slow
def test_the_only_worker_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for, a minute by default, and then given up."""
    monkeypatch.setattr("dqlearn.training.recovery._TIMEOUT", 5.0)
    with own_cluster(tmp_path) as (client, (_, worker)):
        learner = walk().learn(4 * ROUND)
        with pytest.raises(ClusterLostError, match="no workers"):
            learner.learn(1000 * ROUND, callback=kill(worker, 9))
        with running("dask_worker", "--scheduler-file", str(tmp_path / "scheduler.json")):
            client.wait_for_workers(1, timeout=60)
            learner.learn(12 * ROUND)
            assert learner.num_timesteps == 12 * ROUND
    assert_as_on_threads(learner, 12 * ROUND)


class Odd(gymnasium.Env[Any, Any]):
    """A ring of 8 states; the environment with a certain seed breaks a rule at its 19th step."""

    observation_space = spaces.Discrete(8)
    action_space = spaces.Discrete(2)

    def __init__(self, breaks: str) -> None:
        self.breaks, self.t = breaks, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Go to the beginning."""
        super().reset(seed=seed)
        if seed is not None:
            fifth = streams(np.uint64(0), SEEDS, 5, 1)[0] >> np.uint64(33)
            self.odd = seed == int(fifth)
        self.state = 0
        return 0, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Go on, or break the rule."""
        self.t, self.state = self.t + 1, (self.state + 1) % 8
        if self.odd and self.t == 19:
            match self.breaks:
                case "step":
                    raise OSError("cable pulled out")
                case "reward":
                    return self.state, float("nan"), False, False, {}
                case "state":
                    return 99, 0.0, False, False, {}
        return self.state, 1.0, self.state == 0, False, {}


@pytest.mark.parametrize("policy_lag", [0, 1])
@pytest.mark.parametrize(
    ("breaks", "error", "message"),
    [
        ("step", EnvironmentFault, r"environment 5 of shard 1 failed at step 18: .*cable"),
        ("reward", RewardError, r"got nan from environment 5 in state 2"),
        ("state", StateRangeError, r"environment 5 .*99.*Discrete\(8\)"),
    ],
)
def test_an_environment_breaks_its_contract(
    breaks: str, error: type[Exception], message: str, policy_lag: int, client: Client
) -> None:
    """The worker's error arrives as itself; the table learned so far stays, learning goes on."""
    learner = QLearner(
        lambda: Odd(breaks), num_envs=8, shards=2, steps_per_round=4, policy_lag=policy_lag
    )
    learner.learn(2 * 32)
    with (
        pytest.warns(UserWarning, match=r"round \d failed.*built and reset anew"),
        pytest.raises(error, match=message),
    ):
        learner.learn(20 * 32)
    assert 2 * 32 <= learner.num_timesteps <= 4 * 32
    assert int(learner.table.visits.sum()) == learner.num_timesteps
    learner.learn(20 * 32)
    assert int(learner.table.visits.sum()) == learner.num_timesteps == 20 * 32
    assert learner.history["round"].values.tolist() == list(range(20))


def test_an_evaluation_fails(client: Client) -> None:
    """With the environment's error, in the middle of a run that is not touched by it."""
    learner = QLearner(Failing, num_envs=8, shards=2, steps_per_round=1).learn(8)
    with pytest.raises(EnvironmentFault, match=r"in an evaluation.*out of order"):
        learner.evaluate(4)
    assert learner.learn(16).num_timesteps == 16


class Failing(Odd):
    """Works for three steps."""

    def __init__(self) -> None:
        super().__init__("nothing")

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Count them."""
        if self.t == 3:
            raise OSError("out of order")
        return super().step(action)
