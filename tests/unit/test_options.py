"""What may be typed on the command line, and what it means."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqlearn.cli.options import (
    AT,
    BINS,
    DURATION,
    PAIR,
    TAG,
    format_every,
    format_schedule,
    parse_chunks,
    parse_every,
    parse_schedule,
    parse_whole,
)
from dqlearn.schedules import Constant, Exponential, Linear, Piecewise, Schedule, VisitCount
from dqlearn.training.every import Every

numbers = st.floats(0, 1)
positive = st.floats(1e-300, 1)
transitions = st.integers(1, 10**18)
points = st.dictionaries(st.integers(0, 10**12), numbers, min_size=1).map(
    lambda d: sorted(d.items())
)
schedules = st.one_of(
    st.builds(Constant, numbers),
    st.builds(Linear, numbers, numbers, transitions),
    st.builds(Exponential, positive, positive, transitions),
    st.builds(Piecewise, points),
    st.builds(VisitCount, positive, positive, positive, positive),
)
intervals = st.one_of(
    st.builds(Every, transitions=transitions),
    st.builds(Every, rounds=transitions),
    st.builds(Every, seconds=st.floats(0, exclude_min=True)),
)


@given(intervals)
def test_what_a_run_says_of_its_checkpoints_can_be_typed_again(every: Every) -> None:
    assert parse_every(format_every(every)) == every


@given(schedules)
def test_what_a_table_says_can_be_typed_again(schedule: Schedule | VisitCount) -> None:
    assert parse_schedule(format_schedule(schedule)) == schedule


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("0.1", Constant(0.1)),
        ("1e-3", Constant(0.001)),
        ("linear:1:0.05:2e6", Linear(1.0, 0.05, 2_000_000)),
        ("exponential:1:0.01:500_000", Exponential(1.0, 0.01, 500_000)),
        ("piecewise:0=1,1e6=0.5", Piecewise([(0, 1.0), (1_000_000, 0.5)])),
        ("visits", VisitCount()),
        ("visits:0.8", VisitCount(0.8)),
        ("visits:1:100:100", VisitCount(1.0, 100.0, 100.0)),
        ("visits:1:100:100:0.01", VisitCount(1.0, 100.0, 100.0, 0.01)),
    ],
)
def test_schedules(text: str, schedule: Schedule | VisitCount) -> None:
    assert parse_schedule(text) == schedule


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "expected a number"),
        ("linear", "linear:START:END:OVER"),
        ("linear:1:0.1", "linear:START:END:OVER"),
        ("linear:one:0.1:5", "expected a number, got 'one'"),
        ("linear:1:0.1:0.5", "expected a whole number"),
        ("linear:1:0.1:0", "over must be a whole number >= 1"),
        ("exponential:1:0:9", "end must be positive"),
        ("piecewise:", "piecewise:T=V"),
        ("piecewise:5", "expected points TRANSITIONS=VALUE"),
        ("piecewise:5=1,4=0", "strictly increasing"),
        ("visits:2", "omega must be in (0, 1]"),
        ("visits:1:1:1:0:1", "visits:OMEGA"),
    ],
)
def test_no_schedules(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        parse_schedule(text)


@given(st.integers(-(10**30), 10**30))
def test_whole_numbers_are_exact(number: int) -> None:
    assert parse_whole(str(number)) == parse_whole(f"{number:_}") == number


@pytest.mark.parametrize(("text", "number"), [("3e6", 3_000_000), ("2.5e3", 2500), ("7.0", 7)])
def test_whole_numbers_with_an_exponent(text: str, number: int) -> None:
    assert parse_whole(text) == number


@pytest.mark.parametrize("text", ["", "1.5", "1e-3", "inf", "nan", "1e999", "ten", "3,000"])
def test_no_whole_numbers(text: str) -> None:
    with pytest.raises(ValueError, match="expected a whole number"):
        parse_whole(text)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("side=64", ("side", 64)),
        ("is_slippery=false", ("is_slippery", False)),
        ("map_name=8x8", ("map_name", "8x8")),
        ('desc=["SF", "FG"]', ("desc", ["SF", "FG"])),
        ("formula=a=b", ("formula", "a=b")),
        ("name=", ("name", "")),
    ],
)
def test_environment_arguments(text: str, pair: tuple[str, Any]) -> None:
    assert PAIR.parse(text) == pair


@pytest.mark.parametrize("text", ["side", "=64", "is_slippery=False"])
def test_no_environment_arguments(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected KEY=VALUE|write true, false or null"):
        PAIR.parse(text)


def test_chunks_and_bins() -> None:
    assert parse_chunks("auto") == "auto"
    assert parse_chunks("1e6") == 1_000_000
    assert parse_chunks("1_000,-1") == (1000, -1)
    assert BINS.parse("8") == 8
    assert BINS.parse("3,3,6,6") == (3, 3, 6, 6)
    with pytest.raises(ValueError, match="STATES,ACTIONS"):
        parse_chunks("1,2,3")


@pytest.mark.parametrize(
    ("text", "every", "again"),
    [
        ("1e6", Every(transitions=1_000_000), "1000000"),
        ("500_000", Every(transitions=500_000), "500000"),
        ("100r", Every(rounds=100), "100r"),
        ("1e3r", Every(rounds=1000), "1000r"),
        ("60s", Every(seconds=60), "60s"),
        ("0.5s", Every(seconds=0.5), "0.5s"),
        ("5min", Every(seconds=300), "300s"),
        ("2h", Every(seconds=7200), "7200s"),
        ("1 d", Every(seconds=86_400), "86400s"),
    ],
)
def test_intervals(text: str, every: Every, again: str) -> None:
    assert parse_every(text) == every
    assert format_every(every) == again


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1.5", "0r", "1.5r", "r", "0s", "-1min", "5m", "nans", "s", "1e6 t"]
)
def test_no_intervals(text: str) -> None:
    with pytest.raises(ValueError, match=r"^expected transitions such as 1e6, rounds such as"):
        parse_every(text)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("0s", timedelta(0)),
        ("90s", timedelta(seconds=90)),
        ("1.5min", timedelta(seconds=90)),
        ("36h", timedelta(hours=36)),
        ("7d", timedelta(days=7)),
    ],
)
def test_durations(text: str, duration: timedelta) -> None:
    assert DURATION.parse(text) == duration


@pytest.mark.parametrize("text", ["", "7", "7r", "-1d", "1e9d", "1e300d", "infd", "a week"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="expected a time such as 90s, 30min, 36h or 7d"):
        DURATION.parse(text)


def test_checkpoints_have_numbers_and_names() -> None:
    assert AT.parse("12") == 12
    assert [AT.parse(text) for text in ("latest", "v1.2", "-1")] == ["latest", "v1.2", "-1"]
    assert [TAG.parse(text) for text in ("a", "2026-06-01", "v1.2_b")] == [
        "a",
        "2026-06-01",
        "v1.2_b",
    ]


@pytest.mark.parametrize("text", ["", "12", "a/b", "a b", "ä", "..", "-a", "x" * 101, "a\n"])
def test_no_names(text: str) -> None:
    with pytest.raises(ValueError, match="expected a name of letters, digits"):
        TAG.parse(text)
