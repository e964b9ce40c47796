"""When a checkpoint is due: by the run's counters alone, or by the clock alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqlearn import Every
from dqlearn.errors import ConfigurationError
from dqlearn.training.every import as_every

sizes = st.lists(st.integers(1, 50), min_size=1, max_size=40)
"""Transitions of a run's rounds, one after another."""


def due(every: Every, sizes: list[int], first: int = 0, seconds: float = 0.0) -> list[int]:
    """Return the rounds, of those from `first` on, after which a checkpoint is due."""
    edges = np.cumsum([0, *sizes]).tolist()
    return [
        r
        for r in range(first, len(sizes))
        if every.passed(rounds=(r, r + 1), transitions=(edges[r], edges[r + 1]), seconds=seconds)
    ]


@given(sizes, st.integers(1, 120))
def test_transitions_are_due_with_the_round_that_completes_them(sizes: list[int], n: int) -> None:
    """Once for each round that completes a multiple, however many it completes."""
    edges = np.cumsum(sizes)
    multiples = np.arange(n, edges[-1] + 1, n)
    expected = np.unique(np.searchsorted(edges, multiples)).tolist()
    assert due(Every(transitions=n), sizes) == expected


@given(sizes, st.integers(1, 50))
def test_rounds_are_due_in_turn(sizes: list[int], n: int) -> None:
    assert due(Every(rounds=n), sizes) == list(range(n - 1, len(sizes), n))


@given(sizes, st.sampled_from(["rounds", "transitions"]), st.integers(1, 60), st.data())
def test_however_a_run_is_cut_into_calls(
    sizes: list[int], unit: str, n: int, data: st.DataObject
) -> None:
    """Calls that go on where others ended have the checkpoints of one call; no clock matters."""
    every = Every(**{unit: n})
    cuts = sorted(data.draw(st.sets(st.integers(0, len(sizes)))))
    clock = st.floats(0, 1e9)
    pieces = [
        due(every, sizes[:last], first, data.draw(clock))
        for first, last in zip([0, *cuts], [*cuts, len(sizes)], strict=True)
    ]
    assert [r for piece in pieces for r in piece] == due(every, sizes)


@given(sizes, st.floats(0.001, 1e6), st.floats(0, 1e7))
def test_seconds_are_of_the_clock_alone(sizes: list[int], interval: float, passed: float) -> None:
    found = due(Every(seconds=interval), sizes, seconds=passed)
    assert found == (list(range(len(sizes))) if passed >= interval else [])


@pytest.mark.parametrize(
    ("value", "expected", "counted"),
    [
        (3_000, Every(transitions=3_000), True),
        (np.int64(3_000), Every(transitions=3_000), True),
        (Every(rounds=7), Every(rounds=7), True),
        (timedelta(minutes=2), Every(seconds=120.0), False),
        (timedelta(milliseconds=1), Every(seconds=0.001), False),
    ],
)
def test_what_a_user_may_give(value: Any, expected: Every, counted: bool) -> None:
    every = as_every(value)
    assert every == expected
    assert every.counted is counted
    assert Every(**every.spec()) == every


@pytest.mark.parametrize(
    "value", [0, -1, 2.5, "10", None, timedelta(0), timedelta(seconds=-1), [5]]
)
def test_what_is_no_interval(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"checkpoint_every|seconds"):
        as_every(value)


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ({}, r"one of transitions=, rounds= and seconds=, got \[\]"),
        ({"rounds": 1, "seconds": 1}, r"got \['rounds', 'seconds'\]"),
        ({"transitions": 5, "rounds": 5}, r"got \['transitions', 'rounds'\]"),
        ({"rounds": 0}, "rounds must be an integer of at least 1, got 0"),
        ({"transitions": -5}, "transitions must be .*got -5"),
        ({"rounds": 2.0}, r"rounds must be an integer .*got 2\.0"),
        ({"seconds": 0}, "seconds must be positive, got 0"),
        ({"seconds": float("nan")}, "seconds must be positive, got nan"),
        ({"seconds": "60"}, "seconds must be positive, got '60'"),
    ],
)
def test_one_positive_interval(units: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Every(**units)
