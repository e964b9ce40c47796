"""Interrupts reach the program alone: the round ends, a checkpoint is made, the bits go on."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster
from interrupting import BEGUN, ROUND, Interrupted, in_a_kernel, in_a_terminal, undisturbed

import dqlearn
from dqlearn.callbacks import Callback
from dqlearn.events import RoundEnd

pytestmark = pytest.mark.cluster


def goes_on(interrupted: Interrupted, store: Path) -> None:
    """All that was learned is in the store, and goes on to the undisturbed bits."""
    print(interrupted)  # for `pytest -rP`
    assert interrupted.kept > BEGUN
    assert dqlearn.runs.checkpoints(store)[0].timesteps == interrupted.kept
    end = interrupted.kept + 2 * ROUND
    resumed = dqlearn.resume(store).learn(end)
    expected = undisturbed(end)
    np.testing.assert_array_equal(resumed.table.q.compute(), expected.table.q.compute())
    np.testing.assert_array_equal(resumed.table.visits.compute(), expected.table.visits.compute())


def test_ctrl_c_in_a_terminal(tmp_path: Path) -> None:
    goes_on(in_a_terminal(tmp_path, tmp_path / "run"), tmp_path / "run")


@pytest.mark.slow
def test_the_interrupt_of_a_kernel(tmp_path: Path) -> None:
    goes_on(in_a_kernel(tmp_path / "run"), tmp_path / "run")


# Where the workers are gone all the same


class Interrupt(Callback):
    """Presses Ctrl-C after so many rounds, when it has done something to the cluster."""

    def __init__(self, rounds: int, before: Callable[[], object]) -> None:
        self.rounds, self.before = rounds, before
        self.pressed = 0.0

    def on_round_end(self, event: RoundEnd) -> None:
        if event.report.round == self.rounds:
            self.before()
            self.pressed = time.monotonic()
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with (
        dask.config.set({"dqlearn.fuse": False}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
    ):
        yield cluster


@pytest.mark.parametrize(
    "stored",
    [True, pytest.param(False, marks=pytest.mark.slow)],
    ids=["with a store", "without"],
)
def test_nobody_is_there_any_more(cluster: LocalCluster, tmp_path: Path, stored: bool) -> None:
    """The last recovery point is kept, here or in the store; nobody waits for other workers."""
    store = tmp_path / "run" if stored else None
    with Client(cluster):
        learner = undisturbed_on_a_cluster(store)
        before = learner.num_timesteps

        def leave() -> None:
            cluster.sync(cluster.scale_down, list(cluster.workers))

        press = Interrupt(6, leave)
        with pytest.raises(KeyboardInterrupt):
            learner.learn(10**12, callback=press)
        assert time.monotonic() - press.pressed < 30  # and not for a minute, as for new workers
        assert learner.num_timesteps == before
    end = before + 3 * ROUND
    with pytest.warns(UserWarning, match="going back to round 4"):
        learner.learn(end)
    expected = undisturbed(end)
    np.testing.assert_array_equal(learner.table.q.compute(), expected.table.q.compute())
    if store:
        resumed = dqlearn.resume(store).learn(end)
        np.testing.assert_array_equal(resumed.table.q.compute(), expected.table.q.compute())


def undisturbed_on_a_cluster(store: Path | None) -> dqlearn.QLearner:
    learner = undisturbed(0)
    return learner.learn(BEGUN, store=store)


# Reading


def test_a_table_whose_worker_has_died_can_be_read_no_more(cluster: LocalCluster) -> None:
    """It ends with an error, and the learner's own is whole."""
    with Client(cluster) as client:
        learner = dqlearn.QLearner(
            "dqlearn/Torus-v0", env_kwargs={"side": 64}, num_envs=256, shards=2, chunks=(1024, 4)
        )
        learner.learn(100_000)
        run = learner._run
        assert run is not None
        run.points.hold()  # as at a recovery point
        expected, table = learner.table.q.compute(), learner.table
        pids = client.run(os.getpid)
        found: list[BaseException] = []

        def read() -> None:
            try:
                table.q.compute()
            except BaseException as error:
                found.append(error)

        os.kill(min(pids.values()), signal.SIGKILL)
        reader = threading.Thread(target=read)
        reader.start()
        reader.join(60)
        assert "Ask the learner for its table again" in str(found[0])
        np.testing.assert_array_equal(learner.table.q.compute(), expected)
