"""Whatever the attributes of a table or a run say, opening it runs nothing and raises by name."""

from __future__ import annotations

import html.parser
import json
import resource
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import icechunk
import pytest
import zarr
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st

import dqlearn
from dqlearn import QLearner
from dqlearn.callbacks import EvalCallback
from dqlearn.cli import main
from dqlearn.errors import DQLearnError

SMALL = {"num_envs": 4, "shards": 2, "steps_per_round": 4, "seed": 0}
ROOM = 2 * 2**30  # bytes of address space that opening a small table may take at most
SECONDS = 60

MARKUP = "</td><script>alert(1)</script>\x1b[2J\x1b]0;title\x07\u202e\r\n"
NUMBERS = [0, -1, 1, 2**31, 2**60, 2**62, 2**64, 10**9, 10**12, 10**400, 0.5, 1e300, 1e-300]
HOSTILE: list[Any] = [
    *NUMBERS,
    None,
    True,
    MARKUP,
    "?" * 10**6,
    "9" * 10**6,
    [],
    {},
    [[]],
    ["x"] * 1000,
    {"id": MARKUP},
    float("nan"),
    float("inf"),
    float("-inf"),
]
DEEP = {n: "[" * n + "]" * n for n in (100, 900, 100_000)}
DEEP |= {-n: '{"a":' * n + "1" + "}" * n for n in (100, 900, 100_000)}


def nested_space(depth: int) -> str:
    inner = '{"kind": "Discrete", "n": 1, "start": 0, "dtype": "int64"}'
    whole = '{"kind": "Tuple", "spaces": [' * depth + inner + "]}" * depth
    return f'{{"name": "observation", "space": {whole}}}'


def space(**spec: Any) -> str:
    return json.dumps({"name": "observation", "space": spec})


TEXTS = [
    *DEEP.values(),
    *map(nested_space, (5, 200, 5000)),
    space(kind="Discrete", n=2**60, start=0, dtype="int64"),
    space(kind="Discrete", n=16, start=0, dtype="V2000000000"),
    space(kind="MultiBinary", shape=[10**10]),
    space(kind="MultiBinary", shape=[10**5] * 60),
    space(kind="MultiDiscrete", shape=[10**6], nvec=[2**40] * 10**6, start=[0] * 10**6, dtype="i8"),
    space(kind="MultiDiscrete", shape=[2], nvec=[4, 4], start=[0, 0], dtype="V2000000000"),
    space(kind="Box", shape=[1], low=[0], high=[1], dtype="V2000000000", edges=[[]]),
    space(kind="Box", shape=[10**9], low=[0], high=[1], dtype="f4", edges=[[]]),
    space(kind="Dict", keys=["a"] * 1000, spaces=[]),
    json.dumps([[1] * 10**5, [4]]),
    json.dumps([[2**40], [2**40]]),
    json.dumps([[2**30], [1]]),
    json.dumps([[-1, 17], [4]]),
    json.dumps([[16.0], [4]]),
    json.dumps([[8, 8], [2, 2]]),
    json.dumps([[1] * 32, [4]]),
    json.dumps({"kind": "Piecewise", "points": [[n, 0.5] for n in range(10**5)]}),
    json.dumps({"kind": "Linear", "start": 1.0, "end": 0.1, "over": 10**400}),
    json.dumps({"kind": "VisitCount", "omega": 1e300, "offset": 1e300, "scale": 1e300}),
    json.dumps({"kind": MARKUP}),
    json.dumps({"id": MARKUP, "kwargs": {MARKUP: MARKUP}}),
    json.dumps({"id": "FrozenLake-v1", "kwargs": {"map_name": MARKUP}}),
    json.dumps({"id": "FrozenLake-v1", "kwargs": [], "encoded": [], "unstored": []}),
    json.dumps(
        {"id": "FrozenLake-v1", "unstored": {MARKUP: {"type": MARKUP, "python": "", "digest": 1}}}
    ),
    json.dumps({"id": "FrozenLake-v1", "encoded": {"x": {"array": ["<i8", [2**60], ""]}}}),
    json.dumps({"id": "FrozenLake-v1", "encoded": {"x": {"array": ["V2000000000", [1], ""]}}}),
    json.dumps({"id": "FrozenLake-v1", "encoded": {"x": {"range": [0, 2**62, 1]}}}),
    json.dumps({"name": MARKUP}),
    json.dumps({"id": 3}),
    json.dumps({"path": MARKUP, "round": 2**60, "timesteps": 2**60}),
    json.dumps([MARKUP] * 4),
    json.dumps([{}, [], None, 1]),
    json.dumps([{"name": MARKUP, "size": 2**60, "labels": None}]),
    json.dumps({"transitions": 10**400, "rounds": None, "seconds": None}),
    *(json.dumps(value) for value in HOSTILE),
]
FIXED = [*HOSTILE, *TEXTS]
DRAWN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=6,
).flatmap(lambda value: st.sampled_from([value, json.dumps(value)]))


@contextmanager
def little_room() -> Iterator[None]:
    """Let this process take no more than so much address space besides what it has, or time."""
    with Path("/proc/self/statm").open() as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    before, began = resource.getrlimit(resource.RLIMIT_AS), time.monotonic()
    resource.setrlimit(resource.RLIMIT_AS, (now + ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert time.monotonic() - began < SECONDS


class Page(html.parser.HTMLParser):
    """Refuses a script in a page."""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag != "script"


def shown(value: Any) -> None:
    """Look at something as people do."""
    repr(value)
    Page().feed(value._repr_html_())


def command(*arguments: str) -> None:
    """Run a command: whatever it prints is printable, and its errors have names."""
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code in (0, 1), (arguments, done.output, done.exception)
    assert isinstance(done.exception, SystemExit | None), done.exception
    assert all(line.isprintable() for line in done.output.split("\n"))


def opened(use: Callable[[], Any]) -> None:
    """Open something: it is there, or its error is one of dqlearn's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = use()
        except DQLearnError as error:
            found = error
    if isinstance(found, DQLearnError):
        assert len(str(found)) < 10_000
    else:
        shown(found)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a saved table and a run, of one learner, that have all attributes there are."""
    folder = tmp_path_factory.mktemp("hostile")
    learner = QLearner("FrozenLake-v1", env_kwargs={"is_slippery": False}, **SMALL)
    evaluations = EvalCallback(1, n_eval_episodes=2)
    learner.learn(40, evaluations, store=folder / "run", keep_checkpoints=9)
    learner.save(folder / "q.zarr")
    return folder / "q.zarr", folder / "run"


def attributes_of(table: Path) -> list[str]:
    return sorted(json.loads((table / "zarr.json").read_text())["attributes"])


NAMES = (
    "action_masks action_space algorithm balanced chunks dqlearn_format dtype env_timeout "
    "environment epsilon exchange federated gamma initial_value learning_rate masked num_envs "
    "observation_space on_env_error policy_lag "
    "round seed shards sparse sparse_block state_factors steps_per_round timesteps versions"
).split()
OF_RUNS = (
    *("action_labels best_mean best_round checkpoint checkpoint_every fingerprint").split(),
    *("keep_checkpoints origin restart_envs").split(),
)
MISSING = object()


def test_all_attributes_are_tried(made: tuple[Path, Path]) -> None:
    table, run = made
    assert attributes_of(table) == NAMES
    assert sorted(dqlearn.open_table(run).attrs) == sorted([*NAMES, *OF_RUNS])


@contextmanager
def edited(table: Path, name: str, value: Any) -> Iterator[None]:
    """Let a table say something else for a while."""
    header = table / "zarr.json"
    before = header.read_text()
    stored = json.loads(before)
    stored["attributes"].pop(name)
    if value is not MISSING:
        stored["attributes"][name] = value
    try:
        header.write_text(json.dumps(stored))
        yield
    finally:
        header.write_text(before)


def look_at_table(table: Path, name: str, value: Any) -> None:
    with edited(table, name, value), little_room():
        opened(lambda: dqlearn.load(table))
        command("info", str(table))


@contextmanager
def committed(run: Path, attrs: dict[str, Any]) -> Iterator[None]:
    """Let a run have one more checkpoint for a while, which says something else."""
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(run)))
    newest, *_ = repository.ancestry(branch="main")
    session = repository.writable_session("main")
    zarr.open_group(session.store, mode="r+").attrs.put(attrs)
    session.commit("edited", metadata=newest.metadata)
    try:
        yield
    finally:
        repository.reset_branch("main", newest.id)


def look_at_run(run: Path, name: str, value: Any) -> None:
    if value != value or value in (float("inf"), float("-inf")):
        return  # Icechunk takes JSON as it is specified, which has no such numbers
    attrs = dict(dqlearn.open_table(run).attrs)
    attrs.pop(name)
    with committed(run, attrs if value is MISSING else {**attrs, name: value}), little_room():
        opened(lambda: dqlearn.resume(run))
        opened(lambda: dqlearn.open_table(run))
        command("runs", "info", str(run))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=8)
@example(value=MARKUP)
@example(value=2**60)
@example(value="[" * 100_000)
@given(value=DRAWN)
def test_a_tables_attributes(name: str, value: Any, made: tuple[Path, Path]) -> None:
    look_at_table(made[0], name, value)


@pytest.mark.soak
@pytest.mark.parametrize("name", NAMES)
def test_the_worst_of_a_tables_attributes(name: str, made: tuple[Path, Path]) -> None:
    for value in (MISSING, *FIXED):
        look_at_table(made[0], name, value)


@pytest.mark.parametrize(
    "name", [*OF_RUNS, *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES)]
)
@settings(max_examples=3)
@example(value=MARKUP)
@example(value=2**60)
@given(value=DRAWN)
def test_a_runs_attributes(name: str, value: Any, made: tuple[Path, Path]) -> None:
    look_at_run(made[1], name, value)


@pytest.mark.soak
@pytest.mark.parametrize("name", [*OF_RUNS, "chunks", "environment", "seed", "sparse"])
def test_the_worst_of_a_runs_attributes(name: str, made: tuple[Path, Path]) -> None:
    """Of those that are read in another way than a table's."""
    for value in (MISSING, *FIXED[len(name) % 3 :: 3]):
        look_at_run(made[1], name, value)
