"""Rounds in one process write to the table's own arrays, and nobody who reads them can tell."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import numpy as np
import psutil
import pytest
from cases import read_beside
from dask.callbacks import Callback as TaskCallback
from distributed import Client, LocalCluster

import dqlearn
from dqlearn import QLearner, TabularEnv
from dqlearn.engine.tasks import asking, begin
from dqlearn.envs.problems.torus import torus
from dqlearn.envs.resolve import resolve
from dqlearn.errors import RewardError, StaleShardError
from dqlearn.events import RoundEnd
from dqlearn.random import integers
from dqlearn.schedules import Constant
from dqlearn.stages.settings import Settings
from dqlearn.table.chunk import Chunk, Stamp, filled
from dqlearn.table.views.arrays import Table

ENVS = 200
MODEL = torus(side=40, max_episode_steps=20)
LAG = {"gather": 1, "broadcast": 0}

each_path = pytest.mark.parametrize("exchange", LAG)


def learner(exchange: str = "gather", **settings: Any) -> QLearner:
    defaults: dict[str, Any] = {
        "num_envs": ENVS,
        "shards": 3,
        "steps_per_round": 1,
        "policy_lag": LAG[exchange],
        "seed": 5,
    }
    return QLearner(MODEL, exchange=exchange, **(defaults | {"chunks": (123, 3)} | settings))


def at_round(exchange: str, rounds: int) -> tuple[Any, Any]:
    """Return q and visits as copies make them: each round is of a table that was taken."""
    other = learner("broadcast", policy_lag=LAG[exchange])
    other.learn(rounds * ENVS, callback=lambda event: other.table and None)
    return contents(other.table)


def contents(table: Table) -> tuple[bytes, bytes]:
    return tuple(array.tobytes() for array in dask.compute(table.q, table.visits))


@pytest.mark.parametrize("in_place", [True, False])
def test_a_round_writes_where_it_may(in_place: bool) -> None:
    """To a chunk's own arrays, or to copies that the next round may write to."""
    chosen = {"num_envs": 4, "steps_per_round": 1, "exchange": "gather", "chunks": -1}
    plan = Settings.of(chosen).plan(resolve(MODEL), 1)
    chunk, shard = begin.fill_task(plan, 0), begin.open_task(plan, 0)
    asked = asking.answer_task(plan, 0, chunk, [asking.ask_task(plan, shard, 0)], 0)
    batch, shard, _ = asking.turn_task(plan, 0, shard, [asked], 0)
    again = asking.answer_task(plan, 0, chunk, [asking.ask_task(plan, shard, 0, batch)], 0)
    *_, parcel = asking.turn_task(plan, 0, shard, [again], 0, batch)
    after = asking.learn_task(plan, 0, again, [parcel], 1, in_place)
    assert after.visits.sum() == 4
    assert (after.q is chunk.q) == (after.visits is chunk.visits) == in_place
    assert after.at(1) is after
    if in_place:
        with pytest.raises(StaleShardError, match="in round 1, expected 0"):
            chunk.at(0)
    else:
        assert chunk.at(0).visits.sum() == 0


@each_path
def test_tables_stay_what_they_were(exchange: str) -> None:
    here, kept = learner(exchange), []
    for rounds in (1, 2, 3, 10, 40):
        here.learn(rounds * ENVS)
        kept.append((rounds, here.table))
        here.predict(np.arange(50))
        here.evaluate(3, seed=1)
    for rounds, table in kept:
        assert contents(table) == at_round(exchange, rounds)


@pytest.mark.parametrize(("exchange", "copied"), [("broadcast", False), ("gather", True)])
def test_a_policy_that_is_there_is_played_without_a_copy(exchange: str, copied: bool) -> None:
    """Where maxima are asked for it has to be made of the chunks first."""
    here = learner(exchange, chunks=-1).learn(3 * ENVS)
    before = where(here)
    here.predict(np.arange(50))
    here.evaluate(3, seed=1)
    assert (where(here.learn(4 * ENVS)) != before) == copied
    assert contents(here.table) == at_round(exchange, 4)


def where(here: QLearner) -> list[int]:
    run = here._run
    assert run is not None
    chunks = run.ownership.state.chunks
    return [address(chunk) for chunk in run.executor.gather(chunks).values()]


@each_path
def test_another_thread_sees_whole_rounds(exchange: str) -> None:
    seen = read_beside(learner(exchange).learn(ENVS), 100 * ENVS, contents)
    assert len(seen) > 3
    for rounds in sorted(seen)[:: max(1, len(seen) // 3)]:
        assert at_round(exchange, rounds) == seen[rounds]


@each_path
def test_checkpoints_are_of_whole_rounds(exchange: str, tmp_path: Path) -> None:
    store = tmp_path / "run"
    learner(exchange).learn(30 * ENVS, store=store, checkpoint_every=dqlearn.Every(rounds=9))
    made = dqlearn.runs.checkpoints(store)
    assert len(made) > 3
    for info in made:
        table = dqlearn.open_table(store, at=info.number)
        found = tuple(array.tobytes() for array in dask.compute(table.q.data, table.visits.data))
        assert found == at_round(exchange, info.round)
    resumed = dqlearn.resume(store, env=MODEL).learn(40 * ENVS)
    assert contents(resumed.table) == at_round(exchange, 40)


@pytest.mark.cluster
@each_path
def test_a_learner_that_moves_takes_its_table_along(
    exchange: str, local_cluster: LocalCluster
) -> None:
    here = learner(exchange).learn(5 * ENVS)
    before = here.table
    with Client(local_cluster):
        here.learn(10 * ENVS)
    assert contents(here.learn(15 * ENVS).table) == at_round(exchange, 15)
    assert contents(before) == at_round(exchange, 5)


def address(chunk: Chunk) -> int:
    return chunk.q.ctypes.data


@pytest.mark.cluster
def test_shards_that_ask_write_in_place_on_clusters(local_cluster: LocalCluster) -> None:
    """Unless somebody holds the table: rounds 4 and 8 are of tables that were taken."""
    here, seen = learner(chunks=(800, -1)), {}  # each of them receives something in every round

    def look(event: Any) -> None:
        run = here._run
        assert run is not None
        futures = [run.executor.node(key) for key in run.ownership.state.chunks]
        rounds = event.report.round + 1
        seen[rounds] = [
            client.submit(address, future, workers=worker, pure=False).result()
            for future, (worker,) in zip(futures, homes(client, futures), strict=True)
        ]
        if rounds % 4 == 0:
            kept.append((rounds, here.table))

    kept: list[tuple[int, Table]] = []
    with Client(local_cluster) as client:
        here.learn(10 * ENVS, callback=look)
        for rounds, table in kept:
            assert contents(table) == at_round("gather", rounds)
    assert contents(here.table) == at_round("gather", 10)
    moved = [r for r in range(2, 11) if set(seen[r]) != set(seen[r - 1])]
    assert moved == [5, 9]


def homes(client: Client, futures: list[Any]) -> list[tuple[str, ...]]:
    return [tuple(client.who_has([future])[future.key]) for future in futures]


@each_path
def test_ctrl_c_twice_leaves_a_whole_round(exchange: str) -> None:
    """The second one, which does not wait for the end of a round otherwise."""
    here = learner(exchange)

    def hit() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.3, hit)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        here.learn(10**9)
    timer.join()
    check_whole_rounds(here, exchange)


@each_path
def test_a_second_ctrl_c_while_chunks_are_written(exchange: str) -> None:
    """It comes when the first has given the signal back to Python."""
    here, seen = learner(exchange), []

    def first(event: Any) -> None:
        if isinstance(event, RoundEnd):
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def second(key: Any, graph: Any, state: Any) -> None:
        if key[0] in ("dqlearn-update", "dqlearn-learn") and key[2] == 4:
            seen.append(key)
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    try:
        with TaskCallback(pretask=second), pytest.raises(KeyboardInterrupt):
            here.learn(10**9, callback=first)
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen
    assert here.table.round == 5
    check_whole_rounds(here, exchange)


def check_whole_rounds(here: QLearner, exchange: str) -> None:
    rounds = here.table.round
    assert here.num_timesteps == rounds * ENVS
    assert here.history.sizes["round"] == rounds
    assert contents(here.table) == at_round(exchange, rounds)
    assert contents(here.learn((rounds + 5) * ENVS).table) == at_round(exchange, rounds + 5)


def somewhere(key: Any, params: Any) -> Any:
    return integers(key, 0, params[0])


def onward(state: Any, action: Any, key: Any, params: Any) -> Any:
    reward = np.nan if state == params[1] else 1.0
    return (state + action + 1) % params[0], reward, False


@each_path
def test_an_environment_that_breaks_leaves_the_round_before(exchange: str) -> None:
    model = TabularEnv(5_000, 3, somewhere, onward, params=(5_000, 4_321))
    settings = {"num_envs": 64, "shards": 2, "steps_per_round": 1, "policy_lag": LAG[exchange]}
    here, there = (QLearner(model, exchange=exchange, **settings) for _ in range(2))
    with pytest.raises(RewardError, match="state 4321"):
        here.learn(10**7)
    assert here.num_timesteps > 0
    assert contents(here.table) == contents(there.learn(here.num_timesteps).table)


class Breaking(Constant):
    """A learning rate that cannot be computed once, at the seventh round: its chunks are torn."""

    broken = False

    def __call__(self, transitions: int) -> float:
        if transitions == 7 * ENVS and not self.broken:
            type(self).broken = True
            raise RuntimeError("no rate")
        return super().__call__(transitions)


@each_path
@pytest.mark.parametrize("back", [0, 5])
def test_a_round_that_fails_while_it_writes(exchange: str, back: int, tmp_path: Path) -> None:
    """The run goes back to its last checkpoint; without a store, to its beginning."""
    Breaking.broken = False
    here, store = learner(exchange), {}
    here._plan = replace(here._plan, learning_rate=Breaking(0.1))
    if back:
        store = {"store": tmp_path / "run", "checkpoint_every": dqlearn.Every(rounds=5)}
    with (
        pytest.warns(
            UserWarning, match=f"7 failed while it wrote.* is back at round {back}"
        ) as warned,
        pytest.raises(RuntimeError, match="no rate"),
    ):
        here.learn(20 * ENVS, **store)
    assert [warning.filename for warning in warned] == [__file__]
    assert here.table.round == back
    check_whole_rounds(here, exchange)
    assert contents(here.learn(20 * ENVS).table) == at_round(exchange, 20)


def test_arrays_that_have_left_their_round() -> None:
    chunk = filled((3, 2), 0.0, "float32")
    stamp = Stamp(4)
    donated = type(chunk)(chunk.q, chunk.visits, chunk.tally, stamp=stamp)
    assert donated.at(4) is donated
    assert chunk.at(17) is chunk  # nobody writes to it
    stamp.round = 5
    with pytest.raises(StaleShardError, match="in round 5, expected 4"):
        donated.at(4)


def test_what_is_not_touched_takes_no_memory() -> None:
    """A table of 3 GiB, of which some environments touch as many huge pages."""
    model = TabularEnv(50_000_000, 8, somewhere, onward, params=(50_000_000, -1))
    before = psutil.Process().memory_info().rss
    here = QLearner(model, num_envs=16, shards=2, exchange="gather").learn(20 * 16)
    assert here.table.nbytes == 50_000_000 * 8 * 8
    assert psutil.Process().memory_info().rss - before < 0.3 * 2**30
