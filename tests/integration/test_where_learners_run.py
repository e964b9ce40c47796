"""Learners where programs put them: in a Dask task, a fork, a thread, an event loop."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster

import dqlearn
from dqlearn.callbacks import Callback
from dqlearn.errors import ClusterLostError


def learned(seed: int = 0, **settings: Any) -> Any:
    """The Q-values of a small run; the same wherever it was made."""
    learner = dqlearn.QLearner(
        "dqlearn/Torus-v0", env_kwargs={"side": 8}, num_envs=16, shards=2, seed=seed, **settings
    )
    return learner.learn(1_000).table.q.compute()


def played(seed: int) -> float:
    """How well a run of Python environments plays."""
    learner = dqlearn.QLearner("FrozenLake-v1", num_envs=2, shards=2, compile=False, seed=seed)
    with learner:
        return learner.learn(500).evaluate(5, seed=seed).mean_length


# In a task of a cluster: the sweep that people would write


def sweep(client: Client) -> None:
    found = client.gather(client.map(learned, range(3)))
    for seed, q in enumerate(found):
        np.testing.assert_array_equal(q, learned(seed))
    assert client.gather(client.map(played, range(2))) == [played(0), played(1)]


@pytest.mark.cluster
def test_a_sweep_on_workers_of_one_thread(client: Client) -> None:
    sweep(client)


@pytest.mark.cluster
def test_a_sweep_on_workers_of_two_threads() -> None:
    with Client(n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0") as client:
        sweep(client)
        threads = client.submit(lambda: dqlearn.engine.cluster.current_executor().width).result()
    assert threads == 2


def test_a_sweep_on_workers_in_this_process() -> None:
    with Client(processes=False, threads_per_worker=1, dashboard_address="127.0.0.1:0") as client:
        sweep(client)


# In a fork


def in_a_fork(work: Callable[[], Any]) -> Any:
    """What comes of work in a forked process."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def run() -> None:
        try:
            theirs.send(work())
        except Exception as error:
            theirs.send(error)

    process = context.Process(target=run)
    process.start()
    try:
        assert ours.poll(60), "the fork hangs"
        return ours.recv()
    finally:
        process.kill()
        process.join()


def test_in_a_fork_after_threads_were_used() -> None:
    np.testing.assert_array_equal(in_a_fork(learned), learned())
    np.testing.assert_array_equal(in_a_fork(learned), learned())


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_client_does_not_work_in_a_fork(client: Client, local_cluster: LocalCluster) -> None:
    refused = in_a_fork(learned)
    assert isinstance(refused, ClusterLostError)
    assert "forked" in str(refused)
    assert "connect a Client of its own" in str(refused)

    def with_its_own() -> Any:
        with Client(local_cluster.scheduler_address):
            return learned()

    np.testing.assert_array_equal(in_a_fork(with_its_own), learned())


# In a thread, in an event loop


def test_in_threads() -> None:
    found: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda seed=seed: found.update({seed: learned(seed)}))
        for seed in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(3):
        np.testing.assert_array_equal(found[seed], learned(seed))


def test_in_an_event_loop() -> None:
    async def program() -> list[Any]:
        return [learned(), await asyncio.to_thread(learned)]

    for q in asyncio.run(program()):
        np.testing.assert_array_equal(q, learned())


@pytest.mark.cluster
def test_with_an_asynchronous_client(local_cluster: LocalCluster) -> None:
    async def program() -> Any:
        async with Client(local_cluster.scheduler_address, asynchronous=True):
            with pytest.raises(ClusterLostError, match=r"await asyncio\.to_thread"):
                learned()
            return await asyncio.to_thread(learned)

    np.testing.assert_array_equal(asyncio.run(program()), learned())


# From a cluster to this process


class Break(Callback):
    """Raises at the first checkpoint that it is told of while rounds are under way."""

    every_rounds = None

    def on_checkpoint(self, event: Any) -> None:
        """Raise."""
        if event.learner._run.under_way:
            raise ZeroDivisionError


@pytest.mark.cluster
def test_rounds_that_an_error_left_under_way(client: Client, tmp_path: Path) -> None:
    """They are given up, and made again where the learner goes on."""
    settings = {"env_kwargs": {"side": 8}, "num_envs": 16, "shards": 2, "steps_per_round": 4}
    learner, alone = (dqlearn.QLearner("dqlearn/Torus-v0", **settings) for _ in range(2))
    with pytest.raises(ZeroDivisionError):
        learner.learn(10**9, Break(), store=tmp_path, checkpoint_every=dqlearn.Every(rounds=9))
    with dask.config.set(scheduler="threads"):
        more = learner.num_timesteps + 640
        expected = alone.learn(more).table.q.compute()
        np.testing.assert_array_equal(learner.learn(more).table.q.compute(), expected)
