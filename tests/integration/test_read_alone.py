"""What is stored is read without dqlearn, by xarray and Icechunk, and goes on as netCDF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr
from distributed import Client

import dqlearn
from dqlearn import QLearner, open_history, open_table, unfold
from dqlearn.runs import checkpoints, export
from dqlearn.table.history import STORED

ROUND = 128 * 8


def walk(**settings: Any) -> QLearner:
    """Return a learner of a torus, whose states have two factors; rounds of 1024 transitions."""
    defaults = {"num_envs": 128, "shards": 2, "steps_per_round": 8, "seed": 7}
    return QLearner("dqlearn/Torus-v0", env_kwargs={"side": 32}, **(defaults | settings))


def session(store: Path) -> icechunk.Session:
    """Open a run's latest checkpoint as one who knows Icechunk only."""
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(store)))
    return repository.readonly_session("main")


GRIDS: dict[str, Any] = {
    "one": {},
    "even": {"chunks": (256, 4)},
    "actions": {"chunks": (300, 3)},
    "uneven": {"chunks": ((100, 500, 424), (1, 3))},
    "gather": {"exchange": "gather", "steps_per_round": 1, "policy_lag": 1, "num_envs": 1024},
}


@pytest.mark.parametrize("settings", GRIDS.values(), ids=GRIDS)
def test_a_run_is_opened_by_xarray_alone(settings: dict[str, Any], tmp_path: Path) -> None:
    """As `open_table` shows it, but for what follows from q."""
    walk(**settings).learn(5 * ROUND, store=tmp_path / "run")
    alone, ours = xr.open_zarr(session(tmp_path / "run").store), open_table(tmp_path / "run")
    xr.testing.assert_identical(alone, ours.drop_vars(["value", "policy"]))
    assert alone.action.values.tolist() == ["up", "down", "left", "right"]
    assert int(alone.visits.where(alone.row == 3).sum()) == int(ours.visits[96:128].sum()) > 0
    np.testing.assert_array_equal(alone.q.max("action"), ours.value)


def test_a_run_of_names_in_its_factors(tmp_path: Path) -> None:
    env = dqlearn.envs.TrafficGrid.of("small").model()
    QLearner(env, num_envs=64, steps_per_round=1).learn(640, store=tmp_path / "run")
    alone, ours = xr.open_zarr(session(tmp_path / "run").store), open_table(tmp_path / "run")
    xr.testing.assert_identical(alone, ours.drop_vars(["value", "policy"]))
    assert alone.phase_1.attrs["flag_meanings"] == "main cross"


def test_histories_are_opened_by_xarray_alone(tmp_path: Path) -> None:
    """One matrix a kind, with names; appended to at each checkpoint, which stays two chunks."""
    learner = walk().learn(6 * ROUND, store=tmp_path / "run", checkpoint_every=dqlearn.Every(2))
    alone = xr.open_zarr(session(tmp_path / "run").store, group="history")
    assert alone.sizes["round"] == 6
    ours = learner.history
    for kind, names in STORED.items():
        columns = alone[kind].to_dataset(f"{kind}_column")
        assert sorted(columns) == sorted(names)
        for name in set(names) & set(ours.data_vars) - {"return_min", "return_max"}:
            np.testing.assert_array_equal(columns[name], ours[name])


@pytest.mark.parametrize("group", ["environments", "batches"])
def test_what_else_a_run_holds_is_opened_too(group: str, tmp_path: Path) -> None:
    walk(policy_lag=1).learn(2 * ROUND, store=tmp_path / "run")
    assert xr.open_zarr(session(tmp_path / "run").store, group=group).sizes["shard"] == 2


def as_it_was(store: Path) -> None:
    """Make of a run what earlier versions wrote: no names, and null and truths as attributes."""
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(store)))
    (metadata,) = (
        info.metadata
        for info in repository.ancestry(branch="main")
        if info.metadata.get("checkpoint") == len(checkpoints(store)) - 1
    )
    change = repository.writable_session("main")
    group: Any = zarr.open_group(change.store, mode="r+")
    for name in ("row", "column", "action"):
        del group[name]
    group.update_attributes(
        {
            "balanced": bool(group.attrs["balanced"]),
            "best_mean": None,
            "best_round": None,
            "keep_checkpoints": None,
            "restart_envs": False,
        }
    )
    for name in ("q", "visits"):
        group[name].attrs.clear()
    for kind, names in STORED.items():
        rows = group[f"history/{kind}"][:]
        del group[f"history/{kind}_column"]
        array = group["history"].create_array(
            kind,
            shape=rows.shape,
            chunks=(4096, len(names)),
            dtype=rows.dtype,
            dimension_names=("round", "column"),
            overwrite=True,
        )
        array[:] = rows
        array.attrs["columns"] = names
    change.commit("as it was", metadata=metadata)


def test_runs_of_earlier_versions_are_opened_and_go_on(tmp_path: Path) -> None:
    store = tmp_path / "run"
    learner = walk().learn(3 * ROUND, store=store)
    before, told = open_table(store).load(), open_history(store)
    as_it_was(store)
    after = open_table(store)
    assert not {"keep_checkpoints", "best_mean"} & set(after.attrs)
    xr.testing.assert_identical(after, before)
    xr.testing.assert_identical(open_history(store), told)
    after.to_netcdf(tmp_path / "q.nc")
    resumed, undisturbed = (
        dqlearn.resume(store).learn(6 * ROUND),
        learner.learn(6 * ROUND, store=tmp_path / "b"),
    )
    np.testing.assert_array_equal(resumed.table.q, undisturbed.table.q)
    assert len(open_history(store)["round"]) == 6
    assert open_table(store).attrs["timesteps"] == 6 * ROUND


def tables(tmp_path: Path) -> dict[str, xr.Dataset]:
    """Return the table of one learner in all ways in which one may hold it."""
    learner = walk(chunks=(256, 4)).learn(3 * ROUND, store=tmp_path / "run")
    learner.save(tmp_path / "saved.zarr")
    export(tmp_path / "run", tmp_path / "exported.zarr")
    return {
        "live": learner.table.to_xarray(),
        "saved": xr.open_zarr(tmp_path / "saved.zarr"),
        "exported": xr.open_zarr(tmp_path / "exported.zarr"),
        "of a run": open_table(tmp_path / "run"),
        "of a run, alone": xr.open_zarr(session(tmp_path / "run").store),
    }


def test_any_table_becomes_another_format(tmp_path: Path) -> None:
    for name, table in tables(tmp_path).items():
        for form, one in (("flat", table), ("unfolded", unfold(table))):
            path = str(tmp_path / f"{name} {form}")
            one.to_netcdf(f"{path}.nc")
            with xr.open_dataset(f"{path}.nc") as opened:
                assert opened.attrs == one.attrs
                assert opened.action.values.tolist() == ["up", "down", "left", "right"]
                assert set(opened.coords) == set(one.coords)
                for variable in one.data_vars:
                    np.testing.assert_array_equal(opened[variable], one[variable])
            one.to_zarr(f"{path}.zarr", consolidated=False)
            xr.testing.assert_identical(xr.open_zarr(f"{path}.zarr", consolidated=False), one)
            assert len(one.q.to_dataframe()) == 4096


def test_a_saved_table_is_selected_by_its_factors(tmp_path: Path) -> None:
    learner = walk(chunks=(256, 4)).learn(3 * ROUND)
    learner.save(tmp_path / "q.zarr")
    saved, q = xr.open_zarr(tmp_path / "q.zarr"), learner.table.q.compute()
    found = saved.where((saved.row == 3) & (saved.column < 2)).q.dropna("state")
    np.testing.assert_array_equal(found, q[96:98])
    best = saved.value.groupby(saved.row.load()).max()
    np.testing.assert_array_equal(best, q.reshape(32, -1).max(axis=1))


def test_a_sparse_table_has_coordinates_too(tmp_path: Path) -> None:
    learner = walk(sparse=True, steps_per_round=1, num_envs=1024).learn(3 * ROUND)
    table = learner.table.to_xarray()
    np.testing.assert_array_equal(table.row * 32 + table.column, table.state)
    learner.save(tmp_path / "q.zarr")
    xr.testing.assert_equal(xr.open_zarr(tmp_path / "q.zarr"), table)
    table.to_netcdf(tmp_path / "q.nc")
    with xr.open_dataset(tmp_path / "q.nc") as opened:
        np.testing.assert_array_equal(opened.column, table.column)


def test_on_a_cluster(tmp_path: Path, client: Client) -> None:
    walk().learn(2 * ROUND, store=tmp_path / "run")
    alone = xr.open_zarr(session(tmp_path / "run").store)
    assert float(alone.row.max()) == 31.0
    table = open_table(tmp_path / "run").load()  # SciPy writes no netCDF of what workers compute
    table.to_netcdf(tmp_path / "q.nc")
