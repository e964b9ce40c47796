"""The progress bar, by what a terminal shows."""

from __future__ import annotations

import dataclasses
import re

import pytest

from dqlearn.events import RoundReport
from dqlearn.table.history import History
from dqlearn.training.progress import ProgressBar

REPORT = RoundReport(
    round=0,
    timesteps=250_000,
    n_transitions=250_000,
    epsilon=0.625,
    learning_rate=0.1,
    n_episodes=2,
    return_sum=25.0,
    return_sq_sum=400.0,
    length_sum=10,
    return_min=5.0,
    return_max=20.0,
    td_abs_sum=1.0,
    wall_time=1.0,
)


def last_line(shown: str) -> str:
    """Return what is left on the terminal: after the last carriage return, without newline."""
    return re.split(r"[\r\n]", shown.rstrip())[-1]


def test_shows_transitions_epsilon_and_return(capsys: pytest.CaptureFixture[str]) -> None:
    """The report's position on the whole, its epsilon, and the history's mean return."""
    history = History()
    with ProgressBar(1_000_000, history) as bar:
        history.append(REPORT)
        bar.update(REPORT)
    line = last_line(capsys.readouterr().err)
    assert "25%" in line
    assert "250k/1.00M" in line
    assert "transitions/s" in line
    assert "epsilon 0.625, return 12.5" in line


def test_goes_back_to_a_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """A report of an earlier round moves the bar backwards."""
    history = History()
    with ProgressBar(1_000_000, history) as bar:
        bar.update(dataclasses.replace(REPORT, timesteps=500_000))
        bar.update(dataclasses.replace(REPORT, timesteps=125_000))
    line = last_line(capsys.readouterr().err)
    assert "125k/1.00M" in line
    assert "return nan" in line


def test_resumed_run_starts_where_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    """The bar of a resumed run has the transitions made before."""
    with ProgressBar(1_000_000, History(), initial=750_000):
        pass
    assert "750k/1.00M" in last_line(capsys.readouterr().err)


def test_exception_closes_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The exception goes on, and the cursor is on a new line; closing again prints nothing."""
    bar = ProgressBar(1_000_000, History())
    with pytest.raises(KeyboardInterrupt), bar:
        raise KeyboardInterrupt
    assert capsys.readouterr().err.endswith("\n")
    bar.close()
    assert capsys.readouterr().err == ""


def test_disabled_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Off is silent."""
    with ProgressBar(1_000_000, History(), disable=True) as bar:
        bar.update(REPORT)
    assert capsys.readouterr() == ("", "")
