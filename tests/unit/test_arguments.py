"""Laws of an environment's arguments at rest: what comes back is equal, types and all."""

from __future__ import annotations

import enum
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from dqlearn.envs.arguments import is_equal, own, restored, stored
from dqlearn.errors import IncompatibleTableError

DTYPES = st.sampled_from(["?", "<i4", ">i8", "<u8", "<f4", ">f8", "<c16", "<M8[s]", "<U3", "|S2"])
KEYS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.binary(max_size=5)
    | st.tuples(st.integers(), st.text())
)
SCALARS = (
    KEYS
    | st.floats()
    | st.complex_numbers()
    | st.integers(2**60, 2**80)
    | st.sampled_from(
        ["\ud800\udc00", "\U00010000", -(2**1200), -0.0, True, 1, 1.0, range(2, 9, 3)]
    )
    | st.sampled_from([int, bool, np.float32, np.dtype(">f8")])
    | DTYPES.flatmap(lambda dtype: nps.arrays(dtype, nps.array_shapes(min_dims=0, min_side=0)))
    | DTYPES.flatmap(lambda dtype: nps.arrays(dtype, ()).map(lambda array: array[()]))
    | st.binary(max_size=5).map(bytearray)
)
VALUES = st.recursive(
    SCALARS,
    lambda values: (
        st.lists(values, max_size=4)
        | st.lists(values, max_size=4).map(tuple)
        | st.dictionaries(KEYS, values, max_size=4)
        | st.sets(KEYS, max_size=4)
        | st.frozensets(KEYS, max_size=4)
    ),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal, types and all, by rules of Python's own."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return all(map(same, one.items(), other.items())) and len(one) == len(other)
    if isinstance(one, set | frozenset):
        return sorted(map(key, one)) == sorted(map(key, other))
    if isinstance(one, np.ndarray | np.generic):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    if isinstance(one, complex):
        return same(one.real, other.real) and same(one.imag, other.imag)
    if isinstance(one, float) and math.isnan(one):
        return math.isnan(other)
    signs = (math.copysign(1, it) for it in (one, other)) if isinstance(one, float) else (0, 0)
    return one == other and len(set(signs)) == 1


def key(value: Any) -> tuple[str, str]:
    return type(value).__name__, ascii(value)


def through_json(kwargs: dict[str, Any]) -> Any:
    return json.loads(json.dumps(stored(kwargs)))


@given(VALUES)
def test_what_comes_back_is_equal(value: Any) -> None:
    """Every kind that is stored at all, however nested, through JSON text."""
    spec = through_json({"x": value})
    assert "unstored" not in spec
    back = restored(spec, None, "q.zarr")["x"]
    assert same(back, value)
    assert is_equal(back, value)
    assert restored(spec, {"x": value}, "q.zarr").keys() == {"x"}


@given(VALUES, VALUES)
def test_equal_is_what_python_calls_equal(one: Any, other: Any) -> None:
    """But for the order of dictionaries, in which they are written."""
    if same(one, other):
        assert is_equal(one, other)
    elif is_equal(one, other):
        assert one == other


@given(st.recursive(st.none() | st.booleans() | st.integers(), st.lists, max_leaves=5))
def test_plain_arguments_stay_plain(value: Any) -> None:
    """So that people, and other programs, can read them."""
    kwargs = {"x": value, "map_name": "8x8", "options": {"speed": 0.5}}
    assert stored(kwargs) == {"kwargs": kwargs, "encoded": {}}


class Colour(enum.Enum):
    RED = 1


class Mine(dict[str, int]):
    pass


LIST: list[Any] = []
LIST.append(LIST)


@pytest.mark.parametrize(
    "value",
    [
        Colour.RED,
        Mine(a=1),
        np.ma.masked_array([1, 2]),
        np.array([{}], object),
        np.zeros(2, [("a", "i4")]),
        LIST,
        [1, {"deep": object()}],
        lambda: 0,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_stored_is_asked_for_by_name(value: Any) -> None:
    """The rest is there; with it, all is."""
    spec = through_json({"side": 8, "odd": value})
    assert spec["kwargs"] == {"side": 8}
    with pytest.raises(IncompatibleTableError, match=r"'odd'.*env_kwargs="):
        restored(spec, None, "q.zarr")
    back = restored(spec, {"odd": value}, "q.zarr")
    assert back["side"] == 8
    assert back["odd"] is value


def test_what_is_given_again_is_compared() -> None:
    """A function by what it does; what is too long to be stored by its digest; the rest itself."""
    long = np.arange(1_000_000)
    spec = through_json({"a": (1, 2), "f": lambda x: x + 1, "long": long})
    assert spec["unstored"].keys() == {"f", "long"}
    given = {"f": lambda x: x + 1, "long": long.copy()}
    back = restored(spec, given, "q.zarr")
    assert back == {"a": (1, 2)} | given
    for name, other in (
        ("f", lambda x: x + 2),
        ("long", long + 1),
        ("a", [1, 2]),
        ("a", (True, 2)),
        ("b", 1),
    ):
        with pytest.raises(
            IncompatibleTableError, match=rf"\b{name}\b.*q\.zarr|q\.zarr.*\b{name}\b"
        ):
            restored(spec, given | {name: other}, "q.zarr")


def test_older_tables_say_what_json_made_of_them() -> None:
    """So the arguments that they were made of are taken, and others are not."""
    older = {"id": "Bandit-v0", "kwargs": {"prizes": {"0": 1.0}, "size": [2, 3]}}
    assert restored(older, None, "q.zarr") == older["kwargs"]
    given = {"prizes": {0: 1.0}, "size": (2, 3)}
    assert restored(older, given, "q.zarr") == given
    with pytest.raises(IncompatibleTableError, match="prizes"):
        restored(older, {"prizes": {0: 2.0}}, "q.zarr")


def test_own_data_is_nobody_elses() -> None:
    """Containers and arrays are copied all the way down; anything else is the same."""
    thing = object()
    given = {"a": [1, {2: np.zeros(3)}, thing], "b": ({3},)}
    mine = own(given)
    given["a"][1][2][0] = 9.0
    given["a"].append(4)
    given["b"][0].add(5)
    assert mine["a"][1][2].tolist() == [0.0, 0.0, 0.0]
    assert mine["a"][2] is thing
    assert (len(mine["a"]), mine["b"]) == (3, ({3},))
    assert own(LIST)[0] is not LIST
