"""Gather rounds write to the table's own arrays, and nobody who reads them can tell."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import dask
import numpy as np
import psutil
import pytest
from distributed import Client, LocalCluster

import dqlearn
from dqlearn import QLearner, TabularEnv, tasks
from dqlearn.chunk import Stamp, filled
from dqlearn.envs.resolve import resolve
from dqlearn.envs.torus import torus
from dqlearn.errors import RewardError, StaleShardError
from dqlearn.random import integers
from dqlearn.settings import Settings
from dqlearn.table import Table

ENVS = 200
MODEL = torus(side=40, max_episode_steps=20)


def learner(path: str = "gather", **settings: Any) -> QLearner:
    defaults: dict[str, Any] = {
        "num_envs": ENVS,
        "shards": 3,
        "steps_per_round": 1,
        "policy_lag": 1,
        "seed": 5,
    }
    return QLearner(MODEL, path=path, **(defaults | {"chunks": (123, 3)} | settings))


def at_round(rounds: int) -> tuple[Any, Any]:
    """Return q and visits as copies make them."""
    table = learner("broadcast").learn(rounds * ENVS).table
    return tuple(array.tobytes() for array in dask.compute(table.q, table.visits))


def contents(table: Table) -> tuple[bytes, bytes]:
    return tuple(array.tobytes() for array in dask.compute(table.q, table.visits))


@pytest.mark.parametrize("in_place", [True, False])
def test_a_round_writes_where_it_may(in_place: bool) -> None:
    """To a chunk's own arrays, or to copies that the next round may write to."""
    plan = Settings(4, 1, 1, policy_lag=1, path="gather", chunks=-1).plan(resolve(MODEL), 1)
    chunk, shard = tasks.fill_task(plan, 0), tasks.open_task(plan, 0)
    asked = tasks.answer_task(plan, 0, chunk, [tasks.ask_task(plan, shard, 0)], 0)
    batch, shard, _ = tasks.turn_task(plan, 0, shard, [asked], 0)
    again = tasks.answer_task(plan, 0, chunk, [tasks.ask_task(plan, shard, 0, batch)], 0)
    *_, parcel = tasks.turn_task(plan, 0, shard, [again], 0, batch)
    after = tasks.learn_task(plan, 0, again, [parcel], 1, in_place)
    assert after.visits.sum() == 4
    assert (after.q is chunk.q) == (after.visits is chunk.visits) == in_place
    assert after.at(1) is after
    if in_place:
        with pytest.raises(StaleShardError, match="in round 1, expected 0"):
            chunk.at(0)
    else:
        assert chunk.at(0).visits.sum() == 0


def test_tables_stay_what_they_were() -> None:
    here, kept = learner(), []
    for rounds in (1, 2, 3, 10, 40):
        here.learn(rounds * ENVS)
        kept.append((rounds, here.table))
        here.predict(np.arange(50))
        here.evaluate(3, seed=1)
    for rounds, table in kept:
        assert contents(table) == at_round(rounds)


def test_another_thread_sees_whole_rounds() -> None:
    here, seen, over = learner().learn(ENVS), {}, threading.Event()

    def read() -> None:
        while not over.is_set():
            table = here.table
            seen[table.round] = contents(table)

    reader = threading.Thread(target=read)
    reader.start()
    here.learn(100 * ENVS)
    over.set()
    reader.join()
    assert len(seen) > 3
    there = learner("broadcast")
    for rounds in sorted(seen)[:: max(1, len(seen) // 5)]:
        there.learn(rounds * ENVS)
        assert contents(there.table) == seen[rounds]


def test_checkpoints_are_of_whole_rounds(tmp_path: Path) -> None:
    store = tmp_path / "run"
    learner().learn(30 * ENVS, store=store, checkpoint_every=dqlearn.Every(rounds=9))
    made = dqlearn.runs.checkpoints(store)
    assert len(made) > 3
    for info in made:
        table = dqlearn.open_table(store, at=info.number)
        found = tuple(array.tobytes() for array in dask.compute(table.q.data, table.visits.data))
        assert found == at_round(info.round)
    resumed = dqlearn.resume(store, env=MODEL).learn(40 * ENVS)
    assert contents(resumed.table) == at_round(40)


@pytest.mark.cluster
def test_a_learner_that_moves_takes_its_table_along(local_cluster: LocalCluster) -> None:
    here = learner().learn(5 * ENVS)
    before = here.table
    with Client(local_cluster):
        here.learn(10 * ENVS)
    assert contents(here.learn(15 * ENVS).table) == at_round(15)
    assert contents(before) == at_round(5)


def test_ctrl_c_twice_leaves_a_whole_round() -> None:
    """The second one, which does not wait for the end of a round otherwise."""
    here = learner()

    def hit() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.3, hit)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        here.learn(10**9)
    timer.join()
    rounds = here.table.round
    assert contents(here.table) == at_round(rounds)
    assert contents(here.learn((rounds + 5) * ENVS).table) == at_round(rounds + 5)


def somewhere(key: Any, params: Any) -> Any:
    return integers(key, 0, params[0])


def onward(state: Any, action: Any, key: Any, params: Any) -> Any:
    reward = np.nan if state == params[1] else 1.0
    return (state + action + 1) % params[0], reward, False


def test_an_environment_that_breaks_leaves_the_round_before() -> None:
    model = TabularEnv(5_000, 3, somewhere, onward, params=(5_000, 4_321))
    here, there = (
        QLearner(model, num_envs=64, shards=2, steps_per_round=1, policy_lag=1, path=path)
        for path in ("gather", "broadcast")
    )
    for each in (here, there):
        with pytest.raises(RewardError, match="state 4321"):
            each.learn(10**7)
    assert here.timesteps == there.timesteps > 0
    assert contents(here.table) == contents(there.table)


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
    here = QLearner(model, num_envs=16, shards=2, path="gather").learn(20 * 16)
    assert here.table.nbytes == 50_000_000 * 8 * 8
    assert psutil.Process().memory_info().rss - before < 0.3 * 2**30
