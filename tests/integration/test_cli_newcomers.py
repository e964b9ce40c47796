"""The command, typed by somebody who does not know it: hints, what is where, JSON, progress."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from click.testing import CliRunner, Result
from gymnasium import spaces
from said import said

import dqlearn
from dqlearn.cli import main, places
from dqlearn.cli.hints import hints
from dqlearn.cli.options import BINS
from dqlearn.cli.progress_lines import progress_lines
from dqlearn.envs.registry import arguments
from dqlearn.errors import EnvironmentFault
from dqlearn.spaces import Bins

LAKE = ["FrozenLake-v1", "--num-envs", "8", "--shards", "2"]


def run(*typed: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in typed])


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table and a run of the same learner, and with things of others."""
    folder = tmp_path_factory.mktemp("there")
    learner = dqlearn.QLearner("FrozenLake-v1", num_envs=8, shards=2)
    learner.learn(2048, store=folder / "run").save(folder / "table")
    (folder / "empty").mkdir()
    (folder / "notes").mkdir()
    (folder / "notes" / "file").write_text("important")
    return folder


@pytest.mark.parametrize(
    ("env", "hint"),
    [
        ("TrafficGrid-v0", "did you mean 'dqlearn/TrafficGrid-v0'?"),
        ("dqlearn/TraficGrid-v0", "did you mean 'dqlearn/TrafficGrid-v0'"),
        ("dqlearn:Torus-v0", "did you mean 'dqlearn/Torus-v0'?"),
        ("taxi", "did you mean 'Taxi-v4'?"),
        ("Taxi-v9", "did you mean 'Taxi-v4'?"),
        ("frozenlake-v1", "did you mean 'FrozenLake-v1'"),
        ("frozenlake8x8", "did you mean 'FrozenLake8x8-v1'"),
    ],
)
def test_names_of_environments(env: str, hint: str, tmp_path: Path) -> None:
    result = run("train", env, "--timesteps", 10, "--out", tmp_path / "q")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: there is no environment {env!r}: ")
    assert hint in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("env", "pair", "hint"),
    [
        ("dqlearn/TrafficGrid-v0", "sise=small", "'sise', did you mean 'size'? it takes size, "),
        ("FrozenLake-v1", "slippery=false", "'slippery', did you mean 'is_slippery'? it takes "),
        ("dqlearn/Torus-v0", "sid=4", "'sid', did you mean 'side'? it takes side, slip, "),
        ("dqlearn/Torus-v0", "xyz=4", "'xyz'; it takes side, slip, "),
    ],
)
def test_arguments_of_environments(env: str, pair: str, hint: str, tmp_path: Path) -> None:
    result = run("train", env, "--env", pair, "--timesteps", 10, "--out", tmp_path / "q")
    assert result.exit_code == 1
    assert f"{env!r} has no argument {hint}" in result.stderr


def test_no_hint_where_nothing_is_near() -> None:
    for env, kwargs in (("Nowhere-v0", {}), ("FrozenLake-v1", {"map_name": "9x9"})):
        fault = EnvironmentFault("as it was")
        with pytest.raises(EnvironmentFault) as caught, hints(env, kwargs):
            raise fault
        assert caught.value is fault
    assert arguments("Taxi-v4")[:2] == ["render_mode", "is_rainy"]


@pytest.mark.parametrize(
    "typed",
    [
        "runs list table",
        "runs info table",
        "runs tag table good",
        "runs untag table good",
        "runs expire table --keep 2",
        "runs export table other",
        "resume table --timesteps 10",
        "train FrozenLake-v1 --timesteps 10 --store table",
    ],
)
def test_a_table_in_the_place_of_a_run(
    typed: str, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(there)
    result = run(*typed.split())
    assert (result.exit_code, result.stdout) == (1, "")
    assert "expected a run's repository, got a saved table at " in result.stderr
    assert "look at it by dqlearn info" in result.stderr
    left = {name for name in os.listdir(there) if not name.startswith(".")}
    assert left == {"empty", "notes", "run", "table"}


@pytest.mark.parametrize(
    ("typed", "code", "said"),
    [
        ("info run", 2, "there is a run at 'run': look at it by dqlearn runs info"),
        ("train FrozenLake-v1 --timesteps 1 --out run", 1, "there is a run at "),
        ("train FrozenLake-v1 --timesteps 1 --out run --overwrite", 1, "there is a run at "),
        ("runs export run notes", 1, "choose another place: "),
        ("train FrozenLake-v1 --timesteps 1 --out notes/file/q", 1, "expected a folder"),
        ("runs list empty", 1, "there is no run at 'empty'"),
        ("runs list notes", 1, "expected a run's repository, got 'notes'"),
        ("info empty", 1, "expected a table that dqlearn saved, got 'empty'"),
    ],
)
def test_other_things_in_its_place(
    typed: str, code: int, said: str, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(there)
    result = run(*typed.split())
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr
    assert (there / "notes" / "file").read_text() == "important"


@pytest.mark.parametrize(
    ("text", "bins"),
    [
        ("20", 20),
        ("20,10", (20, 10)),
        ('{"arm": [4, 2], "lamp": null}', {"arm": (4, 2), "lamp": None}),
        ("[4, [2, 2], null]", (4, (2, 2), None)),
        ('{"low": -3, "high": 3, "n": [6, 2]}', Bins.uniform(-3, 3, [6, 2])),
        ('{"a": {"b": 3}}', {"a": {"b": 3}}),
    ],
)
def test_bins(text: str, bins: Any) -> None:
    assert repr(BINS.parse(text)) == repr(bins)


@pytest.mark.parametrize(
    "text", ["0", "2,0", "[0]", '{"a": 0.5}', '{"a": "b"}', "{", '{"low": "a", "high": 1, "n": 2}']
)
def test_what_is_no_bins(text: str) -> None:
    result = run("train", "CartPole-v1", "--timesteps", 9, "--out", "q", "--bins", text)
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.search(r"Invalid value for '--bins': (expected|each number of) ", result.stderr)


class Parts(gymnasium.Env):  # type: ignore[type-arg]
    """Observations of several boxes, one of which has no ends."""

    observation_space = spaces.Dict(
        arm=spaces.Box(0, 1, (2,)),
        to=spaces.Tuple((spaces.Discrete(3), spaces.Box(-np.inf, np.inf))),
    )
    action_space = spaces.MultiDiscrete([2, 2])

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 1.0, True, False, {}


def test_bins_of_nested_observations(tmp_path: Path) -> None:
    gymnasium.register("Parts-v0", Parts)
    try:
        bins = '{"arm": [4, 2], "to": [null, {"low": -1, "high": 1, "n": 5}]}'
        out = ["--timesteps", 64, "--num-envs", 4, "--out", tmp_path / "q", "--json", "--quiet"]
        result = run("train", "Parts-v0", "--bins", bins, *out)
        assert json.loads(result.stdout)["states"] == 4 * 2 * 3 * 5
        assert run("evaluate", tmp_path / "q", "--episodes", 3).exit_code == 0
    finally:
        gymnasium.registry.pop("Parts-v0")


def test_json(there: Path, tmp_path: Path) -> None:
    """One document on stdout, of what the lines say."""

    def document(*typed: object) -> dict[str, Any]:
        result = run(*typed, "--json")
        assert (result.exit_code, said(result.stderr)) == (0, "")
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    out, store = tmp_path / "q", tmp_path / "run"
    train = ("train", *LAKE, "--timesteps", 2000, "--out", out, "--store", store)
    made = document(*train, "--evaluate", 7)
    assert (made["timesteps"], made["learned"]) == (2048, 2048)
    assert made["evaluation"]["episodes"] == 7
    assert (made["table"], made["run"], made["checkpoint"]) == (str(out), str(store), 1)
    more = document("resume", store, "--timesteps", 4000, "--evaluate", 1)
    assert (more["timesteps"], more["learned"], more["table"]) == (4096, 2048, None)
    assert more["evaluation"]["standard_error"] is None, "of one episode there is none"

    facts = document("info", out)
    assert (facts["states"], facts["actions"], facts["timesteps"]) == (16, 4, 2048)
    assert facts["environment"] == {
        "id": "FrozenLake-v1",
        "kwargs": {},
        "encoded": {},
        "compiled": True,
    }
    assert facts["learning_rate"] == "0.1"
    assert 0 < facts["visited_pairs"] <= 64
    of_run = document("runs", "info", store, "--at", 1)
    assert of_run["checkpoint"]["number"] == 1
    assert of_run["checkpoint_every"] == "60s"
    assert of_run.items() >= {k: facts[k] for k in ("states", "visited_pairs", "epsilon")}.items()
    listed = document("runs", "list", store)["checkpoints"]
    assert [it["timesteps"] for it in listed] == [4096, 2048, 0]
    assert listed[0]["names"] == ["latest"]
    assert document("evaluate", out, "--episodes", 5)["episodes"] == 5


def test_a_document_is_all_that_is_on_stdout_when_an_error_comes(there: Path) -> None:
    for typed, code in ((("info", there / "run"), 2), (("runs", "list", there / "table"), 1)):
        result = run(*typed, "--json")
        assert (result.exit_code, result.stdout) == (code, "")


def test_progress_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    learner = dqlearn.QLearner("FrozenLake-v1", num_envs=8, shards=2)
    began = time.monotonic()
    with progress_lines(learner, 10**9, every=0.2):
        while time.monotonic() - began < 1.5:
            learner.learn(learner.num_timesteps + 1)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 8
    assert lines[-1].startswith("0% of 1,000,000,000 transitions, ")
    assert re.search(", return [01]", lines[-1])


def test_ctrl_c_is_held_back_and_not_lost() -> None:
    """What starts meanwhile never sees it, nor does what that starts; this process does."""
    look = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    done = []

    def held() -> None:
        with places._held_back():
            os.kill(os.getpid(), signal.SIGINT)
            done.append(subprocess.run([sys.executable, "-c", look], capture_output=True).stdout)

    with pytest.raises(KeyboardInterrupt):
        held()
    assert done == [b"True\n"]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
