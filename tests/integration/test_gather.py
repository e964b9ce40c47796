"""The gather path: chosen by a rule, with the bits of the other, whatever a learner goes through.

Laws P1 and P2 are tried on it with all others, in tests/laws.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import dask
import gymnasium
import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner
from distributed import Client, LocalCluster
from given_up import join_given_up
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import dqlearn
from dqlearn import Every, QLearner, TabularEnv
from dqlearn.callbacks import Stop
from dqlearn.cli import main
from dqlearn.engine.graph import State
from dqlearn.engine.round import round_graph
from dqlearn.engine.tasks.asking import answer_task, ask_task, learn_task, turn_task
from dqlearn.envs.problems.torus import torus
from dqlearn.envs.python.gymnasium_env import open_python_shard
from dqlearn.errors import ConfigurationError, EnvironmentFault, StaleShardError, StoreError
from dqlearn.events import RoundEnd
from dqlearn.stages.plan import Plan
from dqlearn.stages.settings import Settings
from dqlearn.table.chunk import filled

N_ENVS = 40
ONE_STEP = {"steps_per_round": 1, "policy_lag": 1}


def walk(exchange: str = "gather", **settings: Any) -> QLearner:
    """Return a learner of a torus of 144 states in 6 chunks, rounds of 40 transitions."""
    defaults = {
        "num_envs": N_ENVS,
        "shards": 2,
        "chunks": (50, 3),
        "epsilon": 0.4,
        "learning_rate": 0.5,
        "seed": 7,
    }
    kwargs = {"side": 12, "max_episode_steps": 9}
    own = {"env_kwargs": kwargs, "exchange": exchange, **ONE_STEP}
    return QLearner("dqlearn/Torus-v0", **(own | defaults | settings))


def lake(exchange: str = "gather", **settings: Any) -> QLearner:
    """Return a learner of Gymnasium's lake: Python environments, rounds of 40 transitions."""
    defaults = {"num_envs": N_ENVS, "shards": 2, "chunks": (7, 4), "seed": 7, "initial_value": 0.5}
    own = {"exchange": exchange, "compile": False, **ONE_STEP}
    return QLearner("FrozenLake-v1", **(own | defaults | settings))


BOTH = pytest.mark.parametrize("make", [walk, lake])


def assert_same(learner: QLearner, other: QLearner) -> None:
    """Compare tables and counters to the bit, and histories but for the order of a sum."""
    tables = [dask.compute(each.table.q, each.table.visits) for each in (learner, other)]
    for ours, theirs in zip(*tables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert learner.num_timesteps == other.num_timesteps
    mine, theirs = (each.history.drop_vars("wall_time") for each in (learner, other))
    xr.testing.assert_identical(mine.drop_vars("mean_abs_td"), theirs.drop_vars("mean_abs_td"))
    np.testing.assert_allclose(mine["mean_abs_td"], theirs["mean_abs_td"])


def plan_of(learner: QLearner) -> Plan:
    return learner._plan


# the choice


LAGGED = {"steps_per_round": 1, "policy_lag": 1}


@pytest.mark.parametrize(
    ("side", "settings", "expected"),
    [
        (1000, {"steps_per_round": 1}, ("broadcast", 16_384, 1, 0)),
        (1000, LAGGED, ("gather", 65_536, 1, 1)),
        (1000, LAGGED | {"num_envs": 62_500}, ("gather", 62_500, 1, 1)),
        (1000, LAGGED | {"num_envs": 62_501}, ("broadcast", 62_501, 1, 1)),
        (999, LAGGED | {"num_envs": 1}, ("broadcast", 1, 1, 1)),
        (999, LAGGED, ("broadcast", 4_096, 1, 1)),
        (1000, {"steps_per_round": 1, "policy_lag": 0}, ("broadcast", 16_384, 1, 0)),
        (1000, {"steps_per_round": 2}, ("broadcast", 8_192, 2, 0)),
        (1000, {}, ("broadcast", 4_096, 4, 0)),
        (1000, {"policy_lag": 1}, ("broadcast", 4_096, 977, 1)),
        (1000, {"num_envs": 8}, ("broadcast", 8, 64, 0)),
        (3000, {}, ("broadcast", 4_096, 1024, 0)),
        (3000, {"steps_per_round": 1}, ("gather", 65_536, 1, 1)),
        (8, {"exchange": "gather"}, ("gather", 65_536, 1, 1)),
        (8, {"exchange": "gather", "num_envs": 9}, ("gather", 9, 1, 1)),
        (1000, {"steps_per_round": 1, "exchange": "broadcast"}, ("broadcast", 16_384, 1, 0)),
    ],
    ids=str,
)
def test_which_path(side: int, settings: dict[str, Any], expected: tuple[Any, ...]) -> None:
    """Path, environments, steps and lag; what was not said depends on it."""
    plan = plan_of(QLearner(torus(side=side), **settings))
    assert (plan.exchange, plan.num_envs, plan.steps_per_round, plan.policy_lag) == expected


def test_python_environments_on_the_gather_path() -> None:
    plan = plan_of(QLearner("FrozenLake-v1", exchange="gather", compile=False))
    assert (plan.num_envs, plan.steps_per_round, plan.policy_lag) == (64, 1, 1)


def test_it_is_shown() -> None:
    """In the line of text, and in the table for notebooks."""
    assert repr(walk()) == (
        "QLearner('dqlearn/Torus-v0': 144 states x 4 actions, 40 environments in 2 shards, 40 "
        "transitions a round, gather, 0 transitions made)"
    )
    assert "<td>40 transitions, gather</td>" in walk()._repr_html_()
    assert "<td>40 transitions, broadcast</td>" in walk("broadcast")._repr_html_()
    assert walk().table.to_xarray().attrs["exchange"] == "gather"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"exchange": "x"}, "exchange must be 'auto', 'broadcast' or 'gather', got 'x'"),
        ({"exchange": None}, "exchange must be .*got None"),
        ({"exchange": ["gather"]}, r"exchange must be .*got \['gather'\]"),
        ({"steps_per_round": 4}, "exchange='gather' needs steps_per_round=1 .*steps_per_round=4"),
        ({"policy_lag": 0}, "exchange='gather' needs .*policy_lag=0.*leave them out"),
        ({"policy_lag": 2}, "policy_lag must be 0 or 1, got 2"),
        ({"steps_per_round": 0}, "steps_per_round must be .* at least 1"),
    ],
    ids=str,
)
def test_what_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        walk(**settings)


# the same bits


@BOTH
def test_both_paths_make_the_same(make: Callable[..., QLearner]) -> None:
    """Tables, counters and histories, in one call of learn or in two."""
    broadcast = make("broadcast").learn(25 * N_ENVS)
    assert_same(make().learn(25 * N_ENVS), broadcast)
    assert_same(make().learn(9 * N_ENVS).learn(25 * N_ENVS), broadcast)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_whatever_resets_the_environments(mode: AutoresetMode) -> None:
    """Batches may be shorter than there are environments; P5 holds as on the other path."""

    def make(num_envs: int) -> SyncVectorEnv:
        each = partial(gymnasium.make, "FrozenLake-v1", max_episode_steps=5)
        return SyncVectorEnv([each] * num_envs, autoreset_mode=mode)

    settings = {"num_envs": 30, "shards": 3, "initial_value": 0.5, "chunks": (5, 3), **ONE_STEP}
    broadcast, gather = (
        QLearner(make, exchange=exchange, **settings).learn(900)
        for exchange in ("broadcast", "gather")
    )
    assert_same(gather, broadcast)
    assert int(gather.table.visits.sum()) == gather.num_timesteps
    assert gather.n_episodes > 100


def test_learned_in_one_episode_that_never_ends() -> None:
    """Epsilon and the learning rate follow the transitions made, on both paths."""
    settings = {
        "epsilon": dqlearn.schedules.Linear(1.0, 0.0, 500),
        "learning_rate": dqlearn.schedules.Exponential(1.0, 0.1, 500),
        "env_kwargs": {"side": 12},
        "dtype": "float64",
    }
    assert_same(walk(**settings).learn(1_000), walk("broadcast", **settings).learn(1_000))


# what one asks of a learner


@BOTH
def test_what_is_derived_from_the_table(make: Callable[..., QLearner]) -> None:
    """Values, policy, predictions and episodes are those of the other path, at every round."""
    gather, broadcast = make(), make("broadcast")
    states = np.arange(plan_of(gather).grid.shape[0])
    for timesteps in (0, 8 * N_ENVS):
        gather.learn(timesteps)
        broadcast.learn(timesteps)
        mine, theirs = (
            dask.compute(each.table.q, each.table.value, each.table.policy)
            for each in (gather, broadcast)
        )
        for ours, others in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(ours, others)
        np.testing.assert_array_equal(mine[1], mine[0].max(axis=1))
        np.testing.assert_array_equal(gather.predict(states)[0], mine[2])
        np.testing.assert_array_equal(broadcast.predict(states)[0], mine[2])
        played = [each.evaluate(20, seed=1, max_steps=50).returns for each in (gather, broadcast)]
        np.testing.assert_array_equal(*played)


def watched(learner: QLearner, rounds: int) -> list[int]:
    """Look at a table, its policy and its values at the end of rounds, while it is learned."""
    seen = []
    states = np.arange(plan_of(learner).grid.shape[0])

    def look(event: RoundEnd) -> None:
        table = event.learner.table
        q, value, policy = dask.compute(table.q, table.value, table.policy)
        assert table.round == event.report.round + 1
        np.testing.assert_array_equal(value, q.max(axis=1))
        np.testing.assert_array_equal(event.learner.predict(states)[0], policy)
        assert event.learner.evaluate(2, max_steps=20).n_episodes == 2
        seen.append(event.report.round)

    learner.learn(rounds * N_ENVS, callback=look)
    return seen


@BOTH
def test_looked_at_while_learning(make: Callable[..., QLearner]) -> None:
    learner = make()
    assert watched(learner, 6) == list(range(6))
    assert_same(learner, make().learn(6 * N_ENVS))


@pytest.mark.cluster
@BOTH
def test_looked_at_on_a_cluster_while_learning(
    make: Callable[..., QLearner], client: Client
) -> None:
    learner = make()
    assert watched(learner, 4) == list(range(4))
    with dask.config.set(scheduler="threads"):
        assert_same(learner, make().learn(4 * N_ENVS))


def test_a_table_stays_of_its_round() -> None:
    learner = walk().learn(4 * N_ENVS)
    table = learner.table
    before = dask.compute(table.q, table.value, table.policy)
    learner.learn(9 * N_ENVS)
    for kept, now in zip(before, dask.compute(table.q, table.value, table.policy), strict=True):
        np.testing.assert_array_equal(kept, now)
    assert (table.round, learner.table.round) == (4, 9)


@BOTH
def test_stop_and_go_on(make: Callable[..., QLearner]) -> None:
    """A callback stops it after 3 rounds; it goes on as if it had not."""

    def stop(event: RoundEnd) -> Stop | None:
        return Stop("enough") if event.report.round == 2 else None

    learner = make().learn(9 * N_ENVS, callback=stop)
    assert learner.num_timesteps == 3 * N_ENVS
    assert_same(learner.learn(9 * N_ENVS), make().learn(9 * N_ENVS))


# saved and loaded


@BOTH
def test_save_and_load(make: Callable[..., QLearner], tmp_path: Path) -> None:
    """A table goes on on its own path, or on the other, with the same bits."""
    make().learn(5 * N_ENVS).save(tmp_path / "q.zarr")
    own = dqlearn.load(tmp_path / "q.zarr")
    other = dqlearn.load(tmp_path / "q.zarr", exchange="broadcast", chunks=(3, 1))
    assert (plan_of(own).exchange, plan_of(other).exchange) == ("gather", "broadcast")
    assert own.num_timesteps == 5 * N_ENVS
    assert_same(own.learn(9 * N_ENVS), other.learn(9 * N_ENVS))


def test_a_table_of_an_earlier_version(tmp_path: Path) -> None:
    """It says nothing of paths: there was one."""
    walk("broadcast").learn(2 * N_ENVS).save(tmp_path / "q.zarr")
    group = zarr.open_group(tmp_path / "q.zarr", mode="r+")
    del group.attrs["exchange"]
    assert plan_of(dqlearn.load(tmp_path / "q.zarr")).exchange == "broadcast"
    said = CliRunner().invoke(main, ["info", str(tmp_path / "q.zarr")]).stdout
    assert re.search(r"exchange +broadcast", said)


# runs


@pytest.mark.parametrize("exchange", ["gather", "broadcast"])
def test_resumed_as_undisturbed(exchange: str, tmp_path: Path) -> None:
    """From the end of a call, and from a checkpoint in its middle; the bits are of both paths."""
    saving = {"checkpoint_every": Every(rounds=3)}
    walk(exchange).learn(7 * N_ENVS, store=tmp_path / "run", **saving)
    for at in ("latest", 2):
        resumed = dqlearn.resume(tmp_path / "run", at)
        assert plan_of(resumed).exchange == exchange
        assert_same(resumed.learn(11 * N_ENVS), walk().learn(11 * N_ENVS))
        assert_same(dqlearn.resume(tmp_path / "run"), walk().learn(11 * N_ENVS))


def test_resumed_in_another_process(tmp_path: Path) -> None:
    undisturbed = walk().learn(11 * N_ENVS)
    walk().learn(5 * N_ENVS, store=tmp_path / "run")
    code = f"import dqlearn; dqlearn.resume({str(tmp_path / 'run')!r}).learn({11 * N_ENVS})"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    assert_same(dqlearn.resume(tmp_path / "run"), undisturbed)


def test_python_environments_that_restart(tmp_path: Path) -> None:
    """With every checkpoint chunks are asked anew, by environments that are elsewhere."""
    saving = {"checkpoint_every": Every(rounds=2), "restart_envs": True}
    undisturbed = lake().learn(8 * N_ENVS, store=tmp_path / "run", **saving)
    broadcast = lake("broadcast").learn(8 * N_ENVS, store=tmp_path / "other", **saving)
    assert_same(undisturbed, broadcast)
    assert_same(dqlearn.resume(tmp_path / "run", at=2).learn(8 * N_ENVS), undisturbed)


def test_environments_that_restart_twice_in_a_round(tmp_path: Path) -> None:
    """For the last checkpoint in one store, and the first in another."""
    learners = [lake(exchange) for exchange in ("gather", "broadcast")]
    for learner in learners:
        for timesteps, name in ((4, "one"), (7, "two")):
            store = tmp_path / f"{name} {plan_of(learner).exchange}"
            learner.learn(
                timesteps * N_ENVS, store=store, checkpoint_every=Every(rounds=2), restart_envs=True
            )
    assert_same(*learners)


@pytest.mark.cluster
def test_restarted_environments_move_to_a_cluster(
    tmp_path: Path, local_cluster: LocalCluster
) -> None:
    """From a checkpoint that was not written, so that only the learner knows of the restart."""
    saving = {"checkpoint_every": Every(rounds=2), "restart_envs": True}
    whole = lake().learn(8 * N_ENVS, store=tmp_path / "whole", **saving)

    def break_disk(event: RoundEnd) -> None:
        if event.report.round == 3:
            for name in ("chunks", "manifests"):
                shutil.rmtree(tmp_path / "run" / name, ignore_errors=True)
                (tmp_path / "run" / name).touch()

    learner = lake()
    with pytest.raises(StoreError):
        learner.learn(4 * N_ENVS, store=tmp_path / "run", callback=break_disk, **saving)
    with Client(local_cluster):
        learner.learn(8 * N_ENVS, store=tmp_path / "other", **saving)
    assert_same(learner, whole)


# places


@pytest.mark.cluster
@BOTH
def test_moving(make: Callable[..., QLearner], local_cluster: LocalCluster) -> None:
    """Threads, a cluster, threads after its client was closed, and back: the same bits."""
    whole = make("broadcast").learn(12 * N_ENVS)
    learner = make().learn(3 * N_ENVS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Client(local_cluster):
            assert learner.learn(6 * N_ENVS).num_timesteps == 6 * N_ENVS
        assert int(learner.table.visits.sum()) == 6 * N_ENVS
        learner.learn(9 * N_ENVS)
        with Client(local_cluster):
            learner.learn(12 * N_ENVS)
        assert_same(learner, whole)


# environments that fail


class Flaky(gymnasium.Env[Any, Any]):
    """A walk on a line of 12 states whose end pays 1; every `every`-th step raises, or hangs."""

    observation_space = spaces.Discrete(12)
    action_space = spaces.Discrete(2)

    def __init__(self, every: int, hang: threading.Event | None = None) -> None:
        self.every, self.hang, self.state, self.age = every, hang, 0, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Go to one of the first states."""
        super().reset(seed=seed)
        self.state = int(self.np_random.integers(6))
        return self.state, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Take a step, or fail."""
        self.age += 1
        if self.age % self.every == 0:
            if self.hang is None:
                raise OSError("lost connection")
            self.hang.wait(60)
        self.state = max(self.state + (1 if action else -1), 0)
        over = self.state == 11
        return self.state, float(over), over, False, {}


def flaky(make: Callable[..., Any], **settings: Any) -> QLearner:
    defaults = {"num_envs": 8, "shards": 2, "epsilon": 0.5, "seed": 4, "chunks": (5, 2)}
    return QLearner(make, exchange="gather", **(defaults | settings))


def goes_on(learner: QLearner, match: str) -> None:
    """Meet the fault in the step of round 20, made in round 19; learn on from the round before."""
    with (
        pytest.warns(UserWarning, match=r"round 19 failed.*built and reset anew"),
        pytest.raises(EnvironmentFault, match=match),
    ):
        learner.learn(400)
    assert int(learner.table.visits.sum()) == learner.num_timesteps == 19 * 8
    assert learner.predict(np.arange(12))[0].shape == (12,)
    learner.learn(30 * 8)
    assert int(learner.table.visits.sum()) == learner.num_timesteps == 30 * 8
    assert learner.history["round"].values.tolist() == list(range(30))


def test_an_environment_raises() -> None:
    goes_on(flaky(partial(Flaky, 21)), r"of shard [01] failed at step 20: .*lost connection")


@pytest.mark.cluster
def test_an_environment_raises_on_a_cluster(client: Client) -> None:
    learner = flaky(partial(Flaky, 21))
    with (
        pytest.warns(UserWarning, match=r"round \d+ failed.*built and reset anew"),
        pytest.raises(EnvironmentFault, match=r"of shard \d failed at step 20"),
    ):
        learner.learn(400)
    made = learner.num_timesteps
    assert int(learner.table.visits.sum()) == made <= 19 * 8
    assert learner.learn(made + 80).num_timesteps == made + 80


def test_an_environment_hangs() -> None:
    hang = threading.Event()
    learner = flaky(partial(Flaky, 21, hang), env_timeout=0.5)
    try:
        goes_on(learner, r"did not come back from step 20 within 0\.5 s")
    finally:
        hang.set()
        join_given_up()


def test_environments_that_are_built_anew() -> None:
    """The same restarts, transitions and tables on both paths."""
    settings = {"on_env_error": "restart", "exchange": "broadcast", **ONE_STEP}
    gather = flaky(partial(Flaky, 10), on_env_error="restart").learn(800)
    other = {"num_envs": 8, "shards": 2, "epsilon": 0.5, "seed": 4, "chunks": (5, 2)}
    assert_same(gather, QLearner(partial(Flaky, 10), **(other | settings)).learn(800))
    assert int(gather.history["n_restarts"].sum()) > 50


def test_a_model_that_leaves_its_states() -> None:
    """A compiled one is data: the learner is as it was, and fails in the same way again."""

    def out(state: Any, action: Any, key: Any, params: Any) -> tuple[Any, float, bool]:
        return state + 1, 0.0, False

    def first(key: Any, params: Any) -> int:
        return 0

    env = TabularEnv(n_states=9, n_actions=2, initial=first, transition=out)
    learner = QLearner(env, exchange="gather", num_envs=4, shards=2, chunks=(2, 1))
    for _ in range(2):
        with pytest.raises(dqlearn.errors.StateRangeError, match="9"):
            learner.learn(400)
        assert learner.num_timesteps == int(learner.table.visits.sum()) == 7 * 4


# tasks


def python_plan(chunks: Any = -1) -> Plan:
    return plan_of(flaky(partial(Flaky, 10**9), num_envs=3, shards=1, chunks=chunks))


def test_a_shard_that_has_left_its_round_is_refused() -> None:
    """Before anything is read for it: the answers at hand are of other states."""
    plan = python_plan()
    shard = open_python_shard(plan.env, 0, 3, seed=3)  # type: ignore[arg-type]
    chunk = filled((12, 2), 0.0, np.dtype("float32"))
    chunk = answer_task(plan, 0, chunk, [ask_task(plan, shard, 0)], 0)
    batch, shard, parcel = turn_task(plan, 0, shard, [chunk], 0)
    for stale in (
        lambda: ask_task(plan, shard, 0),
        lambda: ask_task(plan, shard, 1, batch),
        lambda: turn_task(plan, 0, shard, [chunk], 0),
    ):
        with pytest.raises(StaleShardError, match=r"is in round 1, expected [02]"):
            stale()
    chunk = answer_task(plan, 0, chunk, [parcel], 0)
    assert len(turn_task(plan, 0, shard, [chunk], 0, batch)[0].state) == 3


def test_chunks_that_learn_nothing_are_not_copied() -> None:
    """The environments are in states 0 .. 5, all of the first of two chunks."""
    plan = python_plan(chunks=(6, 2))
    shard = open_python_shard(plan.env, 0, 3, seed=3)  # type: ignore[arg-type]
    empty = [filled((6, 2), 0.0, np.dtype("float32")) for _ in range(2)]
    chunks = [answer_task(plan, c, empty[c], [ask_task(plan, shard, 0)], 0) for c in range(2)]
    batch, shard, parcel = turn_task(plan, 0, shard, chunks, 0)
    chunks = [answer_task(plan, c, empty[c], [parcel], 0) for c in range(2)]
    made = turn_task(plan, 0, shard, chunks, 0, batch)
    learned = [learn_task(plan, c, chunks[c], [made], 1, False) for c in range(2)]
    assert [int(chunk.visits.sum()) for chunk in learned] == [3, 0]
    assert learned[0].q is not empty[0].q
    assert learned[1].q is empty[1].q
    assert [chunk.timesteps for chunk in learned] == [3, 3]


@pytest.mark.parametrize("memories", [1, 2, 5])
def test_tasks_of_a_round(memories: int) -> None:
    """As :mod:`dqlearn.engine.round` counts them, with W = 3 and C = 8."""
    sent = 3 * memories if memories > 1 else 0
    assert tasks_of_a_round(memories, exchange="gather") == 3 * 3 + 2 * 8 + 1 + 2 * sent
    for lag, more in ((0, 0), (1, 2 * 3)):
        expected = 2 * 3 + 8 + memories + 1 + sent + more
        assert tasks_of_a_round(memories, exchange="broadcast", policy_lag=lag) == expected


def tasks_of_a_round(memories: int, **settings: Any) -> int:
    chosen = {"num_envs": 6, "shards": 3, "chunks": (18, 4), "steps_per_round": 1, **settings}
    plan = Settings.of(chosen).plan(walk()._resolved, 1)
    assert plan.grid.n_chunks == 8
    counts = (("c", 8), ("s", 3), ("b", 3 if plan.policy_lag else 0))
    keys = [tuple((name, "run", w) for w in range(n)) for name, n in counts]
    drawn = round_graph(plan, State(5, ("plan", "run"), (("p", "run", 0),), *keys), memories)
    assert drawn.state.round == 6
    return len(drawn.tasks)


# the command line


def test_on_the_command_line(tmp_path: Path) -> None:
    def said(*arguments: object) -> str:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    train = ["train", "dqlearn/Torus-v0", "--env", "side=8", "--num-envs", 16, "--timesteps", 64]
    said(*train, "--exchange", "gather", "--out", tmp_path / "q.zarr", "--store", tmp_path / "run")
    for info in (["info", tmp_path / "q.zarr"], ["runs", "info", tmp_path / "run"]):
        lines = {tuple(line.split()[:2]) for line in said(*info).splitlines()}
        assert {("exchange", "gather"), ("policy_lag", "1"), ("steps_per_round", "1")} <= lines
    result = CliRunner().invoke(main, ["train", "Taxi-v4", "--exchange", "x", "--timesteps", "1"])
    assert "'auto', 'broadcast', 'gather'" in result.stderr
