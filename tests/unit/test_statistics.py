"""One declaration of the statistics of a round, and all that is made of it."""

from __future__ import annotations

import math
import sys
from dataclasses import fields
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpydoc.docscrape import NumpyDocString

import dqlearn
from dqlearn.engine.tasks.learning import report_of
from dqlearn.envs import torus
from dqlearn.envs.resolve import resolve
from dqlearn.stages.settings import Settings
from dqlearn.statistics import Derived, RoundReport, RoundStats, no_episodes, statistic_of
from dqlearn.table.history import SHOWN, STORED, History

ROOT = Path(dqlearn.__path__[0]).parent
OF_REPORT = {it.name: statistic_of(it) for it in fields(RoundReport)}
OF_SHARDS = {it.name: statistic_of(it) for it in fields(RoundStats)}
COUNTED = {name: it for name, it in OF_SHARDS.items() if it.combine}

whole = st.integers(0, 10**6)
stats = st.builds(RoundStats, st.just(7), st.just(0.5), **dict.fromkeys(COUNTED, whole))


def test_the_stored_columns() -> None:
    """Their names, order and dtypes are a format: what follows the declaration may only grow."""
    assert STORED == {
        "int": "round timesteps n_transitions n_episodes length_sum n_restarts".split(),
        "float": (
            "epsilon learning_rate return_sum return_sq_sum return_min return_max td_abs_sum "
            "wall_time"
        ).split(),
    }


def test_what_shards_count_is_reported() -> None:
    """Under the same name, and by the same declaration."""
    assert COUNTED.items() <= OF_REPORT.items()
    counted = RoundStats(100, 0.25, **{name: i for i, name in enumerate(COUNTED, start=1)})
    plan = Settings.of({}).plan(resolve(torus(side=4)), 1)
    report = report_of(plan, counted, 0.75, 3)
    for name in COUNTED:
        assert getattr(report, name) == getattr(counted, name)
    assert (report.round, report.timesteps) == (3, 100 + counted.n_transitions)
    assert (report.epsilon, report.learning_rate, report.td_abs_sum) == (0.25, 0.1, 0.75)


@given(st.lists(stats, min_size=1, max_size=4))
def test_shards_are_pooled_as_declared(parts: list[RoundStats]) -> None:
    pooled = reduce(add, parts)
    assert (pooled.timesteps, pooled.epsilon) == (7, 0.5)
    for name, it in COUNTED.items():
        assert getattr(pooled, name) == reduce(it.combine, (getattr(p, name) for p in parts))
    assert pooled + RoundStats(7, 0.5) == pooled, "nothing happened there"


def test_what_kernels_count() -> None:
    of_episodes = [name for name, it in OF_SHARDS.items() if it.of_episodes]
    nothing = RoundStats.of_kernel(no_episodes().tolist(), timesteps=7, epsilon=0.5)
    assert nothing == RoundStats(7, 0.5)
    some = RoundStats.of_kernel([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], timesteps=7, epsilon=0.5)
    assert [getattr(some, name) for name in of_episodes] == [1, 2, 3, 4, 5, 6]
    for it in fields(RoundStats):
        assert type(getattr(some, it.name)).__name__ == it.type


def test_the_history() -> None:
    """Each is a variable, or what is derived from it is; a saved one has both."""
    history = History()
    values = {name: float(i) for i, name in enumerate(COUNTED, start=4)}
    report = RoundReport(0, 10, 0.5, 0.1, **(values | {"td_abs_sum": 9.0, "return_sq_sum": 1e3}))
    history.append(report)
    shown, saved = history.to_xarray(), history.saved(1)
    assert [*shown.data_vars] == [*SHOWN]
    for name, it in OF_REPORT.items():
        assert name in (saved.coords if name == "round" else saved.data_vars)
        label = it.shown or it
        variable = shown[it.shown.name if it.shown else name]
        if name != "round":
            assert variable.attrs == {"long_name": label.what, "units": label.unit}
    for name, it in SHOWN.items():
        if isinstance(it, Derived) and hasattr(RoundReport, name):
            assert shown[name].item() == getattr(report, name)


def test_nothing_is_nan_for_people() -> None:
    history = History()
    history.append(RoundReport(0, 0, 0.5, math.nan))
    shown = history.to_xarray()
    for name, it in SHOWN.items():
        nothing = isinstance(it, Derived) or it.combine in (min, max)
        assert np.isnan(shown[name].item()) == (nothing or name in ("learning_rate", "wall_time"))


def test_the_docstring_of_a_report() -> None:
    said = {it.name: it for it in NumpyDocString(RoundReport.__doc__)["Parameters"]}
    assert [*said] == [*OF_REPORT]
    for it in fields(RoundReport):
        assert said[it.name].type == it.type
        assert " ".join(said[it.name].desc) == statistic_of(it).description


def test_the_table_of_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_ext"))
    monkeypatch.delitem(sys.modules, "declared", raising=False)
    from declared import TABLES, list_table

    assert ".. declared:: history" in (ROOT / "docs/reference/index.md").read_text()
    assert ".. declared:: report" in (ROOT / "docs/how-to/callbacks.md").read_text()
    report = list_table(TABLES["report"]())
    for name, statistic in OF_REPORT.items():
        assert f"* - ``{name}``\n     - {statistic.unit}\n     - {statistic.what}" in report
    text = list_table(TABLES["history"]())
    for name, it in SHOWN.items():
        assert f"* - ``{name}``\n     - {it.unit}\n     - {it.what}" in text
