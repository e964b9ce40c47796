"""Sparse tables: what a user sees of them, at sizes that have no other table.

Laws P1 and P2 are tried on them with all others, in tests/laws.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster

import dqlearn
from dqlearn import QLearner, TabularEnv
from dqlearn.errors import ConfigurationError, IncompatibleTableError, TableTooLargeError
from dqlearn.random import integers, uniform
from dqlearn.runs import checkpoints, export

HUGE = 2**62
PLACES = 64


def start(key: Any, params: Any) -> Any:
    """Begin at one of some places, far from each other."""
    return integers(key, 0, params[1]) * (params[0] // params[1])


def hop(state: Any, action: Any, key: Any, params: Any) -> Any:
    """Go to the next place, or back; the last but one is the goal."""
    n, places = params
    stride = n // places
    place = (state // stride + (2 * action - 1) * (uniform(key, 0) < 0.9) + places) % places
    return place * stride, 1.0 if place == places - 2 else -0.01, place == places - 2


def places(n: int = HUGE) -> TabularEnv:
    """Return a ring of 64 places among so many states."""
    return TabularEnv(n, 2, start, hop, params=(n, PLACES), action_labels=("back", "on"))


def learner(n: int = HUGE, **settings: Any) -> QLearner:
    own = {"num_envs": 400, "shards": 2, "sparse": True, "seed": 4, "learning_rate": 0.5}
    return QLearner(places(n), **(own | settings))


@pytest.fixture(scope="module")
def learned() -> QLearner:
    return learner().learn(80_000)


def test_as_many_states_as_there_can_be(learned: QLearner) -> None:
    """It knows those that it visited, and no others; the greedy way is the way to the goal."""
    table = learned.table
    stride = HUGE // PLACES
    assert set(table.states % stride) == {0}
    assert table.n_visited == PLACES
    assert table.q.shape == table.visits.shape == (table.n_visited, 2)
    assert int(table.visits.sum()) == learned.num_timesteps
    near = np.array([PLACES - 5, PLACES - 4, PLACES - 3]) * stride
    assert learned.predict(near)[0].tolist() == [1, 1, 1]
    assert learned.predict(int(near[0]))[0] == 1
    assert learned.evaluate(200).mean > 0.5


def test_it_is_a_labelled_dataset(learned: QLearner) -> None:
    dataset = learned.table.to_xarray()
    assert dataset["q"].dims == ("state", "action")
    one = int(learned.table.states[7])
    row = dataset.sel(state=one, action="on")
    assert float(row["q"]) == float(learned.table.q[7, 1])
    assert int(dataset["policy"].sel(state=one)) == learned.predict(one)[0]
    np.testing.assert_array_equal(dataset["value"], dataset["q"].max("action"))
    assert dataset.attrs["sparse"] == 1


def test_factors_are_coordinates_of_its_states() -> None:
    learner = QLearner("dqlearn/Torus-v0", num_envs=64, sparse=True, sparse_block=4, seed=1).learn(
        2_000
    )
    dataset = dqlearn.unfold(learner.table.to_xarray())
    states = dataset["state"].values
    np.testing.assert_array_equal(dataset["row"], states // 1024)
    np.testing.assert_array_equal(dataset["column"], states % 1024)
    assert (dataset["q"].where(dataset["row"] < 512, drop=True)["row"] < 512).all()


def test_before_the_first_round_nothing_is_known(tmp_path: Path) -> None:
    empty = learner()
    assert empty.table.q.shape == (0, 2)
    assert empty.table.to_xarray().sizes["state"] == 0
    assert empty.predict(np.array([0, HUGE - 1]))[0].shape == (2,)
    empty.save(tmp_path / "q.zarr")
    again = dqlearn.load(tmp_path / "q.zarr", places())
    assert again.learn(400).table.n_visited == PLACES


def test_what_it_says_of_itself(learned: QLearner) -> None:
    assert f"{learned.table.n_visited} of {HUGE} states x 2 actions, float32" in repr(learned.table)
    assert "states x 2 actions" in learned.table._repr_html_()
    assert "gather, sparse" in repr(learned)
    assert "gather, sparse" in learned._repr_html_()


def same(learner: QLearner, other: QLearner) -> None:
    mine, theirs = learner.table, other.table
    np.testing.assert_array_equal(mine.states, theirs.states)
    np.testing.assert_array_equal(mine.q, theirs.q)
    np.testing.assert_array_equal(mine.visits, theirs.visits)


def test_it_is_saved_and_loaded(learned: QLearner, tmp_path: Path) -> None:
    """As one group, which xarray opens alone; whatever the chunks that it goes on in."""
    learned.save(tmp_path / "q.zarr")
    opened = xr.open_zarr(tmp_path / "q.zarr")
    np.testing.assert_array_equal(opened["state"], learned.table.states)
    np.testing.assert_array_equal(opened["q"], learned.table.q)
    for settings in ({}, {"chunks": 3}, {"sparse_block": 16, "chunks": 1}):
        same(dqlearn.load(tmp_path / "q.zarr", places(), **settings), learned)
    first, other = (
        dqlearn.load(tmp_path / "q.zarr", places(), **settings).learn(100_000)
        for settings in ({}, {"chunks": 2})
    )
    same(first, other)
    assert first.num_timesteps == 100_000


def test_another_table_at_its_place_is_noticed(learned: QLearner, tmp_path: Path) -> None:
    learned.save(tmp_path / "q.zarr")
    loaded = dqlearn.load(tmp_path / "q.zarr", places())
    learner().learn(4_000).save(tmp_path / "q.zarr")
    with pytest.raises(IncompatibleTableError, match="it was replaced after it was loaded"):
        loaded.learn(100_000)


def test_its_checkpoints(tmp_path: Path) -> None:
    """A resumed run ends as an undisturbed one; an earlier checkpoint is what it was."""
    run = tmp_path / "run"
    first = learner(sparse_block=8).learn(20_000, store=run, checkpoint_every=8_000)
    states, q = first.table.states, np.asarray(first.table.q)
    resumed = dqlearn.resume(run, env=places()).learn(60_000)
    same(resumed, learner(sparse_block=8).learn(60_000))
    newest = max(info.number for info in checkpoints(run) if info.timesteps == 20_000)
    dataset = dqlearn.open_table(run, at=newest)
    np.testing.assert_array_equal(dataset["state"], states)
    np.testing.assert_array_equal(dataset["q"], q)
    assert dataset.chunks
    export(run, tmp_path / "q.zarr")
    np.testing.assert_array_equal(xr.open_zarr(tmp_path / "q.zarr")["state"], resumed.table.states)


def test_a_table_is_of_one_round_while_learning_goes_on() -> None:
    here = learner().learn(8_000)
    table = here.table
    before, arrays = np.asarray(table.q), (table.q, table.visits)
    here.learn(24_000)
    np.testing.assert_array_equal(arrays[0], before)
    assert int(arrays[1].sum()) == 8_000


@pytest.mark.cluster
def test_on_a_cluster() -> None:
    """Live table, evaluation, and the same bits, from worker processes."""
    alone = learner(sparse_block=2).learn(12_000)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        there = learner(sparse_block=2).learn(12_000)
        same(there, alone)
        assert there.evaluate(20, seed=1).mean == alone.evaluate(20, seed=1).mean
    same(there, alone)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"exchange": "broadcast"}, "a sparse table needs exchange='gather'"),
        ({"steps_per_round": 4}, "exchange='gather' needs steps_per_round=1"),
        ({"policy_lag": 0}, "exchange='gather' needs .*policy_lag=0"),
        ({"sparse_block": 3}, "a power of two of at most 65536, got 3"),
        ({"sparse_block": -1}, "sparse_block must be an integer of at least 1, got -1"),
        ({"chunks": (10, 2)}, "chunks of a sparse table must be 'auto' or how many there are"),
    ],
)
def test_settings_that_can_never_work(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        learner(**settings)


def test_who_has_no_room_is_told_of_it() -> None:
    with pytest.raises(TableTooLargeError, match="sparse=True"):
        learner(sparse=False)


def test_a_table_that_outgrows_the_memory_stops_between_two_rounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All that was learned is still there."""
    here = learner().learn(4_000)
    monkeypatch.setattr("dqlearn.training.capacity._LEFT", 2.0)
    with pytest.raises(TableTooLargeError, match="has grown until"):
        here.learn(8_000)
    monkeypatch.undo()
    assert int(here.table.visits.sum()) == here.num_timesteps == 4_000
    same(here.learn(8_000), learner().learn(8_000))
