"""Runs that are kept in a repository: resumed as if nothing had happened, and looked at meanwhile.

What happens to a repository whose disk, process or bytes fail is in `test_store_faults`.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import dask
import gymnasium
import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr
from distributed import Client, LocalCluster
from zarr.codecs import Crc32cCodec

import dqlearn
from dqlearn import EvaluationResult, Every, QLearner, TabularEnv, open_history, open_table
from dqlearn.callbacks import Callback, EvalCallback
from dqlearn.envs.problems.torus import torus
from dqlearn.errors import (
    ConfigurationError,
    DamagedChunkError,
    IncompatibleTableError,
    NoCheckpointError,
    RunInUseError,
    StoreError,
)
from dqlearn.events import Checkpoint, Evaluation, RoundEnd
from dqlearn.random import bernoulli, integers, uniform
from dqlearn.runs import checkpoints, expire, tag, untag
from dqlearn.schedules import Linear

ROUND = 128 * 8
EVERY_3 = Every(rounds=3)


def walk(**settings: Any) -> QLearner:
    """Return a learner of a torus of 1024 states in 4 chunks, rounds of 1024 transitions."""
    defaults = {
        "num_envs": 128,
        "shards": 2,
        "steps_per_round": 8,
        "chunks": (256, 4),
        "epsilon": Linear(1.0, 0.1, 20 * ROUND),
        "seed": 7,
    }
    kwargs = {"side": 32, "max_episode_steps": 40}
    return QLearner("dqlearn/Torus-v0", env_kwargs=kwargs, **(defaults | settings))


def lake(**settings: Any) -> QLearner:
    """Return a learner of Gymnasium's lake: Python environments, rounds of 1024 transitions."""
    defaults = {"num_envs": 8, "shards": 2, "steps_per_round": 128, "chunks": (8, 4), "seed": 7}
    return QLearner("FrozenLake8x8-v1", compile=False, **(defaults | settings))


def assert_same(learner: QLearner, other: QLearner) -> None:
    """Compare tables, histories and counters, all to the bit."""
    tables = [dask.compute(each.table.q, each.table.visits) for each in (learner, other)]
    for ours, theirs in zip(*tables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert learner.num_timesteps == other.num_timesteps
    histories = [each.history.drop_vars("wall_time") for each in (learner, other)]
    xr.testing.assert_identical(*histories)


def rounds(store: Path) -> list[int]:
    """Return the rounds of a run's checkpoints, the oldest first."""
    return [info.round for info in reversed(checkpoints(store))]


def visits(store: Path, at: str | int = "latest") -> int:
    """Count what the pairs of a checkpoint were updated."""
    return int(open_table(store, at)["visits"].sum())


def arrays(store: Path, at: int) -> zarr.Group:
    """Open a checkpoint without dqlearn."""
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(store)))
    (info,) = (info for info in checkpoints(store) if info.number == at)
    return zarr.open_group(repo.readonly_session(snapshot_id=info.snapshot).store, mode="r")


def files(store: Path, part: str = "") -> dict[str, int]:
    """Return the files of a repository, or of a part of it, and their sizes."""
    return {
        str(path.relative_to(store)): path.stat().st_size
        for path in (store / part).rglob("*")
        if path.is_file()
    }


class Told(Callback):
    """Keeps what it is told of checkpoints."""

    every_rounds = None

    def __init__(self) -> None:
        self.events: list[Checkpoint] = []

    def on_checkpoint(self, event: Checkpoint) -> None:
        """Keep it."""
        self.events.append(event)


class Scores(Callback):
    """Tells of evaluations whose means are written down, by the table's round."""

    def __init__(self, means: dict[int, float]) -> None:
        self.means = means

    def on_round_end(self, event: RoundEnd) -> None:
        """Tell of one."""
        round_ = event.report.round + 1
        if round_ in self.means:
            result = EvaluationResult(np.array([self.means[round_]]), np.array([1]), 0)
            event.learner.emit(Evaluation(event.learner, round_, event.report.timesteps, result))


# the same bits


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"policy_lag": 1, "dtype": "float64"},
        {"policy_lag": 1, "chunks": ((100, 600, 1, 323), (3, 1)), "shards": 3},
        {"chunks": ((900, 124), (1, 3)), "dtype": "float64", "initial_value": 0.5},
        {"chunks": (300, 3), "num_envs": 127, "learning_rate": Linear(0.5, 0.1, 10 * ROUND)},
    ],
    ids=["aligned", "lag", "lag, uneven", "uneven", "last chunks smaller"],
)
def test_resumed_as_undisturbed(settings: Any, tmp_path: Path) -> None:
    """From the end of a call, and from a checkpoint in its middle."""
    n = settings.get("num_envs", 128) * 8
    undisturbed = walk(**settings).learn(11 * n)
    walk(**settings).learn(7 * n, store=tmp_path / "run", checkpoint_every=EVERY_3)
    assert rounds(tmp_path / "run") == [0, 3, 6, 7]
    for at in ("latest", 2):
        resumed = dqlearn.resume(tmp_path / "run", at)
        assert resumed.num_timesteps == (7 * n if at == "latest" else 3 * at * n)
        assert_same(resumed.learn(11 * n), undisturbed)
        assert_same(dqlearn.resume(tmp_path / "run"), undisturbed)


@pytest.mark.parametrize("policy_lag", [0, 1])
def test_python_environments_that_restart(policy_lag: int, tmp_path: Path) -> None:
    """They are no data; where the undisturbed run lets them begin anew as well, bits are equal."""
    saving = {"checkpoint_every": Every(rounds=2), "restart_envs": True}
    undisturbed = lake(policy_lag=policy_lag).learn(8 * ROUND, store=tmp_path / "run", **saving)
    resumed = dqlearn.resume(tmp_path / "run", at=2)
    assert resumed.num_timesteps == 4 * ROUND
    assert_same(resumed.learn(8 * ROUND), undisturbed)
    assert rounds(tmp_path / "run") == [0, 2, 4, 6, 8]


def test_python_environments_that_do_not_restart(tmp_path: Path) -> None:
    """The table is that of the checkpoint; their episodes begin anew."""
    learner = lake().learn(4 * ROUND, store=tmp_path / "run")
    resumed = dqlearn.resume(tmp_path / "run")
    assert_same(resumed, learner)
    resumed.learn(6 * ROUND)
    assert int(resumed.table.visits.sum()) == resumed.num_timesteps == 6 * ROUND


@pytest.mark.cluster
def test_to_and_from_a_cluster(tmp_path: Path, client: Client) -> None:
    """Workers write what they hold and read what they will hold; the bits are those of threads."""
    store, settings = tmp_path / "run", {"policy_lag": 1, "chunks": ((500, 524), (4,))}
    with dask.config.set(scheduler="threads"):
        undisturbed = walk(**settings).learn(12 * ROUND)
        walk(**settings).learn(4 * ROUND, store=store, checkpoint_every=EVERY_3)
    dqlearn.resume(store).learn(8 * ROUND)
    assert int(client.compute(open_table(store)["visits"].data.sum()).result()) == 8 * ROUND
    with dask.config.set(scheduler="threads"):
        assert_same(dqlearn.resume(store).learn(12 * ROUND), undisturbed)


@pytest.mark.cluster
def test_python_environments_move_to_a_cluster(tmp_path: Path, local_cluster: LocalCluster) -> None:
    """In the same process their episodes go on, with a store as without one."""
    undisturbed, learner = lake().learn(6 * ROUND), lake().learn(4 * ROUND, store=tmp_path / "run")
    with Client(local_cluster):
        assert_same(learner.learn(6 * ROUND), undisturbed)


def test_when_is_decided_by_the_run_alone(tmp_path: Path) -> None:
    """However it is cut into calls, besides those at the calls' ends."""
    walk().learn(10 * ROUND, store=tmp_path / "one", checkpoint_every=4 * ROUND)
    pieces = walk().learn(2 * ROUND, store=tmp_path / "two", checkpoint_every=4 * ROUND)
    for n in (5, 7, 10):
        pieces.learn(n * ROUND)
    assert rounds(tmp_path / "one") == [0, 4, 8, 10]
    assert rounds(tmp_path / "two") == [0, 2, 4, 5, 7, 8, 10]


# other processes

MODEL = """
from dqlearn import TabularEnv
from dqlearn.random import integers

def initial(key, params):
    return integers(key, 0, 50)

def transition(state, action, key, params):
    after = (state + action + integers(key, 0, 3)) % 50
    return after, {reward}, after == 0

walk = TabularEnv(50, 2, initial, transition, max_episode_steps=30)
"""
BEGIN = """
import sys, ring
from dqlearn import QLearner
QLearner(ring.walk, num_envs=64, shards=2, steps_per_round=4, seed=3).learn(1024, store=sys.argv[1])
"""


def run(code: str, *args: Path, path: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a process that finds modules in a folder."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a module, ring.py, and a run of its model that another process made."""
    folder = tmp_path_factory.mktemp("ring")
    (folder / "ring.py").write_text(MODEL.format(reward="float(state)"))
    done = run(BEGIN, folder / "run", path=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_opened_without_the_environment(ring: Path) -> None:
    """Its module is not imported, nor could it be."""
    opened = open_table(ring / "run")
    assert int(opened["visits"].sum()) == opened.attrs["timesteps"] == 1024
    assert "ring" not in sys.modules
    with pytest.raises(IncompatibleTableError, match=r"module 'ring', which would be imported"):
        dqlearn.resume(ring / "run")
    with pytest.raises(IncompatibleTableError, match=r"module 'ring', which cannot be imported"):
        dqlearn.resume(ring / "run", trust="ring")


@pytest.fixture
def forgets_ring() -> Iterator[None]:
    """Let a test import ring, from the folder that it likes."""
    yield
    sys.modules.pop("ring", None)


def test_resumed_in_a_new_process(
    ring: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgets_ring: None
) -> None:
    """The model is imported from its module, by name, and the bits are those of one process."""
    store = shutil.copytree(ring / "run", tmp_path / "run")
    monkeypatch.syspath_prepend(ring)
    resumed = dqlearn.resume(store, trust=["ring"]).learn(2048)
    model = importlib.import_module("ring").walk
    settings = {"num_envs": 64, "shards": 2, "steps_per_round": 4, "seed": 3}
    assert_same(resumed, QLearner(model, **settings).learn(2048))


def test_a_model_that_was_changed(
    ring: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgets_ring: None
) -> None:
    """It would not go on to the same end: refused, and the run stays as it is."""
    (tmp_path / "ring.py").write_text(MODEL.format(reward="1.0 + state"))
    before = files(ring / "run")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(IncompatibleTableError, match="functions, params or limits differ"):
        dqlearn.resume(ring / "run", trust=["ring"])
    assert files(ring / "run") == before


def test_an_environment_that_is_passed_again(tmp_path: Path) -> None:
    """What has no name to be made by is the user's to pass; another one is refused."""
    settings = {"num_envs": 64, "shards": 2, "steps_per_round": 4}
    undisturbed = QLearner(torus(side=9), **settings).learn(2048)
    QLearner(torus(side=9), **settings).learn(1024, store=tmp_path / "run")
    with pytest.raises(IncompatibleTableError, match="pass env="):
        dqlearn.resume(tmp_path / "run")
    for other in (torus(side=9, slip=0.2), torus(side=9, max_episode_steps=3)):
        with pytest.raises(IncompatibleTableError, match="functions, params or limits differ"):
            dqlearn.resume(tmp_path / "run", env=other)
    with pytest.raises(IncompatibleTableError, match="observation space"):
        dqlearn.resume(tmp_path / "run", env=torus(side=8))
    assert_same(dqlearn.resume(tmp_path / "run", env=torus(side=9)).learn(2048), undisturbed)


def test_a_factory_that_is_passed_again(tmp_path: Path) -> None:
    """A factory cannot be stored, nor compared; its table opens without it."""

    def make() -> gymnasium.Env[Any, Any]:
        return gymnasium.make("FrozenLake-v1")

    QLearner(make, num_envs=8, shards=2, steps_per_round=4).learn(64, store=tmp_path / "run")
    assert visits(tmp_path / "run") == 64
    with pytest.raises(IncompatibleTableError, match="pass env="):
        dqlearn.resume(tmp_path / "run")
    assert dqlearn.resume(tmp_path / "run", env=make).learn(128).num_timesteps == 128
    assert visits(tmp_path / "run") == 128


# looking


@pytest.mark.parametrize("chunks", [(256, 4), ((100, 600, 1, 323), (3, 1))], ids=["even", "uneven"])
def test_the_table_is_the_learners(chunks: Any, tmp_path: Path) -> None:
    """Values, labels and attributes; what it says besides is of the checkpoint."""
    learner = walk(chunks=chunks).learn(6 * ROUND, store=tmp_path / "run")
    opened, live = open_table(tmp_path / "run"), learner.table.to_xarray()
    xr.testing.assert_identical(opened.load().drop_attrs(deep=False), live.drop_attrs(deep=False))
    assert opened.attrs.items() >= live.attrs.items()
    assert opened.attrs["checkpoint"] == 1
    assert dqlearn.unfold(opened)["q"].shape == (32, 32, 4)


def test_the_table_is_lazy(tmp_path: Path) -> None:
    """Nothing but the chunks that are asked for is read: not even those that are gone matter."""
    walk().learn(3 * ROUND, store=tmp_path / "run")
    for path in (tmp_path / "run" / "chunks").iterdir():
        path.unlink()
    opened = open_table(tmp_path / "run")
    assert opened["q"].chunks == ((256,) * 4, (4,))
    assert opened["value"].chunks == ((256,) * 4,)
    with pytest.raises(DamagedChunkError):
        opened["q"][300].compute()
    assert int(open_table(tmp_path / "run", 0)["visits"][300].sum()) == 0


def test_opened_while_the_run_goes_on(tmp_path: Path) -> None:
    """From the first checkpoint on there is always a whole one, of one round."""
    store, seen = tmp_path / "run", []

    def look(event: RoundEnd) -> None:
        if event.report.round < 2:  # the second checkpoint waits for the first one's end
            return
        opened = open_table(store).load()
        seen.append(opened.attrs["round"])
        assert opened.attrs["timesteps"] == opened.attrs["round"] * ROUND
        assert int(opened["visits"].sum()) == opened.attrs["timesteps"]
        assert opened.attrs["round"] <= event.report.round
        assert open_history(store).sizes["round"] >= opened.attrs["round"]

    walk().learn(12 * ROUND, store=store, checkpoint_every=Every(rounds=2), callback=look)
    assert seen == sorted(seen)
    assert len(set(seen)) > 2
    assert visits(store) == 12 * ROUND


def test_history(tmp_path: Path) -> None:
    """That of the learner, until the checkpoint, wall time and all."""
    learner = walk().learn(7 * ROUND, store=tmp_path / "run", checkpoint_every=EVERY_3)
    learner.learn(8 * ROUND)
    xr.testing.assert_identical(open_history(tmp_path / "run"), learner.history)
    earlier = open_history(tmp_path / "run", 2)
    xr.testing.assert_identical(earlier, learner.history.isel(round=slice(6)))
    assert open_history(tmp_path / "run", 0).sizes["round"] == 0
    xr.testing.assert_identical(dqlearn.resume(tmp_path / "run").history, learner.history)


# events, calls


def test_checkpoints_reach_the_callbacks(tmp_path: Path) -> None:
    """Each once, in order, with its number; and then it can be opened."""
    told = Told()
    learner = walk().learn(7 * ROUND, told, store=tmp_path / "run", checkpoint_every=EVERY_3)
    assert [(event.number, event.round) for event in told.events] == [
        (0, 0),
        (1, 3),
        (2, 6),
        (3, 7),
    ]
    for event in told.events:
        assert event.learner is learner
        assert event.path == str(tmp_path / "run")
        assert visits(tmp_path / "run", event.number) == event.timesteps == event.round * ROUND


def test_it_goes_on_in_the_same_store(tmp_path: Path) -> None:
    """Also as often, unless another call says otherwise; and so does a run that is resumed."""
    learner = walk().learn(3 * ROUND, store=tmp_path / "run", checkpoint_every=Every(rounds=2))
    learner.learn(5 * ROUND)
    assert rounds(tmp_path / "run") == [0, 2, 3, 4, 5]
    learner.learn(5 * ROUND)
    assert rounds(tmp_path / "run") == [0, 2, 3, 4, 5]
    dqlearn.resume(tmp_path / "run").learn(7 * ROUND)
    assert rounds(tmp_path / "run") == [0, 2, 3, 4, 5, 6, 7]
    other = dqlearn.resume(tmp_path / "run").learn(10 * ROUND, checkpoint_every=EVERY_3)
    assert rounds(tmp_path / "run")[7:] == [9, 10]
    other.learn(12 * ROUND, store=tmp_path / "run")
    assert rounds(tmp_path / "run")[9:] == [12]


def test_it_goes_on_in_another_store(tmp_path: Path) -> None:
    """Which is whole by itself, however much the first one had of the run already."""
    learner = walk().learn(5 * ROUND, store=tmp_path / "one", checkpoint_every=EVERY_3)
    learner.learn(6 * ROUND, store=tmp_path / "two")
    (tmp_path / "one").rename(tmp_path / "gone")
    assert rounds(tmp_path / "two") == [5, 6]
    assert open_history(tmp_path / "two").sizes["round"] == 6
    assert_same(dqlearn.resume(tmp_path / "two").learn(9 * ROUND), walk().learn(9 * ROUND))


def test_a_loaded_table_goes_on_in_a_store(tmp_path: Path) -> None:
    """The run has its counters, and what a chunk was before it."""
    walk().learn(4 * ROUND).save(tmp_path / "q.zarr")
    undisturbed = dqlearn.load(tmp_path / "q.zarr").learn(8 * ROUND)
    dqlearn.load(tmp_path / "q.zarr").learn(6 * ROUND, store=tmp_path / "run")
    assert visits(tmp_path / "run", 0) == 4 * ROUND
    assert_same(dqlearn.resume(tmp_path / "run").learn(8 * ROUND), undisturbed)


@pytest.mark.parametrize(
    "given", [{"checkpoint_every": 1000}, {"keep_checkpoints": 3}, {"restart_envs": True}], ids=str
)
def test_checkpoints_need_a_store(given: Any) -> None:
    learner = walk()
    with pytest.raises(ConfigurationError, match=rf"store=.*'{next(iter(given))}'"):
        learner.learn(ROUND, **given)
    assert learner.learn(ROUND).num_timesteps == ROUND


def test_restarts_need_equal_rounds(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="checkpoint_every in transitions or rounds"):
        lake().learn(ROUND, store=tmp_path / "run", restart_envs=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("store", [5, "ftp://host/run", b"run"])
def test_what_is_no_store(store: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"store must be|expected a folder"):
        walk().learn(ROUND, store=store)


def test_numbers_may_be_of_numpy(tmp_path: Path) -> None:
    every = Every(rounds=np.int64(2))
    walk().learn(
        4 * ROUND, store=tmp_path / "run", checkpoint_every=every, keep_checkpoints=np.int64(9)
    )
    dqlearn.resume(tmp_path / "run").learn(6 * ROUND)
    assert rounds(tmp_path / "run") == [0, 2, 4, 6]
    assert visits(tmp_path / "run", np.int64(1)) == 2 * ROUND


# one run, one writer


def test_a_store_has_one_run(tmp_path: Path) -> None:
    """A new learner is not let into it; the run that is there is not harmed."""
    walk().learn(3 * ROUND, store=tmp_path / "run")
    before = files(tmp_path / "run")
    with pytest.raises(
        StoreError, match=r"there is a run at .*dqlearn\.resume, or .*another store"
    ):
        walk(seed=8).learn(3 * ROUND, store=tmp_path / "run")
    assert files(tmp_path / "run") == before
    assert_same(dqlearn.resume(tmp_path / "run").learn(5 * ROUND), walk().learn(5 * ROUND))


def test_another_learner_has_written_meanwhile(tmp_path: Path) -> None:
    """The one that comes too late is told; what was written stays."""
    walk().learn(3 * ROUND, store=tmp_path / "run")
    first, second = (dqlearn.resume(tmp_path / "run") for _ in range(2))
    first.learn(5 * ROUND)
    with pytest.raises(RunInUseError, match=r"checkpoint 1 to be the latest .*dqlearn\.resume"):
        second.learn(6 * ROUND)
    assert rounds(tmp_path / "run") == [0, 3, 5]
    assert_same(first.learn(7 * ROUND), walk().learn(7 * ROUND))
    assert_same(dqlearn.resume(tmp_path / "run"), first)


@pytest.mark.parametrize("at", [1, 2], ids=["earlier", "latest"])
def test_another_learner_has_written_since_one_went_back(at: int, tmp_path: Path) -> None:
    """What is given up is what was there then, not what came since."""
    walk().learn(6 * ROUND, store=tmp_path / "run", checkpoint_every=EVERY_3)
    first, second = (dqlearn.resume(tmp_path / "run", at) for _ in range(2))
    first.learn(8 * ROUND)
    before = files(tmp_path / "run")
    with pytest.raises(RunInUseError, match=rf"checkpoint {at} to be the latest .*dqlearn\.resume"):
        second.learn(7 * ROUND)
    assert files(tmp_path / "run") == before
    assert_same(first.learn(9 * ROUND), walk().learn(9 * ROUND))
    assert_same(dqlearn.resume(tmp_path / "run"), first)


WAITS = """
import sys, dqlearn

def wait(event):
    if event.report.round == 4:
        print("ready", flush=True)
        sys.stdin.readline()

dqlearn.resume(sys.argv[1]).learn(6 * 1024, callback=wait)
"""


@contextmanager
def another_process(store: Path) -> Iterator[subprocess.Popen[str]]:
    """Yield a process in the middle of a run; it goes on when it is sent a line."""
    command = [sys.executable, "-c", WAITS, str(store)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def test_another_process_holds_the_run(tmp_path: Path) -> None:
    """Nobody else writes, by whatever name, and anybody reads; that run ends as it would have."""
    store, link = tmp_path / "run", tmp_path / "link"
    walk().learn(3 * ROUND, store=store, checkpoint_every=EVERY_3)
    link.symlink_to(store)
    with another_process(store) as process:
        for use in (
            lambda: dqlearn.resume(store).learn(6 * ROUND),
            lambda: dqlearn.resume(link).learn(6 * ROUND),
            lambda: walk().learn(6 * ROUND, store=store),
            lambda: expire(store, keep_last=1),
        ):
            with pytest.raises(RunInUseError, match="another run writes to"):
                use()
        assert visits(store) == 3 * ROUND
        process.communicate("go on\n", timeout=60)
        assert process.returncode == 0
    assert rounds(store) == [0, 3, 6]
    assert_same(dqlearn.resume(store).learn(9 * ROUND), walk().learn(9 * ROUND))


# names, expiry


def test_tags(tmp_path: Path) -> None:
    """They find their checkpoint, also after the run went back beyond it."""
    store = tmp_path / "run"
    walk().learn(9 * ROUND, store=store, checkpoint_every=EVERY_3)
    tag(store, "good", at=2)
    tag(store, "better")
    assert [info.tags for info in checkpoints(store)] == [("better",), ("good",), (), ()]
    dqlearn.resume(store, at=1).learn(4 * ROUND)
    assert [(info.number, info.tags) for info in checkpoints(store)] == [
        (3, ("better",)),
        (2, ()),
        (2, ("good",)),
        (1, ()),
        (0, ()),
    ]
    assert [visits(store, at) for at in ("better", "good", "latest", 2)] == [
        n * ROUND for n in (9, 6, 4, 4)
    ]
    assert_same(dqlearn.resume(store, at="good").learn(8 * ROUND), walk().learn(8 * ROUND))
    untag(store, "better")
    for at in ("better", 4, "best", -1):
        with pytest.raises(NoCheckpointError, match="expected a checkpoint of"):
            open_table(store, at)
    with pytest.raises(NoCheckpointError, match="no tag 'better'"):
        untag(store, "better")


@pytest.mark.parametrize(
    "name", ["good", "latest", "previous", "best", "main", "", "a/b", "7", ".."]
)
def test_what_is_no_name(name: str, tmp_path: Path) -> None:
    walk().learn(ROUND, store=tmp_path / "run")
    tag(tmp_path / "run", "good")
    before = files(tmp_path / "run")
    with pytest.raises(StoreError, match="name"):
        tag(tmp_path / "run", name, at=0)
    assert files(tmp_path / "run") == before


def test_best(tmp_path: Path) -> None:
    """It points to the checkpoint of the round with the best evaluation, over resumes too."""
    store = tmp_path / "run"
    walk().learn(7 * ROUND, Scores({2: 1.0, 4: 3.0, 6: 2.0}), store=store)
    assert rounds(store) == [0, 2, 4, 7]
    assert visits(store, "best") == 4 * ROUND
    dqlearn.resume(store).learn(9 * ROUND, Scores({8: 2.5}))
    assert visits(store, "best") == 4 * ROUND
    dqlearn.resume(store).learn(12 * ROUND, Scores({11: 3.5}))
    assert visits(store, "best") == 11 * ROUND
    assert [info.round for info in checkpoints(store) if "best" in info.tags] == [11]
    assert dqlearn.resume(store, "best").num_timesteps == 11 * ROUND


def test_best_of_real_evaluations(tmp_path: Path) -> None:
    callback = EvalCallback(every_rounds=2, n_eval_episodes=20, seed=1)
    walk().learn(12 * ROUND, callback, store=tmp_path / "run")
    assert callback.best is not None
    best = open_table(tmp_path / "run", "best")
    assert best.attrs["round"] == callback.best.round
    assert best.attrs["best_mean"] == callback.best.result.mean


def test_expire(tmp_path: Path) -> None:
    """What has a name stays, whole; what goes makes room."""
    store = tmp_path / "run"
    walk().learn(8 * ROUND, Scores({4: 1.0}), store=store, checkpoint_every=Every(rounds=1))
    tag(store, "good", at=2)
    before = sum(files(store).values())
    assert expire(store, older_than=timedelta(days=1)) == 0
    assert sum(files(store).values()) == before
    freed = expire(store, keep_last=3)
    assert rounds(store) == [2, 4, 6, 7, 8]
    noted = 500  # bytes at most that expiry itself writes down
    assert sum(files(store).values()) <= before - freed + noted < 0.7 * before
    for n in rounds(store):
        assert visits(store, n) == n * ROUND
    assert visits(store, "good") == 2 * ROUND
    assert visits(store, "best") == 4 * ROUND
    expire(store, older_than=timedelta(0))
    assert {"good", "best"} == {name for info in checkpoints(store) for name in info.tags}
    assert len(checkpoints(store)) <= 4
    assert_same(dqlearn.resume(store, "good").learn(10 * ROUND), walk().learn(10 * ROUND))


@pytest.mark.parametrize(
    "given",
    [{}, {"keep_last": 0}, {"keep_last": 1, "older_than": timedelta(1)}, {"keep_last": 2.5}],
    ids=str,
)
def test_what_is_no_expiry(given: Any, tmp_path: Path) -> None:
    walk().learn(ROUND, store=tmp_path / "run")
    with pytest.raises(ConfigurationError, match="keep_last"):
        expire(tmp_path / "run", **given)
    assert rounds(tmp_path / "run") == [0, 1]


def test_a_run_keeps_few_checkpoints(tmp_path: Path) -> None:
    """What they leave behind does not pile up, however long it learns."""
    learner, n_files = walk(), []
    for n in range(1, 15):
        learner.learn(n * ROUND, store=tmp_path / "run", keep_checkpoints=2)
        n_files.append(len(files(tmp_path / "run")))
    assert rounds(tmp_path / "run") == [13, 14]
    assert max(n_files) < 3 * n_files[0]
    assert_same(dqlearn.resume(tmp_path / "run").learn(16 * ROUND), walk().learn(16 * ROUND))


# what is written

STATES = 512  # of a chunk


def descent(n_chunks: int) -> TabularEnv:
    """Return a model of walks from the last chunk of states down to the first, where they stay."""

    def initial(key: Any, params: Any) -> Any:
        return (n_chunks - 1) * STATES + integers(key, 0, STATES)

    def transition(state: Any, action: Any, key: Any, params: Any) -> Any:
        chunk = state // STATES
        if chunk > 0 and bernoulli(key, 0, 1 / 32):
            chunk -= 1
        return chunk * STATES + integers(key, 1, STATES), uniform(key, 2), False

    return TabularEnv(n_chunks * STATES, 8, initial, transition)


def test_untouched_chunks_are_not_written_again(tmp_path: Path) -> None:
    """A round that stays in 1 % of the chunks adds less than 3 % to what was written before."""
    learner = QLearner(
        descent(100),
        num_envs=256,
        shards=2,
        steps_per_round=4_500,
        chunks=(STATES, 8),
        epsilon=1.0,
    )
    store, n, stored = tmp_path / "run", 256 * 4_500, []
    for total in (0, n, 2 * n):
        learner.learn(total, store=store)
        stored.append(files(store))
    assert rounds(store) == [0, 1, 2]
    counts = [open_table(store, at)["visits"].sum("action").values for at in (1, 2)]
    changed = (counts[0] != counts[1]).reshape(100, STATES).any(axis=1)
    assert np.flatnonzero(changed).tolist() == [0]
    empty, first, second = (sum(sizes.values()) for sizes in stored)
    assert 0 < second - first < 0.03 * (first - empty)
    objects = [{name for name in sizes if name.startswith("chunks")} for sizes in stored]
    assert len(objects[1] - objects[0]) >= 2 * 100
    assert len(objects[2] - objects[1]) <= 2 + 4 * 2  # q and visits; the two shards


def test_what_was_never_learned_is_not_written(tmp_path: Path) -> None:
    """A new run's first checkpoint has no values, whatever they begin with."""
    walk(initial_value=0.5).learn(2 * ROUND, store=tmp_path / "run")
    before, after = arrays(tmp_path / "run", 0), arrays(tmp_path / "run", 1)
    for name in ("q", "visits"):
        assert before[name].nchunks_initialized == 0
        assert after[name].nchunks_initialized == after[name].nchunks == 4
    opened = open_table(tmp_path / "run", 0)
    assert (opened["q"] == 0.5).all()
    assert visits(tmp_path / "run", 0) == 0


def test_values_carry_checksums(tmp_path: Path) -> None:
    walk(policy_lag=1).learn(ROUND, store=tmp_path / "run")
    group = arrays(tmp_path / "run", 1)
    found = [array for _, array in group.members(max_depth=None) if isinstance(array, zarr.Array)]
    assert {"q", "visits"} <= {array.basename for array in found}
    for array in found:
        assert any(isinstance(codec, Crc32cCodec) for codec in array.metadata.codecs), array


def test_attributes_are_json(tmp_path: Path) -> None:
    """Any reader of Zarr can say what the run is."""
    walk().learn(ROUND, store=tmp_path / "run", checkpoint_every=EVERY_3, keep_checkpoints=5)
    attrs = dict(arrays(tmp_path / "run", 1).attrs)
    assert json.loads(json.dumps(attrs)) == attrs
    assert attrs["round"] == 1
    assert attrs["timesteps"] == ROUND
    assert json.loads(attrs["checkpoint_every"]) == {"rounds": 3}
    assert attrs["keep_checkpoints"] == 5
