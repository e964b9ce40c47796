"""Checks of plain values: what passes, as what, and what an error says. There is one of each."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dqlearn
from dqlearn import checks
from dqlearn.errors import ConfigurationError, ScheduleError

ROOT = Path(dqlearn.__path__[0])
whole = partial(checks.check_whole, least=-3, most=2**62)
number = partial(checks.check_number, least=-1, most=1)

NUMBERS: dict[Callable[[str, Any], Any], type] = {
    checks.check_count: int,
    whole: int,
    partial(checks.check_amount, least=0): int,
    number: float,
    checks.check_real: float,
    checks.check_positive: float,
    checks.check_probability: float,
}
"""Each with the type of what it returns."""


@given(st.integers(-(2**70), 2**70) | st.floats(), st.sampled_from([*NUMBERS]))
def test_a_number_is_returned_as_pythons_or_refused(value: float, check: Any) -> None:
    kinds = [np.int64, np.float64] if abs(value) < 2**60 else []
    alike = [value, *(kind(value) for kind in kinds if kind(value) == value)]
    for one in alike:
        with suppress(ConfigurationError):
            got = check("it", one)
            assert (got, type(got)) == (value, NUMBERS[check])


@pytest.mark.parametrize("check", NUMBERS)
@pytest.mark.parametrize("value", [True, "1", None, [1], np.array([1]), 1j, math.nan])
def test_what_is_no_number_is_refused(check: Any, value: Any) -> None:
    if check is not checks.check_real or value == value:  # which lets NaN pass
        with pytest.raises(ConfigurationError, match=r"^it must be .*, got"):
            check("it", value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: checks.check_count("n", 0), "n must be an integer of at least 1, got 0"),
        (lambda: checks.check_count("n", 1.0), "n must be an integer of at least 1, got 1.0"),
        (lambda: whole("n", -4), "n must be an integer in -3 .. 2**62, got -4"),
        (lambda: checks.check_whole("n", 9, 0, 8), "n must be an integer in 0 .. 8, got 9"),
        (
            lambda: checks.check_whole("seed", -1, 0, 2**64 - 1),
            "seed must be an integer in 0 .. 2**64 - 1, got -1",
        ),
        (
            lambda: checks.check_amount("over", 2.5, 1),
            "over must be a whole number >= 1, such as 1_000_000, got 2.5",
        ),
        (lambda: number("x", 1.5), "x must be in -1 .. 1, got 1.5"),
        (lambda: checks.check_number("x", -1, 0), "x must be a number of at least 0, got -1"),
        (lambda: checks.check_number("x", math.inf), "x must be finite, got inf"),
        (
            lambda: checks.check_number("x", math.inf, 0),
            "x must be a number of at least 0, got inf",
        ),
        (
            lambda: checks.check_number("x", 9, 0, 1, cure="less"),
            "x must be in 0 .. 1, got 9: less",
        ),
        (lambda: checks.check_positive("x", 0.0), "x must be positive and finite, got 0.0"),
        (lambda: checks.check_probability("p", 1.5), "p must be a probability, 0 .. 1, got 1.5"),
        (lambda: checks.check_choice("c", "z", "xy"), "c must be 'x' or 'y', got 'z'"),
        (lambda: checks.check_choice("c", "z", ["x"]), "c must be 'x', got 'z'"),
        (lambda: checks.check_choice("c", True, (1, 2, 4)), "c must be 1, 2 or 4, got True"),
        (lambda: checks.check_choice("c", 1.0, (1, 2)), "c must be 1 or 2, got 1.0"),
    ],
)
def test_errors(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
        call()


def test_a_long_value_is_shortened() -> None:
    with pytest.raises(ConfigurationError) as caught:
        checks.check_count("n", "9" * 10**6)
    assert len(str(caught.value)) < 1000


def test_the_kind_of_error_is_the_callers() -> None:
    with pytest.raises(ScheduleError):
        checks.check_positive("start", 0.0, error=ScheduleError)


def test_a_choice_is_returned_as_it_is_offered() -> None:
    got = checks.check_choice("branching", np.int64(4), (1, 2, 4))
    assert (got, type(got)) == (4, int)


def test_there_is_no_second_copy() -> None:
    """What these checks say is written nowhere else. Data of an environment has its own errors."""
    said = re.compile(
        r"must be (an? )?(integer|int\b|positive (integer|and)|probability|whole number)"
        r"|must be in 0 \.\. 1\b|of at least [01],? got"
    )
    own = {"checks.py", "envs/model_faults.py"}
    found = {
        str(file.relative_to(ROOT)): said.findall(file.read_text())
        for file in ROOT.rglob("*.py")
        if str(file.relative_to(ROOT)) not in own
    }
    assert {name: texts for name, texts in found.items() if texts} == {}
