"""Runs from the command line: written, interrupted, gone on with, looked at, kept in order."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import xarray as xr
from click.testing import CliRunner, Result
from said import said

import dqlearn
from dqlearn.cli import main
from dqlearn.storage.location import store_of

TORUS = [
    *("dqlearn/Torus-v0", "--env", "side=16", "--num-envs", "64", "--steps-per-round", "64"),
    *("--shards", "2", "--seed", "5", "--epsilon", "linear:1:0.1:5e5"),
]
ROUND = 64 * 64


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def done(*arguments: object) -> list[str]:
    """Run a command that must succeed and say nothing on stderr; return what it prints."""
    result = run(*arguments)
    assert (result.exit_code, said(result.stderr)) == (0, ""), result.output
    return result.stdout.splitlines()


def command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, "-m", "dqlearn", *arguments]
    return subprocess.run(whole, cwd=folder, capture_output=True, text=True, timeout=200)


def numbers(run: Path) -> list[int]:
    return [checkpoint.number for checkpoint in dqlearn.runs.checkpoints(run)]


@pytest.fixture(scope="module")
def torus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Learn 12 rounds with a checkpoint every 5: after rounds 0, 5, 10 and 12."""
    folder = tmp_path_factory.mktemp("torus")
    store = ["--store", "torus", "--checkpoint-every", "5r", "--keep-checkpoints", "9"]
    train = ["train", *TORUS, "--timesteps", str(12 * ROUND), *store, "--out", "q.zarr"]
    trained = command(*train, folder=folder)
    assert (trained.returncode, said(trained.stderr)) == (0, "")
    (folder / "said").write_text(trained.stdout)
    return folder / "torus"


@pytest.fixture
def copy(torus: Path, tmp_path: Path) -> Path:
    """A copy of that run, to write to."""
    return Path(shutil.copytree(torus, tmp_path / "copy"))


def test_train_says_where_run_and_table_are(torus: Path) -> None:
    learned, mean, compared, run, table = (torus.parent / "said").read_text().splitlines()
    assert re.fullmatch(r"Learned from 49,152 transitions in [\d.]+ s: [\d,]+ a second", learned)
    assert mean.startswith("Mean return of 100 greedy episodes: ")
    assert re.fullmatch(r"learned -?[\d.]+ \| random -?[\d.]+", compared)
    assert run == f"Run: {torus} (256 states x 4 actions, checkpoint 3)"
    assert table == f"Table: {torus.parent / 'q.zarr'} (256 states x 4 actions)"


def test_run_and_table_hold_the_same(torus: Path) -> None:
    in_run, alone = dqlearn.open_table(torus), xr.open_zarr(torus.parent / "q.zarr")
    assert in_run.drop_attrs().equals(alone.drop_attrs())
    assert alone.attrs.items() <= in_run.attrs.items()


def test_resume_goes_on_to_the_undisturbed_table(copy: Path, tmp_path: Path) -> None:
    parts, whole = tmp_path / "parts.zarr", tmp_path / "whole.zarr"
    learned, mean, run, table = done(
        *("resume", copy, "--timesteps", 20 * ROUND, "--out", parts, "--evaluate", 20)
    )
    assert learned.startswith("Learned from 32,768 transitions in ")
    assert learned.endswith(" a second, 81,920 in all")
    assert mean.startswith("Mean return of 20 greedy episodes: ")
    assert run == f"Run: {copy} (256 states x 4 actions, checkpoint 5)"
    assert table == f"Table: {parts} (256 states x 4 actions)"
    assert numbers(copy) == [5, 4, 3, 2, 1, 0]
    done("train", *TORUS, "--timesteps", 20 * ROUND, "--out", whole)
    assert xr.open_zarr(parts).identical(xr.open_zarr(whole))


def test_resume_has_nothing_left_to_do(copy: Path) -> None:
    nothing, _, run = done("resume", copy, "--timesteps", 12 * ROUND)
    assert nothing == "Nothing was left to learn: there are 49,152 transitions"
    assert run.endswith("checkpoint 3)")
    assert done("resume", copy, "--timesteps", 12 * ROUND, "--quiet") == []
    assert numbers(copy) == [3, 2, 1, 0]


def test_resume_from_an_earlier_checkpoint_gives_up_the_later(copy: Path) -> None:
    done("runs", "tag", copy, "tried", "--at", 2)
    done("resume", copy, "--at", 1, "--timesteps", 8 * ROUND, "--checkpoint-every", "2r", "--quiet")
    listed = [line.split() for line in done("runs", "list", copy)[1:]]
    left = [(number, round_, names) for number, round_, _, _, *names in listed]
    assert left == [
        ("3", "8", ["latest"]),
        ("2", "6", []),
        ("2", "10", ["tried"]),
        ("1", "5", []),
        ("0", "0", []),
    ]


@pytest.mark.parametrize(
    "where",
    [(), pytest.param(("--workers", "2"), marks=[pytest.mark.cluster, pytest.mark.slow])],
    ids=["here", "workers"],
)
def test_ctrl_c_and_resume_make_the_undisturbed_table(
    where: tuple[str, ...], tmp_path: Path
) -> None:
    saving = ("--store", "my run", "--checkpoint-every", "7r", "--out", "stopped.zarr")
    code, said = interrupted("train", *TORUS, *saving, *where, folder=tmp_path)
    store, out = tmp_path / "my run", tmp_path / "stopped.zarr"
    assert code == 130
    latest = dqlearn.runs.checkpoints(store)[0]
    way_on, saved, end = re.findall(r"^(?:Checkpoint|Saved|Interrupted).*", said, re.MULTILINE)
    assert way_on == (
        f"Checkpoint {latest.number} has {latest.timesteps:,} transitions; go on with: "
        f"dqlearn resume '{store}' --timesteps 1000000000000"
    )
    assert saved == f"Saved the table of {latest.timesteps:,} transitions: {out}"
    assert end == "Interrupted."
    assert xr.open_zarr(out)["q"].identical(dqlearn.open_table(store)["q"])

    typed, total = shlex.split(way_on.partition("dqlearn ")[2])[:-1], latest.timesteps + 9 * ROUND
    done(*typed, total, "--out", out, "--overwrite", "--quiet")
    done("train", *TORUS, "--timesteps", total, "--out", tmp_path / "whole.zarr", "--quiet")
    assert xr.open_zarr(out).identical(xr.open_zarr(tmp_path / "whole.zarr"))


def interrupted(*arguments: str, folder: Path) -> tuple[int, str]:
    """Learn without end in "my run", press Ctrl-C after a checkpoint; return code and stderr."""
    whole = [sys.executable, "-m", "dqlearn", *arguments, "--timesteps", "1e12"]
    process = subprocess.Popen(
        whole, cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        while process.poll() is None:
            with suppress(dqlearn.DQLearnError):  # there is no run yet, or half of one
                if len(numbers(folder / "my run")) >= 2:  # the first is that of round 0
                    break
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=200)
        return process.returncode, said
    finally:
        process.kill()


def test_an_environment_that_fails_leaves_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is looked at elsewhere, where its environment is not; it goes on where it is."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "unsound.py").write_text(
        """
import os
import gymnasium

class Unsound(gymnasium.Env):
    observation_space = action_space = gymnasium.spaces.Discrete(3)
    steps = 0

    def reset(self, seed=None, options=None):
        return 0, {}

    def step(self, action):
        self.steps += 1
        if self.steps > 100 and "SOUND" not in os.environ:
            raise RuntimeError("out of steps")
        return 1, 0.0, False, False, {}

gymnasium.register("Unsound-v0", Unsound)
"""
    )
    options = "--num-envs 2 --shards 1 --steps-per-round 30 --timesteps 300".split()
    saving = ["--store", "run", "--checkpoint-every", "2r"]
    here, store = tmp_path / "here", tmp_path / "here" / "run"
    failed = command("train", "unsound:Unsound-v0", *options, *saving, folder=here)
    assert failed.returncode == 1
    *_, way_on, error = failed.stderr.splitlines()
    assert way_on == (
        "Checkpoint 1 has 120 transitions; go on with: "
        f"dqlearn resume {store} --timesteps 300 --trust unsound"
    )
    assert error.startswith("Error: ")
    assert "out of steps" in error

    said = dict(re.split(r"  +", line, maxsplit=1) for line in done("runs", "info", store))
    assert said["environment"] == "unsound:Unsound-v0"
    assert said["learned from"] == "120 transitions in 2 rounds"
    done("runs", "export", store, tmp_path / "q.zarr")
    for arguments in (("resume", store, "--timesteps", 300), ("evaluate", store)):
        absent = run(*arguments)
        assert (absent.exit_code, absent.stdout) == (1, "")
        assert "is in the module 'unsound', which would be imported" in absent.stderr

    monkeypatch.syspath_prepend(here)
    monkeypatch.setenv("SOUND", "yes")
    done("resume", store, "--timesteps", 300, "--evaluate", 0, "--trust", "unsound")
    assert dqlearn.open_table(store).attrs["timesteps"] == 300


def test_list(torus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "NPT-5:45")
        time.tzset()
        header, *lines = done("runs", "list", torus)
    time.tzset()
    assert header.split() == ["number", "round", "transitions", "written", "names"]
    known = dqlearn.runs.checkpoints(torus)
    assert [int(line.split()[0]) for line in lines] == [3, 2, 1, 0]
    for line, checkpoint in zip(lines, known, strict=True):
        _, round_, transitions, written, *names = line.split()
        assert (int(round_), transitions) == (checkpoint.round, f"{checkpoint.timesteps:,}")
        assert datetime.fromisoformat(written) == checkpoint.written.replace(microsecond=0)
        assert written.endswith("+05:45")
        assert names == (["latest"] if checkpoint.number == 3 else [])


def test_a_damaged_latest_checkpoint_does_not_hide_the_others(copy: Path) -> None:
    latest = dqlearn.runs.checkpoints(copy)[0]
    (copy / "snapshots" / latest.snapshot).write_bytes(b"")
    left = [line.split() for line in done("runs", "list", copy)[1:]]
    assert [(number, names) for number, _, _, _, *names in left] == [
        ("2", []),
        ("1", []),
        ("0", []),
    ]
    damaged = run("runs", "info", copy)
    assert (damaged.exit_code, damaged.stdout) == (1, "")
    assert re.fullmatch("Error: checkpoint 'latest' of .* cannot be read: .*\n", damaged.stderr)
    there = done("runs", "info", copy, "--at", "previous")
    assert any(line.endswith("40,960 transitions in 10 rounds") for line in there)


def test_info(torus: Path) -> None:
    latest, second = (
        dict(re.split(r"  +", line, maxsplit=1) for line in done("runs", "info", torus, *at))
        for at in ([], ["--at", "1"])
    )
    assert latest["table"] == second["table"] == "256 states x 4 actions, float32"
    assert latest["learned from"] == "49,152 transitions in 12 rounds"
    assert second["learned from"] == "20,480 transitions in 5 rounds"
    visited = 100 * float((dqlearn.open_table(torus, at=1)["visits"] > 0).mean())
    assert second["visited pairs"] == f"{visited:.4g}% of 1,024"
    assert re.fullmatch(r"3, written \S+, latest", latest["checkpoint"])
    assert re.fullmatch(r"1, written \S+", second["checkpoint"])
    assert latest["checkpoints"] == "4"
    assert latest["environment"] == "dqlearn/Torus-v0 side=16"
    assert latest["epsilon"] == "linear:1.0:0.1:500000"
    assert latest["checkpoint_every"] == "5r"
    assert latest["keep_checkpoints"] == "9"
    assert latest["restart_envs"] == "False"


def test_tags(copy: Path) -> None:
    assert done("runs", "tag", copy, "before-change", "--at", 1) == [
        "Checkpoint 1 is before-change"
    ]
    assert done("runs", "tag", copy, "second") == ["Checkpoint 3 is second"]
    for name in ("second", "latest"):
        taken = run("runs", "tag", copy, name, "--at", 2)
        assert (taken.exit_code, taken.stdout) == (1, "")
        assert taken.stderr == f"Error: the name {name!r} is taken: choose another\n"
    lines = done("runs", "list", copy)
    assert lines[1].endswith("  latest, second")
    assert lines[3].endswith("  before-change")
    there = done("runs", "info", copy, "--at", "before-change")
    assert any(re.fullmatch(r"checkpoint +1, written \S+, before-change", line) for line in there)

    assert done("runs", "untag", copy, "second") == ["No checkpoint is second any more"]
    gone = run("runs", "info", copy, "--at", "second")
    assert (gone.exit_code, gone.stdout) == (1, "")
    assert "got 'second'" in gone.stderr
    again = run("runs", "tag", copy, "second")
    assert (again.exit_code, again.stdout, again.stderr.count("\n")) == (1, "", 1)


def test_expire(copy: Path) -> None:
    done("runs", "tag", copy, "kept", "--at", 1)
    before = size(copy)
    deleted, freed = done("runs", "expire", copy, "--keep", 3)
    assert deleted == "Checkpoints deleted: 1, left: 3"
    assert numbers(copy) == [3, 2, 1]
    n_bytes = int(re.fullmatch(r"Freed ([\d,]+) bytes \(.*\)", freed)[1].replace(",", ""))
    assert 0 < n_bytes <= before
    assert size(copy) < before

    assert done("runs", "expire", copy, "--older-than", "7d")[1] == "Freed 0 bytes (0 B)"
    done("runs", "expire", copy, "--older-than", "0s")
    assert {1, 3} <= {*numbers(copy)}  # the one has a name, the other is the latest
    done("runs", "untag", copy, "kept")
    done("runs", "expire", copy, "--older-than", "0s")
    assert 1 not in numbers(copy)
    done("resume", copy, "--timesteps", 13 * ROUND, "--quiet")
    assert numbers(copy)[:2] == [4, 3]


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_export(copy: Path, tmp_path: Path) -> None:
    done("runs", "tag", copy, "second", "--at", 1)
    for at in ("latest", "0", "second"):
        out = tmp_path / f"{at}.zarr"
        said = done("runs", "export", copy, out, "--at", at)
        assert said == [f"Table: {out} (256 states x 4 actions)"]
        there = dqlearn.open_table(copy, at=int(at) if at.isdecimal() else at)
        assert xr.open_zarr(out).identical(there)
    assert "49,152 transitions in 12 rounds" in "".join(done("info", tmp_path / "latest.zarr"))

    again = run("runs", "export", copy, tmp_path / "0.zarr", "--at", "second")
    assert (again.exit_code, again.stdout) == (1, "")
    assert "pass --overwrite to replace it" in again.stderr
    done("runs", "export", copy, tmp_path / "0.zarr", "--at", "second", "--overwrite")
    assert xr.open_zarr(tmp_path / "0.zarr").attrs["timesteps"] == 5 * ROUND


def test_an_exported_table_is_a_table_like_any_other(torus: Path, tmp_path: Path) -> None:
    done("runs", "export", torus, tmp_path / "q.zarr")
    played = [
        done("evaluate", path, "--episodes", 50, "--seed", 7)
        for path in (torus, tmp_path / "q.zarr", torus.parent / "q.zarr")
    ]
    assert played[0] == played[1] == played[2]
    learner = dqlearn.load(tmp_path / "q.zarr")
    assert learner.num_timesteps == 12 * ROUND
    learner.learn(13 * ROUND)
    assert int(learner.table.visits.sum().compute()) == learner.num_timesteps == 13 * ROUND


def test_uneven_chunks_are_exported(tmp_path: Path) -> None:
    learner = dqlearn.QLearner(
        "dqlearn/Torus-v0", num_envs=64, env_kwargs={"side": 16}, chunks=((100, 30, 126), (1, 3))
    )
    learner.learn(10_000, store=tmp_path / "run")
    done("runs", "export", tmp_path / "run", tmp_path / "q.zarr")
    learner.save(tmp_path / "saved.zarr")
    exported, saved = (xr.open_zarr(tmp_path / name) for name in ("q.zarr", "saved.zarr"))
    assert exported.drop_attrs().equals(saved.drop_attrs())
    assert exported["q"].encoding["chunks"] == (126, 3)
    assert dqlearn.load(tmp_path / "q.zarr").num_timesteps == learner.num_timesteps


def test_evaluate_plays_with_the_checkpoint_asked_for(torus: Path) -> None:
    means = set()
    for at in (0, 3):
        said = done("evaluate", torus, "--at", at, "--episodes", 50, "--seed", 7, "--max-steps", 99)
        played = dqlearn.resume(torus, at).evaluate(50, seed=7, max_steps=99)
        assert said[-1] == f"Mean length: {played.mean_length:.6g} transitions"
        means.add(played.mean_length)
    assert len(means) == 2


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("train Taxi-v4 --timesteps 9", "Missing option '--out' or '--store'"),
        ("train Taxi-v4 --timesteps 9 --out q --checkpoint-every 1r", "--checkpoint-every is of"),
        ("train Taxi-v4 --timesteps 9 --out q --keep-checkpoints 1", "--keep-checkpoints is of"),
        ("train Taxi-v4 --timesteps 9 --out q --restart-envs", "--restart-envs is of checkpoints"),
        ("train Taxi-v4 --timesteps 9 --store r --checkpoint-every 5m", "60s, 5min or 2h"),
        ("train Taxi-v4 --timesteps 9 --store r --keep-checkpoints 0", "0 is not in the range"),
        ("train Taxi-v4 --timesteps 9 --store r --out r", "must be apart"),
        ("train Taxi-v4 --timesteps 9 --store r --out r/q.zarr", "must be apart"),
        ("train Taxi-v4 --timesteps 9 --store r/run --out r", "must be apart"),
        ("resume r", "Missing option '--timesteps'"),
        ("resume r --timesteps 9 --workers 1 --scheduler tcp://host:8786", "choose"),
        ("runs expire r", "give one of --keep and --older-than"),
        ("runs expire r --keep 1 --older-than 1d", "give one of --keep and --older-than"),
        ("runs expire r --older-than 7", "expected a time such as 90s, 30min, 36h or 7d"),
        ("runs tag r 12", "that is no number, got '12'"),
        ("runs export r r/q.zarr", "must be apart"),
        ("evaluate r --at 3", "--at is of runs: there is no run at 'r'"),
    ],
)
def test_wrong_usage(
    arguments: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert complaint in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "what",
    [
        *("resume RUN --timesteps 9", "evaluate RUN", "runs list RUN", "runs info RUN"),
        *("runs tag RUN a", "runs untag RUN a", "runs expire RUN --keep 1", "runs export RUN OUT"),
    ],
)
def test_what_is_no_run_is_refused(
    what: str, torus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("important")
    for path in ("missing", "notes.txt", str(tmp_path), "nowhere://run"):
        words = {"RUN": path, "OUT": str(torus.parent / "never.zarr")}
        result = run(*(words.get(word, word) for word in what.split()))
        assert (result.exit_code, result.stdout) == (1, "")
        assert re.fullmatch(r"Error: .+\n", result.stderr)
        assert "run" in result.stderr
    assert [child.name for child in tmp_path.iterdir()] == ["notes.txt"]
    assert not (torus.parent / "never.zarr").exists()


@pytest.mark.parametrize(
    ("what", "complaint"),
    [
        ("resume RUN --timesteps 9 --at 99", "expected a checkpoint of"),
        ("evaluate RUN --at best", "expected a checkpoint of"),
        ("runs info RUN --at nothing", "got 'nothing'"),
        ("runs tag RUN a --at 99", "got 99"),
        ("runs export RUN q.zarr --at 99", "got 99"),
        ("runs untag RUN a", "there is no tag 'a'"),
        ("train Taxi-v4 --timesteps 9 --store RUN", "there is a run at"),
        ("train Taxi-v4 --timesteps 9 --store RUN/../q.zarr", "expected a run's repository"),
        ("train Taxi-v4 --timesteps 9 --store new --restart-envs", "pass checkpoint_every"),
    ],
)
def test_an_error_is_one_line(
    what: str, complaint: str, torus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*what.replace("RUN", str(torus)).split())
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(f"Error: .*{re.escape(complaint)}.*\n", result.stderr)
    assert not list(tmp_path.iterdir())
    assert numbers(torus) == [3, 2, 1, 0]


def test_info_of_a_run_shows_the_way(torus: Path) -> None:
    result = run("info", torus)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "look at it by dqlearn runs info" in result.stderr


def test_two_do_not_write_to_one_run(copy: Path) -> None:
    release = store_of(copy).lock()
    try:
        for arguments in (
            ("resume", copy, "--timesteps", 20 * ROUND),
            ("runs", "expire", copy, "--keep", 1),
        ):
            result = run(*arguments)
            assert (result.exit_code, result.stdout) == (1, "")
            assert re.fullmatch("Error: another run writes to .*\n", result.stderr)
        assert len(done("runs", "list", copy)) == 5  # looking is no disturbance
    finally:
        release()
    assert numbers(copy) == [3, 2, 1, 0]


def test_older_checkpoints_go_while_it_learns(tmp_path: Path) -> None:
    store = ("--store", tmp_path / "run", "--checkpoint-every", "4096", "--keep-checkpoints", 2)
    done("train", *TORUS, "--timesteps", 9 * ROUND, *store, "--quiet")
    assert numbers(tmp_path / "run") == [9, 8]
    written = [checkpoint.written for checkpoint in dqlearn.runs.checkpoints(tmp_path / "run")]
    assert timedelta(0) < written[0] - written[1]
