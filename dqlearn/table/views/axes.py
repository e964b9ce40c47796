"""The axes of a table: factors of states, names of actions, and the Dataset that has both.

::

    state = (row * 3) + column               factors, mixed radix, the first the most significant
    row, column   (state,)                   coordinates: dataset.where(dataset.row == 1)
    unfold        (state, action) ──► (row, column, action)

Invariant: a coordinate and the attribute ``state_factors`` say the same of a state. Attributes are
texts and numbers, which any format can hold.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr

from dqlearn.errors import ConfigurationError
from dqlearn.spaces import Factor
from dqlearn.table.columns import COLUMNS, Column

__all__ = [
    "DERIVED",
    "dataset",
    "factors_of",
    "factors_to_json",
    "state_coordinates",
    "unfold",
]

DERIVED = (
    Column("value", ("state",), {"long_name": "state value", "units": "reward"}),
    Column("policy", ("state",), {"long_name": "greedy action", "units": "1"}),
)
"""Variables of a table's Dataset besides the columns of its chunks: they follow from q."""

_STATES_WITH_COORDINATES = 2**22
"""The coordinates of larger tables would outweigh what one asks for, such as the values alone."""

_GROUPS = ("known", "environments", "batches", "history")
"""Groups beside a stored table."""

_VARIABLES = [*(column.name for column in (*COLUMNS, *DERIVED)), "valid", "spread"]

_LABELS_WRITTEN_OUT = 100_000


def dataset(
    arrays: Mapping[str, da.Array],
    labels: Sequence[str] | None,
    attrs: Mapping[str, Any],
    states: npt.NDArray[np.int64] | None = None,
    columns: Sequence[Column] = COLUMNS,
) -> xr.Dataset:
    """Label the arrays of a table.

    Parameters
    ----------
    arrays : mapping
        Arrays of the columns, and of ``value`` and ``policy``.
    labels : sequence of str, optional
        Names of the actions.
    attrs : mapping
        Attributes of the Dataset, with ``state_factors``.
    states : int64 (n,), optional
        States of the rows of a sparse table.
    columns : sequence of Column
        Columns of the table.

    Returns
    -------
    xarray.Dataset
    """
    rows = arrays["q"].chunks[0]
    if states is None:
        numbers = da.arange(sum(rows), chunks=(rows,), dtype=np.int64)
    else:
        numbers = da.from_array(states, chunks=(rows,), name=False)  # they may be too many to hash
    coords: dict[Hashable, Any] = dict(state_coordinates(factors_of(attrs), numbers).items())
    if states is not None:
        coords["state"] = ("state", states)
    if labels is not None:
        coords["action"] = ("action", np.array(labels, object))
    variables = {it.name: (it.dims, arrays[it.name], {**it.about}) for it in (*columns, *DERIVED)}
    if attrs.get("masked"):
        variables["valid"] = _valid(arrays["q"])
    if arrays["q"].ndim > 2:
        variables["spread"] = _spread(arrays["q"])
    if labels is not None:
        variables["policy"][2].update(_flags(labels, arrays["policy"].dtype))
    return xr.Dataset(variables, coords, _plain(attrs))


def _valid(q: da.Array) -> tuple[tuple[str, str], da.Array, dict[str, str]]:
    """Return which actions are valid: those whose value is not minus infinity."""
    of_member: Any = q if q.ndim == 2 else q[:, 0]
    about = {"long_name": "whether the action is valid", "units": "1"}
    return ("state", "action"), ~da.isneginf(of_member), about


def _spread(q: da.Array) -> tuple[tuple[str, str], da.Array, dict[str, str]]:
    """Return the standard deviation of the members' values; NaN where they are not finite."""
    between: Any = da.map_blocks(_deviation, q, dtype=q.dtype, drop_axis=1)
    about = {"long_name": "standard deviation over the members", "units": "reward"}
    return ("state", "action"), between, about


def _deviation(q: npt.NDArray[Any]) -> npt.NDArray[Any]:
    with np.errstate(invalid="ignore"):
        apart: npt.NDArray[Any] = q.std(axis=1)
    return apart


def _plain(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes as netCDF can hold them; those of older tables may be null or bool."""
    return {
        name: int(value) if isinstance(value, bool | np.bool_) else value
        for name, value in attrs.items()
        if value is not None
    }


def _flags(labels: Sequence[Any], dtype: np.dtype[Any]) -> dict[str, Any]:
    """Name the meanings of numbers, as the CF conventions do: words without blanks or commas."""
    words = [re.sub(r"[^\w.+@-]+", "_", str(label)) or "_" for label in labels]
    return {"flag_values": np.arange(len(words), dtype=dtype), "flag_meanings": " ".join(words)}


def state_coordinates(factors: Sequence[Factor], states: da.Array) -> dict[str, xr.Variable]:
    """Return the factors of states as coordinates along them, lazily.

    Parameters
    ----------
    factors : sequence of Factor
        Factors that make up a state, as :func:`factors_of` returns them.
    states : dask.array.Array of int64 (n,)
        Numbers of the states.

    Returns
    -------
    dict of str to xarray.Variable
        Factors that are numbers as they are; factors that are texts as positions, with
        ``flag_values`` and ``flag_meanings``. A factor that is the number of the state itself has
        no coordinate, and neither has a table of more than 2**22 states.
    """
    if len(states) > _STATES_WITH_COORDINATES or (len(factors) == 1 and not factors[0].labels):
        return {}
    coordinates, stride = {}, 1
    for factor in reversed(factors):
        dtype = _values(factor, np.empty(0, np.int64)).dtype
        values: Any = da.map_blocks(_factor, states, factor, stride, dtype=dtype)
        about = _flags(factor.labels, dtype) if factor.labels and _named(factor) else {}
        # A coordinate that has the name of its dimension would be an index.
        name = "state_" if factor.name == "state" else factor.name
        coordinates[name] = xr.Variable("state", values, about)
        stride *= factor.size
    return dict(reversed(coordinates.items()))


def _factor(states: npt.NDArray[np.int64], factor: Factor, stride: int) -> npt.NDArray[Any]:
    """Return the values of a factor in the given states."""
    return _values(factor, states // stride % factor.size)


def _values(factor: Factor, digits: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Return the values of a factor for these digits: numbers, or positions of names.

    Integers are signed, and wide enough for the number of a state: people calculate with them.
    """
    labels, first = factor.labels, 0
    if isinstance(labels, range):
        first = labels.start
    elif labels is not None and not _named(factor):
        return np.asarray(labels)[digits]
    ends = np.iinfo(np.int32)
    small = ends.min <= first and first + factor.size - 1 <= ends.max
    return (digits + first).astype(np.int32 if small else np.int64)


def _named(factor: Factor) -> bool:
    """Whether the labels of a factor are names, not numbers."""
    return (
        not isinstance(factor.labels, range) and np.asarray(factor.labels).dtype.kind not in "iuf"
    )


def _labels(factor: Factor) -> npt.NDArray[Any]:
    """Return labels as an array; names are objects, as Zarr v3 has no fixed-length text."""
    return np.array(factor.labels, object) if _named(factor) else np.asarray(factor.labels)


def unfold(dataset: xr.Dataset) -> xr.Dataset:
    """Give a table's Dataset one dimension per factor of the state.

    Parameters
    ----------
    dataset : xarray.Dataset
        The Dataset of :meth:`Table.to_xarray`, or of a stored table.

    Returns
    -------
    xarray.Dataset
        The Dataset with ``state`` replaced by its factors, lazily where the data are lazy. In a
        sparse table the states stay, and their factors are coordinates, as names where they have
        names.

    Raises
    ------
    ConfigurationError
        If the Dataset does not name the factors of its states.

    Examples
    --------
    >>> import json
    >>> factors = json.dumps([{"name": "row", "size": 2}, {"name": "column", "size": 3}])
    >>> flat = xr.Dataset({"value": ("state", np.arange(6))}, attrs={"state_factors": factors})
    >>> unfold(flat)["value"].sel(row=1).values
    array([3, 4, 5])
    """
    factors = factors_of(dataset.attrs)
    if "state" in dataset.indexes:
        return dataset.assign_coords(_digits(dataset["state"].values, factors))
    parts = {name: _unfolded(array, factors) for name, array in dataset.data_vars.items()}
    coords = {factor.name: (factor.name, _labels(factor)) for factor in factors if factor.labels}
    kept = {name: coord for name, coord in dataset.coords.items() if "state" not in coord.dims}
    return xr.Dataset(parts, {**kept, **coords}, dataset.attrs)


def _digits(
    states: npt.NDArray[np.int64], factors: Sequence[Factor]
) -> dict[str, tuple[str, npt.NDArray[Any]]]:
    """Return the factors of some states, as coordinates along them."""
    digits = np.unravel_index(states, [factor.size for factor in factors])
    return {
        factor.name: (
            "state",
            _labels(factor)[digit] if factor.labels and _named(factor) else _values(factor, digit),
        )
        for factor, digit in zip(factors, digits, strict=True)
    }


def _unfolded(array: xr.DataArray, factors: Sequence[Factor]) -> xr.Variable:
    if "state" not in array.dims:
        return array.variable
    rest = [dim for dim in array.dims if dim != "state"]
    variable = array.variable.transpose("state", *rest)
    shape = (*(factor.size for factor in factors), *variable.shape[1:])
    names = (*(factor.name for factor in factors), *rest)
    return xr.Variable(names, variable.data.reshape(shape), variable.attrs)


def factors_to_json(factors: Sequence[Factor]) -> str:
    """Return factors as the text of the attribute ``state_factors``.

    Parameters
    ----------
    factors : sequence of Factor
        The factors, the first the most significant.

    Returns
    -------
    str
        The text, as JSON.
    """
    return json.dumps([_to_json(factor) for factor in factors])


def _to_json(factor: Factor) -> dict[str, Any]:
    """Return a factor as JSON; a range that is too long to write out is given by its start."""
    known: dict[str, Any] = {"name": factor.name, "size": factor.size, "labels": None}
    if factor.size <= _LABELS_WRITTEN_OUT:
        known["labels"] = factor.labels and [_plain_label(label) for label in factor.labels]
    elif isinstance(factor.labels, range):
        known["start"] = factor.labels.start
    return known


def _plain_label(label: Any) -> Any:
    return label.item() if isinstance(label, np.generic) else label


def factors_of(attrs: Mapping[str, Any]) -> tuple[Factor, ...]:
    """Return the factors in a table's attributes, with names that dimensions can have.

    Parameters
    ----------
    attrs : mapping
        Attributes of the table's Dataset.

    Returns
    -------
    tuple of Factor
        The factors. Blanks and slashes in names become underscores, for the sake of formats; a name
        that something else has gets one more underscore at the end.

    Raises
    ------
    ConfigurationError
        If the attributes name no factors.
    """
    try:
        factors = []
        for said in json.loads(attrs["state_factors"]):
            size, labels, start = int(said["size"]), said.get("labels"), int(said.get("start", 0))
            if labels is None and start:
                labels = range(start, start + size)
            factors.append(Factor(str(said["name"]), size, labels))
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"expected a table's Dataset with the attribute 'state_factors', got {attrs}"
        ) from error
    taken = {*_VARIABLES, *_GROUPS, "action", "member", *(["state"] if len(factors) > 1 else [])}
    unique = []
    for factor in factors:
        name = re.sub(r"[\s/]", "_", factor.name)
        while name in taken:
            name += "_"
        taken.add(name)
        unique.append(replace(factor, name=name))
    return tuple(unique)
