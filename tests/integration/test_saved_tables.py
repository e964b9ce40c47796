"""Where tables are saved, what they replace, and the history that goes with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner

import dqlearn
from dqlearn import QLearner, runs
from dqlearn.callbacks import CheckpointCallback, EvalCallback
from dqlearn.cli import main
from dqlearn.envs.problems.torus import torus
from dqlearn.errors import ConfigurationError, IncompatibleTableError
from dqlearn.training.every import Every

SMALL = {"num_envs": 64, "shards": 2, "steps_per_round": 4, "seed": 0}
ROUND = 256


def walk(side: int = 4, **settings: Any) -> QLearner:
    return QLearner("dqlearn/Torus-v0", env_kwargs={"side": side}, **(SMALL | settings))


def lake(**settings: Any) -> QLearner:
    return QLearner("FrozenLake-v1", **(SMALL | {"num_envs": 16, "steps_per_round": 16} | settings))


# what is replaced


@pytest.mark.parametrize(
    "other",
    [
        lambda: walk(side=5),
        lambda: QLearner(torus(side=4), **SMALL),
        lambda: QLearner("dqlearn/Torus-v0", env_kwargs={"side": 4, "slip": 0.5}, **SMALL),
        lambda: walk(sparse=True, steps_per_round=1),
    ],
    ids=["states", "a model", "arguments", "layout"],
)
@pytest.mark.parametrize("remote", [False, True], ids=["folder", "url"])
def test_a_table_of_another_environment_stays(
    other: Callable[[], QLearner], remote: bool, tmp_path: Path
) -> None:
    """Unless one says so; that of the same environment is replaced, whatever its settings."""
    path = f"memory://{tmp_path}/q.zarr" if remote else str(tmp_path / "q.zarr")
    learner = walk().learn(ROUND)
    learner.save(path)
    walk(gamma=0.5, num_envs=32, chunks=(3, 2)).learn(2 * ROUND).save(path)
    theirs = other().learn(ROUND)
    run = tmp_path / "run"
    other().learn(ROUND, store=run)
    for save in (theirs.save, lambda path: runs.export(run, path)):
        with pytest.raises(IncompatibleTableError, match=r"another path, or pass overwrite=True"):
            save(path)
    assert dqlearn.load(path).num_timesteps == 2 * ROUND
    theirs.save(path, overwrite=True)
    learner.save(path, overwrite=True)
    runs.export(run, path, overwrite=True)
    assert xr.open_zarr(path).attrs["environment"] == json.dumps(theirs._resolved.spec)


def test_an_older_table_of_the_same_environment_is_replaced(tmp_path: Path) -> None:
    """It names its arguments without saying that JSON has not changed them."""
    learner = walk().learn(ROUND)
    learner.save(tmp_path / "q.zarr")
    header = tmp_path / "q.zarr" / "zarr.json"
    stored = json.loads(header.read_text())
    stored["attributes"]["environment"] = '{"id": "dqlearn/Torus-v0", "kwargs": {"side": 4}}'
    header.write_text(json.dumps(stored))
    learner.learn(2 * ROUND).save(tmp_path / "q.zarr")
    assert dqlearn.load(tmp_path / "q.zarr").num_timesteps == 2 * ROUND


def test_a_url_that_holds_something_else(tmp_path: Path) -> None:
    path = f"memory://{tmp_path}/other.zarr"
    zarr.open_group(path, mode="w").create_array("x", shape=3, dtype="f4")
    with pytest.raises(IncompatibleTableError, match="choose another path"):
        walk().learn(ROUND).save(path, overwrite=True)
    assert "x" in zarr.open_group(path, mode="r")


@pytest.mark.parametrize(
    "given",
    [
        {"gamma": np.float32(0.9)},
        {"gamma": Fraction(9, 10)},
        {"initial_value": np.int64(1)},
        {"shards": np.int64(2)},
        {"steps_per_round": np.int64(4)},
        {"policy_lag": np.int64(1)},
        {"env_timeout": np.float32(3)},
        {"epsilon": np.float32(0.1)},
    ],
    ids=str,
)
def test_numbers_of_any_type_can_be_saved(given: dict[str, Any], tmp_path: Path) -> None:
    """What a learner takes for a number is one when it is saved, and comes back equal."""
    learner = walk(**given).learn(2 * ROUND, store=tmp_path / "run")
    learner.save(tmp_path / "q.zarr")
    for again in (dqlearn.load(tmp_path / "q.zarr"), dqlearn.resume(tmp_path / "run")):
        for name in given.keys() - {"env_timeout"}:
            assert getattr(again._plan, name) == getattr(learner._plan, name)


# where


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home folder; the working folder is another one, which must stay empty."""
    (tmp_path / "my home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "my home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "my home"


def test_tilde_and_file_urls(home: Path) -> None:
    """Each way to name a folder leads to that folder, for all that take a path."""
    learner = walk()
    learner.learn(ROUND, store="~/run", checkpoint_every=Every(rounds=1))
    url = (home / "run").as_uri()
    assert "%20" in url
    for store in ("~/run", url, Path("~/run")):
        assert dqlearn.resume(store).learn(ROUND).num_timesteps == ROUND
        assert dqlearn.open_table(store).attrs["timesteps"] == ROUND
        assert dqlearn.open_history(store).sizes["round"] == 1
        assert len(runs.checkpoints(store)) == 2
    runs.tag(url, "name", at=1)
    runs.untag("~/run", "name")
    assert runs.expire(url, keep_last=5) >= 0
    learner.learn(2 * ROUND, store=url, callback=CheckpointCallback(1, "~/each"))
    for path in ("~/a.zarr", (home / "b.zarr").as_uri(), Path("~/c.zarr")):
        learner.save(path)
        learner.save(path)
        assert dqlearn.load(path).learn(3 * ROUND).num_timesteps == 3 * ROUND
        runs.export(url, path)
    for arguments in (
        ["train", "dqlearn/Torus-v0", "--env", "side=4", "--timesteps", "9", "--out", "~/d.zarr"],
        ["info", "~/d.zarr"],
        ["info", (home / "d.zarr").as_uri()],
        ["evaluate", "~/d.zarr", "--episodes", "1", "--max-steps", "9"],
        ["runs", "info", "~/run"],
        ["runs", "export", "~/run", "~/e.zarr"],
        ["resume", url, "--timesteps", "999", "--quiet"],
    ):
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, (arguments, done.output)
    assert {path.name for path in home.iterdir() if path.name[0] != "."} == {
        *("a.zarr", "b.zarr", "c.zarr", "d.zarr", "e.zarr", "each", "run")
    }
    assert not list(Path.cwd().iterdir())


def test_a_file_url_is_written_as_a_folder_is(home: Path) -> None:
    """The table that is there stays until the new one is whole: it may be what is written."""
    learner, path = walk().learn(2 * ROUND), (home / "q.zarr").as_uri()
    learner.save(path)
    dqlearn.load(path).save(path)
    assert bool((dqlearn.load(path).table.q == learner.table.q).all())
    assert [path.name for path in home.iterdir()] == ["q.zarr"]
    (home / "notes.txt").write_text("mine")
    with pytest.raises(IncompatibleTableError, match="choose another path"):
        learner.save((home / "notes.txt").as_uri(), overwrite=True)


@pytest.mark.parametrize("path", ["file://runs/a", "file://~/a", b"bytes", 3])
def test_paths_that_lead_nowhere(path: Any) -> None:
    learner = walk().learn(ROUND)
    for use in (learner.save, dqlearn.load, dqlearn.open_table, dqlearn.resume):
        with pytest.raises(ConfigurationError, match=r"expected file:///|a path"):
            use(path)


# history


@pytest.mark.parametrize(
    "make", [walk, lake, lambda: walk(sparse=True, steps_per_round=1), lambda: lake(policy_lag=1)]
)
def test_history_is_saved(make: Callable[[], QLearner], tmp_path: Path) -> None:
    """To the bit, and what comes after goes on from it; by itself it is a Dataset too."""
    learner = make().learn(5 * ROUND)
    learner.save(tmp_path / "q.zarr")
    again = dqlearn.load(tmp_path / "q.zarr")
    xr.testing.assert_identical(again.history, learner.history)
    assert (again.num_timesteps, again.n_episodes) == (learner.num_timesteps, learner.n_episodes)
    assert (
        again._history.stored()["float"].tobytes() == learner._history.stored()["float"].tobytes()
    )
    table = xr.open_zarr(tmp_path / "q.zarr")
    assert set(table.data_vars) == {"q", "visits", "value", "policy"}
    alone = xr.open_zarr(tmp_path / "q.zarr", group="history").load()
    xr.testing.assert_identical(alone[list(learner.history)], learner.history)
    again.learn(8 * ROUND)
    rounds = again.history["round"].values
    assert rounds.tolist() == list(range(len(rounds)))
    assert (np.diff(again.history["timesteps"]) > 0).all()
    xr.testing.assert_identical(
        again.history.isel(round=slice(0, learner.history.sizes["round"])), learner.history
    )


def test_history_of_a_learner_that_has_not_learned(tmp_path: Path) -> None:
    walk().save(tmp_path / "q.zarr")
    assert dqlearn.load(tmp_path / "q.zarr").history.sizes["round"] == 0
    assert xr.open_zarr(tmp_path / "q.zarr", group="history").sizes["round"] == 0


def test_history_goes_into_a_run_and_out_again(tmp_path: Path) -> None:
    """A run that a loaded learner begins has all of it, and so has a table made of that run."""
    lake().learn(3 * ROUND).save(tmp_path / "q.zarr")
    learner = dqlearn.load(tmp_path / "q.zarr")
    learner.learn(6 * ROUND, callback=EvalCallback(2, 4), store=tmp_path / "run")
    xr.testing.assert_identical(dqlearn.open_history(tmp_path / "run"), learner.history)
    xr.testing.assert_identical(dqlearn.resume(tmp_path / "run").history, learner.history)
    runs.export(tmp_path / "run", tmp_path / "x.zarr")
    done = CliRunner().invoke(main, ["runs", "export", str(tmp_path / "run"), str(tmp_path / "y")])
    assert done.exit_code == 0
    for path in ("x.zarr", "y"):
        xr.testing.assert_identical(dqlearn.load(tmp_path / path).history, learner.history)
    with pytest.raises(IncompatibleTableError, match=r"xarray\.open_zarr"):
        dqlearn.open_history(tmp_path / "q.zarr")


def test_tables_in_mid_run_have_the_history_until_then(tmp_path: Path) -> None:
    walk(policy_lag=1).learn(4 * ROUND, callback=CheckpointCallback(2, tmp_path))
    for path in tmp_path.iterdir():
        table = dqlearn.load(path)
        assert table.history["round"].values.tolist() == list(range(table.table.round))
        assert table.history["timesteps"].values[-1] == table.num_timesteps


def test_older_tables_have_no_history(tmp_path: Path) -> None:
    """It begins where they were saved, as it did then."""
    walk().learn(3 * ROUND).save(tmp_path / "q.zarr")
    shutil.rmtree(tmp_path / "q.zarr" / "history")
    learner = dqlearn.load(tmp_path / "q.zarr")
    assert learner.history.sizes["round"] == 0
    assert learner.learn(5 * ROUND).history["round"].values.tolist() == [3, 4]
    learner.save(tmp_path / "q.zarr")
    assert dqlearn.load(tmp_path / "q.zarr").history["round"].values.tolist() == [3, 4]


def test_a_history_of_another_table_is_refused(tmp_path: Path) -> None:
    for n in (2, 3):
        walk().learn(n * ROUND).save(tmp_path / f"{n}.zarr")
    shutil.rmtree(tmp_path / "3.zarr" / "history")
    shutil.copytree(tmp_path / "2.zarr" / "history", tmp_path / "3.zarr" / "history")
    with pytest.raises(IncompatibleTableError, match="history ends"):
        dqlearn.load(tmp_path / "3.zarr")
