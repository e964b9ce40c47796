"""Check of a store of checkpoints, to be called from its tests.

::

    factory() ─► an empty store ─► create ─► begin ─► write ─► commit ─► read, find, tag, expire

Each check has a store of its own. Invariant: a store passes if, and only if, what was committed is
there whole, by each of its names, and stays as it was.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import combinations, product
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.errors import CheckError, NoCheckpointError, RunInUseError, StoreError
from dqlearn.storage.names import BEST, LATEST, PREVIOUS, At
from dqlearn.storage.protocol import CheckpointStore, Transaction, Version, WriteResult
from dqlearn.table.snapshot import ArraySpec, Region

__all__ = ["check_store"]

_SHAPE, _CHUNKS, _FILL, _ABOUT = (7, 3), (4, 2), 0.5, {"units": "1"}
_EDGES = (0, 3, 4, 7), (0, 2, 3)  # of regions: inside chunks, on their edges, over them
_HUGE = 2**36
_NAMES = np.array(["n", "sum"], object)
_ARRAYS = (
    ArraySpec("q", ("state", "action"), _SHAPE, _CHUNKS, np.dtype("float32"), _FILL, _ABOUT),
    ArraySpec("known/q", ("chunk", "place"), (2, _HUGE), (1, 2**16), np.dtype("float64")),
    ArraySpec("batches/length", ("shard",), (2,), (1,), np.dtype("int64")),
    ArraySpec("history/int", ("round", "int_column"), (0, 2), (16, 2), np.dtype("int64")),
    ArraySpec("history/int_column", ("int_column",), (2,), (2,), np.dtype("O"), values=_NAMES),
)
_SPECS = {spec.name: spec for spec in _ARRAYS}

Values = Mapping[str, tuple[Region, npt.NDArray[Any]]]


def check_store(factory: Callable[[], CheckpointStore]) -> None:
    """Check that a store of checkpoints does what :class:`dqlearn.runs.CheckpointStore` says.

    A checkpoint is begun, written by several threads with a writer that was pickled, committed, and
    read back whole, by regions, and from a pickled version; parts that nobody wrote are filled. It
    is found by "latest", "previous", "best", its number and its tags, and stays as it was when
    others follow, when a transaction is abandoned, and when another run tries to commit. A run may
    go back to it; what follows it is given up then, but for what has a name. Expiry spares the
    latest two, and what has a name.

    Parameters
    ----------
    factory : callable
        Called without arguments; returns a store where nothing is, another one each time.

    Raises
    ------
    CheckError
        If it does something else.

    Examples
    --------
    >>> import tempfile
    >>> from dqlearn.runs import store_of
    >>> from dqlearn.testing import check_store
    >>> check_store(lambda: store_of(tempfile.mkdtemp()))
    """
    for check in (
        _check_the_beginning,
        _check_what_is_read,
        _check_names,
        _check_tags,
        _check_abandoned,
        _check_going_back,
        _check_two_writers,
        _check_locks,
        _check_expiry,
    ):
        _pass(check, _made(factory))
    _pass(_check_two_stores, _made(factory), _made(factory))


def _made(factory: Callable[[], CheckpointStore]) -> CheckpointStore:
    store = factory()
    if not isinstance(store, CheckpointStore):
        raise CheckError(f"expected a CheckpointStore of {factory!r}, got {store!r}")
    return store


def _pass(check: Callable[..., None], *stores: CheckpointStore) -> None:
    """Make a check; name what it raises."""
    try:
        check(*stores)
    except CheckError:
        raise
    except Exception as error:  # a store under work raises what it likes
        raise CheckError(f"expected no error, got {error!r}; from: {check.__doc__}") from error


class _Run:
    """A run that commits one checkpoint after another."""

    def __init__(self, store: CheckpointStore) -> None:
        self.store = store
        self.base: Version | None = None
        self.tip = store.create(iter(_ARRAYS), {"seed": "1", "round": 0})

    def values(self, n: int) -> Values:
        """Return what checkpoint n writes: the upper left chunk of the table, and others."""
        return {
            "q": ((slice(0, 4), slice(0, 2)), np.full((4, 2), n, np.float32)),
            "batches/length": ((slice(1, 2),), np.array([n])),
            "known/q": ((slice(1, 2), slice(0, n + 1)), np.full((1, n + 1), n, np.float64)),
        }

    def begin(self) -> tuple[Transaction, list[WriteResult]]:
        """Begin and write the next checkpoint."""
        n = self.base.number + 1 if self.base else 0
        transaction = self.store.begin(self.base, self.tip)
        return transaction, _write(transaction, self.values(n))

    def commit(self, transaction: Transaction, results: list[WriteResult]) -> Version:
        """Commit it."""
        n = self.base.number + 1 if self.base else 0
        attributes = {"round": n + 5, "timesteps": 10 * n, "batches/tallies": [{"n": str(n)}]}
        rows = {"history/int": np.full((1, 2), n)}
        self.base = self.store.commit(transaction, results, attributes, rows)
        self.tip = self.base.snapshot
        return self.base

    def checkpoint(self) -> Version:
        """Make the next checkpoint."""
        return self.commit(*self.begin())


def _write(transaction: Transaction, values: Values) -> list[WriteResult]:
    """Write as tasks do: with copies of the writer, side by side, and values that change after."""

    def task(name: str) -> WriteResult:
        writer, (region, value) = _copied(transaction.writer), values[name]
        mine = value.copy()
        changes = _copied(writer.write({name: (region, mine)}))
        mine.fill(99)
        return WriteResult(changes, mine.nbytes)

    with ThreadPoolExecutor(2) as pool:
        return [*pool.map(task, values), WriteResult()]


def _copied(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def _check_the_beginning(store: CheckpointStore) -> None:
    """Begin a run where nothing is, and anew while it has no checkpoint; then no more."""
    for look in (store.open, store.tip, store.find):
        with _raising(NoCheckpointError, f"{look.__name__}() of an empty store"):
            look()
    first = _Run(store)
    store.open()
    _equal("tip() after create()", store.tip(), first.tip)
    _equal("checkpoints() after create()", store.checkpoints(), [])
    with _raising(NoCheckpointError, "find() before the first checkpoint"):
        store.find()
    second = _Run(store)
    with _raising(RunInUseError, "begin() of a run that another one was created upon"):
        first.begin()
    _equal("the number of the first checkpoint", second.checkpoint().number, 0)
    with _raising(StoreError, "create() where there is a run"):
        _Run(store)


def _check_what_is_read(store: CheckpointStore) -> None:
    """Read what was written, by any region, from a copy too; it does not change."""
    run = _Run(store)
    versions = [run.checkpoint() for _ in range(3)]
    for n, version in enumerate(versions):
        for each in (version, _copied(version), store.find(n)):
            _check_version(each, n, run.values(n))


def _check_version(version: Version, n: int, values: Values) -> None:
    """Compare all that there is in checkpoint n."""
    numbers = (version.number, version.round, version.timesteps)
    _equal("number, round and timesteps of a version", numbers, (n, n + 5, 10 * n))
    said = {"seed": "1", "round": n + 5, "timesteps": 10 * n, "batches/tallies": [{"n": str(n)}]}
    _equal("attributes", {key: version.attributes.get(key) for key in said}, said)
    for name, spec in _SPECS.items():
        shape = (n + 1, 2) if name == "history/int" else spec.shape
        if spec.dtype != np.dtype("O"):
            array = version.array(name)
            found = (tuple(array.shape), np.dtype(array.dtype))
            _equal(f"shape and dtype of {name!r}", found, (shape, spec.dtype))
    table = np.full(_SHAPE, _FILL, np.float32)
    table[values["q"][0]] = values["q"][1]
    for region in product(*map(_slices, _EDGES)):
        _same("q", region, version.read("q", region), table[region])
    _same("batches/length", (slice(0, 2),), version.read("batches/length", (slice(0, 2),)), [0, n])
    region = (slice(1, 2), slice(0, n + 3))
    _same("known/q", region, version.read("known/q", region), [[*[n] * (n + 1), 0, 0]])
    region, rows = (slice(0, n + 1), slice(0, 2)), [[k, k] for k in range(n + 1)]
    _same("history/int", region, version.read("history/int", region), rows)


def _slices(edges: tuple[int, ...]) -> list[slice]:
    return [slice(a, b) for a, b in combinations(edges, 2)]


def _check_names(store: CheckpointStore) -> None:
    """Find each checkpoint by each of its names, and no other."""
    run = _Run(store)
    first, second, third = (run.checkpoint() for _ in range(3))
    store.mark_best(first)
    store.mark_best(second)
    store.tag("good", first)
    names: dict[At, Version] = {
        LATEST: third,
        PREVIOUS: second,
        BEST: second,
        "good": first,
        **{version.number: version for version in (first, second, third)},
    }
    for at, version in names.items():
        _equal(f"the checkpoint {at!r}", store.find(at).snapshot, version.snapshot)
    for at in ("nobody", 3):
        with _raising(NoCheckpointError, f"find({at!r})"):
            store.find(at)
    found = store.checkpoints()
    _equal("numbers in checkpoints()", [info.number for info in found], [2, 1, 0])
    _equal("rounds in checkpoints()", [info.round for info in found], [7, 6, 5])
    _equal("tags in checkpoints()", [info.tags for info in found], [(), (BEST,), ("good",)])
    _equal("snapshots in checkpoints()", found[0].snapshot, store.tip())


def _check_tags(store: CheckpointStore) -> None:
    """Give names: each is of one checkpoint, until it is taken away."""
    run = _Run(store)
    first, second = run.checkpoint(), run.checkpoint()
    store.tag("good", first)
    for name in ("good", LATEST, PREVIOUS, BEST, "7", "a/b", ""):
        with _raising(StoreError, f"tag({name!r})"):
            store.tag(name, second)
    _equal("the checkpoint 'good'", store.find("good").number, 0)
    store.untag("good")
    with _raising(NoCheckpointError, "find() of a tag that was taken away"):
        store.find("good")
    with _raising(NoCheckpointError, "untag() of no tag"):
        store.untag("good")


def _check_abandoned(store: CheckpointStore) -> None:
    """Abandon a transaction: it leaves nothing."""
    run = _Run(store)
    run.begin()
    before = run.checkpoint()
    abandoned = store.begin(run.base, run.tip)
    _write(abandoned, {"q": ((slice(4, 7), slice(0, 2)), np.full((3, 2), 77, np.float32))})
    _equal("tip() after an abandoned transaction", store.tip(), before.snapshot)
    _check_version(store.find(), 0, run.values(0))
    _check_version(run.checkpoint(), 1, run.values(1))


def _check_going_back(store: CheckpointStore) -> None:
    """Go on from an earlier one: what follows it is given up, but for what has a name."""
    run = _Run(store)
    first, second, third = (run.checkpoint() for _ in range(3))
    store.tag("good", second)
    run.base = first
    again = run.checkpoint()
    _equal("numbers after going back", [it.number for it in store.checkpoints()], [1, 1, 0])
    _equal("the latest after going back", store.find().snapshot, again.snapshot)
    _equal("the one before it", store.find(PREVIOUS).snapshot, first.snapshot)
    _check_version(again, 1, run.values(1))
    _check_version(store.find("good"), 1, run.values(1))
    run.base, run.tip = third, again.snapshot
    with _raising(RunInUseError, "begin() after a checkpoint that was given up"):
        run.begin()


def _check_two_writers(store: CheckpointStore) -> None:
    """Let two begin the same checkpoint: one commits, and the other one is told."""
    quick = _Run(store)
    quick.checkpoint()
    slow = object.__new__(_Run)
    vars(slow).update(vars(quick))
    late, early = slow.begin(), quick.begin()
    committed = quick.commit(*early)
    with _raising(RunInUseError, "commit() after another run's"):
        slow.commit(*late)
    with _raising(RunInUseError, "begin() after another run's commit"):
        slow.begin()
    with _raising(RunInUseError, "check_unmoved() after another run's commit"):
        store.check_unmoved(slow.base, slow.tip)
    store.check_unmoved(quick.base, quick.tip)
    _equal("the latest", store.find().snapshot, committed.snapshot)
    _check_version(store.find(), 1, quick.values(1))


def _check_locks(store: CheckpointStore) -> None:
    """Take a lock: it refuses others, or, as an object store's, nobody; then take it again."""
    for _ in range(2):
        try:
            release = store.lock()
        except RunInUseError as error:
            raise CheckError("lock() after its release: expected it the second time") from error
        try:
            second = store.lock()
        except RunInUseError:
            pass
        else:
            second()
        release()
        release()


def _check_expiry(store: CheckpointStore) -> None:
    """Delete old ones; the latest two and those with a name stay, and are whole."""
    run = _Run(store)
    versions = [run.checkpoint() for _ in range(6)]
    store.tag("good", versions[1])
    store.keep_last(4)
    _equal("numbers after keep_last(4)", [it.number for it in store.checkpoints()], [5, 4, 3, 2, 1])
    store.mark_best(versions[2])
    store.expire(datetime.now(UTC))
    _equal("numbers after expire()", [it.number for it in store.checkpoints()], [5, 4, 2, 1])
    for n in (0, 3):
        with _raising(NoCheckpointError, f"find({n}) after it was deleted"):
            store.find(n)
    for n in (1, 2, 4, 5):
        _check_version(store.find(n), n, run.values(n))
    with _raising(NoCheckpointError, "tag() of a checkpoint that was deleted"):
        store.tag("gone", versions[0])
    _check_version(run.checkpoint(), 6, run.values(6))


def _check_two_stores(store: CheckpointStore, other: CheckpointStore) -> None:
    """Make the same checkpoint in two stores: their names differ, and the stores do."""
    first, second = (_Run(each).checkpoint() for each in (store, other))
    if store == other or store != store:
        raise CheckError("expected each store to be equal to itself alone")
    if first.snapshot == second.snapshot:
        raise CheckError(
            f"expected snapshots of two stores to have different names, got {first.snapshot!r} "
            "twice: arrays that are read from them would be taken for each other"
        )


@contextmanager
def _raising(error: type[Exception], what: str) -> Iterator[None]:
    """Expect an error."""
    try:
        yield
    except error:
        return
    except Exception as another:
        raise CheckError(f"{what}: expected {error.__name__}, got {another!r}") from another
    raise CheckError(f"{what}: expected {error.__name__}, got none")


def _equal(what: str, got: object, expected: object) -> None:
    if got != expected:
        raise CheckError(f"{what}: expected {expected!r}, got {got!r}")


def _same(name: str, region: Region, got: npt.NDArray[Any], expected: npt.ArrayLike) -> None:
    """Compare what was read with what was written."""
    wanted = np.asarray(expected, _SPECS[name].dtype)
    if got.dtype != wanted.dtype or got.shape != wanted.shape or (got != wanted).any():
        raise CheckError(
            f"read({name!r}, {region}): expected {wanted.tolist()} in {wanted.dtype}, got "
            f"{got.tolist()} in {got.dtype}"
        )
    if not got.flags.c_contiguous:
        raise CheckError(f"read({name!r}, {region}): expected an array in C order")
