"""A store of checkpoints is one class: one of few lines passes the check, and serves a run.

What Icechunk's does when disks fail, processes die or bytes change is in `test_store_faults`.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import dask
import numpy as np
import numpy.typing as npt
import pytest

import dqlearn
from dqlearn import Every, QLearner
from dqlearn.errors import (
    CheckError,
    ConfigurationError,
    NoCheckpointError,
    RunInUseError,
    StoreError,
)
from dqlearn.runs import (
    ArraySpec,
    CheckpointInfo,
    CheckpointStore,
    Version,
    WriteResult,
    check_tag,
    checkpoints,
    expire,
    store_of,
    tag,
)
from dqlearn.testing import check_store

Region = tuple[slice, ...]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Parts:
    """An array: what was written of it, the latest last."""

    spec: ArraySpec
    shape: tuple[int, ...]
    written: tuple[tuple[Region, Array], ...] = ()

    @property
    def chunks(self) -> tuple[int, ...]:
        return self.spec.chunks

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.spec.dtype

    def put(self, region: Region, values: Array) -> Parts:
        kept = tuple(part for part in self.written if part[0] != region)
        return replace(self, written=(*kept, (region, values)))

    def append(self, rows: Array) -> Parts:
        first, *rest = self.shape
        end = first + len(rows)
        region = (slice(first, end), *(slice(0, n) for n in rest))
        return replace(self, shape=(end, *rest)).put(region, rows)

    def read(self, region: Region) -> Array:
        whole = np.full([part.stop - part.start for part in region], self.spec.fill, self.dtype)
        for where, values in self.written:
            lows = [max(a.start, b.start) for a, b in zip(where, region, strict=True)]
            highs = [min(a.stop, b.stop) for a, b in zip(where, region, strict=True)]
            if all(low < high for low, high in zip(lows, highs, strict=True)):
                there, own = (
                    tuple(
                        slice(low - part.start, high - part.start)
                        for low, high, part in zip(lows, highs, origin, strict=True)
                    )
                    for origin in (region, where)
                )
                whole[there] = values[own]
        return whole


@dataclass(frozen=True)
class InMemory:
    """A checkpoint; before the first the arrays, with the number -1."""

    name: str
    number: int
    snapshot: str
    attributes: Mapping[str, Any]
    arrays: Mapping[str, Parts] = field(repr=False)
    before: str = ""
    written: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def round(self) -> int:
        return int(self.attributes["round"])

    @property
    def timesteps(self) -> int:
        return int(self.attributes["timesteps"])

    def array(self, name: str) -> Parts:
        return self.arrays[name]

    def read(self, name: str, region: Region) -> Array:
        return self.arrays[name].read(region)


class CopyWriter:
    """Its changes are the values."""

    def write(self, values: Mapping[str, tuple[Region, Array]]) -> Any:
        return {name: (region, value.copy()) for name, (region, value) in values.items()}


@dataclass(frozen=True)
class Begun:
    base: InMemory
    writer: CopyWriter


class MemoryStore(CheckpointStore):
    """Checkpoints in this process, for tests; all that another backend has to say."""

    def __init__(self, name: str = "memory") -> None:
        self.name, self._held = name, threading.Lock()
        self._found: dict[str, InMemory] = {}
        self._names: dict[str, str] = {}
        self._tip = ""

    def lock(self) -> Callable[[], None]:
        if not self._held.acquire(blocking=False):
            raise RunInUseError(f"another run writes to {self.name!r}")
        once = iter([self._held.release])
        return lambda: next(once, lambda: None)()

    def open(self) -> None:
        self.tip()

    def tip(self) -> str:
        if not self._tip:
            raise NoCheckpointError(f"there is no run at {self.name!r}")
        return self._tip

    def _keep(self, number: int, attributes: Any, arrays: Any, before: str = "") -> InMemory:
        made = InMemory(self.name, number, uuid4().hex, attributes, arrays, before)
        self._tip, self._found[made.snapshot] = made.snapshot, made
        return made

    def create(self, arrays: Iterable[ArraySpec], attributes: Mapping[str, Any]) -> str:
        if self._tip and self._found[self._tip].number >= 0:
            raise StoreError(f"there is a run at {self.name!r}: resume it")
        made = {spec.name: Parts(spec, spec.shape) for spec in arrays}
        for name, parts in made.items():
            if (values := parts.spec.values) is not None:
                made[name] = parts.put(tuple(slice(0, n) for n in parts.shape), values)
        return self._keep(-1, dict(attributes), made).snapshot

    def find(self, at: str | int = "latest") -> InMemory:
        previous = self._found[self.tip()].before
        names = {**self._names, "latest": self._tip, "previous": previous}
        numbers = {found.number: found for found in self._run(self._tip)}
        kept = {self._found[it].number: self._found[it] for it in self._names.values()}
        found = self._found.get(names.get(at, "")) if isinstance(at, str) else None
        found = (kept | numbers).get(at) if isinstance(at, int) else found
        if found is None or found.number < 0:
            raise NoCheckpointError(f"{self.name!r} has no checkpoint {at!r}")
        return found

    def _run(self, snapshot: str) -> list[InMemory]:
        run = []
        while (found := self._found.get(snapshot)) and found.number >= 0:
            run.append(found)
            snapshot = found.before
        return run

    def checkpoints(self) -> list[CheckpointInfo]:
        ends = [self._tip, *self._names.values()]
        found = {it.snapshot: it for end in ends for it in self._run(end)}
        return sorted(
            (
                CheckpointInfo(
                    it.number,
                    it.round,
                    it.timesteps,
                    it.written,
                    tuple(name for name, at in self._names.items() if at == it.snapshot),
                    it.snapshot,
                )
                for it in found.values()
            ),
            key=lambda info: (info.number, info.written),
            reverse=True,
        )

    def begin(self, base: Version | None, tip: str) -> Begun:
        self.check_unmoved(base, tip)
        self._tip = base.snapshot if base else tip
        return Begun(self._found[self._tip], CopyWriter())

    def commit(
        self,
        transaction: Any,
        results: Iterable[WriteResult],
        attributes: Mapping[str, Any],
        rows: Mapping[str, Array],
    ) -> InMemory:
        base = transaction.base
        if self._tip != base.snapshot:
            raise RunInUseError(f"another run has written to {self.name!r}")
        arrays = dict(base.arrays)
        for result in results:
            for name, part in (result.changes or {}).items():
                arrays[name] = arrays[name].put(*part)
        arrays |= {name: arrays[name].append(more) for name, more in rows.items()}
        return self._keep(base.number + 1, {**base.attributes, **attributes}, arrays, base.snapshot)

    def tag(self, name: str, version: Version) -> None:
        check_tag(name, self._names)
        if all(info.snapshot != version.snapshot for info in self.checkpoints()):
            raise NoCheckpointError(f"{self.name!r} has no {version.number} any more")
        self._names[name] = version.snapshot

    def untag(self, name: str) -> None:
        if self._names.pop(name, None) is None:
            raise NoCheckpointError(f"{self.name!r} has no tag {name!r}")

    def mark_best(self, version: Version) -> None:
        self._names["best"] = version.snapshot

    def expire(self, before: datetime) -> int:
        latest, *others = self._run(self._tip)
        spared = {latest.snapshot, latest.before, *self._names.values()}
        kept = [latest, *(it for it in others if it.snapshot in spared or it.written >= before)]
        for it, after in zip(kept, [*kept[1:], None], strict=True):
            self._found[it.snapshot] = replace(it, before=after.snapshot if after else "")
        for gone in {it.snapshot for it in others} - {it.snapshot for it in kept}:
            del self._found[gone]
        return 0


def test_icechunk_passes() -> None:
    check_store(lambda: store_of(tempfile.mkdtemp()))


def test_a_store_in_memory_passes() -> None:
    check_store(MemoryStore)


class NotSent(CopyWriter):
    def __reduce__(self) -> Any:
        raise TypeError("cannot be pickled")


class CannotSend(MemoryStore):
    def begin(self, base: Version | None, tip: str) -> Begun:
        return replace(super().begin(base, tip), writer=NotSent())


class Changes(MemoryStore):
    """Writes to the checkpoint before, too."""

    def commit(self, transaction: Any, results: Any, attributes: Any, rows: Any) -> InMemory:
        made = super().commit(transaction, results, attributes, rows)
        transaction.base.arrays.update(made.arrays)
        return made


class LastWins(MemoryStore):
    """Takes whatever is committed."""

    def commit(self, transaction: Any, results: Any, attributes: Any, rows: Any) -> InMemory:
        self._tip = transaction.base.snapshot
        return super().commit(transaction, results, attributes, rows)


class TakesAnyBase(MemoryStore):
    def check_unmoved(self, base: Version | None, tip: str) -> None:
        pass


class CreatesAgain(MemoryStore):
    def create(self, arrays: Iterable[ArraySpec], attributes: Mapping[str, Any]) -> str:
        self._tip = ""
        return super().create(arrays, attributes)


class ForgetsAttributes(MemoryStore):
    def commit(self, transaction: Any, results: Any, attributes: Any, rows: Any) -> InMemory:
        counters = {name: attributes[name] for name in ("round", "timesteps")}
        return super().commit(transaction, results, counters, rows)


class ForgetsRows(MemoryStore):
    def commit(self, transaction: Any, results: Any, attributes: Any, rows: Any) -> InMemory:
        return super().commit(transaction, results, attributes, {})


class LosesOneTask(MemoryStore):
    def commit(self, transaction: Any, results: Any, attributes: Any, rows: Any) -> InMemory:
        return super().commit(transaction, list(results)[1:], attributes, rows)


class AnyName(MemoryStore):
    def tag(self, name: str, version: Version) -> None:
        self._names[name] = version.snapshot


class FindsTheLatest(MemoryStore):
    def find(self, at: str | int = "latest") -> InMemory:
        try:
            return super().find(at)
        except NoCheckpointError:
            return super().find()


class DeletesNamed(MemoryStore):
    def expire(self, before: datetime) -> int:
        names, self._names = self._names, {}
        super().expire(before)
        self._names = {name: at for name, at in names.items() if at in self._found}
        return 0


class DeletesNothing(MemoryStore):
    def expire(self, before: datetime) -> int:
        return 0


class LocksForGood(MemoryStore):
    def lock(self) -> Callable[[], None]:
        super().lock()
        return lambda: None


class CountsSnapshots(MemoryStore):
    """Two stores call their checkpoints the same."""

    def _keep(self, number: int, attributes: Any, arrays: Any, before: str = "") -> InMemory:
        made = super()._keep(number, attributes, arrays, before)
        del self._found[made.snapshot]
        self._tip = f"snapshot {number} {len(self._found)}"
        self._found[self._tip] = replace(made, snapshot=self._tip)
        return self._found[self._tip]


class KeepsTheAbandoned(MemoryStore):
    def begin(self, base: Version | None, tip: str) -> Begun:
        begun = super().begin(base, tip)
        self._keep(begun.base.number + 1, begun.base.attributes, begun.base.arrays, self._tip)
        return begun


@pytest.mark.parametrize(
    ("faulty", "said"),
    [
        (CannotSend, "expected no error, got .*cannot be pickled"),
        (Changes, "expected"),
        (LastWins, r"commit\(\) after another run's: expected RunInUseError, got none"),
        (TakesAnyBase, r"begin\(\) of a run that another one .*: expected RunInUseError"),
        (CreatesAgain, r"create\(\) where there is a run: expected StoreError, got none"),
        (ForgetsAttributes, "attributes: expected .*tallies"),
        (ForgetsRows, "history/int"),
        (LosesOneTask, r"read\('q'"),
        (AnyName, r"tag\('good'\): expected StoreError, got none"),
        (FindsTheLatest, r"find\('nobody'\): expected NoCheckpointError, got none"),
        (DeletesNamed, "numbers after"),
        (DeletesNothing, "numbers after keep_last"),
        (LocksForGood, "the second time"),
        (CountsSnapshots, "snapshots of two stores to have different names"),
        (KeepsTheAbandoned, "expected no error, got RunInUseError"),
        (dict, "expected a CheckpointStore"),
    ],
)
def test_a_faulty_store_does_not(faulty: Any, said: str) -> None:
    with pytest.raises(CheckError, match=said):
        check_store(faulty)


def test_what_is_abstract_cannot_be_left_out() -> None:
    class Half(CheckpointStore):
        name = "half"

    with pytest.raises(TypeError, match="abstract"):
        Half()


# a run with such a store

ROUND = 128 * 8


def walk(**settings: Any) -> QLearner:
    defaults = {"num_envs": 128, "shards": 2, "steps_per_round": 8, "chunks": (100, 2), "seed": 7}
    kwargs = {"side": 16, "max_episode_steps": 40}
    return QLearner("dqlearn/Torus-v0", env_kwargs=kwargs, **(defaults | settings))


def assert_equal(learner: QLearner, other: QLearner) -> None:
    (ours, theirs) = dask.compute(
        *((it.table.q, it.table.visits, it.table.value) for it in (learner, other))
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


SETTINGS = {
    "broadcast": {},
    "ahead": {"policy_lag": 1},
    "sparse": {"exchange": "gather", "steps_per_round": 1, "chunks": 3, "sparse": True},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_learns_and_is_resumed(name: str) -> None:
    """As it is passed: learn, resume, open_table and the rest take the object."""
    settings, store = SETTINGS[name], MemoryStore()
    n = 128 * walk(**settings)._plan.steps_per_round
    walk(**settings).learn(6 * n, store=store, checkpoint_every=Every(rounds=2))
    assert [info.round for info in checkpoints(store)] == [6, 4, 2, 0]
    expected = walk(**settings).learn(6 * n)
    opened, table = dqlearn.open_table(store), expected.table.to_xarray()
    for variable in ("q", "visits", "value", "policy"):
        np.testing.assert_array_equal(opened[variable], table[variable])
    assert dqlearn.open_history(store).sizes["round"] == 6
    tag(store, "good", at=1)
    for at, first in (("latest", 6), ("good", 2), (2, 4)):
        resumed = dqlearn.resume(store, at)
        assert resumed.num_timesteps == first * n
        assert_equal(resumed.learn(9 * n), walk(**settings).learn(9 * n))
    assert checkpoints(store)[0].round == 9
    expire(store, keep_last=1)
    assert [info.tags for info in checkpoints(store)][2:] == [("good",)]


def test_a_run_goes_on_in_its_store() -> None:
    """The same object is the same store, as often as it is passed."""
    store, learner = MemoryStore(), walk()
    learner.learn(2 * ROUND, store=store).learn(3 * ROUND).learn(4 * ROUND, store=store)
    assert [info.round for info in checkpoints(store)] == [4, 3, 2, 0]
    assert "checkpoints" in learner._repr_html_()
    with pytest.raises(StoreError, match="there is a run at 'memory'"):
        walk().learn(ROUND, store=store)
    release = store.lock()
    with pytest.raises(RunInUseError, match="another run writes"):
        learner.learn(5 * ROUND)
    release()
    other = dqlearn.resume(store)
    learner.learn(5 * ROUND)
    with pytest.raises(RunInUseError, match="a run has written there meanwhile"):
        other.learn(6 * ROUND)


@pytest.mark.slow
@pytest.mark.cluster
def test_a_run_on_a_cluster(client: Any) -> None:
    """Writers and checkpoints are sent to the workers."""
    store = MemoryStore()
    walk(policy_lag=1).learn(4 * ROUND, store=store, checkpoint_every=Every(rounds=2))
    resumed = dqlearn.resume(store, at=1).learn(6 * ROUND)
    with dask.config.set(scheduler="threads"):
        expected = dask.compute(*walk_table(walk(policy_lag=1).learn(6 * ROUND)))
    for ours, theirs in zip(dask.compute(*walk_table(resumed)), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def walk_table(learner: QLearner) -> tuple[Any, Any]:
    return learner.table.q, learner.table.visits


def test_what_is_no_store() -> None:
    with pytest.raises(ConfigurationError, match="CheckpointStore"):
        walk().learn(ROUND, store=3)  # type: ignore[arg-type]
