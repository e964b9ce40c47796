"""The command, as it is typed: what it says, what it leaves on disk, and its exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner, Result
from distributed import LocalCluster
from said import said

import dqlearn
from dqlearn.cli import main
from dqlearn.stages.settings import HYPERPARAMETERS

TORUS = ["dqlearn/Torus-v0", "--env", "side=16", "--num-envs", "64", "--steps-per-round", "64"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def command(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, "-m", "dqlearn", *map(str, arguments)]
    return subprocess.run(whole, cwd=folder, capture_output=True, text=True, timeout=200)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train on the lake without slipping, where a greedy episode is 6 steps long and pays 1."""
    folder = tmp_path_factory.mktemp("lake")
    options = "--env is_slippery=false --num-envs 16 --shards 2 --timesteps 2e4 --seed 1"
    more = "--steps-per-round 4 --epsilon linear:1.0:0.1:10_000 --learning-rate visits:0.6"
    out = folder / "lake.zarr"
    done = command(
        "train", "FrozenLake-v1", *options.split(), *more.split(), "--out", out, folder=folder
    )
    assert (done.returncode, said(done.stderr)) == (0, "")
    (folder / "said").write_text(done.stdout)
    return out


def test_train_says_what_it_did(lake: Path) -> None:
    learned, mean, compared, table = (lake.parent / "said").read_text().splitlines()
    assert re.fullmatch(r"Learned from 20,032 transitions in [\d.]+ s: [\d,]+ a second", learned)
    assert mean == "Mean return of 100 greedy episodes: 1 +- 0 (standard error)"
    assert re.fullmatch(r"learned 1 \| random 0\.?\d*", compared)
    assert table == f"Table: {lake} (16 states x 4 actions)"


def test_evaluate(lake: Path) -> None:
    done = command("evaluate", lake.name, "--episodes", "50", folder=lake.parent)
    assert (done.returncode, said(done.stderr)) == (0, "")
    assert done.stdout.splitlines() == [
        "Mean return of 50 greedy episodes: 1 +- 0 (standard error)",
        "Quantiles of the return: 5%: 1   25%: 1   50%: 1   75%: 1   95%: 1",
        "Mean length: 6 transitions",
    ]


def test_evaluate_says_what_it_cut_off(lake: Path) -> None:
    result = run("evaluate", lake, "--episodes", 10, "--max-steps", 5, "--seed", 3)
    assert "Mean return of 10 greedy episodes: 0 +- 0" in result.stdout
    assert "Cut off before their end: 10 episodes" in result.stdout


def test_info(lake: Path) -> None:
    result = run("info", lake)
    said = dict(re.split(r"  +", line, maxsplit=1) for line in result.stdout.splitlines())
    with xr.open_zarr(lake) as stored:
        visited = 100 * float((stored["visits"] > 0).mean())
    assert said["table"] == "16 states x 4 actions, float32"
    assert said["chunks"] == "16 states x 4 actions"
    assert said["visited pairs"] == f"{visited:.4g}% of 64"
    assert said["learned from"] == "20,032 transitions in 313 rounds"
    assert said["environment"] == "FrozenLake-v1 is_slippery=false (compiled from its table)"
    assert (HYPERPARAMETERS.keys() - said.keys()) <= {"dtype", "env_timeout", "federated"}
    assert said["num_envs"] == "16"
    assert said["epsilon"] == "linear:1.0:0.1:10000"
    assert said["learning_rate"] == "visits:0.6:1.0:1.0"


def test_info_makes_no_environment(tmp_path: Path) -> None:
    """A table whose environment is not installed here can be looked at, but not played with."""
    learner = dqlearn.QLearner("dqlearn/Torus-v0", env_kwargs={"side": 4}, num_envs=8)
    learner.learn(1).save(tmp_path / "q.zarr")
    for file in tmp_path.glob("q.zarr/zarr.json"):
        file.write_text(file.read_text().replace("dqlearn/Torus-v0", "nowhere:Torus-v0"))
    assert "nowhere:Torus-v0 side=4" in run("info", tmp_path / "q.zarr").stdout
    result = run("evaluate", tmp_path / "q.zarr")
    assert result.exit_code == 1
    assert "is in the module 'nowhere', which would be imported" in result.stderr
    trusted = run("evaluate", tmp_path / "q.zarr", "--trust", "nowhere")
    assert trusted.exit_code == 1
    assert "module 'nowhere', which cannot be imported here" in trusted.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("--out q.zarr", "Missing option '--timesteps'"),
        ("--timesteps 10", "Missing option '--out'"),
        ("--timesteps 1.5 --out q.zarr", "expected a whole number such as 3_000_000 or 3e6"),
        ("--timesteps 0 --out q.zarr", "0 is not in the range x>=1"),
        ("--timesteps 9 --out q.zarr --gamma 1.1", "1.1 is not in the range 0<=x<=1"),
        ("--timesteps 9 --out q.zarr --epsilon linear:1:0", "linear:START:END:OVER"),
        ("--timesteps 9 --out q.zarr --epsilon 2", "epsilon must stay in [0.0, 1.0], got 2.0"),
        ("--timesteps 9 --out q.zarr --epsilon visits", "VisitCount is a learning rate"),
        ("--timesteps 9 --out q.zarr --chunks 1,2,3", "expected auto, STATES or STATES,ACTIONS"),
        ("--timesteps 9 --out q.zarr --env side", "expected KEY=VALUE"),
        ("--timesteps 9 --out q.zarr --dtype int8", "'float32', 'float64'"),
        ("--timesteps 9 --out q.zarr --workers 2 --scheduler tcp://host:8786", "choose"),
    ],
)
def test_wrong_usage(
    options: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("train", "Taxi-v4", *options.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert complaint in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("train Nowhere-v0", "'Nowhere-v0' could not make an environment"),
        ("train CartPole-v1", "is continuous: give it bins"),
        ("train Taxi-v4 --bins 3", "takes no bins"),
        ("train Taxi-v4 --num-envs 2 --shards 3", "shards must be at most num_envs"),
        ("train Taxi-v4 --scheduler nonsense", "expected a Dask scheduler at 'nonsense'"),
    ],
)
def test_an_error_is_one_line(arguments: str, complaint: str, tmp_path: Path) -> None:
    result = run(*arguments.split(), "--timesteps", 10, "--out", tmp_path / "q.zarr")
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(f"Error: .*{re.escape(complaint)}.*\n", result.stderr)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("what", ["evaluate", "info"])
def test_what_is_no_table_is_refused(what: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("important")
    for path in (tmp_path, tmp_path / "notes.txt", tmp_path / "missing.zarr"):
        result = run(what, path)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("Error: expected a table that dqlearn saved, got")
        assert ("; nor is it a run: " in result.stderr) == (what == "evaluate")


def test_out_is_not_overwritten_unasked(tmp_path: Path) -> None:
    notes, out = tmp_path / "notes.txt", tmp_path / "new" / "q.zarr"
    notes.write_text("important")
    for place in (notes, tmp_path, notes / "q.zarr"):
        result = run("train", *TORUS, "--timesteps", 1, "--out", place, "--overwrite")
        assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert notes.read_text() == "important"

    assert run("train", *TORUS, "--timesteps", 1, "--out", out).exit_code == 0
    again = run("train", *TORUS, "--timesteps", 5000, "--out", out)
    assert (again.exit_code, again.stdout) == (1, "")
    assert "pass --overwrite to replace it" in again.stderr
    assert xr.open_zarr(out).attrs["timesteps"] == 4096
    assert run("train", *TORUS, "--timesteps", 5000, "--out", out, "--overwrite").exit_code == 0
    assert xr.open_zarr(out).attrs["timesteps"] == 8192


def test_a_network_by_its_size(tmp_path: Path) -> None:
    """Trained and played: the sizes are names, topologies lists, and episodes as long as asked."""
    out, links = tmp_path / "q.zarr", 'network=[[0,1,"main"]]'
    options = ["--num-envs", 64, "--timesteps", 2000, "--gamma", 0.95, "--initial-value", -90]
    done = run("train", "dqlearn/TrafficGrid-v0", "--env", "size=small", *options, "--out", out)
    assert done.exit_code == 0, done.stderr
    assert re.search(r"\nlearned -.* \| best baseline \(longest .*\) -.* \| random -", done.stdout)
    assert done.stdout.endswith(f"Table: {out} (9,604 states x 4 actions)\n")
    assert "Mean length: 200 transitions" in run("evaluate", out, "--episodes", 2).stdout
    longer = ["--env", links, "--env", "max_episode_steps=500", "--out", out, "--overwrite"]
    done = run("train", "dqlearn/TrafficGrid-v0", "--env", "size=small", *options, *longer)
    assert done.exit_code == 0, done.stderr
    assert "Mean length: 500 transitions" in run("evaluate", out, "--episodes", 2).stdout


@pytest.mark.slow
def test_a_network_with_nothing_said(tmp_path: Path) -> None:
    """Its budget and settings are known; what is learned is better than what people do."""
    done = run("train", "dqlearn/TrafficGrid-v0", "--json", "--out", tmp_path / "q.zarr")
    document = json.loads(done.stdout)
    assert document["timesteps"] >= 20_000_000
    returns = {name: each["mean_return"] for name, each in document["compared"].items()}
    assert list(returns) == ["best baseline (longest queue first)", "random"]
    assert document["evaluation"]["mean_return"] > max(returns.values())


def test_watch(lake: Path) -> None:
    """Frames beside each other, of one episode: from the start, by ice, to the goal."""
    shown = run("watch", lake)
    assert shown.exit_code == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[-1] == "Return after 6 steps: 1; the episode ends"
    assert sum(line.count("FHFH") for line in lines) == 7
    assert max(line.count("FHFH") for line in lines) > 1
    cut = run("watch", lake, "--steps", 2).stdout.splitlines()
    assert cut[-1] == "Return after 2 steps: 0; and it goes on"


def test_what_only_a_colour_shows_is_a_star_without_colours(tmp_path: Path) -> None:
    """The taxi, where nothing else is at its place; a cell is 7 lines high."""
    dqlearn.QLearner("Taxi-v4", seed=0).learn(1_000_000).save(tmp_path / "q.zarr")
    lines = run("watch", tmp_path / "q.zarr", "--seed", 0).stdout.splitlines()
    assert lines[0].startswith("+-----")
    assert any("*" in line for line in lines)
    assert not any("\x1b" in line for line in lines)


def test_watch_a_network(tmp_path: Path) -> None:
    learner = dqlearn.QLearner("dqlearn/TrafficGrid-v0", num_envs=8)
    learner.learn(1_000, store=tmp_path / "run")
    shown = run("watch", tmp_path / "run", "--steps", 3, "--seed", 1).stdout
    assert shown.count("decision: ") == 3
    assert "Return after 3 steps: -" in shown


def test_what_cannot_be_watched(tmp_path: Path) -> None:
    bins = dqlearn.spaces.Bins.uniform([-3] * 4, [3] * 4, 2)
    dqlearn.QLearner("CartPole-v1", bins=bins).learn(64).save(tmp_path / "q.zarr")
    shown = run("watch", tmp_path / "q.zarr")
    assert shown.exit_code == 1
    assert "render modes of 'CartPole-v1' are ['human', 'rgb_array'], got 'ansi'" in shown.stderr


def test_quiet_and_the_settings_that_are_not_said(tmp_path: Path) -> None:
    out = tmp_path / "q.zarr"
    result = run("train", "FrozenLake-v1", "--timesteps", 64, "--out", out, "--quiet")
    assert (result.exit_code, result.output) == (0, "")
    there, here = xr.open_zarr(out).attrs, dqlearn.QLearner("FrozenLake-v1").learn(64).table
    assert there == here.to_xarray().attrs


def test_an_environment_that_fails_does_not_cost_the_table(tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(
        """
import gymnasium

class Faulty(gymnasium.Env):
    observation_space = action_space = gymnasium.spaces.Discrete(3)
    steps = 0

    def reset(self, seed=None, options=None):
        return 0, {}

    def step(self, action):
        self.steps += 1
        if self.steps > 100:
            raise RuntimeError("out of\\nsteps")
        return 1, 0.0, False, False, {}

gymnasium.register("Faulty-v0", Faulty)
"""
    )
    options = "--num-envs 2 --shards 1 --steps-per-round 30 --timesteps 1e4 --out q.zarr".split()
    done = command("train", "faulty:Faulty-v0", *options, folder=tmp_path)
    assert done.returncode == 1
    *_, saved, error = done.stderr.splitlines()
    assert saved == f"Saved the table of 180 transitions: {tmp_path / 'q.zarr'}"
    assert error.startswith("Error: ")
    assert "out of" in error
    assert int(xr.open_zarr(tmp_path / "q.zarr")["visits"].sum()) == 180


@pytest.mark.parametrize(
    "where",
    [(), pytest.param(("--workers", "2"), marks=[pytest.mark.cluster, pytest.mark.slow])],
    ids=["here", "workers"],
)
def test_ctrl_c_saves_the_table(where: tuple[str, ...], tmp_path: Path) -> None:
    out = tmp_path / "q.zarr"
    code, shown = press_ctrl_c_while_learning(*TORUS, "--timesteps", "1e12", *where, "--out", out)
    assert code == 130
    with xr.open_zarr(out) as stored:
        timesteps = stored.attrs["timesteps"]
        assert int(stored["visits"].sum()) == timesteps > 0
    *_, saved, interrupted = re.findall(r"^(?:Saved|Interrupted).*", shown, re.MULTILINE)
    assert saved.rstrip() == f"Saved the table of {timesteps:,} transitions: {out}"
    assert interrupted.rstrip() == "Interrupted."
    assert "Traceback" not in shown
    assert "distributed" not in shown


BEFORE_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(2, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])
"""


def press_ctrl_c_while_learning(*arguments: object) -> tuple[int, str]:
    """Train before a terminal, press Ctrl-C once the bar moves; return exit code and what it shows.

    The terminal sends the signal to all processes of the command, the workers too.
    """
    reader, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 120))  # lines, columns: room for the bar
    typed = ["dqlearn", "train", *map(str, arguments)]
    whole = [sys.executable, "-c", BEFORE_A_TERMINAL, *typed]
    process = subprocess.Popen(
        whole, stdout=subprocess.DEVNULL, stderr=terminal, start_new_session=True
    )
    os.close(terminal)
    shown, pressed = b"", False
    try:
        while chunk := _read(reader):
            shown += chunk
            if not pressed and b", return " in shown:
                os.write(reader, b"\x03")
                pressed = True
        return process.wait(timeout=200), shown.decode()
    finally:
        process.kill()
        os.close(reader)


def _read(reader: int) -> bytes:
    """Read from a terminal; Linux ends it with an error. Nothing, if nothing comes for long."""
    try:
        ready, _, _ = select.select([reader], [], [], 100)
        return os.read(reader, 65_536) if ready else b""
    except OSError:
        return b""


@pytest.mark.slow
@pytest.mark.cluster
def test_a_cluster_makes_the_same_table(local_cluster: LocalCluster, tmp_path: Path) -> None:
    options = [*TORUS, "--shards", "2", "--timesteps", "2e4", "--seed", "5"]
    there = ["--scheduler", local_cluster.scheduler_address, "--out", "there.zarr"]
    for where in (["--out", "here.zarr"], there):
        done = command("train", *options, *where, folder=tmp_path)
        assert (done.returncode, said(done.stderr)) == (0, "")
    here, there_too = (xr.open_zarr(tmp_path / name) for name in ("here.zarr", "there.zarr"))
    assert here.identical(there_too)
    assert np.count_nonzero(here["q"]) > 100
