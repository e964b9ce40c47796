"""Faults of a run's repository, each made for real: a named error, and a run that can go on.

Disks are file systems of their own, in memory; bytes are changed in the files; signals are sent,
and processes killed. What a repository does when all goes well is in `test_runs`.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dask
import icechunk
import numpy as np
import pytest
import zarr
from distributed import Client
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

import dqlearn
from dqlearn import EvaluationResult, Every, QLearner, open_history, open_table
from dqlearn.callbacks import Callback
from dqlearn.errors import (
    CheckpointError,
    ClusterLostError,
    DamagedChunkError,
    DQLearnError,
    IncompatibleTableError,
    NoCheckpointError,
    RunInUseError,
    StoreError,
)
from dqlearn.events import Checkpoint, Evaluation, RoundEnd, TrainingStart
from dqlearn.runs import checkpoints, expire, tag, untag
from dqlearn.storage.icechunk.place import Place, place_of
from dqlearn.storage.icechunk.repository import Repository
from dqlearn.storage.location import store_of
from dqlearn.storage.reader import read_chunk
from dqlearn.storage.schema import arrays_of
from dqlearn.training.checkpointer import Checkpointer
from dqlearn.training.every import Saving

ROUND = 128 * 8


def walk(**settings: Any) -> QLearner:
    """Return a learner of a torus of 1024 states in 4 chunks, rounds of 1024 transitions."""
    defaults = {
        "num_envs": 128,
        "shards": 2,
        "steps_per_round": 8,
        "chunks": (256, 4),
        "seed": 7,
    }
    kwargs = {"side": 32, "max_episode_steps": 40}
    return QLearner("dqlearn/Torus-v0", env_kwargs=kwargs, **(defaults | settings))


def table(learner: QLearner) -> tuple[Any, Any]:
    """Fetch what was learned."""
    return dask.compute(learner.table.q, learner.table.visits)


def assert_undisturbed(learner: QLearner, n: int, **settings: Any) -> None:
    """It has the bits that n rounds make in peace."""
    assert learner.num_timesteps == n * ROUND
    with dask.config.set(scheduler="threads"):
        expected = table(walk(**settings).learn(n * ROUND))
    for ours, theirs in zip(table(learner), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def assert_whole(learner: QLearner) -> int:
    """Check that it is at the end of a round; return that round."""
    assert int(learner.table.visits.sum()) == learner.num_timesteps == learner.table.round * ROUND
    assert learner.history.sizes["round"] == learner.table.round
    return learner.table.round


def assert_readable(store: Path) -> int:
    """Check that every checkpoint is whole; return how many there are."""
    found = checkpoints(store)
    for info in found:
        opened = open_table(store, info.number)
        assert int(opened["visits"].sum()) == info.timesteps == info.round * ROUND
        assert open_history(store, info.number).sizes["round"] == info.round
    return len(found)


def at(round_: int, action: Callable[[], Any]) -> Callable[[RoundEnd], None]:
    """Return a callback that does something at the end of a round."""

    def callback(event: RoundEnd) -> None:
        if event.report.round + 1 == round_:
            action()

    return callback


# disks


@dataclass(frozen=True)
class Disk:
    """A file system in memory.

    Attributes
    ----------
    folder : Path
        Where it is mounted.
    """

    folder: Path

    def mount(self, options: str) -> None:
        """Mount it, or mount it again in another way."""
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.folder],
            check=True,
            capture_output=True,
        )


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A file system of 400 kB, if this process may mount one."""
    (tmp_path / "disk").mkdir()
    disk = Disk(tmp_path / "disk")
    try:
        disk.mount("size=400k")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"file systems can only be mounted by root: {error}")
    yield disk
    subprocess.run(["umount", "--lazy", disk.folder], check=True)


FORBIDDEN = r"Operation not permitted|Permission denied"


@contextmanager
def frozen(folder: Path) -> Iterator[None]:
    """Let nothing be made, changed or removed in a folder; root obeys a file's attributes only."""
    if os.geteuid() != 0:
        mode = folder.stat().st_mode
        folder.chmod(0o555)
        yield
        folder.chmod(mode)
        return
    try:
        subprocess.run(["chattr", "+i", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this file system knows no immutable folders: {error}")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", folder], check=True)


def check_a_full_disk(disk: Disk) -> None:
    """Learn until the disk is full, see that all is well, make room, learn on."""
    store, learner = disk.folder / "run", walk()
    with pytest.raises(CheckpointError, match="No space left on device"):
        learner.learn(40 * ROUND, store=store, checkpoint_every=Every(rounds=1))
    assert 0 < assert_whole(learner) < 40
    n = assert_readable(store)
    assert n >= 1
    with pytest.raises(CheckpointError, match="No space left on device"):
        learner.learn(40 * ROUND)
    made = assert_whole(learner)
    assert made < 40
    assert assert_readable(store) == n
    disk.mount("remount,size=64m")
    assert_undisturbed(learner.learn((made + 2) * ROUND), made + 2)
    assert assert_readable(store) > n
    with dask.config.set(scheduler="threads"):
        assert_undisturbed(dqlearn.resume(store).learn((made + 3) * ROUND), made + 3)


def test_a_full_disk(disk: Disk) -> None:
    check_a_full_disk(disk)


@pytest.mark.slow
@pytest.mark.cluster
def test_a_full_disk_of_the_workers(disk: Disk, client: Client) -> None:
    """Their errors arrive as they are."""
    disk.mount("remount,size=250k")
    check_a_full_disk(disk)


def test_a_disk_that_is_too_small_from_the_beginning(disk: Disk) -> None:
    """What was begun is taken up, when there is room."""
    disk.mount("remount,size=4k")
    learner = walk()
    with pytest.raises(StoreError, match="No space left on device"):
        learner.learn(2 * ROUND, store=disk.folder / "run")
    assert learner.num_timesteps == 0
    disk.mount("remount,size=64m")
    assert_undisturbed(learner.learn(2 * ROUND), 2)
    assert assert_readable(disk.folder / "run") == 2


def test_a_read_only_disk(disk: Disk) -> None:
    """One may look, and resume, but not write; afterwards all is as before."""
    store = disk.folder / "run"
    learner = walk().learn(2 * ROUND, store=store)
    disk.mount("remount,ro")
    assert assert_readable(store) == 2
    resumed = dqlearn.resume(store)
    for use in (
        lambda: learner.learn(4 * ROUND),
        lambda: resumed.learn(4 * ROUND),
        lambda: walk().learn(4 * ROUND, store=disk.folder / "new"),
        lambda: tag(store, "good"),
        lambda: expire(store, keep_last=1),
    ):
        with pytest.raises(StoreError, match="Read-only file system"):
            use()
    assert_undisturbed(resumed, 2)
    disk.mount("remount,rw")
    assert_undisturbed(learner.learn(4 * ROUND), 4)


@pytest.mark.parametrize("part", ["chunks", "manifests", "snapshots", "refs/branch.main"])
def test_a_commit_fails(part: str, tmp_path: Path) -> None:
    """Whatever part of it cannot be written: those before it stay, and learning goes on."""
    store, learner = tmp_path / "run", walk()
    learner.learn(4 * ROUND, store=store, checkpoint_every=Every(rounds=2))
    with (
        frozen(store / part),
        pytest.raises(CheckpointError, match=FORBIDDEN),
    ):
        learner.learn(40 * ROUND)
    made = assert_whole(learner)
    assert 4 <= made < 40
    assert assert_readable(store) == 3
    assert_undisturbed(learner.learn((made + 2) * ROUND), made + 2)
    assert_undisturbed(dqlearn.resume(store), made + 2)


def test_what_follows_a_commit_fails(tmp_path: Path) -> None:
    """The checkpoint is there all the same, and the run goes on from it."""
    store, learner = tmp_path / "run", walk()
    learner.learn(2 * ROUND, Best(2, 1.0), store=store)
    with (
        frozen(store / "refs" / "branch.best"),
        pytest.raises(StoreError, match=FORBIDDEN),
    ):
        learner.learn(6 * ROUND, Best(4, 2.0))
    assert checkpoints(store)[0].round == 4
    assert open_table(store, "best").attrs["round"] == 2
    assert_undisturbed(learner.learn(6 * ROUND), 6)
    assert assert_readable(store) == 4
    assert open_table(store, "best").attrs["round"] == 4


class Best(Callback):
    """Says that a round's table is the best so far."""

    def __init__(self, round_: int, mean: float) -> None:
        self.round, self.mean = round_, mean

    def on_round_end(self, event: RoundEnd) -> None:
        """Say so."""
        if event.report.round + 1 == self.round:
            result = EvaluationResult(np.array([self.mean]), np.array([1]), 0)
            event.learner.emit(
                Evaluation(event.learner, self.round, event.report.timesteps, result)
            )


# bytes


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flipped(path: Path) -> None:
    """Change one bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 8
    path.write_bytes(content)


def missing(path: Path) -> None:
    path.unlink()


LAGGING = {"policy_lag": 1, "num_envs": 1024, "steps_per_round": 1}
"""Shards and batches so wide that Icechunk gives them files of their own."""


def lagging() -> QLearner:
    return walk(**LAGGING)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with checkpoints of rounds 0, 3 and 6."""
    store = tmp_path_factory.mktemp("kept") / "run"
    lagging().learn(6 * ROUND, store=store, checkpoint_every=Every(rounds=3))
    assert assert_readable(store) == 3
    return store


@pytest.fixture
def copy(kept: Path, tmp_path: Path) -> Path:
    """A copy of it, where nobody has looked yet."""
    return shutil.copytree(kept, tmp_path / "run")


def repository(store: Path) -> icechunk.Repository:
    return icechunk.Repository.open(icechunk.local_filesystem_storage(str(store)))


def files_of(store: Path, key: str) -> list[Path]:
    """Return the file that holds a chunk of the latest checkpoint, and others of its content."""
    session = repository(store).readonly_session("main")
    content = sync(session.store.get(key, default_buffer_prototype())).to_bytes()
    found = [path for path in (store / "chunks").iterdir() if path.read_bytes() == content]
    assert found, "it is so small that Icechunk keeps it elsewhere"
    return found


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("visits", flipped),
        *(("q", damage) for damage in (halved, emptied, zeroed, flipped, missing)),
    ],
)
def test_a_damaged_chunk(name: str, damage: Callable[[Path], None], copy: Path) -> None:
    """It is named, never read as something else; other chunks and earlier checkpoints are whole."""
    (path,) = files_of(copy, f"{name}/c/1/0")
    damage(path)
    message = rf"chunk \(1, 0\) of array '{name}' .*checkpoint 2 of .*earlier checkpoint"
    opened = open_table(copy)
    with pytest.raises(DamagedChunkError, match=message):
        opened[name].compute()
    assert np.isfinite(opened[name][:256]).all()
    with pytest.raises(DamagedChunkError, match=message):
        dqlearn.resume(copy).learn(9 * ROUND)
    assert int(open_table(copy, 1)["visits"].sum()) == 3 * ROUND
    assert_undisturbed(dqlearn.resume(copy, at=1).learn(9 * ROUND), 9, **LAGGING)
    assert_undisturbed(dqlearn.resume(copy), 9, **LAGGING)


def test_a_damaged_chunk_among_several(tmp_path: Path) -> None:
    """The table's chunk needs two stored ones; the one that is named is the damaged one."""
    store, learner = tmp_path / "run", walk(chunks=((100, 600, 324), (4,)))
    learner.learn(2 * ROUND, store=store)
    (path,) = files_of(store, "q/c/1/0")
    flipped(path)
    version, grid = store_of(store).find(), learner.table.grid
    assert (grid.chunk_shape(1), grid.origin(1)) == ((600, 4), (100, 0))
    with pytest.raises(DamagedChunkError, match=r"chunk \(1, 0\) of array 'q'"):
        read_chunk(version, grid, 1, np.dtype(np.float32))


@pytest.mark.parametrize("name", ["environments/state", "batches/state"])
def test_damaged_environments(name: str, copy: Path) -> None:
    """A run cannot go on from them; its table can be read."""
    for path in files_of(copy, f"{name}/c/1/0"):
        flipped(path)
    named = r"chunk \(1, 0\) of array '(environments|batches)/(next_)?state'"
    with pytest.raises(DamagedChunkError, match=named):
        dqlearn.resume(copy).learn(9 * ROUND)
    assert int(open_table(copy)["visits"].sum()) == 6 * ROUND
    assert_undisturbed(dqlearn.resume(copy, at=1).learn(9 * ROUND), 9, **LAGGING)


@pytest.mark.cluster
def test_a_damaged_chunk_on_a_cluster(copy: Path, client: Client) -> None:
    """The worker's error arrives as it is."""
    (path,) = files_of(copy, "q/c/3/0")
    flipped(path)
    with pytest.raises(DamagedChunkError, match=r"chunk \(3, 0\) of array 'q'"):
        client.compute(open_table(copy)["q"].data).result()
    with pytest.raises(DamagedChunkError, match=r"chunk \(3, 0\) of array 'q'"):
        dqlearn.resume(copy).learn(9 * ROUND)


def uses(store: Path) -> dict[str, Callable[[], Any]]:
    """Return all that reads or writes a run."""
    return {
        "table": lambda: open_table(store).load(),
        "history": lambda: open_history(store),
        "list": lambda: checkpoints(store),
        "tag": lambda: tag(store, "good"),
        "untag": lambda: untag(store, "good"),
        "resume": lambda: dqlearn.resume(store).learn(7 * ROUND),
        "expire": lambda: expire(store, keep_last=1),
    }


@pytest.mark.parametrize("damage", [halved, emptied, zeroed, missing])
@pytest.mark.parametrize(
    "part", ["snapshots", "manifests", "refs/branch.main", "refs/branch.previous"]
)
def test_damaged_metadata(
    part: str, damage: Callable[[Path], None], kept: Path, copy: Path
) -> None:
    """Whatever file it is, whatever one does: it works, or says what is wrong by name."""
    latest = repository(kept).lookup_branch("main")
    files = [f for f in (kept / part).iterdir() if part != "snapshots" or f.name == latest]
    failed = set()
    for n, file in enumerate(files[:2]):
        for name in uses(copy):
            one = shutil.copytree(kept, copy.with_name(f"{n}-{name}"))
            damage(one / file.relative_to(kept))
            try:
                uses(one)[name]()
            except DQLearnError:
                failed.add(name)
    assert "untag" in failed  # there is no such tag
    if part == "snapshots":
        assert failed >= {"table", "history", "resume", "tag"}


def test_the_checkpoint_before_a_damaged_one(copy: Path) -> None:
    """It is found without the latest, and the run can go on from there."""
    emptied(copy / "snapshots" / repository(copy).lookup_branch("main"))
    with pytest.raises(DamagedChunkError, match=r"at='previous'"):
        open_table(copy)
    with pytest.raises(DamagedChunkError, match=r"at='previous'"):
        dqlearn.resume(copy)
    assert open_table(copy, "previous").attrs["round"] == 3
    assert_undisturbed(dqlearn.resume(copy, "previous").learn(7 * ROUND), 7, **LAGGING)
    assert_undisturbed(dqlearn.resume(copy).learn(8 * ROUND), 8, **LAGGING)


@pytest.mark.parametrize("damage", [emptied, halved, missing])
def test_a_damaged_reference(damage: Callable[[Path], None], copy: Path) -> None:
    """It is one small file; that of the checkpoint before can take its place."""
    damage(copy / "refs/branch.main/ref.json")
    with pytest.raises((StoreError, IncompatibleTableError)):
        dqlearn.resume(copy, "previous")
    shutil.copy(copy / "refs/branch.previous/ref.json", copy / "refs/branch.main/ref.json")
    assert_undisturbed(dqlearn.resume(copy).learn(7 * ROUND), 7, **LAGGING)


def test_no_commit_before_the_last_one_is_on_the_disk(tmp_path: Path) -> None:
    """However slow that is, so that a power cut leaves those before the newest whole."""
    store, seen = tmp_path / "run", []

    class Slow(Place):
        def flush(self) -> None:
            before = repository(store).lookup_branch("main")
            time.sleep(0.2)
            seen.append((before, repository(store).lookup_branch("main")))

    place = place_of(store)
    learner = walk()
    slow = Repository(Slow(place.name, place.storage, place.folder))
    learner._checkpointer = Checkpointer(slow, Saving())
    learner.learn(4 * ROUND, checkpoint_every=Every(rounds=1))
    while len(seen) < 5:
        time.sleep(0.01)
    assert all(before == after for before, after in seen)


def test_edited_attributes(copy: Path) -> None:
    """Whatever one of them says: it is read, or it is said by name that it cannot be."""
    session = repository(copy).readonly_session("main")
    attrs = dict(zarr.open_group(session.store, mode="r").attrs)
    (metadata, *_) = (info.metadata for info in repository(copy).ancestry(branch="main"))
    failed = {use: set() for use in (load, dqlearn.resume)}
    for key in attrs:
        session = repository(copy).writable_session("main")
        zarr.open_group(session.store, mode="r+").attrs.put({**attrs, key: "?"})
        session.commit("edited", metadata=metadata)
        for use, keys in failed.items():
            try:
                use(copy)
            except DQLearnError:
                keys.add(key)
    assert failed[load] >= {"chunks", "action_labels", "seed"}
    assert failed[dqlearn.resume] >= {"environment", "gamma", "checkpoint_every", "policy_lag"}


def load(store: Path) -> None:
    open_table(store).load()


@pytest.mark.parametrize("name", ["checkpoint", "round", "timesteps", "dqlearn"])
def test_a_checkpoint_without_its_numbers(name: str, copy: Path) -> None:
    (metadata, *_) = (info.metadata for info in repository(copy).ancestry(branch="main"))
    session = repository(copy).writable_session("main")
    zarr.open_group(session.store, mode="r+").attrs["edited"] = True
    session.commit("edited", metadata={key: metadata[key] for key in metadata if key != name})
    for use in (open_table, dqlearn.resume):
        with pytest.raises((DamagedChunkError, NoCheckpointError, IncompatibleTableError)):
            use(copy)


# what is no run, or none that is known


def newer(store: Path) -> None:
    """Let a run say that it is of the next format, as its version would say it."""
    walk().learn(2 * ROUND, store=store)
    session = repository(store).writable_session("main")
    group = zarr.open_group(session.store, mode="r+")
    group.attrs["dqlearn_format"] += 1
    (metadata, *_) = (info.metadata for info in repository(store).ancestry(branch="main"))
    session.commit("newer", metadata={**metadata, "dqlearn": metadata["dqlearn"] + 1})


def foreign_repository(store: Path) -> None:
    repo = icechunk.Repository.create(icechunk.local_filesystem_storage(str(store)))
    for _ in range(3):
        session = repo.writable_session("main")
        array = zarr.group(session.store, overwrite=True).create_array("a", shape=9999, dtype="f8")
        array[:] = np.random.default_rng(0).random(9999)
        session.commit("not a run")
    repo.create_tag("precious", repo.lookup_branch("main"))


def foreign_folder(store: Path) -> None:
    store.mkdir()
    (store / "thesis.txt").write_text("...")


def settings_of_another_program(store: Path) -> None:
    """Icechunk has a file of this name too."""
    store.mkdir()
    (store / "config.yaml").write_text("learning_rate: 0.1")


def saved_table(store: Path) -> None:
    walk().learn(ROUND).save(store)


def file(store: Path) -> None:
    store.write_text("...")


def tree(folder: Path) -> str:
    """Hash the names and the contents below a folder."""
    hashed = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        hashed.update(str(path.relative_to(folder)).encode())
        hashed.update(path.read_bytes() if path.is_file() else b"")
    return hashed.hexdigest()


@pytest.mark.parametrize(
    "make",
    [newer, foreign_repository, foreign_folder, settings_of_another_program, saved_table, file],
)
def test_what_is_no_run(make: Callable[[Path], None], tmp_path: Path) -> None:
    """It is refused, and left as it was."""
    store = tmp_path / "here" / "run"
    store.parent.mkdir()
    make(store)
    store.parent.joinpath(".run.lock").unlink(missing_ok=True)
    before, learner = tree(store.parent), walk()
    for use in (
        lambda: open_table(store),
        lambda: open_history(store),
        lambda: dqlearn.resume(store),
        lambda: learner.learn(2 * ROUND, store=store),
        lambda: tag(store, "good"),
        lambda: expire(store, older_than=timedelta(0)),
    ):
        with pytest.raises(
            (IncompatibleTableError, StoreError), match=r"expected|no run|cannot be"
        ):
            use()
        store.parent.joinpath(".run.lock").unlink(missing_ok=True)
    assert tree(store.parent) == before
    assert learner.num_timesteps == 0


def test_no_run_at_all(tmp_path: Path) -> None:
    """Neither where nothing is, nor in an empty folder; nothing is put there."""
    (tmp_path / "empty").mkdir()
    for store in (tmp_path / "empty", tmp_path / "nowhere"):
        for use in (open_table, open_history, dqlearn.resume, checkpoints):
            with pytest.raises(NoCheckpointError, match="there is no run at"):
                use(store)
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_a_run_that_was_only_begun(tmp_path: Path) -> None:
    """A process that dies while it creates a repository, or its arrays, is in nobody's way."""
    for n, store in enumerate((tmp_path / "a", tmp_path / "b")):
        walk().learn(ROUND, store=store)
        begun = list(repository(store).ancestry(branch="main"))[-1 - n]
        if n:  # with arrays, without a checkpoint
            repository(store).reset_branch("main", begun.id)
        else:  # with Icechunk's first snapshot, without a branch
            for path in store.iterdir():
                if path.name != "snapshots":
                    shutil.rmtree(path)
            for path in (store / "snapshots").iterdir():
                if path.name != begun.id:
                    path.unlink()
        with pytest.raises(NoCheckpointError, match=r"no run|no checkpoint yet"):
            dqlearn.resume(store)
        assert_undisturbed(walk().learn(2 * ROUND, store=store), 2)
        assert assert_readable(store) == 2


# what would be executed


class Bomb:
    """A pickle that leaves a file behind when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_nothing_that_is_stored_is_executed(copy: Path, tmp_path: Path) -> None:
    """Pickles among the files, in the attributes, in chunks, and as arrays of objects."""
    fuse, bomb = tmp_path / "fuse", tmp_path / "executed"
    pickled = pickle.dumps(Bomb(bomb))
    pickle.loads(pickle.dumps(Bomb(fuse)))
    assert fuse.exists(), "these pickles work"
    for name in ("q.pkl", "session.pickle", "__init__.py", "chunks/q.pkl", "config.yaml.pkl"):
        (copy / name).write_bytes(pickled)
    for change in ("attributes", "chunk", "objects", "codec"):
        store = shutil.copytree(copy, tmp_path / change)
        session = repository(store).writable_session("main")
        (metadata, *_) = (info.metadata for info in repository(store).ancestry(branch="main"))
        plant(session, change, pickled)
        session.commit("bomb", metadata=metadata)
        for use in (
            lambda: open_table(store).load(),  # noqa: B023
            lambda: open_history(store),  # noqa: B023
            lambda: dqlearn.resume(store).learn(9 * ROUND),  # noqa: B023
        ):
            with suppress(DQLearnError):  # nor need what was changed be read at all
                use()
    assert not bomb.exists()


def plant(session: icechunk.Session, change: str, pickled: bytes) -> None:
    """Put a pickle into a repository."""
    group = zarr.open_group(session.store, mode="r+")
    buffer = default_buffer_prototype().buffer
    text = pickled.decode("latin-1")
    if change == "attributes":
        group.attrs.update({"versions": text, "environment": text, "fingerprint": text})
    elif change == "chunk":
        sync(session.store.set("q/c/0/0", buffer.from_bytes(pickled)))
    elif change == "objects":
        group.create_array("q", shape=(1024, 4), dtype="str", overwrite=True)[:] = text
    else:
        found = sync(session.store.get("q/zarr.json", default_buffer_prototype())).to_bytes()
        codec = b'"codecs":[{"name":"numcodecs.pickle","configuration":{}},'
        changed = found.replace(b" ", b"").replace(b"\n", b"").replace(b'"codecs":[', codec)
        assert changed.count(b"pickle") == 1
        sync(session.store.set("q/zarr.json", buffer.from_bytes(changed)))


# interruptions

INTERRUPTED = """
import signal, sys, time, dqlearn
from dqlearn import Every, QLearner

def callback(event):
    if event.report.round == 4:
        print("ready", flush=True)
        while signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            time.sleep(0.01)
        print("once", flush=True)
        if "twice" in sys.argv:
            while True:  # a signal that comes just before a sleep does not end it
                time.sleep(0.01)

settings = dict(num_envs=128, shards=2, steps_per_round=8, chunks=(256, 4), seed=7)
kwargs = {"side": 32, "max_episode_steps": 40}
learner = QLearner("dqlearn/Torus-v0", env_kwargs=kwargs, **settings)
try:
    learner.learn(10**9, callback, store=sys.argv[1], checkpoint_every=Every(rounds=3))
except KeyboardInterrupt:
    print(learner.num_timesteps, flush=True)
    raise
"""


@pytest.mark.parametrize("times", ["once", "twice"])
def test_ctrl_c(times: str, tmp_path: Path) -> None:
    """Once: the round under way ends, and is kept. Twice: at once. Then it is as if nothing was."""
    store = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(store), times],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "once\n"
        if times == "twice":
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert int(out) == 5 * ROUND
    assert_readable(store)
    kept = checkpoints(store)[0].round
    assert kept == 5 if times == "once" else kept in (0, 3)  # what was under way may be lost
    assert_undisturbed(dqlearn.resume(store).learn(9 * ROUND), 9)


class Fails(Callback):
    """Raises after a round that begins a checkpoint, or when it is told of one."""

    def __init__(self, when: str) -> None:
        self.when, self.told = when, []

    def on_round_end(self, event: RoundEnd) -> None:
        """Raise, while the checkpoint of the round before may still be written."""
        if self.when == "round" and event.report.round == 4:
            raise KeyboardInterrupt

    def on_checkpoint(self, event: Checkpoint) -> None:
        """Raise."""
        self.told.append(event.number)
        if self.when == "checkpoint" and event.number == 2:
            raise ZeroDivisionError


@pytest.mark.parametrize(
    ("when", "error"), [("round", KeyboardInterrupt), ("checkpoint", ZeroDivisionError)]
)
def test_a_call_that_is_broken_off(when: str, error: type[BaseException], tmp_path: Path) -> None:
    """The next one finds what the one before left under way, and is not taken for another run."""
    store, learner, broken, whole = tmp_path / "run", walk(), Fails(when), Fails("never")
    with pytest.raises(error):
        learner.learn(9 * ROUND, broken, store=store, checkpoint_every=Every(rounds=1))
    assert assert_whole(learner) < 9
    assert_undisturbed(learner.learn(9 * ROUND, whole), 9)
    assert checkpoints(store)[0].round == 9
    told = [*broken.told, *whole.told]
    assert told == [info.number for info in reversed(checkpoints(store))]
    assert_readable(store)


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Dask command; kill it at the end."""
    with subprocess.Popen(
        [sys.executable, "-m", "distributed.cli." + command[0], *command[1:]],
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.cluster
def test_the_scheduler_dies(tmp_path: Path) -> None:
    """The learner says so; what was kept goes on in this process, with the same bits."""
    file, store = str(tmp_path / "scheduler.json"), tmp_path / "run"
    with ExitStack() as stack:
        options = ("--scheduler-file", file)
        scheduler = stack.enter_context(
            running("dask_scheduler", *options, "--port", "0", "--dashboard-address", ":0")
        )
        stack.enter_context(
            running("dask_worker", *options, "--no-nanny", "--nthreads", "1", "--no-dashboard")
        )
        # A client that loses its scheduler leaves itself behind as Dask's default.
        with dask.config.set({"scheduler": None, "distributed.comm.timeouts.connect": "3s"}):
            client = stack.enter_context(Client(scheduler_file=file))
            client.wait_for_workers(1, timeout=60)
            learner = walk()
            with pytest.raises(ClusterLostError, match=r"scheduler .*gone"):
                learner.learn(
                    10**9,
                    at(8, scheduler.kill),
                    store=store,
                    checkpoint_every=Every(rounds=3),
                )
            client.close()
    with dask.config.set(scheduler="threads"):
        assert assert_readable(store) >= 3
        resumed = dqlearn.resume(store)
        assert resumed.num_timesteps >= 6 * ROUND
        assert_undisturbed(resumed.learn(12 * ROUND), 12)


# two writers


def test_two_commits_at_once(tmp_path: Path) -> None:
    """Without a lock to keep them apart: one is there, the other one is told."""
    learner = walk().learn(2 * ROUND, store=tmp_path / "run")
    other = store_of(tmp_path / "run")
    base = other.find()
    draft = other.begin(base, base.snapshot)
    learner.learn(3 * ROUND)
    with pytest.raises(RunInUseError, match="another run has written to the repository"):
        other.commit(draft, [], {"round": 9, "timesteps": 9}, {})
    with pytest.raises(RunInUseError, match="checkpoint 1 to be the latest"):
        other.begin(base, base.snapshot)
    assert assert_readable(tmp_path / "run") == 3
    assert_undisturbed(dqlearn.resume(tmp_path / "run").learn(5 * ROUND), 5)


class Overtaken:
    """An Icechunk repository where somebody else is quicker: something is done before sessions."""

    def __init__(self, store: Path, action: Callable[[], Any]) -> None:
        self._repo, self._action = repository(store), action

    def __getattr__(self, name: str) -> Any:
        return getattr(self._repo, name)

    def writable_session(self, branch: str) -> icechunk.Session:
        self._action()
        return self._repo.writable_session(branch)


def test_a_commit_between_a_look_and_a_session(tmp_path: Path) -> None:
    """A checkpoint that has just been seen as the latest is no longer: nothing is put upon it."""
    store = tmp_path / "run"
    learner = walk().learn(2 * ROUND, store=store)
    late = Repository(place_of(store), Overtaken(store, lambda: learner.learn(3 * ROUND)))
    base = late.find()
    with pytest.raises(RunInUseError, match="checkpoint 1 to be the latest"):
        late.begin(base, base.snapshot)
    assert_undisturbed(dqlearn.resume(store).learn(5 * ROUND), 5)


def test_a_run_begins_between_a_look_and_a_session(tmp_path: Path) -> None:
    """Two runs that are new, without a lock to keep them apart: one is there, and stays."""
    store, learner = tmp_path / "run", walk()
    place = place_of(store)
    place.open_or_create()
    late = Repository(place, Overtaken(store, lambda: learner.learn(2 * ROUND, store=store)))
    with pytest.raises(StoreError, match="there is a run at"):
        late.create(arrays_of(learner._plan, learner._described()), {})
    assert assert_readable(store) == 2
    assert_undisturbed(dqlearn.resume(store).learn(3 * ROUND), 3)


def test_a_name_for_what_is_being_deleted(tmp_path: Path) -> None:
    """It is given before, so that the checkpoint stays, or not at all."""
    store = tmp_path / "run"
    walk().learn(4 * ROUND, store=store, checkpoint_every=Every(rounds=1))
    place = place_of(store)
    runs = Repository(place, place.open())
    version, now = runs.find(1), datetime.now(UTC)
    with ThreadPoolExecutor(1) as pool:
        with place.names_kept():
            named = pool.submit(runs.tag, "good", version)
            with pytest.raises(TimeoutError):
                named.result(0.5)
            repository(store).expire_snapshots(older_than=now)
            repository(store).garbage_collect(now)
        with pytest.raises(NoCheckpointError, match=r"checkpoint 1 of .* was deleted just now"):
            named.result()
    assert assert_readable(store) == 2
    tag(store, "good")
    assert checkpoints(store)[0].tags == ("good",)


def test_new_runs_take_turns(tmp_path: Path) -> None:
    """The arrays of one are replaced by those of another: the first puts nothing upon them."""
    learner, place = walk(), place_of(tmp_path / "run")
    first, second = (Repository(place, place.open_or_create()) for _ in range(2))
    described = learner._described()
    tips = [it.create(arrays_of(learner._plan, described), described) for it in (first, second)]
    with pytest.raises(RunInUseError, match="arrays of a new run"):
        first.begin(None, tips[0])
    assert second.begin(None, tips[1]).number == 0


# object stores


class Door(ThreadingHTTPServer):
    """Stands before a server: hands on what is asked and answered, or does what `fault` says.

    Attributes
    ----------
    fault : callable
        Told method and path: "refuse" to ask nothing, "lose" to keep the answer back, or nothing.
    """

    def __init__(self, server: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), Handing)
        self.server, self.fault = server, lambda method, path: ""


class Handing(BaseHTTPRequestHandler):
    """One connection through a door."""

    protocol_version = "HTTP/1.1"
    server: Door

    def handle_one_request(self) -> None:
        """Hand it on."""
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.fault(self.command, self.path)
        if fault == "refuse":
            self.answer(403, {"Content-Length": "0"}, b"")
            return
        with closing(HTTPConnection(*self.server.server)) as connection:
            connection.request(self.command, self.path, body, dict(self.headers))
            reply = connection.getresponse()
            content = reply.read()
        if fault == "lose":
            self.close_connection = True
            return
        headers = {"Content-Length": str(len(content)), **reply.headers}
        for name in ("Transfer-Encoding", "Connection", "Date", "Server"):
            headers.pop(name, None)
        self.answer(reply.status, headers, content)

    def answer(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        """Answer it."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


Bucket = Callable[..., icechunk.Storage]


@pytest.fixture(scope="module")
def s3() -> Iterator[tuple[str, int]]:
    """A local server that speaks S3, with one bucket."""
    server = importlib.import_module("moto.server").ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with closing(HTTPConnection(host, port)) as connection:
        connection.request("PUT", "/runs")
        assert connection.getresponse().status == 200
    yield host, port
    server.stop()


def prefix_of(address: tuple[str, int], prefix: str) -> icechunk.Storage:
    """Return an Icechunk storage of a prefix of the bucket."""
    return icechunk.s3_storage(
        bucket="runs",
        prefix=prefix,
        endpoint_url="http://{}:{}".format(*address),
        allow_http=True,
        force_path_style=True,
        access_key_id="test",
        secret_access_key="test",
        region="us-east-1",
    )


@pytest.fixture
def bucket(s3: tuple[str, int]) -> Bucket:
    """What makes a storage of a prefix."""
    return partial(prefix_of, s3)


@pytest.fixture
def door(s3: tuple[str, int]) -> Iterator[Door]:
    """A door before the server."""
    with Door(s3) as door:
        threading.Thread(target=door.serve_forever, daemon=True).start()
        yield door
        door.shutdown()


def test_an_object_store(bucket: Bucket) -> None:
    """There are no locks; of two runs that go on from one checkpoint the first commit wins."""
    store = bucket("one")
    walk().learn(4 * ROUND, store=store, checkpoint_every=Every(rounds=3))
    assert [info.round for info in checkpoints(store)] == [4, 3, 0]
    first, second, third = (dqlearn.resume(bucket("one")) for _ in range(3))

    def overtake() -> None:
        first.learn(5 * ROUND)

    with pytest.raises(
        RunInUseError, match=r"another run has written|checkpoint 2 to be the latest"
    ):
        second.learn(9 * ROUND, at(6, overtake))
    with pytest.raises(RunInUseError, match="checkpoint 2 to be the latest"):
        third.learn(9 * ROUND)
    assert checkpoints(store)[0].round == 5
    assert_undisturbed(first.learn(7 * ROUND), 7)
    assert_undisturbed(dqlearn.resume(store).learn(8 * ROUND), 8)
    with pytest.raises(NoCheckpointError, match="there is no run"):
        dqlearn.resume(bucket("nothing"))


class Precedes(Callback):
    """Lets another run begin in the same store as soon as one has begun."""

    def __init__(self, begin: Callable[[], Any]) -> None:
        self.begin = begin

    def on_training_start(self, event: TrainingStart) -> None:
        """Begin it."""
        self.begin()


def test_two_new_runs_in_an_object_store(bucket: Bucket) -> None:
    """The first commit wins; the other one is told, and harms nothing."""
    quick, slow = walk(), walk(seed=8)
    with pytest.raises(RunInUseError, match="arrays of a new run"):
        slow.learn(
            3 * ROUND,
            Precedes(lambda: quick.learn(2 * ROUND, store=bucket("two"))),
            store=bucket("two"),
        )
    with pytest.raises(StoreError, match="there is a run at"):
        slow.learn(3 * ROUND)
    assert [info.round for info in checkpoints(bucket("two"))] == [2, 0]
    assert_undisturbed(dqlearn.resume(bucket("two")).learn(4 * ROUND), 4)
    assert_undisturbed(slow.learn(3 * ROUND, store=bucket("three")), 3, seed=8)


@pytest.mark.slow
def test_an_object_store_that_does_not_answer(door: Door) -> None:
    """No chunk is called damaged for it, and no checkpoint missing; then all is as before."""
    store = prefix_of(door.server_address, "silent")
    learner = walk().learn(2 * ROUND, store=store)
    tag(store, "good")
    place = place_of(store)
    opened, resumed, there = open_table(store), dqlearn.resume(store), place.open()
    door.fault = lambda method, path: "refuse"
    for use in (
        lambda: opened["q"].compute(),
        lambda: open_table(store),
        lambda: resumed.learn(4 * ROUND),
        lambda: learner.learn(4 * ROUND),
        *(
            partial(read, Repository(place, there))
            for read in (
                Repository.find,
                Repository.checkpoints,
                lambda it: it.find("good"),
                lambda it: it.find(1),
                lambda it: it.tag("better", resumed._checkpointer.base),
                lambda it: it.untag("good"),
                lambda it: it.keep_last(1),
            )
        ),
    ):
        with pytest.raises(StoreError) as raised:
            use()
        assert not isinstance(raised.value, DamagedChunkError | NoCheckpointError)
    door.fault = lambda method, path: ""
    assert int(opened["visits"].sum()) == 2 * ROUND
    assert checkpoints(store)[0].tags == ("good",)
    assert_undisturbed(resumed.learn(4 * ROUND), 4)


def loses(door: Door, n: int, *, answers: bool = True) -> Callable[[], bool]:
    """Lose the answer to the n-th commit, and all that follow with it; say whether that was done.

    With `answers`, what follows is answered.
    """
    commits = 0

    def fault(method: str, path: str) -> str:
        nonlocal commits
        commit = method == "PUT" and "/refs/branch.main/" in path
        commits += commit
        if commits == n and commit:
            return "lose"
        return "" if answers or commits < n else "refuse"

    door.fault = fault
    return lambda: commits >= n


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param(True, id="found at once"),
        pytest.param(False, id="found later", marks=pytest.mark.slow),
    ],
)
def test_the_answer_to_a_commit_is_lost(answers: bool, door: Door) -> None:
    """A checkpoint that is there all the same is not taken for another run's."""
    store = prefix_of(door.server_address, f"lost-{answers}")
    learner = walk().learn(2 * ROUND, store=store)
    lost = loses(door, 1, answers=answers)
    if answers:
        learner.learn(4 * ROUND)
    else:
        with pytest.raises(CheckpointError, match="commit could not be"):
            learner.learn(4 * ROUND)
    assert lost()
    door.fault = lambda method, path: ""
    assert checkpoints(store)[0].round == 4
    assert_undisturbed(learner.learn(6 * ROUND), 6)
    assert [info.round for info in checkpoints(store)] == [6, 4, 2, 0]
    assert_undisturbed(dqlearn.resume(store).learn(7 * ROUND), 7)


@pytest.mark.slow
def test_a_run_that_went_back_behind_a_commit(door: Door) -> None:
    """It gives up what it finds there of its own, and makes it again."""
    store = prefix_of(door.server_address, "behind")
    learner = walk().learn(2 * ROUND, store=store)
    loses(door, 1, answers=False)
    with pytest.raises(CheckpointError, match="commit could not be"):
        learner.learn(4 * ROUND)
    door.fault = lambda method, path: ""
    learner._checkpointer.open(learner._plan, learner._described(), 3)
    assert learner._checkpointer.base.round == 2
    assert_undisturbed(learner.learn(5 * ROUND), 5)
    assert [info.round for info in checkpoints(store)] == [5, 2, 0]
    assert_undisturbed(dqlearn.resume(store).learn(6 * ROUND), 6)
