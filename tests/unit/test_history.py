"""History: columns against hand-made reports, and against sums over the reports themselves."""

from __future__ import annotations

import dataclasses
import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from dqlearn.events import RoundReport
from dqlearn.table.history import History


def report(round: int, returns: list[float], **changes: Any) -> RoundReport:
    """Return the report of a round of 10 transitions in which episodes with `returns` ended."""
    made = RoundReport(
        round=round,
        timesteps=10 * (round + 1),
        n_transitions=10,
        epsilon=0.5,
        learning_rate=0.1,
        n_episodes=len(returns),
        return_sum=sum(returns),
        return_sq_sum=sum(g * g for g in returns),
        length_sum=3 * len(returns),
        return_min=min(returns, default=math.inf),
        return_max=max(returns, default=-math.inf),
        td_abs_sum=5.0,
        wall_time=0.25 * (round + 1),
    )
    return dataclasses.replace(made, **changes)


def filled(*returns: list[float], first: int = 0) -> History:
    """Return the history of rounds with these returns."""
    history = History()
    for round, of_round in enumerate(returns, start=first):
        history.append(report(round, of_round))
    return history


def test_report_means() -> None:
    """Means are sums over counts, and NaN of nothing."""
    some = report(0, [1.0, 2.0, 6.0])
    assert (some.mean_return, some.mean_length, some.mean_abs_td) == (3.0, 3.0, 0.5)
    none = report(0, [], n_transitions=0)
    assert np.isnan([none.mean_return, none.mean_length, none.mean_abs_td]).all()


def test_dataset_by_hand() -> None:
    """Two rounds, the second without an episode."""
    history = filled([1.0, 3.0], first=7)
    history.append(report(8, [], n_restarts=3))
    dataset = history.to_xarray()
    expected = {
        "round": [7, 8],
        "timesteps": [80, 90],
        "n_transitions": [10, 10],
        "epsilon": [0.5, 0.5],
        "learning_rate": [0.1, 0.1],
        "n_episodes": [2, 0],
        "mean_return": [2.0, np.nan],
        "return_std": [1.0, np.nan],
        "return_min": [1.0, np.nan],
        "return_max": [3.0, np.nan],
        "mean_length": [3.0, np.nan],
        "mean_abs_td": [0.5, 0.5],
        "wall_time": [2.0, 2.25],
        "n_restarts": [0, 3],
    }
    assert set(dataset.variables) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(dataset[name], values, err_msg=name)
        assert dataset[name].dims == ("round",)


def test_variables_are_described() -> None:
    """Every variable has a long name and units, and xarray reads it back as it is."""
    dataset = filled([1.0], [2.0]).to_xarray()
    assert all({"long_name", "units"} <= set(dataset[name].attrs) for name in dataset.data_vars)
    xr.testing.assert_identical(xr.decode_cf(dataset), dataset)


def test_empty() -> None:
    """No rounds: no rows, no episodes, no mean."""
    history = History()
    assert history.to_xarray().sizes == {"round": 0}
    assert (len(history), history.n_episodes) == (0, 0)
    assert math.isnan(history.recent_mean_return())


def test_equal_returns_have_no_deviation() -> None:
    """Rounding makes sum(g^2)/n - mean^2 negative here; the deviation is 0, not NaN."""
    returns = [0.1] * 3
    mean = sum(returns) / 3
    assert sum(g * g for g in returns) / 3 - mean**2 < 0.0
    assert filled(returns).to_xarray()["return_std"].item() == 0.0


@pytest.mark.parametrize(
    ("n_episodes", "mean"),
    [(1, 9.0), (2, 6.0), (3, 6.0), (4, 4.0), (5, 4.0), (6, 4.0), (100, 4.0)],
)
def test_recent_mean_return_by_hand(n_episodes: int, mean: float) -> None:
    """The last whole rounds with at least that many episodes: 9 | 4, 5 | 1, 2, 3."""
    history = filled([1.0, 2.0, 3.0], [], [4.0, 5.0], [9.0], [])
    assert history.recent_mean_return(n_episodes) == pytest.approx(mean)


@given(
    st.lists(st.lists(st.integers(-100, 100).map(float), max_size=4), max_size=40),
    st.integers(1, 60),
)
def test_recent_mean_return_is_the_pooled_mean(rounds: list[list[float]], n_episodes: int) -> None:
    """Collect whole rounds backwards until there are enough episodes."""
    pool: list[float] = []
    for of_round in reversed(rounds):
        if len(pool) >= n_episodes:
            break
        pool += of_round
    got = filled(*rounds).recent_mean_return(n_episodes)
    assert got == pytest.approx(sum(pool) / len(pool)) if pool else math.isnan(got)


@given(st.integers(0, 60), st.integers(0, 70), st.integers(0, 5))
def test_going_back_leaves_no_trace(n_rounds: int, back_to: int, first: int) -> None:
    """Truncate and append again: the same as if nothing had happened."""
    returns = [[float(round % 7)] * (round % 3) for round in range(n_rounds)]
    history = filled(*returns, first=first)
    history.truncate(back_to)
    kept = min(max(back_to - first, 0), n_rounds)
    assert len(history) == kept
    assert history.n_episodes == sum(map(len, returns[:kept]))
    for round in range(kept, n_rounds):
        history.append(report(first + round, returns[round]))
    xr.testing.assert_identical(history.to_xarray(), filled(*returns, first=first).to_xarray())


@pytest.mark.parametrize("round", [0, 2, 4])
def test_out_of_order(round: int) -> None:
    """Only the next round may follow; what was there stays."""
    history = filled([1.0], [1.0], [1.0])
    with pytest.raises(ValueError, match="expected the report of round 3"):
        history.append(report(round, [1.0]))
    assert len(history) == 3


def test_dataset_is_a_copy() -> None:
    """A Dataset taken before does not change when the run goes on, or back."""
    history = filled([1.0], [2.0])
    before = history.to_xarray()
    snapshot = before.copy(deep=True)
    history.truncate(1)
    history.append(report(1, [50.0], epsilon=0.9))
    xr.testing.assert_identical(before, snapshot)


def test_a_round_is_kept_in_a_few_hundred_bytes() -> None:
    """15 numbers of 8 bytes a row, and at most as much again as room to grow."""
    tracemalloc.start()
    history = History()
    for round in range(20_000):
        history.append(report(round, [1.0]))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert history.n_episodes == 20_000
    assert used / 20_000 < 2 * 15 * 8 + 16
