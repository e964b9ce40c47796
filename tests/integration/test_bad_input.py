"""What can never work is refused by name, says what to do, and leaves the learner usable."""

from __future__ import annotations

import json
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import gymnasium
import numpy as np
import pytest
import zarr
from gymnasium import spaces

import dqlearn
from dqlearn import QLearner, TabularEnv
from dqlearn.envs.problems.torus import torus
from dqlearn.errors import (
    ConfigurationError,
    DQLearnError,
    EnvironmentFault,
    GridError,
    IncompatibleTableError,
    RewardError,
    ScheduleError,
    SpaceError,
    StateRangeError,
    TableTooLargeError,
)
from dqlearn.random import SEEDS, streams
from dqlearn.schedules import Linear
from dqlearn.storage.zarr_table import write
from dqlearn.table.grid import ChunkGrid
from dqlearn.table.history import History
from dqlearn.table.views.arrays import Labels, Table

N = 8  # states of the walks here


def walk(**settings: Any) -> QLearner:
    """Return a learner of a small torus."""
    defaults = {"num_envs": 64, "shards": 2, "steps_per_round": 4}
    return QLearner("dqlearn/Torus-v0", env_kwargs={"side": 8}, **(defaults | settings))


# parameters


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"gamma": 1.01}, ConfigurationError, r"gamma must be in 0 \.\. 1, got 1.01"),
        ({"gamma": -0.1}, ConfigurationError, r"gamma must be in 0 \.\. 1, got -0.1"),
        ({"gamma": float("nan")}, ConfigurationError, r"gamma must be in 0 \.\. 1, got nan"),
        ({"gamma": "0.9"}, ConfigurationError, r"gamma must be .*got '0.9'"),
        ({"learning_rate": 1.5}, ScheduleError, "1.5"),
        ({"learning_rate": -0.1}, ScheduleError, "-0.1"),
        ({"learning_rate": Linear(2.0, 0.1, 10)}, ScheduleError, "2.0"),
        ({"learning_rate": "fast"}, ConfigurationError, "fast"),
        ({"epsilon": 1.5}, ScheduleError, "epsilon.*1.5"),
        ({"epsilon": Linear(1.0, -0.1, 10)}, ScheduleError, "epsilon.*-0.1"),
        ({"epsilon": float("nan")}, ScheduleError, "nan"),
        ({"initial_value": float("inf")}, ConfigurationError, "initial_value must be finite"),
        ({"initial_value": "zero"}, ConfigurationError, "initial_value must be .*'zero'"),
        ({"num_envs": 0}, ConfigurationError, "num_envs must be .* at least 1, got 0"),
        ({"num_envs": -3}, ConfigurationError, "num_envs must be .* at least 1, got -3"),
        ({"num_envs": 2.5}, ConfigurationError, "num_envs must be an integer.*2.5"),
        ({"shards": 0}, ConfigurationError, "shards must be .* at least 1, got 0"),
        ({"shards": 65}, ConfigurationError, "at most num_envs=64, got 65"),
        ({"steps_per_round": 0}, ConfigurationError, "steps_per_round must be .* at least 1"),
        ({"steps_per_round": -1}, ConfigurationError, "steps_per_round must be .* at least 1"),
        ({"policy_lag": 2}, ConfigurationError, "policy_lag must be 0 or 1, got 2"),
        ({"dtype": "float16"}, ConfigurationError, "float32 or float64, got float16"),
        ({"dtype": int}, ConfigurationError, "float32 or float64, got int64"),
        ({"dtype": "double-ish"}, ConfigurationError, "float32 or float64, got 'double-ish'"),
        ({"seed": -1}, ConfigurationError, r"seed must be .* 0 \.\. 2\*\*64 - 1, got -1"),
        ({"seed": 2**64}, ConfigurationError, "seed must be"),
        ({"seed": 0.5}, ConfigurationError, "seed must be .*0.5"),
        ({"seed": None}, ConfigurationError, "seed must be .*None"),
        ({"chunks": ((30, 30), (4,))}, GridError, "must cover 64 states x 4 actions"),
        ({"chunks": (0, 4)}, GridError, "chunk"),
        ({"chunks": "many"}, GridError, "must cover 64 states"),
        ({"chunks": ((64, 0), (4,))}, GridError, "positive sizes"),
        ({"bins": 4}, ConfigurationError, "bins"),
    ],
    ids=str,
)
def test_parameters(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    """Each is refused before anything is learned, with the name and the value."""
    with pytest.raises(error, match=message) as caught:
        walk(**settings)
    assert isinstance(caught.value, DQLearnError)
    assert isinstance(caught.value, ValueError)


def test_timesteps() -> None:
    learner = walk()
    with pytest.raises(
        ConfigurationError, match=r"total_timesteps must be a whole number >= 0.*got -1"
    ):
        learner.learn(-1)
    with pytest.raises(ConfigurationError, match="expected a Callback, a function"):
        learner.learn(1_000, callback=3)  # type: ignore[arg-type]
    with pytest.raises(
        ConfigurationError, match="n_episodes must be an integer of at least 1, got 0"
    ):
        learner.evaluate(0)
    with pytest.raises(SpaceError, match=r"got 64 .*outside 0\.\.63"):
        learner.predict(64)
    assert learner.learn(1_000).num_timesteps == 1_024


@pytest.mark.parametrize("sizes", [(0, 2), (-1, 2), (4, 0), (2**63, 1), (4.0, 2)], ids=str)
def test_model_sizes(sizes: tuple[Any, Any]) -> None:
    """A model has states and actions."""
    with pytest.raises(ConfigurationError, match=r"must be an integer in 1 \.\. 2\*\*62"):
        TabularEnv(*sizes, initial, transition)


def test_the_processes_scheduler_is_refused() -> None:
    """It cannot keep the table; what can is named."""
    learner = walk().learn(256)
    with dask.config.set(scheduler="processes"):
        for use in (walk, lambda: learner.learn(1_024), lambda: learner.table):
            with pytest.raises(ConfigurationError, match=r"'processes'.*threads.*Client"):
                use()
    assert learner.learn(1_024).num_timesteps == 1_024


# environments


def seed_of(environment: int) -> int:
    """Return what an environment of a run with seed 0 is seeded with at the beginning."""
    return int(streams(np.uint64(0), SEEDS, environment, 1)[0] >> np.uint64(33))


class Odd(gymnasium.Env[Any, Any]):
    """A walk round a ring that breaks a rule at its `at`-th step, if it has a certain seed."""

    def __init__(
        self,
        breaks: str = "nothing",
        at: int = 10**9,
        seed: int | None = None,
        observation_space: spaces.Space[Any] = spaces.Discrete(N),  # noqa: B008  (immutable)
        action_space: spaces.Space[Any] = spaces.Discrete(2),  # noqa: B008
    ) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        self.breaks, self.at, self.seed, self.t, self.state = breaks, at, seed, 0, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Go to the beginning, or nowhere."""
        super().reset(seed=seed)
        if seed is not None and self.seed not in (None, seed):
            self.at = 10**9
        if self.breaks == "reset":
            raise OSError("no device")
        self.state = 99 if self.breaks == "first state" else 0
        return self.state, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Go on, or break the rule."""
        self.t += 1
        self.state = (self.state + 1) % N
        over = self.state == 0
        if self.t != self.at:
            return self.state, 1.0, over, False, {}
        match self.breaks:
            case "step":
                raise OSError("cable pulled out")
            case "state":
                return 99, 1.0, False, False, {}
            case "final state":
                return -5, 1.0, True, False, {}
            case _:
                return self.state, float(self.breaks), over, False, {}


@pytest.mark.parametrize(
    "space",
    [
        spaces.Text(5),
        spaces.Sequence(spaces.Discrete(2)),
        spaces.Graph(spaces.Discrete(2), None),
        spaces.Dict(a=spaces.Discrete(2), b=spaces.Text(3)),
    ],
    ids=lambda space: type(space).__name__,
)
def test_unknown_spaces(space: spaces.Space[Any]) -> None:
    """The part that cannot be indexed is named, and how to map it."""
    with pytest.raises(SpaceError, match=r"observation.*(Text|Sequence|Graph).*TransformObs"):
        QLearner(lambda: Odd(observation_space=space))
    with pytest.raises(SpaceError, match=r"action.*(Text|Sequence|Graph).*TransformAction"):
        QLearner(lambda: Odd(action_space=space))


def test_boxes_need_bins() -> None:
    """Observations and actions both."""
    with pytest.raises(SpaceError, match="is continuous: give it bins"):
        QLearner("CartPole-v1")
    with pytest.raises(SpaceError, match=r"action.* is continuous"):
        QLearner("Pendulum-v1", bins=3)
    with pytest.raises(SpaceError, match=r"no finite bounds.*Bins.uniform"):
        QLearner("CartPole-v1", bins=4)


def raises() -> gymnasium.Env[Any, Any]:
    raise OSError("no licence")


@pytest.mark.parametrize(
    ("env", "error", "message"),
    [
        ("NoSuchEnv-v0", EnvironmentFault, "NoSuchEnv"),
        (raises, EnvironmentFault, "could not make an environment.*no licence"),
        (lambda: 3, ConfigurationError, "must return a gymnasium.Env.*got 3"),
        (3, ConfigurationError, "expected a Gymnasium id, a TabularEnv or a factory.*got 3"),
    ],
    ids=["id", "raises", "no environment", "number"],
)
def test_what_is_no_environment(env: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        QLearner(env)


def test_arguments_that_would_be_ignored() -> None:
    with pytest.raises(ConfigurationError, match="env_kwargs= go with an id"):
        QLearner(Odd, env_kwargs={"at": 3})
    with pytest.raises(ConfigurationError, match="a model has its params"):
        QLearner(torus(side=4), env_kwargs={"side": 5})


@pytest.mark.parametrize("policy_lag", [0, 1])
@pytest.mark.parametrize(
    ("breaks", "error", "message"),
    [
        ("step", EnvironmentFault, r"environment 5 of shard 1 failed at step 18: .*cable"),
        (
            "nan",
            RewardError,
            r"finite in float32, got nan from environment 5 in state 2, action [01]",
        ),
        (
            "inf",
            RewardError,
            r"finite in float32, got inf from environment 5 in state 2, action [01]",
        ),
        (
            "1e39",
            RewardError,
            r"finite in float32, got 1e\+39 from environment 5 in state 2, action [01]",
        ),
        ("state", StateRangeError, r"environment 5 .*99.*Discrete\(8\)"),
        ("final state", StateRangeError, r"environment 5 .*-5.*Discrete\(8\)"),
    ],
)
def test_python_environments(
    breaks: str, error: type[Exception], message: str, policy_lag: int
) -> None:
    """The environment is named by its number in the run; learning goes on afterwards."""
    learner = QLearner(
        lambda: Odd(breaks, at=19, seed=seed_of(5)),
        num_envs=8,
        shards=2,
        steps_per_round=4,
        policy_lag=policy_lag,
        learning_rate=1.0,
    )
    learner.learn(2 * 32)
    rounds = 4 - policy_lag
    with (
        pytest.warns(UserWarning, match=rf"round {rounds} failed.*built and reset anew"),
        pytest.raises(error, match=message) as caught,
    ):
        learner.learn(10 * 32)
    assert isinstance(caught.value, EnvironmentFault)
    assert int(learner.table.visits.sum()) == learner.num_timesteps == rounds * 32
    learner.learn(60 * 32)
    assert int(learner.table.visits.sum()) == learner.num_timesteps == 60 * 32
    assert learner.table.q.compute()[-1].max() == 1.0
    assert learner.history["round"].values.tolist() == list(range(60))


@pytest.mark.parametrize(
    ("breaks", "error", "message"),
    [
        ("reset", EnvironmentFault, r"environment 0 of shard 0 could not be made or reset.*no dev"),
        ("first state", StateRangeError, r"environment 0 .*99.*Discrete\(8\)"),
    ],
)
def test_the_first_reset(breaks: str, error: type[Exception], message: str) -> None:
    learner = QLearner(lambda: Odd(breaks), num_envs=4, shards=1)
    for _ in range(2):
        with pytest.raises(error, match=message):
            learner.learn(100)


def test_an_evaluation_that_fails() -> None:
    """It says so, and learning is not touched."""
    learner = QLearner(lambda: Odd("step", 5), num_envs=4, shards=1, steps_per_round=1)
    learner.learn(8)
    with pytest.raises(EnvironmentFault, match=r"failed in an evaluation.*cable pulled out"):
        learner.evaluate(2)
    assert learner.learn(12).num_timesteps == 12


def initial(key: Any, params: Any) -> Any:
    return params[0]


def transition(state: Any, action: Any, key: Any, params: Any) -> Any:
    n = 5
    reward = params[1] if state == n - 1 else 0.0
    after = params[2] if state == n - 1 else state + 1
    return after, reward, False


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ((0, np.nan, 0), RewardError, "finite, got nan from environment 0 in state 4, action 0"),
        ((0, -np.inf, 0), RewardError, "finite, got -inf from environment 0 in state 4"),
        ((0, 0.0, 5), StateRangeError, r"in 0 \.\. 4, got 5 after environment 0 in state 4"),
        ((0, 0.0, -1), StateRangeError, r"in 0 \.\. 4, got -1 after environment 0"),
        ((7, 0.0, 0), StateRangeError, r"initial\(\) must return .* got 7 for environment 0"),
    ],
    ids=str,
)
def test_models(params: tuple[Any, ...], error: type[Exception], message: str) -> None:
    """Compiled environments are checked as well; the learner keeps the rounds before."""
    model = TabularEnv(5, 1, initial, transition, params=params)
    learner = QLearner(model, num_envs=64, shards=1, steps_per_round=2)
    for _ in range(2):
        with pytest.raises(error, match=message):
            learner.learn(1_000)
    if params[0] == 0:
        assert learner.num_timesteps == int(learner.table.visits.sum()) == 2 * 128
        assert learner.predict(0)[0] == 0


# tables too large


def test_more_than_memory() -> None:
    """Sizes are compared before a single chunk is made."""
    with pytest.raises(TableTooLargeError, match=r"PiB.*got .*GiB of memory.*dtype") as caught:
        QLearner("dqlearn/Torus-v0", env_kwargs={"side": 2**25})
    assert isinstance(caught.value, MemoryError)


def test_more_than_disk(tmp_path: Path) -> None:
    """A table of an exbibyte, of which nothing was computed."""
    grid = ChunkGrid((2**25,) * 2**18, (2**5,) * 2**4)
    table = Table(0, grid, np.dtype(np.float64), Labels((), None, {}), (), "run", 0)
    with pytest.raises(TableTooLargeError, match=r"at least .*PiB.* of disk.*free at"):
        write(table, str(tmp_path / "q.zarr"), History())
    assert not list(tmp_path.iterdir())


@contextmanager
def file_size(limit: int) -> Iterator[None]:
    """Let no file of this process grow beyond `limit` bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_disk_fills_up_while_saving(tmp_path: Path) -> None:
    """The table that was there stays; no half of the new one is left."""
    learner = QLearner("dqlearn/Torus-v0", env_kwargs={"side": 256}, num_envs=256).learn(200_000)
    walk().learn(256).save(tmp_path / "q.zarr")
    with file_size(50_000), pytest.raises(TableTooLargeError, match="while saving"):
        learner.save(tmp_path / "q.zarr", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["q.zarr"]
    assert dqlearn.load(tmp_path / "q.zarr").num_timesteps == 256
    learner.save(tmp_path / "q.zarr", overwrite=True)
    assert dqlearn.load(tmp_path / "q.zarr").num_timesteps == learner.num_timesteps


# stored tables


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A table of the 8 x 8 torus."""
    walk().learn(256).save(tmp_path / "q.zarr")
    return tmp_path / "q.zarr"


def attributes(path: Path, **changes: Any) -> None:
    """Edit a table's attributes; None takes one away."""
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    attrs = {k: v for k, v in (dict(group.attrs) | changes).items() if v is not None}
    group.attrs.put(attrs)
    metadata = json.loads((path / "zarr.json").read_text())
    (path / "zarr.json").write_text(json.dumps(metadata | {"attributes": attrs}))


def test_nothing_there(tmp_path: Path) -> None:
    for name in ("missing.zarr", "file.txt", "folder"):
        (tmp_path / "file.txt").write_text("not a table")
        (tmp_path / "folder").mkdir(exist_ok=True)
        with pytest.raises(IncompatibleTableError, match=f"expected a table.*{name}"):
            dqlearn.load(tmp_path / name)


def test_a_foreign_group(tmp_path: Path) -> None:
    """Arrays of somebody else's, and a single array."""
    zarr.open_group(tmp_path / "other.zarr", mode="w").create_array("x", shape=3, dtype="f4")
    zarr.create_array(tmp_path / "one.zarr", shape=3, dtype="f4")
    for name in ("other.zarr", "one.zarr"):
        with pytest.raises(IncompatibleTableError, match=f"expected a table.*{name}"):
            dqlearn.load(tmp_path / name)


def test_another_format(stored: Path) -> None:
    attributes(stored, dqlearn_format=99)
    with pytest.raises(IncompatibleTableError, match=r"of format 1, got 99.*another version"):
        dqlearn.load(stored)


@pytest.mark.parametrize(
    "changes",
    [
        {"environment": None},
        {"gamma": None},
        {"observation_space": "{"},
        {"action_space": json.dumps({"name": "action", "space": {"kind": "Discrete"}})},
        {"epsilon": json.dumps({"kind": "os.system", "value": 1})},
        {"chunks": "[1, 2]"},
        {"round": "many"},
    ],
    ids=str,
)
def test_edited_attributes(stored: Path, changes: dict[str, Any]) -> None:
    """What is missing or no longer makes sense is no table of ours."""
    attributes(stored, **changes)
    with pytest.raises(IncompatibleTableError, match=r"q\.zarr"):
        dqlearn.load(stored)


def test_a_truncated_header(stored: Path) -> None:
    header = stored / "zarr.json"
    header.write_text(header.read_text()[:100])
    with pytest.raises(IncompatibleTableError, match="expected a table that dqlearn saved"):
        dqlearn.load(stored)


def test_a_missing_array(stored: Path) -> None:
    attributes(stored)
    shutil.rmtree(stored / "visits")
    metadata = json.loads((stored / "zarr.json").read_text())
    metadata.get("consolidated_metadata", {}).get("metadata", {}).pop("visits", None)
    (stored / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(IncompatibleTableError, match="visits"):
        dqlearn.load(stored)


@pytest.mark.parametrize("array", ["q", "visits"])
def test_a_truncated_chunk(stored: Path, array: str) -> None:
    """Found when the chunk is read, by its name, and not taken for numbers."""
    chunk = next(path for path in (stored / array / "c").rglob("*") if path.is_file())
    chunk.write_bytes(chunk.read_bytes()[: os.path.getsize(chunk) // 2])
    with pytest.raises(IncompatibleTableError, match="cannot be read"):
        dqlearn.load(stored).learn(1_000)


def test_a_lost_chunk(stored: Path) -> None:
    """Zarr would read its fill value."""
    chunk = next(path for path in (stored / "q" / "c").rglob("*") if path.is_file())
    chunk.unlink()
    with pytest.raises(IncompatibleTableError, match=r"not finite|is missing"):
        dqlearn.load(stored).learn(1_000)


def test_spaces_must_agree(stored: Path) -> None:
    """Another number of states, or of actions: both spaces are shown."""
    with pytest.raises(IncompatibleTableError, match=r"observation space .*64.*got .*25"):
        dqlearn.load(stored, env=torus(side=5))
    model = TabularEnv(64, 3, initial, transition, params=(0, 0.0, 0))
    with pytest.raises(IncompatibleTableError, match=r"action space .*'n': 4.*got .*'n': 3"):
        dqlearn.load(stored, env=model)
    assert dqlearn.load(stored, env=torus(side=8)).num_timesteps == 256


def test_bad_settings_at_load(stored: Path) -> None:
    with pytest.raises(ConfigurationError, match="gamma must be in"):
        dqlearn.load(stored, gamma=2.0)
    with pytest.raises(GridError, match="must cover 64 states"):
        dqlearn.load(stored, chunks=((10,), (4,)))


def test_a_factory_without_its_factory(tmp_path: Path) -> None:
    QLearner(torus(side=4), num_envs=64).learn(64).save(tmp_path / "q.zarr")
    with pytest.raises(IncompatibleTableError, match=r"has no id .*: pass env="):
        dqlearn.load(tmp_path / "q.zarr")


def test_save_replaces_nothing_else(tmp_path: Path) -> None:
    """Neither files nor folders nor other people's groups."""
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "folder").mkdir()
    zarr.open_group(tmp_path / "other.zarr", mode="w").create_array("x", shape=3, dtype="f4")
    learner = walk().learn(256)
    for name in ("notes.txt", "folder", "other.zarr"):
        with pytest.raises(IncompatibleTableError, match="choose another path"):
            learner.save(tmp_path / name)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert "x" in zarr.open_group(tmp_path / "other.zarr", mode="r")
