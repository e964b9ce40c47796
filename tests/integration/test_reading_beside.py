"""Threads that read what a run has learned, at the moments when the run goes back.

::

    the thread that learns    ··· goes elsewhere │ there is no state │ here is one ···
    another one               ··· asks           │ waits             │ is answered ···

Invariant: who reads beside a run gets an answer of one round, or Dask's word that it is lost; he
neither waits for what nobody will make nor sees a run that is nowhere.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import dask
import gymnasium
import pytest
from distributed import Client, Event, Future, LocalCluster
from gymnasium import spaces

from dqlearn import QLearner
from dqlearn.engine.cluster import ClusterExecutor, LostWork
from dqlearn.engine.graph import Drawn, State
from dqlearn.engine.sharing import SharedFutures
from dqlearn.events import RoundEnd
from dqlearn.table.keys import Task
from dqlearn.training.placement import Placement

arriving, arrive = threading.Event(), threading.Event()


class Traveller(gymnasium.Env[Any, Any]):
    """Two states; a copy of it arrives when it may."""

    observation_space = spaces.Discrete(2)
    action_space = spaces.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Go to state 0."""
        super().reset(seed=seed)
        return 0, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Go where the action says."""
        return int(action), float(action), False, False, {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Wait."""
        arriving.set()
        assert arrive.wait(60)
        self.__dict__.update(state)


@pytest.fixture
def reader() -> Iterator[ThreadPoolExecutor]:
    """Another thread."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.mark.cluster
def test_the_run_is_nowhere(local_cluster: LocalCluster, reader: ThreadPoolExecutor) -> None:
    """A thread that asks while the run comes from a cluster is answered when it is here."""

    def ask() -> float:
        assert arriving.wait(60)
        threading.Timer(0.5, arrive.set).start()  # he asks meanwhile, and may not be told of it
        return float(learner.table.q.sum().compute())

    arrive.set()
    with Client(local_cluster):
        learner = QLearner(Traveller, num_envs=1, shards=1).learn(64)
    arriving.clear()
    arrive.clear()
    answer = reader.submit(ask)
    learner.learn(128)
    assert answer.result(timeout=60) > 0.0


@pytest.mark.cluster
def test_whatever_is_asked_while_the_run_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way back takes long enough for all of them to ask."""
    nowhere, place = threading.Event(), Placement.place

    def slowly(placement: Placement, point: Any) -> State:
        nowhere.set()
        time.sleep(1.0)
        return place(placement, point)

    def kill(event: RoundEnd) -> None:
        if event.report.round == 5:
            os.kill(min(client.run(os.getpid).values()), signal.SIGKILL)

    def asked(question: Callable[[], Any]) -> Any:
        assert nowhere.wait(60)
        return question()

    with (
        dask.config.set({"dqlearn.fuse": False}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        ThreadPoolExecutor(3) as readers,
    ):
        learner = QLearner(
            "dqlearn/Torus-v0", env_kwargs={"side": 8}, num_envs=64, shards=2, steps_per_round=4
        ).learn(1_000)
        run = learner._run
        assert run is not None
        run.recovery.take_point()  # what is lost after it is made again from there
        monkeypatch.setattr(Placement, "place", slowly)
        questions: list[Callable[[], Any]] = [
            lambda: learner.predict(0),
            lambda: learner.evaluate(2, max_steps=5),
            lambda: learner.table.round,
        ]
        answers = [readers.submit(asked, question) for question in questions]
        learner.learn(20_000, callback=kill)
        assert all(answer.result(timeout=60) is not None for answer in answers)
        assert nowhere.is_set()


@pytest.mark.cluster
def test_what_is_lost_is_wanted_by_others_too(reader: ThreadPoolExecutor) -> None:
    """It is cancelled for all of them, and nobody loses his connection."""
    with (
        dask.config.set({"dqlearn.fuse": False}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        Client(cluster, set_as_default=False) as other,
    ):
        home, *_ = pids = client.run(os.getpid)
        lost = client.submit(int, workers=[home], allow_other_workers=False)
        assert lost.result(timeout=60) == 0
        os.kill(pids[home], signal.SIGKILL)
        while home in client.scheduler_info()["workers"]:
            time.sleep(0.1)
        between = other.submit(str, Future(lost.key, other))
        last = other.submit(len, between)
        del between  # nobody wants it, and it is on the way to what somebody wants
        lent = SharedFutures(client)
        lent.add(lost)
        for future in (last, lost):
            with pytest.raises(CancelledError, match="Ask the learner for its table again"):
                future.result(timeout=60)
        for each in (client, other):
            assert each.submit(int, pure=False).result(timeout=60) == 0


@pytest.mark.cluster
def test_the_run_gives_up_what_somebody_waits_for(
    client: Client, reader: ThreadPoolExecutor
) -> None:
    """What was asked for before homes were dealt anew is lost; who waits for it is told."""
    executor, never = ClusterExecutor(client), Event("never", client=client)
    key = ("dqlearn-never", "run", 0)
    state = State(0, ("dqlearn-plan", "run"), (), (key,), ())
    wait = executor.background(Drawn({key: Task(key, never.wait)}, frozenset(), state), [key])
    waiting = reader.submit(wait)
    executor.rehome()
    try:
        with pytest.raises(LostWork, match="gone back"):
            waiting.result(timeout=60)
    finally:
        never.set()


@pytest.mark.cluster
def test_an_error_without_an_exception_is_a_loss(client: Client) -> None:
    """As the scheduler tells of one whose cause it has forgotten: Dask's client fails at it."""
    executor = ClusterExecutor(client)
    executor.put({("dqlearn-any", "run", 0): 1})
    (future,) = executor._futures.values()
    client.sync(_told_of_an_error, client, future)
    with pytest.raises(AttributeError, match="with_traceback"):
        client.gather(future)
    with pytest.raises(LostWork, match="nobody knows why"):
        executor.result(future.key)
    executor._futures[future.key] = client.submit(getattr, 1, "missing")
    with pytest.raises(AttributeError, match="missing"):
        executor.result(future.key)


async def _told_of_an_error(client: Client, future: Future) -> None:
    client._handle_task_erred(future.key)
