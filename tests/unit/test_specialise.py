"""Specialised kernels: another model is another file; the same model is compiled once."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import pytest
from numba import njit
from numba.cpython.unsafe.tuple import tuple_setitem
from numba.extending import overload

from dqlearn import TabularEnv
from dqlearn.jit.fingerprint import fingerprint
from dqlearn.stages.rollout import open_shard

SCALE = 3
settings: Any = None  # bound anew below
Cell: Any = None


def of(function: Callable[..., Any]) -> str | None:
    return fingerprint({"f": function})


def helper(x: int) -> int:
    return x + 1


def other_helper(x: int) -> int:
    return x + 2


def rebound(function: FunctionType, **globals_: Any) -> FunctionType:
    """The same code where names mean something else."""
    return FunctionType(function.__code__, {**function.__globals__, **globals_})


def uses_global(x: int) -> int:
    return x * SCALE


def uses_helper(x: int) -> int:
    return helper(x)


def uses_a_helpers_helper(x: int) -> int:
    return uses_helper(x)


def closure(value: Any) -> Callable[[int], Any]:
    return lambda x: x + value


def uses_module(x: int) -> int:
    return x + settings.INNER.SPEED


def uses_inner_function(x: int) -> int:
    return sum([SCALE * y for y in range(x)])


def uses_enum(x: int) -> int:
    return x + Cell.WALL


def module(speed: int) -> ModuleType:
    """A user's module of settings, with another in it."""
    outer, outer.INNER = ModuleType("settings"), ModuleType("settings.inner")
    outer.INNER.SPEED, outer.INNER.OUTER = speed, outer
    return outer


def recursive(x: int) -> int:
    return 0 if x == 0 else recursive(x - 1)


def told_at_length(x: int) -> int:
    """Return twice."""
    twice = 2 * x
    return twice


def told_otherwise(x: int) -> int:
    """Return the double."""
    double = 2 * x
    return double


DIFFERENT = {
    "constant": (lambda x: x + 1, lambda x: x + 2),
    "type of a constant": (lambda x: x + 1, lambda x: x + 1.0),
    "operation": (lambda x: x + 1, lambda x: x - 1),
    "closure": (closure(1), closure(2)),
    "array in a closure": (closure(np.zeros(3)), closure(np.array([0.0, 0.0, 1.0]))),
    "dtype in a closure": (closure(np.zeros(2, "f4")), closure(np.zeros(1, "f8"))),
    "function in a closure": (closure(helper), closure(other_helper)),
    "global": (uses_global, rebound(uses_global, SCALE=4)),
    "helper": (uses_helper, rebound(uses_helper, helper=other_helper)),
    "jitted helper": (
        rebound(uses_helper, helper=njit(helper)),
        rebound(uses_helper, helper=njit(other_helper)),
    ),
    "helper's helper": (
        uses_a_helpers_helper,
        rebound(uses_a_helpers_helper, uses_helper=rebound(uses_helper, helper=other_helper)),
    ),
    "options of a jitted helper": (
        rebound(uses_helper, helper=njit(helper)),
        rebound(uses_helper, helper=njit(helper, error_model="numpy")),
    ),
    "default": (lambda x, by=1: x + by, lambda x, by=2: x + by),
    "module": (rebound(uses_module, settings=module(1)), rebound(uses_module, settings=module(2))),
    "enum": (
        rebound(uses_enum, Cell=IntEnum("Cell", {"WALL": 1})),
        rebound(uses_enum, Cell=IntEnum("Cell", {"WALL": 2})),
    ),
    "global of an inner function": (uses_inner_function, rebound(uses_inner_function, SCALE=4)),
    "field of a named tuple": (
        closure(namedtuple("Pair", "x y")(1, 2)),
        closure(namedtuple("Pair", "y x")(1, 2)),
    ),
    "names of arguments": (lambda x, y: x - y, lambda y, x: y - x),
    "called function": (lambda x: np.sin(x), lambda x: np.cos(x)),
    "inner function": (
        lambda x: (lambda y: y + 1)(x),
        lambda x: (lambda y: y + 2)(x),
    ),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_fingerprints_differ_when_compiled_code_would(case: str) -> None:
    one, other = DIFFERENT[case]
    assert of(one) is not None
    assert of(other) is not None
    assert of(one) != of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (closure(1), closure(1)),
        (closure(np.arange(3)), closure(np.arange(3))),
        (helper, njit(helper)),
        (uses_helper, rebound(uses_helper)),
        (uses_helper, rebound(uses_helper, unused=1)),
        (recursive, recursive),
        (told_at_length, told_otherwise),
        (rebound(uses_module, settings=module(1)), rebound(uses_module, settings=module(1))),
    ],
)
def test_fingerprints_agree_when_compiled_code_does(one: Any, other: Any) -> None:
    assert of(one) == of(other) is not None


def test_numbas_own_intrinsics_have_a_fingerprint() -> None:
    def f(p: Any) -> Any:
        return tuple_setitem(p, 0, 0.5)

    assert of(f) is not None


def test_roles_are_part_of_the_fingerprint() -> None:
    assert fingerprint({"f": helper, "g": None}) != fingerprint({"f": None, "g": helper})


@pytest.mark.parametrize("value", [object(), {"a": 1}, np.dtype("i8"), type("Own", (), {})])
def test_what_cannot_be_described_has_no_fingerprint(value: Any) -> None:
    assert of(closure(value)) is None


def test_code_of_no_module_has_a_fingerprint() -> None:
    assert of(FunctionType(helper.__code__, {})) is not None


def length(x: Any) -> int:
    """What compiled code has something else in place of."""
    raise NotImplementedError


@overload(length)
def _length(x: Any) -> Any:
    return lambda x: SCALE


def test_what_overloads_reach_is_part_of_the_fingerprint() -> None:
    """Numba puts it in place of the function, whose own code says nothing of it."""

    def f(x: Any) -> int:
        return length(x)

    before = of(f)
    SCALE_before = SCALE
    try:
        globals()["SCALE"] = 4
        assert of(f) != before is not None
    finally:
        globals()["SCALE"] = SCALE_before


def test_an_attribute_is_not_taken_for_a_global_of_its_name() -> None:
    def f(n: int) -> Any:
        return np.empty(n)

    assert of(rebound(f, empty=object())) == of(f) is not None


# Models, in this process


def initial(key: Any, params: Any) -> int:
    return 0


def transition(state: int, action: int, key: Any, params: Any) -> tuple[int, float, bool]:
    return action, 1.0, False


def model(initial: Callable[..., Any] = initial) -> TabularEnv:
    return TabularEnv(5, 2, initial, transition)


def begins_at(value: int) -> Callable[..., int]:
    return lambda key, params: value


def first_state(env: TabularEnv) -> int:
    return int(open_shard(env, 0, 1, seed=0).state[0])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DQLEARN_CACHE_DIR", str(tmp_path))
    return tmp_path


def test_models_with_equal_names_have_kernels_of_their_own(cache: Path) -> None:
    assert [first_state(model(begins_at(s))) for s in (1, 2, 3)] == [1, 2, 3]
    assert len(list(cache.rglob("rollout_template.begin-*.nbi"))) == 3


def test_equal_models_share_a_kernel(cache: Path) -> None:
    one, other = model(begins_at(4)), model(begins_at(4))
    assert one.digest == other.digest is not None
    assert one.kernels is other.kernels


def test_a_model_without_a_fingerprint_is_compiled_but_not_kept(cache: Path) -> None:
    dtype = np.dtype("i8")
    env = model(lambda key, params: np.zeros(3, dtype).size)
    assert env.digest is None
    assert first_state(env) == 3
    assert not list(cache.rglob("rollout_template.begin-*"))
