"""Digests: seeds give the bits that they gave when tests/laws/digests.json was written.

::

    case ──► learn, on threads or on a cluster ──────────┐
    tests/data/*-table.zip ──► open_zarr, load ──► learn ├──► the same digests
    tests/data/*-run.zip ──► open_table, resume ──► learn┘

An earlier version stored the tables and runs, and broke ties in another way. They still open, and
what is learned from there on is the same for ever. What digests promise, and on what they rest: see
`digests.py`.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from click.testing import CliRunner
from digests import ARCHIVED, CASES, DATA, STORED, Digests, digests_of, here, recorded

import dqlearn
from dqlearn.cli import main

NETWORKS = {"production", "defence", "power", "packet dispatch", "packet routing"}
SLOW = NETWORKS | {"torus of 2**40 states"}  # each compiles kernels that no other fast test needs
ON_A_CLUSTER = ("torus, float64", "torus, sparse", "lake, vector", "dense, loaded")
SAME_BY_LAW = {"torus, broadcast", "torus, gather"}  # one step a round, and policy_lag 1

each_stored = pytest.mark.parametrize("name", STORED)


def check(name: str, got: Digests) -> None:
    """Compare with what the file says of a case."""
    digests, made_with = recorded()
    expected = digests[name]
    wrong = [array for array in expected if got.get(array) != expected[array]]
    assert not wrong, f"""the case {name!r} learns other bits of {", ".join(wrong)} than before.
    This is a fault of the change that was made last, unless one of these is the reason:
    - The change is meant to alter what is learned. Then the CHANGELOG says so.
    - NumPy, Gymnasium or the C library is another one, and only cases fail that rest on it, as
      tests/laws/digests.py says. The digests were made with, and are compared here with,
        {made_with}
        {here()}
    Only then write the digests anew, and give the reason in the commit:
        python tests/laws/digests.py --write"""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in CASES],
)
def test_the_bits_are_those_recorded(name: str) -> None:
    check(name, CASES[name].digests())


@pytest.mark.cluster
@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("name", ON_A_CLUSTER)
def test_a_cluster_learns_the_bits_recorded(name: str) -> None:
    check(name, CASES[name].digests())


def test_each_case_learns_something_else() -> None:
    """Tables in which nothing is learned would have equal digests. The file has no other cases."""
    digests, _ = recorded()
    assert list(digests) == [*CASES, *ARCHIVED]
    times = Counter(case["q"] for case in digests.values())
    assert {name for name, case in digests.items() if times[case["q"]] > 1} == SAME_BY_LAW


# what an earlier version stored


@pytest.fixture
def unpacked(tmp_path: Path) -> Callable[[str], Path]:
    """Return what unpacks one of tests/data, and returns its folder."""

    def unpack(name: str) -> Path:
        shutil.unpack_archive(DATA / f"{name}.zip", tmp_path / name)
        return tmp_path / name

    return unpack


@each_stored
def test_a_stored_table_goes_on(name: str, unpacked: Callable[[str], Path]) -> None:
    path = unpacked(f"{name}-table")
    with xr.open_zarr(path) as table:
        check(f"{name}, archived, half", digests_of(table))
    learner = dqlearn.load(path)
    check(f"{name}, archived, half", digests_of(learner))
    check(f"{name}, archived, loaded", digests_of(learner.learn(CASES[name].timesteps)))


@each_stored
@pytest.mark.parametrize("at", ["latest", "previous"])
def test_a_stored_run_goes_on(name: str, at: str, unpacked: Callable[[str], Path]) -> None:
    path = unpacked(f"{name}-run")
    check(f"{name}, archived, half", digests_of(dqlearn.open_table(path)))
    assert dqlearn.open_history(path)["round"].to_numpy().tolist() == list(range(6))
    assert [it.round for it in dqlearn.runs.checkpoints(path)] == [6, 4, 0]
    learner = dqlearn.resume(path, at).learn(CASES[name].timesteps)
    check(f"{name}, archived, {at}", digests_of(learner))
    check(f"{name}, archived, {at}", digests_of(dqlearn.open_table(path)))


@each_stored
def test_the_command_says_what_is_stored(name: str, unpacked: Callable[[str], Path]) -> None:
    """Of a table and of the run it was saved from, the same."""
    table, run = unpacked(f"{name}-table"), unpacked(f"{name}-run")
    of_table, of_run = said("info", table), said("runs", "info", run)
    assert of_table["timesteps"] == CASES[name].timesteps // 2
    assert of_table["environment"]["id"] == CASES[name].env
    differing = {"size_on_disk", "chunks", "checkpoint", "checkpoints", "checkpoint_every"}
    shared = (of_table.keys() & of_run.keys()) - differing
    assert {key: of_table[key] for key in shared} == {key: of_run[key] for key in shared}
    assert of_run["checkpoints"] == 3


def said(*arguments: object) -> dict[str, Any]:
    """Return what the command prints as JSON, after it has printed the same to be read."""
    words = [str(argument) for argument in arguments]
    for options in ([], ["--json"]):
        result = CliRunner().invoke(main, words + options)
        assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found
