"""What the axes of a table are called: as coordinates, in netCDF and Zarr, and by CF's flags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from dqlearn import unfold
from dqlearn.spaces import Factor
from dqlearn.table.views.axes import dataset, factors_of, factors_to_json, state_coordinates

PLACES = (Factor("row", 3), Factor("lamp", 2, ("off", "on")), Factor("x", 2, (-0.5, 0.5)))
ACTIONS = ("go, fast", "stay")


def table(factors: tuple[Factor, ...] = PLACES, **attrs: Any) -> xr.Dataset:
    """Return a Dataset whose values are all different."""
    n = int(np.prod([factor.size for factor in factors]))
    q = da.arange(2 * n, chunks=8, dtype=np.float32).reshape(n, 2)
    arrays = {"q": q, "visits": q.astype(np.uint32), "value": q[:, 0], "policy": q[:, 1] > 5}
    arrays["policy"] = arrays["policy"].astype(np.uint8)
    return dataset(arrays, ACTIONS, {"state_factors": factors_to_json(factors), **attrs})


names = st.lists(st.sampled_from("abcd"), min_size=1, max_size=4, unique=True)


@given(names, st.data())
def test_coordinates_are_the_digits_of_a_state(letters: list[str], data: st.DataObject) -> None:
    """Whatever the chunks; of names the position, and what it means as CF says it."""
    factors = []
    for name in letters:
        size = data.draw(st.integers(1, 4))
        labels = (None, range(-1, size - 1), tuple(np.arange(size) / 2), tuple("wxyz")[:size])
        factors.append(Factor(name, size, data.draw(st.sampled_from(labels))))
    sizes = [factor.size for factor in factors]
    n = int(np.prod(sizes))
    states = da.arange(n, chunks=data.draw(st.integers(1, n)))
    found = state_coordinates(factors, states)
    if not found:
        assert len(factors) == 1
        assert factors[0].labels is None
        return
    assert list(found) == letters
    for factor, digits in zip(factors, np.unravel_index(np.arange(n), sizes), strict=True):
        variable = found[factor.name]
        assert isinstance(variable.data, da.Array)
        values = variable.values
        assert values.dtype == variable.dtype
        if words := variable.attrs.get("flag_meanings"):
            assert variable.attrs["flag_values"].tolist() == list(range(factor.size))
            values = np.array(words.split())[values]
        expected = np.arange(factor.size) if factor.labels is None else np.array(factor.labels)
        np.testing.assert_array_equal(values, expected[digits])


def test_several_factors_are_selected_by() -> None:
    some = table()
    chosen = some.where((some.row == 2) & (some.x > 0)).value
    assert chosen.dropna("state").values.tolist() == [18.0, 22.0]
    assert (some.row - some.lamp * 2).values.min() == -2, "they are signed"


def test_one_factor_that_is_the_state_is_no_coordinate() -> None:
    assert set(table((Factor("state", 12),)).coords) == {"action"}
    labelled = table((Factor("state", 2, ("new", "old")),))
    assert set(labelled.coords) == {"action", "state_"}
    assert unfold(labelled).q.sel(state="old", action="stay") == 3.0


@pytest.mark.parametrize("name", ["state", "action", "q", "policy", "history", "a b", "a/b"])
def test_names_that_formats_or_variables_have(name: str, tmp_path: Path) -> None:
    some = table((Factor(name, 3), Factor("other", 2)))
    known = (set(some.coords) - {"action", "other"}).pop()
    some.to_zarr(tmp_path / "t.zarr", consolidated=False)
    some.to_netcdf(tmp_path / "t.nc")
    for opened in (
        xr.open_zarr(tmp_path / "t.zarr", consolidated=False),
        xr.load_dataset(tmp_path / "t.nc"),
    ):
        assert opened[known].values.tolist() == [0, 0, 1, 1, 2, 2]
        assert unfold(opened).q.sizes == {known: 3, "other": 2, "action": 2}


def test_larger_tables_have_no_coordinates() -> None:
    """They would outweigh what one asks for; unfolding them is still lazy."""
    factors = (Factor("a", 2**11 + 1), Factor("b", 2**11))
    n = factors[0].size * factors[1].size
    assert not state_coordinates(factors, da.arange(n))
    assert len(state_coordinates(factors, da.arange(2**22))) == 2


def test_policy_says_what_its_numbers_mean() -> None:
    attrs = table().policy.attrs
    assert attrs["flag_values"].tolist() == [0, 1]
    assert attrs["flag_values"].dtype == np.uint8
    assert attrs["flag_meanings"].split() == ["go_fast", "stay"]


def test_attributes_of_any_table_are_those_that_netcdf_holds(tmp_path: Path) -> None:
    """Those of older tables too, which had null and truths."""
    some = table(keep_checkpoints=None, restart_envs=False, balanced=True, gamma=0.5)
    assert "keep_checkpoints" not in some.attrs
    assert (some.attrs["restart_envs"], some.attrs["balanced"]) == (0, 1)
    for name, one in {"flat": some, "unfolded": unfold(some)}.items():
        one.to_netcdf(tmp_path / f"{name}.nc")
        opened = xr.load_dataset(tmp_path / f"{name}.nc")
        assert opened.attrs == one.attrs
        np.testing.assert_array_equal(opened.q, one.q)
        assert opened.action.values.tolist() == list(ACTIONS)


def test_unfolded_is_written_as_zarr(tmp_path: Path) -> None:
    unfold(table()).to_zarr(tmp_path / "t.zarr", consolidated=False)
    opened = xr.open_zarr(tmp_path / "t.zarr", consolidated=False)
    assert float(opened.q.sel(row=1, lamp="on", x=-0.5, action="stay")) == 13.0


def test_a_long_range_is_known_by_its_start() -> None:
    """Live and stored tables say the same of it."""
    factor = Factor("n", 200_000, range(7, 200_007))
    (known,) = factors_of({"state_factors": factors_to_json([factor])})
    assert known == factor
    assert json.loads(factors_to_json([factor]))[0]["labels"] is None
    coordinate = state_coordinates([known], da.arange(200_000))["n"]
    assert coordinate[[0, -1]].values.tolist() == [7, 200_006]
