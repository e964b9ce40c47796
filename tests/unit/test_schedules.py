"""Schedules: tables worked by hand, and the laws that every kind obeys."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import FrozenInstanceError
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dqlearn.errors import ScheduleError
from dqlearn.schedules import (
    Constant,
    Exponential,
    Linear,
    Piecewise,
    Schedule,
    VisitCount,
    as_learning_rate,
    as_schedule,
    from_spec,
)

TABLE = [
    (Constant(0.3), [(0, 0.3), (10**12, 0.3)]),
    (Linear(1.0, 0.2, over=8), [(0, 1.0), (2, 0.8), (4, 0.6), (8, 0.2), (9, 0.2)]),
    (Linear(0.0, 1.0, over=4), [(0, 0.0), (1, 0.25), (4, 1.0), (10**12, 1.0)]),
    (
        Exponential(1.0, 1 / 16, over=4),
        [(0, 1.0), (1, 1 / 2), (3, 1 / 8), (4, 1 / 16), (5, 1 / 16)],
    ),
    (Exponential(0.01, 1.0, over=2), [(0, 0.01), (1, 0.1), (2, 1.0)]),
    (
        Piecewise(((10, 1.0), (20, 0.5), (40, 0.9))),
        [(0, 1.0), (10, 1.0), (15, 0.75), (20, 0.5), (25, 0.6), (40, 0.9), (41, 0.9)],
    ),
    (Piecewise(((5, 0.7),)), [(0, 0.7), (5, 0.7), (6, 0.7)]),
]

unit = st.floats(0.0, 1.0)
positive_unit = st.floats(0.0, 1.0, exclude_min=True)
steps = st.integers(1, 10**12)


@st.composite
def piecewise(draw: st.DrawFn) -> Piecewise:
    """Draw points in order."""
    times = sorted(draw(st.sets(st.integers(0, 10**12), min_size=1, max_size=6)))
    return Piecewise(tuple((time, draw(unit)) for time in times))


schedules = st.one_of(
    st.builds(Constant, unit),
    st.builds(Linear, unit, unit, steps),
    st.builds(Exponential, positive_unit, positive_unit, steps),
    piecewise(),
)
visit_counts = st.builds(
    VisitCount,
    omega=positive_unit,
    offset=st.floats(0.01, 1e6),
    scale=st.floats(0.01, 1e6),
    floor=st.floats(0.0, 1.0),
)


@pytest.mark.parametrize(("schedule", "rows"), TABLE)
def test_table(schedule: Schedule, rows: list[tuple[int, float]]) -> None:
    """Values worked out by hand."""
    times, values = zip(*rows, strict=True)
    assert [schedule(time) for time in times] == pytest.approx(values, rel=1e-14)


@given(schedules)
def test_breakpoints_are_values(schedule: Schedule) -> None:
    """Breakpoints are exact, and outside of them the schedule is constant."""
    points = schedule.breakpoints()
    assert [schedule(time) for time, _ in points] == [value for _, value in points]
    assert schedule(points[-1][0] + 10**15) == points[-1][1]
    assert schedule(0) == points[0][1]


@given(schedules, st.lists(st.integers(0, 2 * 10**12), min_size=2, max_size=2))
@example(Exponential(0.3, 0.7, 10**16), [10**16 - 1, 10**16 - 1])  # rounds to 0.7000000000000001
def test_monotone_between_breakpoints(schedule: Schedule, times: list[int]) -> None:
    """No value leaves the range of its neighbouring breakpoints, and order is kept within."""
    first, second = sorted(times)
    points = schedule.breakpoints()
    for (t0, v0), (t1, v1) in pairwise(points):
        if t0 <= first and second <= t1:
            low, high = min(v0, v1), max(v0, v1)
            a, b = schedule(first), schedule(second)
            assert low <= a <= high
            assert low <= b <= high
            assert (b - a) * (v1 - v0) >= -1e-15


@given(st.one_of(schedules, visit_counts))
def test_round_trips(schedule: Schedule | VisitCount) -> None:
    """A schedule survives JSON and pickle, and its spec is JSON already."""
    spec = schedule.spec()
    assert json.loads(json.dumps(spec)) == spec
    assert from_spec(spec) == schedule
    assert pickle.loads(pickle.dumps(schedule)) == schedule


def test_spec_is_the_stored_form() -> None:
    """The words that stored runs contain."""
    assert Piecewise([(0, 1), (10, 0.5)]).spec() == {  # type: ignore[arg-type]
        "kind": "Piecewise",
        "points": [[0, 1.0], [10, 0.5]],
    }
    assert VisitCount(omega=0.8).spec() == {
        "kind": "VisitCount",
        "omega": 0.8,
        "offset": 1.0,
        "scale": 1.0,
        "floor": 0.0,
    }
    earlier = {"kind": "VisitCount", "omega": 0.8, "offset": 1.0, "scale": 2.0}
    assert from_spec(earlier) == VisitCount(0.8, 1.0, 2.0)


def test_numpy_numbers_and_whole_floats_become_plain_numbers() -> None:
    """2e7 is a number of transitions, and NumPy scalars do not leak into JSON."""
    schedule = Linear(np.float32(1.0), np.int64(0), 2e7)  # type: ignore[arg-type]
    assert schedule == Linear(1.0, 0.0, 20_000_000)
    assert [type(value) for value in schedule.spec().values()] == [str, float, float, int]


def test_frozen() -> None:
    """A schedule cannot be changed."""
    with pytest.raises(FrozenInstanceError):
        Constant(0.1).value = 0.2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (Constant, ("fast",), "value must be a number"),
        (Linear, (1.0, 0.0, 0), "over must be a whole number >= 1"),
        (Linear, (1.0, 0.0, 1.5), "over must be a whole number >= 1"),
        (Linear, (1.0, 0.0, math.inf), "over must be a whole number >= 1"),
        (Exponential, (1.0, 0.0, 10), "end must be positive"),
        (Exponential, (math.nan, 1.0, 10), "start must be positive"),
        (Piecewise, ([],), "at least one pair"),
        (Piecewise, ([(0, 1.0), (0, 0.5)],), "strictly increasing"),
        (Piecewise, ([(5, 1.0), (0, 0.5)],), "strictly increasing"),
        (Piecewise, ([(-1, 1.0)],), "transitions must be a whole number >= 0"),
        (Piecewise, ([1, 2],), "pairs"),
        (VisitCount, (0.0,), "omega must be positive"),
        (VisitCount, (1.1,), "omega must be in"),
        (VisitCount, (1.0, 0.0), "offset must be positive"),
        (VisitCount, (1.0, 1.0, math.inf), "scale must be positive and finite"),
        (VisitCount, (1.0, 1.0, 1.0, -0.1), "floor must be"),
        (VisitCount, (1.0, 1.0, 1.0, 1.1), "floor must be"),
    ],
)
def test_bad_fields(kind: Any, arguments: tuple[Any, ...], message: str) -> None:
    """A schedule that means nothing is refused when it is made."""
    with pytest.raises(ScheduleError, match=message):
        kind(*arguments)


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"kind": "Cosine", "start": 1.0},
        {"kind": ["Linear"]},
        {"kind": "Constant"},
        {"kind": "Constant", "value": 0.1, "over": 3},
        {"kind": "Constant", "value": "0.1"},
    ],
)
def test_bad_specs(spec: dict[str, Any]) -> None:
    """What no `spec()` has written is refused."""
    with pytest.raises(ScheduleError):
        from_spec(spec)


def test_as_schedule() -> None:
    """A number becomes Constant, a schedule stays what it is."""
    linear = Linear(1.0, 0.0, over=10)
    assert as_schedule(linear, name="epsilon") is linear
    assert as_schedule(1, name="epsilon") == Constant(1.0)
    assert as_schedule(np.float64(0.5), name="epsilon") == Constant(0.5)
    assert as_schedule(-5.0, name="bias", low=-10.0, high=0.0) == Constant(-5.0)


class Cosine(Schedule):
    """A schedule that no stored run could name."""

    def __call__(self, transitions: int) -> float:
        """Return 1."""
        return 1.0

    def breakpoints(self) -> tuple[tuple[int, float], ...]:
        """Return one pair."""
        return ((0, 1.0),)


@pytest.mark.parametrize(
    "value",
    [
        -0.1,
        1.1,
        math.nan,
        math.inf,
        Linear(1.0, -0.5, over=10),
        Linear(1.0, math.nan, over=10),
        Exponential(2.0, 1.0, over=10),
        Piecewise(((0, 0.5), (1, 1.5), (2, 0.5))),
        VisitCount(),
        Cosine(),
        "0.1",
        None,
        lambda transitions: 0.1,
    ],
)
def test_as_schedule_refuses(value: Any) -> None:
    """What leaves [0, 1], or is no schedule of ours, is refused, and the parameter is named."""
    with pytest.raises(ScheduleError, match="epsilon"):
        as_schedule(value, name="epsilon")


def test_range_error_says_where() -> None:
    """The message has the number and the transitions at which it occurs."""
    with pytest.raises(ScheduleError, match=r"got 1\.5 at transitions=7"):
        as_schedule(Piecewise(((0, 0.5), (7, 1.5))), name="epsilon")


def test_as_learning_rate() -> None:
    """VisitCount is legal here, and only here; all else is as in `as_schedule`."""
    assert as_learning_rate(VisitCount()) == VisitCount()
    assert as_learning_rate(0.1) == Constant(0.1)
    with pytest.raises(ScheduleError, match="learning_rate"):
        as_learning_rate(1.5)


@pytest.mark.parametrize(
    ("rule", "rates"),
    [
        (VisitCount(), [1.0, 1 / 2, 1 / 3, 1 / 4]),
        (VisitCount(omega=0.5), [1.0, 2**-0.5, 3**-0.5, 1 / 2]),
        (VisitCount(offset=4.0, omega=0.5), [1 / 2, 5**-0.5, 6**-0.5, 7**-0.5]),
        (VisitCount(scale=3.0), [1.0, 1.0, 1.0, 3 / 4]),
        (VisitCount(scale=10.0, offset=10.0), [1.0, 10 / 11, 10 / 12, 10 / 13]),
        (VisitCount(floor=0.4), [1.0, 1 / 2, 0.4, 0.4]),
    ],
)
def test_visit_count_table(rule: VisitCount, rates: list[float]) -> None:
    """Values worked out by hand for n = 0, 1, 2, 3."""
    assert [rule.rate(n) for n in range(4)] == pytest.approx(rates, rel=1e-15)


@given(visit_counts, st.integers(0, 10**9))
def test_visit_count_falls_within_unit_interval(rule: VisitCount, n: int) -> None:
    """A rate is in (0, 1] and never rises."""
    assert 0.0 < rule.rate(n + 1) <= rule.rate(n) <= 1.0


def test_visit_count_one_is_the_mean() -> None:
    """With all defaults, q += rate (y - q) is the mean of the targets y, whatever q was before."""
    targets = [3.0, -1.0, 4.0, 1.0, -5.0]
    q = 1e6
    for n, y in enumerate(targets):
        q += VisitCount().rate(n) * (y - q)
    assert q == pytest.approx(sum(targets) / len(targets))
