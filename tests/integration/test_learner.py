"""The learner's face: learn, predict, evaluate, callbacks, Ctrl-C, table, save, load, moving."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import gymnasium
import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array

import dqlearn
from dqlearn import QLearner, TabularEnv, unfold
from dqlearn.callbacks import (
    Callback,
    CheckpointCallback,
    EvalCallback,
    Stop,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnMaxTime,
    StopTrainingOnNoModelImprovement,
    StopTrainingOnRewardThreshold,
)
from dqlearn.envs.problems.torus import torus
from dqlearn.errors import ConfigurationError
from dqlearn.events import Checkpoint, Evaluation, Event, RoundEnd, TrainingEnd, TrainingStart
from dqlearn.random import bernoulli
from dqlearn.schedules import Linear
from dqlearn.spaces import SpaceIndex

ROUND = 128 * 4


def small(**settings: Any) -> QLearner:
    """Return a learner of a small torus, 4 chunks, rounds of 512 transitions."""
    defaults = {
        "num_envs": 128,
        "shards": 2,
        "steps_per_round": 4,
        "chunks": (16, 4),
        "epsilon": 0.3,
        "seed": 7,
    }
    kwargs = {"side": 8, "max_episode_steps": 40}
    return QLearner("dqlearn/Torus-v0", env_kwargs=kwargs, **(defaults | settings))


def lake(**settings: Any) -> QLearner:
    """Return a learner of Gymnasium's lake: Python environments."""
    defaults = {"num_envs": 64, "shards": 2, "steps_per_round": 8, "chunks": (4, 4), "seed": 7}
    return QLearner("FrozenLake-v1", compile=False, **(defaults | settings))


def numbers(learner: QLearner) -> tuple[Any, Any]:
    return dask.compute(learner.table.q, learner.table.visits)


def assert_same(learner: QLearner, other: QLearner) -> None:
    """Compare tables and counters to the bit."""
    for ours, theirs in zip(numbers(learner), numbers(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert learner.num_timesteps == other.num_timesteps


# learn


@pytest.mark.parametrize("make", [small, lake])
@pytest.mark.parametrize("policy_lag", [0, 1])
def test_learn_in_pieces(make: Any, policy_lag: int) -> None:
    """Three calls make what one makes, whatever one looks at in between."""
    whole = make(policy_lag=policy_lag).learn(10 * ROUND)
    pieces = make(policy_lag=policy_lag)
    assert pieces.num_timesteps == 0
    for n in (3 * ROUND - 1, 3 * ROUND, 7 * ROUND, 10 * ROUND):
        assert pieces.learn(n) is pieces
        pieces.predict(0)
        pieces.evaluate(3, max_steps=20)
        assert pieces.num_timesteps == -(-n // ROUND) * ROUND
    assert_same(pieces, whole)
    assert pieces.history.drop_vars("wall_time").equals(whole.history.drop_vars("wall_time"))


def test_history() -> None:
    """One row a round; its sums are the learner's counters."""
    learner = small(learning_rate=Linear(0.5, 0.1, 10 * ROUND)).learn(10 * ROUND)
    history = learner.history
    assert history["round"].values.tolist() == list(range(10))
    assert history["timesteps"].values.tolist() == [ROUND * (r + 1) for r in range(10)]
    assert int(history["n_transitions"].sum()) == int(learner.table.visits.sum())
    assert history["learning_rate"].values == pytest.approx(0.5 - 0.04 * np.arange(10))
    finished = (history["mean_length"] * history["n_episodes"]).sum()
    assert 0 < finished <= learner.num_timesteps


def test_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    """It is shown on request only."""
    learner = small().learn(2 * ROUND)
    assert capsys.readouterr().err == ""
    learner.learn(4 * ROUND, progress_bar=True)
    assert "transitions/s" in capsys.readouterr().err


# predict

OBSERVATIONS: dict[str, tuple[spaces.Space[Any], Any]] = {
    "Discrete": (spaces.Discrete(5, start=2), None),
    "MultiDiscrete": (spaces.MultiDiscrete([3, 2], start=[1, 0]), None),
    "MultiBinary": (spaces.MultiBinary([2, 2]), None),
    "Box": (spaces.Box(-1.0, 1.0, (2,)), 4),
    "scalar Box": (spaces.Box(-1.0, 1.0, ()), 4),
    "Tuple": (spaces.Tuple((spaces.Discrete(3), spaces.Box(0.0, 1.0, (1,)))), [None, 3]),
    "Dict": (
        spaces.Dict(a=spaces.Discrete(3), b=spaces.Tuple((spaces.MultiBinary(2),))),
        None,
    ),
}
ACTIONS: dict[str, spaces.Space[Any]] = {
    "Discrete": spaces.Discrete(4, start=3),
    "MultiDiscrete": spaces.MultiDiscrete([2, 3]),
    "MultiBinary": spaces.MultiBinary(3),
    "Tuple": spaces.Tuple((spaces.Discrete(2), spaces.MultiDiscrete([2, 2]))),
    "Dict": spaces.Dict(a=spaces.Discrete(2), b=spaces.Discrete(3, start=1)),
}


class Sampled(gymnasium.Env[Any, Any]):
    """Observations are samples of a space; the reward is the index of the action."""

    def __init__(self, seen: spaces.Space[Any], done: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = seen, done
        self.index = SpaceIndex.from_space(done)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Draw one."""
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Draw another."""
        reward = float(self.index.encode_one(action))
        return self.observation_space.sample(), reward, False, False, {}


@pytest.mark.parametrize("seen", OBSERVATIONS)
@pytest.mark.parametrize("done", ACTIONS)
def test_predict(seen: str, done: str) -> None:
    """One observation or a batch, in every layout; after learning, the action that pays best."""
    (space, bins), actions = OBSERVATIONS[seen], ACTIONS[done]
    learner = QLearner(
        lambda: Sampled(space, actions),
        bins=bins,
        num_envs=8,
        shards=2,
        steps_per_round=40,
        gamma=0.0,
        epsilon=1.0,
        learning_rate=1.0,
    )
    learner.learn(4_000)
    space.seed(1)
    observations = [space.sample() for _ in range(3)]
    for observation in observations:
        action, state = learner.predict(observation)
        assert state is None
        assert actions.contains(action)
        assert learner.action_index.encode_one(action) == learner.action_index.n - 1
    batch = concatenate(space, observations, create_empty_array(space, n=3))
    chosen, state = learner.predict(batch)
    assert state is None
    assert learner.action_index.encode(chosen).tolist() == [learner.action_index.n - 1] * 3


def test_predict_takes_what_stable_baselines_passes() -> None:
    """State and episode_start are there for its callers, and change nothing."""
    learner = small().learn(ROUND)
    states = np.arange(64)
    plain, _ = learner.predict(states)
    given, state = learner.predict(states, None, np.ones(64, bool), deterministic=True)
    assert state is None
    assert given.tolist() == plain.tolist()


def test_predict_explores_at_the_present_epsilon() -> None:
    """Epsilon falls from 1 to 0: 1/4 of the actions are the greedy one, 5/8, all."""
    learner = small(epsilon=Linear(1.0, 0.0, 4 * ROUND))
    states = np.tile(np.arange(64), 200)
    for n, share in ((0, 0.25), (2, 0.625), (4, 1.0)):
        learner.learn(n * ROUND)
        greedy, _ = learner.predict(states)
        drawn, _ = learner.predict(states, deterministic=False)
        assert np.mean(greedy == drawn) == pytest.approx(share, abs=0.02)
        assert set(drawn.tolist()) == {0, 1, 2, 3}


# evaluate


def _initial(key: Any, params: Any) -> Any:
    return 0 if bernoulli(key, 0, 0.5) else 49


def _transition(state: Any, action: Any, key: Any, params: Any) -> Any:
    if state >= 48:
        return state, 1.0 if state == 48 else 0.0, True
    return state + 1, 0.0, False


LONG_OR_SHORT = TabularEnv(50, 2, _initial, _transition)  # 49 steps and 1.0, or 1 step and 0.0


class LongOrShort(gymnasium.Env[Any, Any]):
    """The same in Python."""

    observation_space = spaces.Discrete(50)
    action_space = spaces.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Toss the coin."""
        super().reset(seed=seed)
        self.state = 0 if self.np_random.random() < 0.5 else 49
        return self.state, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Take a step."""
        if self.state >= 48:
            return self.state, float(self.state == 48), True, False, {}
        self.state += 1
        return self.state, 0.0, False, False, {}


@pytest.mark.parametrize("env", [LONG_OR_SHORT, LongOrShort], ids=["compiled", "python"])
def test_evaluate(env: Any) -> None:
    """Short episodes are not favoured; equal seeds give equal returns; long ones can be cut."""
    learner = QLearner(env, num_envs=8, shards=1)
    result = learner.evaluate(600, seed=3)
    assert result.n_episodes == 600
    assert result.n_truncated == 0
    # Of the first 600 to end in parallel environments, 49 of 50 would be short ones.
    assert abs(result.mean - 0.5) < 4 * result.standard_error < 0.1
    long = result.returns == 1.0
    assert set(result.lengths[long]) == {49}
    assert set(result.lengths[~long]) == {1}
    assert np.array_equal(learner.evaluate(600, seed=3).returns, result.returns)
    assert not np.array_equal(learner.evaluate(600, seed=4).returns, result.returns)
    cut = learner.evaluate(600, seed=3, max_steps=10)
    assert cut.n_truncated == long.sum()
    assert cut.lengths.tolist() == np.where(long, 10, 1).tolist()
    assert cut.returns.tolist() == [0.0] * 600


def test_evaluation_does_not_depend_on_where_it_runs(client: Client) -> None:
    """Nor does it change what is learned."""
    there = [learner.evaluate(31, seed=5) for learner in (small(), lake())]
    with dask.config.set(scheduler="synchronous"):
        here = [learner.evaluate(31, seed=5) for learner in (small(), lake())]
    for one, other in zip(there, here, strict=True):
        np.testing.assert_array_equal(one.returns, other.returns)
        np.testing.assert_array_equal(one.lengths, other.lengths)


def test_evaluation_of_what_was_learned() -> None:
    """On the lake without slipping, the greedy policy arrives; episodes are truncated at 100."""
    learner = lake(env_kwargs={"is_slippery": False}, epsilon=0.5, learning_rate=0.5)
    before = learner.evaluate(20, seed=0)
    assert before.lengths.max() <= 100
    result = learner.learn(40_000).evaluate(20)
    assert (result.mean, result.mean_length) == (1.0, 6.0)


# callbacks


class Recorder(Callback):
    """Writes down every event, and answers as it is told."""

    def __init__(self, every_rounds: int | None = 1) -> None:
        self.every_rounds, self.events = every_rounds, list[Event]()

    def record(self, event: Event) -> None:
        """Write the event down."""
        if isinstance(event, RoundEnd):
            assert event.learner.num_timesteps == event.report.timesteps
            assert event.learner.table.round == event.report.round + 1
        self.events.append(event)

    on_training_start = on_round_end = on_evaluation = on_checkpoint = on_training_end = record

    @property
    def names(self) -> list[str]:
        """Kinds of the events."""
        return [type(event).__name__ for event in self.events]

    @property
    def reason(self) -> str:
        """Why it ended."""
        end = self.events[-1]
        assert isinstance(end, TrainingEnd)
        return end.reason


def test_events_in_order(tmp_path: Path) -> None:
    """Evaluations and checkpoints come after the end of their rounds, and say which table."""
    recorder = Recorder(every_rounds=2)
    evaluate = EvalCallback(every_rounds=3, n_eval_episodes=5, seed=0)
    save = CheckpointCallback(every_rounds=4, save_path=tmp_path)
    learner = small().learn(6 * ROUND, callback=[recorder, evaluate, save])
    assert recorder.names == [
        "TrainingStart",
        "RoundEnd",  # round 1
        "Evaluation",  # of Q_3
        "RoundEnd",  # 3
        "Checkpoint",  # of Q_4
        "RoundEnd",  # 5
        "Evaluation",  # of Q_6
        "TrainingEnd",
    ]
    start, evaluation, checkpoint = (recorder.events[i] for i in (0, 2, 4))
    assert isinstance(start, TrainingStart)
    assert start.total_timesteps == 6 * ROUND
    assert isinstance(evaluation, Evaluation)
    assert (evaluation.round, evaluation.timesteps) == (3, 3 * ROUND)
    assert evaluate.results[0] is evaluation
    assert isinstance(checkpoint, Checkpoint)
    assert checkpoint.path == str(tmp_path / "round-00000004.zarr")
    stored = dqlearn.load(checkpoint.path)
    assert_same(stored, small().learn(4 * ROUND))
    assert recorder.reason == "all timesteps are made"
    assert_same(learner, small().learn(6 * ROUND))


@pytest.mark.parametrize(
    ("callbacks", "rounds", "reason"),
    [
        (lambda: [lambda event: Stop("enough") if event.report.round == 2 else None], 3, "enough"),
        (lambda: [StopTrainingOnMaxTime(0.0)], None, "reached the limit of 0 s"),
        (lambda: [StopTrainingOnMaxEpisodes(1, every_rounds=4)], 4, "episodes reached the limit"),
        (
            lambda: [EvalCallback(2, 3), StopTrainingOnRewardThreshold(-1e9)],
            2,
            "reached the threshold",
        ),
        (
            lambda: [
                EvalCallback(1, 3),
                StopTrainingOnNoModelImprovement(2, min_evals=1, min_delta=1e9),
            ],
            4,
            "evaluations no better",
        ),
    ],
    ids=["function", "time", "episodes", "threshold", "improvement"],
)
def test_stop(callbacks: Any, rounds: int | None, reason: str) -> None:
    """Each condition ends learning after its round; the next call goes on.

    A clock does so at the end of a task, of one round or of several.
    """
    recorder = Recorder(every_rounds=None)
    learner = small().learn(8 * ROUND, callback=[recorder, *callbacks()])
    made = learner.num_timesteps / ROUND
    assert made == rounds if rounds else 1 <= made < 8
    assert reason in recorder.reason
    assert_same(learner.learn(8 * ROUND), small().learn(8 * ROUND))


def test_a_callback_that_raises() -> None:
    """Its error is the user's; the learner goes on from the round it was told of."""

    def fail(event: RoundEnd) -> None:
        if event.report.round == 1:
            raise LookupError("of mine")

    learner = small()
    with pytest.raises(LookupError, match="of mine"):
        learner.learn(8 * ROUND, callback=fail)
    assert learner.num_timesteps == 2 * ROUND
    assert_same(learner.learn(8 * ROUND), small().learn(8 * ROUND))


# Ctrl-C


def interrupt(round: int, times: int = 1) -> Any:
    """Return a callback that presses Ctrl-C at the end of a round."""

    def press(event: RoundEnd) -> None:
        if event.report.round == round:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)

    return press


@pytest.mark.parametrize("make", [small, lake])
def test_interrupt(make: Any) -> None:
    """The round under way ends, then KeyboardInterrupt comes; nothing is lost."""
    recorder, before = Recorder(every_rounds=None), signal.getsignal(signal.SIGINT)
    learner = make()
    with pytest.raises(KeyboardInterrupt):
        learner.learn(8 * ROUND, callback=[recorder, interrupt(3)])
    assert signal.getsignal(signal.SIGINT) is before
    assert recorder.reason == "interrupted"
    assert learner.num_timesteps == 4 * ROUND
    assert_same(learner, make().learn(4 * ROUND))
    assert_same(learner.learn(8 * ROUND), make().learn(8 * ROUND))


def test_interrupt_on_a_cluster(client: Client) -> None:
    """All rounds under way are taken in; to go on makes the same bits."""
    learner = small()
    with pytest.raises(KeyboardInterrupt):
        learner.learn(12 * ROUND, callback=interrupt(3))
    assert 4 * ROUND <= learner.num_timesteps < 12 * ROUND
    assert int(learner.table.visits.sum()) == learner.num_timesteps
    assert_same(learner.learn(12 * ROUND), small().learn(12 * ROUND))


def test_second_interrupt_does_not_wait() -> None:
    """It is raised where it is pressed; the learner is at a round's end all the same."""
    before = signal.getsignal(signal.SIGINT)
    learner, recorder = small(), Recorder(every_rounds=None)
    with pytest.raises(KeyboardInterrupt):
        learner.learn(8 * ROUND, callback=[recorder, interrupt(3, times=2)])
    assert signal.getsignal(signal.SIGINT) is before
    assert recorder.names == ["TrainingStart"]
    assert_same(learner.learn(8 * ROUND), small().learn(8 * ROUND))


CHILD = """
import sys, time
import dqlearn

def slow(event):
    print("round", event.report.round, flush=True)
    time.sleep(0.2)

learner = dqlearn.QLearner(
    "dqlearn/Torus-v0", env_kwargs={"side": 8}, num_envs=128, shards=2, steps_per_round=4
)
try:
    learner.learn(10**9, callback=slow)
except KeyboardInterrupt:
    made = learner.num_timesteps
    assert 0 < made == int(learner.table.visits.sum().compute())
    assert learner.learn(made + 1).num_timesteps == made + 512
    print("usable")
"""


def test_interrupt_from_outside() -> None:
    """A SIGINT sent to a process that learns: as Ctrl-C in a terminal."""
    command = [sys.executable, "-W", "error", "-c", CHILD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "round 0\n"
        child.send_signal(signal.SIGINT)
        rest = child.stdout.read()
    assert child.returncode == 0
    assert rest.endswith("usable\n")


def test_learn_in_another_thread() -> None:
    """Where signals cannot be caught, it learns all the same."""
    learner = small()
    thread = threading.Thread(target=learner.learn, args=(3 * ROUND,))
    thread.start()
    thread.join()
    assert learner.num_timesteps == 3 * ROUND


# the table


def test_table() -> None:
    """Dask arrays in the chunks of the grid, and a Dataset with labels, units and attributes."""
    learner = small().learn(3 * ROUND)
    table = learner.table
    assert isinstance(table.q, da.Array)
    assert table.q.chunks == ((16,) * 4, (4,))
    q, visits, value, policy = dask.compute(table.q, table.visits, table.value, table.policy)
    np.testing.assert_array_equal(value, q.max(axis=1))
    np.testing.assert_array_equal(q[np.arange(64), policy], value)
    np.testing.assert_array_equal(learner.predict(np.arange(64))[0], policy)
    assert visits.sum() == learner.num_timesteps
    dataset = table.to_xarray()
    assert dataset["q"].dims == ("state", "action")
    assert dataset["action"].values.tolist() == ["up", "down", "left", "right"]
    assert dataset["q"].attrs["units"] == "reward"
    assert (dataset.attrs["round"], dataset.attrs["timesteps"]) == (3, 3 * ROUND)


def test_unfold() -> None:
    """One dimension for each factor of the state, still lazily."""
    table = small().learn(3 * ROUND).table
    dataset = unfold(table.to_xarray())
    assert dataset["q"].dims == ("row", "column", "action")
    assert isinstance(dataset["q"].data, da.Array)
    q = table.q.compute()
    assert float(dataset["q"].sel(row=3, column=5, action="left")) == q[3 * 8 + 5, 2]
    np.testing.assert_array_equal(dataset["value"], q.max(axis=1).reshape(8, 8))


def test_a_table_stays_of_its_round() -> None:
    """What was taken at round 2 is that of round 2 when the learner is at round 9."""
    learner = small().learn(2 * ROUND)
    table = learner.table
    before = numbers(learner)
    learner.learn(9 * ROUND)
    assert table.round == 2
    for then, now in zip(before, dask.compute(table.q, table.visits), strict=True):
        np.testing.assert_array_equal(then, now)
    assert learner.table.round == 9


@pytest.mark.parametrize(("make", "rounds"), [(small, 100_000), (lake, 150)])
def test_read_while_learning(make: Any, rounds: int) -> None:
    """Another thread sees whole rounds only: P3."""
    learner, seen, failures = make().learn(ROUND), set[int](), list[BaseException]()
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                table = learner.table
                q, visits, value = dask.compute(table.q, table.visits, table.value)
                assert visits.sum() == table.round * ROUND
                assert np.array_equal(q.max(axis=1), value)
                seen.add(table.round)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    learner.learn(rounds * ROUND)
    done.set()
    thread.join()
    assert not failures
    assert len(seen) > 3


def worker_pids(block: Any) -> Any:
    return np.full((1, 1), os.getpid())


def test_a_cluster_computes_its_table(client: Client) -> None:
    """Chunks stay on the workers, which compute on them: P3."""
    learner = small().learn(3 * ROUND)
    table = learner.table
    pids = table.q.map_blocks(worker_pids, dtype=int, chunks=(1, 1)).compute()
    assert set(pids.ravel().tolist()) == set(client.run(os.getpid).values())
    learner.learn(8 * ROUND)
    with dask.config.set(scheduler="threads"):
        alone = small().learn(3 * ROUND)
        q, _ = numbers(alone)
    np.testing.assert_array_equal(table.q.compute(), q)


def test_read_on_a_cluster_while_learning(client: Client) -> None:
    """In a callback, and from another thread."""
    learner, seen = small().learn(ROUND), set[int]()
    tables = []
    learner.learn(6 * ROUND, callback=lambda event: tables.append(event.learner.table))
    worker = threading.Thread(target=learner.learn, args=(30 * ROUND,))
    worker.start()
    while worker.is_alive():
        tables.append(learner.table)
        time.sleep(0.05)
    worker.join()
    for table in tables[:: max(1, len(tables) // 10)]:
        q, visits, value = dask.compute(table.q, table.visits, table.value)
        assert visits.sum() == table.round * ROUND
        np.testing.assert_array_equal(q.max(axis=1), value)
        seen.add(table.round)
    assert len(seen) > 6


def test_reprs() -> None:
    """One line of text, and tables for notebooks, in which names are escaped."""
    learner = small()
    assert repr(learner) == (
        "QLearner('dqlearn/Torus-v0': 64 states x 4 actions, 128 environments in 2 shards, "
        "512 transitions a round, broadcast, 0 transitions made)"
    )
    assert "not begun" in learner._repr_html_()
    html = learner.learn(ROUND)._repr_html_()
    assert html.startswith("<table>")
    assert "<td>512 transitions, broadcast</td>" in html
    assert repr(learner.table) == (
        "<dqlearn.Table round 1: 64 states x 4 actions, float32, 4 chunks, 2.00 kiB>"
    )
    assert "<svg" in learner.table._repr_html_()
    factory = QLearner(lambda: gymnasium.make("FrozenLake-v1"), num_envs=1)
    assert "&lt;lambda&gt;" in factory._repr_html_()
    assert "<lambda>" in repr(factory)


# save and load


@pytest.mark.parametrize("make", [small, lake])
def test_save_and_load(make: Any, tmp_path: Path) -> None:
    """The table, its counters and its settings come back; learning goes on from them."""
    learner = make(epsilon=Linear(1.0, 0.1, 4_000), gamma=0.9, policy_lag=1).learn(4 * ROUND)
    learner.save(tmp_path / "q.zarr")
    again = dqlearn.load(tmp_path / "q.zarr")
    assert_same(again, learner)
    assert again.table.round == learner.table.round == 4
    assert again.table.q.chunks == learner.table.q.chunks
    mine, theirs = (x.table.to_xarray().attrs for x in (learner, again))
    assert mine == theirs
    assert np.array_equal(again.predict(np.arange(16))[0], learner.predict(np.arange(16))[0])
    again.learn(6 * ROUND)
    assert again.num_timesteps == int(again.table.visits.sum()) == 6 * ROUND
    assert again.history["round"].values.tolist() == list(range(6))
    assert again.history["epsilon"].values[4] == Linear(1.0, 0.1, 4_000)(4 * ROUND)


def test_load_with_other_settings(tmp_path: Path) -> None:
    """Another grid, another number of environments, another gamma: the same values."""
    learner = small().learn(4 * ROUND)
    learner.save(tmp_path / "q.zarr")
    changed = dqlearn.load(tmp_path / "q.zarr", chunks=(13, 3), num_envs=64, shards=1, gamma=0.5)
    assert changed.table.q.chunks == ((13, 13, 13, 13, 12), (3, 1))
    assert_same(changed, learner)
    assert changed.learn(5 * ROUND).table.to_xarray().attrs["gamma"] == 0.5


def test_save_replaces_a_table(tmp_path: Path) -> None:
    """The old one is there until the new one is whole; nothing else is left."""
    learner = small().learn(2 * ROUND)
    learner.save(tmp_path / "q.zarr")
    learner.learn(5 * ROUND).save(tmp_path / "q.zarr")
    assert_same(dqlearn.load(tmp_path / "q.zarr"), learner)
    assert [path.name for path in tmp_path.iterdir()] == ["q.zarr"]


def test_a_loaded_learner_saves_over_its_own_table(tmp_path: Path) -> None:
    """Also when it has not read all of it yet."""
    learner = small().learn(2 * ROUND)
    learner.save(tmp_path / "q.zarr")
    again = dqlearn.load(tmp_path / "q.zarr")
    again.save(tmp_path / "q.zarr")
    assert_same(dqlearn.load(tmp_path / "q.zarr"), learner)


def test_a_factorys_table_needs_its_factory(tmp_path: Path) -> None:
    """A callable has no name that could be made again."""
    learner = QLearner(torus(side=4), num_envs=64, steps_per_round=4).learn(1_000)
    learner.save(tmp_path / "q.zarr")
    assert_same(dqlearn.load(tmp_path / "q.zarr", env=torus(side=4)), learner)


READER = """
import sys
sys.modules["dqlearn"] = None  # whoever imports it fails
import xarray
dataset = xarray.open_zarr(sys.argv[1])
assert dataset["q"].dims == ("state", "action"), dataset
assert dataset["action"].values.tolist() == ["up", "down", "left", "right"]
print(int(dataset["visits"].sum()), dataset.attrs["timesteps"])
"""


def test_open_zarr_alone(tmp_path: Path) -> None:
    """Xarray reads a saved table where dqlearn is not installed: arrays and JSON, P6."""
    learner = small().learn(3 * ROUND)
    learner.save(tmp_path / "q.zarr")
    command = [sys.executable, "-c", READER, str(tmp_path / "q.zarr")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert printed.split() == [str(3 * ROUND)] * 2
    stored = xr.open_zarr(tmp_path / "q.zarr")
    xr.testing.assert_identical(stored.compute(), learner.table.to_xarray().compute())


def test_save_on_a_cluster(client: Client, tmp_path: Path) -> None:
    """The workers write; threads read."""
    learner = small().learn(3 * ROUND)
    learner.save(tmp_path / "q.zarr")
    with dask.config.set(scheduler="threads"):
        assert_same(dqlearn.load(tmp_path / "q.zarr"), small().learn(3 * ROUND))


# moving


@pytest.mark.cluster
@pytest.mark.parametrize("policy_lag", [pytest.param(0, marks=pytest.mark.slow), 1])
@pytest.mark.parametrize("make", [small, lake])
def test_moving(make: Any, policy_lag: int, local_cluster: LocalCluster) -> None:
    """Threads, a cluster, threads after its client was closed, and back: the same bits."""
    whole = make(policy_lag=policy_lag).learn(12 * ROUND)
    learner = make(policy_lag=policy_lag).learn(3 * ROUND)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Client(local_cluster):
            assert learner.learn(6 * ROUND).num_timesteps == 6 * ROUND
        assert learner.num_timesteps == 6 * ROUND
        assert int(learner.table.visits.sum()) == 6 * ROUND
        learner.learn(9 * ROUND)
        with Client(local_cluster):
            learner.learn(12 * ROUND)
            on_the_cluster = numbers(learner)
        assert_same(learner, whole)
    np.testing.assert_array_equal(on_the_cluster[0], numbers(whole)[0])


# Stable-Baselines3


def test_stable_baselines3_evaluates_it() -> None:
    """Its `evaluate_policy` takes a learner for a model."""
    evaluation = pytest.importorskip("stable_baselines3.common.evaluation")
    learner = lake(env_kwargs={"is_slippery": False}, epsilon=0.5, learning_rate=0.5)
    learner.learn(40_000)
    env = gymnasium.wrappers.RecordEpisodeStatistics(
        gymnasium.make("FrozenLake-v1", is_slippery=False)
    )
    mean, deviation = evaluation.evaluate_policy(learner, env, n_eval_episodes=5, warn=False)
    assert (mean, deviation) == (1.0, 0.0)


def test_the_largest_seed_can_be_evaluated() -> None:
    learner = QLearner("dqlearn/Torus-v0", env_kwargs={"side": 4}, num_envs=8, seed=2**64 - 1)
    assert learner.learn(100).evaluate(2, max_steps=5).n_episodes == 2
    for seed in (-1, 2**64):
        with pytest.raises(ConfigurationError, match="seed must be an integer in 0"):
            learner.evaluate(2, seed=seed)
