"""Environments that raise or hang: the fault is named, or the environment is built anew.

`Scripted` does at every step what is written down for it, so that each row of a rollout can be told
beforehand. `Flaky` fails after a fixed number of steps or with a small probability, and `Hanging`
waits in one call until the test lets it go on.
"""

from __future__ import annotations

import gc
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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
from gymnasium.vector import SyncVectorEnv

import dqlearn
from dqlearn import QLearner
from dqlearn.algorithms import Extent
from dqlearn.cli import main
from dqlearn.envs.python.faults import Faults
from dqlearn.envs.python.gymnasium_env import (
    FIRST,
    Begin,
    PythonEnv,
    PythonShard,
    freeze,
    open_python_shard,
    thaw,
)
from dqlearn.errors import ConfigurationError, EnvironmentFault, RewardError, StateRangeError
from dqlearn.events import RoundEnd
from dqlearn.kernels.codes import NO_BOOTSTRAP
from dqlearn.kernels.ties import ties
from dqlearn.spaces import SpaceIndex
from dqlearn.stages.policy import Policy
from dqlearn.stages.rollout_python import python_rollout
from dqlearn.statistics import RoundStats
from dqlearn.table.transitions import Transitions

RESTART = Faults("restart")
SEED = 3


def indexed(make: Callable[..., Any], n_states: int, n_actions: int = 2) -> PythonEnv:
    """Environments of two Discrete spaces."""
    states, actions = (SpaceIndex.from_space(spaces.Discrete(n)) for n in (n_states, n_actions))
    return PythonEnv(make, states, actions)


def zero_policy(n_states: int) -> Policy:
    """Action 0 everywhere."""
    values, first = np.zeros(n_states, np.float32), np.ones(n_states, np.uint8)
    return Policy(values, first, 0, RoundStats(0, 0.0), Extent(8, ties(0)))


def rolled_out(env: PythonEnv, shard: PythonShard, rounds: int, steps: int) -> list[Transitions]:
    """Make some rounds, greedily."""
    policy = zero_policy(env.states.n)
    return [python_rollout(env, shard, policy, 0.0, SEED, steps, r)[0] for r in range(rounds)]


def pairs(batch: Transitions) -> list[tuple[int, int]]:
    """Where each transition led from and to."""
    return list(zip(batch.state.tolist(), batch.next_state.tolist(), strict=True))


# The dropped row

LIFE, EPISODE = 100, 10


class Scripted(gymnasium.Env[Any, Any]):
    """A life of an environment. State 213 is step 3 of episode 1 of life 2; it pays its last digit.

    One letter a step: ``.`` goes on, ``T`` terminates, ``C`` truncates, ``!`` raises; ``t`` and
    ``c`` are T and C with a reset after them that raises.
    """

    observation_space = spaces.Discrete(10 * LIFE)
    action_space = spaces.Discrete(2)

    def __init__(self, script: str, life: int) -> None:
        self.script, self.state, self.done = iter(script), life * LIFE - EPISODE, "."

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Begin the next episode."""
        super().reset(seed=seed)
        if self.done in "tc":
            raise OSError("no reset")
        self.state = (self.state // EPISODE + 1) * EPISODE
        return self.state, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Do what is written."""
        self.done = next(self.script)
        if self.done == "!":
            raise OSError("no step")
        reward = self.state % EPISODE
        self.state += 1
        return self.state, float(reward), self.done in "Tt", self.done in "Cc", {}


class Case(NamedTuple):
    """Scripts of an environment's lives, and what is to come of them."""

    lives: tuple[str, ...]
    rows: list[tuple[int, int]]
    returns: list[float]
    lengths: list[int]
    n_restarts: int


END = NO_BOOTSTRAP
CASES = {
    "in mid-episode": Case(
        ("..!", "..."), [(0, 1), (1, 2), (100, 101), (101, 102), (102, 103)], [], [], 1
    ),
    "at the first step": Case(("!", "..."), [(100, 101), (101, 102), (102, 103)], [], [], 1),
    "after an end": Case(
        ("..T!", ".."), [(0, 1), (1, 2), (2, END), (100, 101), (101, 102)], [3.0], [3], 1
    ),
    "its episode is forgotten": Case(
        ("...!", "..T."),
        [(0, 1), (1, 2), (2, 3), (100, 101), (101, 102), (102, END), (110, 111)],
        [3.0],
        [3],
        1,
    ),
    "twice": Case(("!", "!", ".."), [(200, 201), (201, 202)], [], [], 2),
    "twice, not in a row": Case(
        (".!", ".C!", ".."),
        [(0, 1), (100, 101), (101, 102), (200, 201), (201, 202)],
        [1.0],
        [2],
        2,
    ),
    "reset after termination": Case(
        ("..t", "T."), [(0, 1), (1, 2), (2, END), (100, END), (110, 111)], [3.0, 0.0], [3, 1], 1
    ),
    "reset after truncation": Case(
        (".c", ".."), [(0, 1), (1, 2), (100, 101), (101, 102)], [1.0], [2], 1
    ),
    "reset, then a step": Case(
        (".t", "!", ".."), [(0, 1), (1, END), (200, 201), (201, 202)], [1.0], [2], 2
    ),
}


def lives_of(scripts: tuple[str, ...]) -> Iterator[Scripted]:
    """Make the environment's lives one after another."""
    for life, script in enumerate(scripts):
        yield Scripted(script, life)


@pytest.mark.parametrize("one_by_one", [False, True])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_step_that_failed_is_no_transition(case: Case, one_by_one: bool) -> None:
    """Rows and counts are those of the script, within a round and across rounds."""
    env = indexed(partial(next, lives_of(case.lives)), 10 * LIFE)
    shard = open_python_shard(env, 0, 1, SEED, faults=RESTART)
    n_steps = sum(map(len, case.lives))
    rounds, steps = (n_steps, 1) if one_by_one else (1, n_steps)
    batches = rolled_out(env, shard, rounds, steps)
    assert [row for b in batches for row in pairs(b)] == case.rows
    assert [r for b in batches for r in b.reward] == [s % EPISODE for s, _ in case.rows]
    tally = sum((b.tally for b in batches[1:]), batches[0].tally)
    assert (tally.n_transitions, tally.n_restarts) == (len(case.rows), case.n_restarts)
    assert (tally.n_episodes, tally.length_sum) == (len(case.lengths), sum(case.lengths))
    assert tally.return_sum == sum(case.returns)
    assert tally.return_sq_sum == sum(r * r for r in case.returns)
    assert tally.return_min == min(case.returns, default=np.inf)
    assert tally.return_max == max(case.returns, default=-np.inf)


def test_the_others_are_not_touched() -> None:
    """Beside one that fails, they make the rows that they make alone, autoresets included."""
    scripts = ["..T.C.....", "...!", "C.T......."]
    again = iter([*scripts, "......"])
    env = indexed(lambda: Scripted(next(again), 0), 10 * LIFE)
    shard = open_python_shard(env, 0, 3, SEED, faults=RESTART)
    rows: list[list[tuple[int, int]]] = [[], [], []]
    for r in range(10):
        batch, _ = python_rollout(env, shard, zero_policy(10 * LIFE), 0.0, SEED, 1, r)
        there = [e for e in range(3) if (e, r) != (1, 3)]
        for e, row in zip(there, pairs(batch), strict=True):
            rows[e].append(row)
    for e in (0, 2):
        alone = indexed(partial(Scripted, scripts[e], 0), 10 * LIFE)
        (batch,) = rolled_out(alone, open_python_shard(alone, 0, 1, SEED), 1, 10)
        assert rows[e] == pairs(batch)
    assert len(rows[1]) == 9


# Seeds


class SeedTeller(gymnasium.Env[Any, Any]):
    """Its first state is its seed; it raises at the third step."""

    observation_space = spaces.Discrete(2**31)
    action_space = spaces.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Tell the seed."""
        super().reset(seed=seed)
        assert seed is not None
        self.seed, self.left = seed, 2
        return seed, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Stay there, and fail in the end."""
        self.left -= 1
        if self.left < 0:
            raise OSError("worn out")
        return self.seed, 0.0, False, False, {}


def seeds(first: int, n: int, seed: int = SEED, begin: Begin = FIRST) -> list[list[int]]:
    """Return the seeds of the lives of each environment, for 4 lives."""
    env = indexed(SeedTeller, 2**31)
    shard = open_python_shard(env, first, n, seed, begin, faults=RESTART)
    lives = [shard.state]
    for r in range(4):
        python_rollout(env, shard, policy_of_seeds(), 0.0, seed, 3, r)
        lives.append(shard.state)
    return np.transpose(lives).tolist()


def policy_of_seeds() -> Policy:
    """Action 0 in 2**31 states, without their memory."""
    first = np.ones(1, np.uint8)
    tied = np.lib.stride_tricks.as_strided(first, (2**31,), (0,), writeable=False)
    values = np.zeros(1, np.float32)
    return Policy(values, tied, 0, RoundStats(0, 0.0), Extent(8, ties(0)))


def test_seeds_of_restarts() -> None:
    """New in every life; functions of seed, environment and step, whatever the shard."""
    whole = seeds(0, 20)
    flat = [seed for lives in whole for seed in lives]
    assert len(set(flat)) == len(flat) == 20 * 5
    assert seeds(0, 20) == whole
    assert seeds(0, 13) + seeds(13, 7) == whole
    assert not {s for lives in seeds(0, 20, seed=SEED + 1) for s in lives} & set(flat)
    other = seeds(0, 20, begin=Begin(attempt=1))
    assert all(a[0] != b[0] and a[1:] == b[1:] for a, b in zip(other, whole, strict=True))
    later = seeds(0, 20, begin=Begin(steps=1000))
    assert all(a[0] == b[0] and not set(a[1:]) & set(b) for a, b in zip(later, whole, strict=True))


# What is not restarted


def failing_rollout(
    make: Callable[..., Any], faults: Faults = RESTART, **message: str
) -> pytest.ExceptionInfo[EnvironmentFault]:
    """Roll out environments 4 .. 6 of shard 2 until one fails for good."""
    env = indexed(make, 10 * LIFE)
    shard = open_python_shard(env, 4, 3, SEED, shard=2, faults=faults)
    with pytest.raises(EnvironmentFault, **message) as caught:
        rolled_out(env, shard, 1, 40)
    return caught


def lives_in_turn(*scripts: str) -> Callable[[], Scripted]:
    """Return a factory of environments that play these scripts."""
    each = iter(scripts)

    def make() -> Scripted:
        return Scripted(next(each), 0)

    return make


def test_raise_names_environment_shard_and_step() -> None:
    """And says how to go on."""
    make = lives_in_turn(".......", "...!", ".......")
    message = (
        r"^environment 5 of shard 2 failed at step 3: OSError\('no step'\); correct it, or build "
        r"such ones anew: on_env_error='restart'$"
    )
    caught = failing_rollout(make, Faults(), match=message)
    assert isinstance(caught.value.__cause__, OSError)


def test_a_reset_that_raises() -> None:
    """Is named in the same way."""
    make = lives_in_turn(".......", "...t", ".......")
    failing_rollout(make, Faults(), match="environment 5 of shard 2 failed at step 3.*no reset")


class Clinging(OSError):
    """An error that no worker can send home."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


class Cling(Scripted):
    """Raises it."""

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """At the fourth step."""
        if self.state == 3:
            raise Clinging("no pickle")
        return super().step(action)


MAKE_CLING = partial(Cling, "." * 999, 0)
CLINGS = r"environment [04] of shard [012] failed at step 3: Clinging\('no pickle'\)"


def test_an_error_that_no_worker_can_send() -> None:
    """Its story comes along as text."""
    caught = failing_rollout(MAKE_CLING, Faults(), match=CLINGS)
    assert caught.value.__cause__ is caught.value.__context__ is None
    (note,) = caught.value.__notes__
    assert 'raise Clinging("no pickle")' in note


@pytest.mark.cluster
def test_an_error_that_a_worker_could_not_send(client: Client) -> None:
    """It arrives as what it is."""
    learner = learner_of(MAKE_CLING, on_env_error="raise", steps_per_round=2)
    with (
        pytest.warns(UserWarning, match="built and reset anew"),
        pytest.raises(EnvironmentFault, match=CLINGS),
    ):
        learner.learn(3 * 16)
    assert learner.num_timesteps == 16


def test_a_vector_environment_names_all_of_its_own() -> None:
    """Nobody knows which of them it was."""

    def make(num_envs: int) -> SyncVectorEnv:
        return SyncVectorEnv([partial(Scripted, "...!", 0)] * num_envs)

    failing_rollout(make, Faults(), match=r"environments 4 \.\. 6 of shard 2 failed at step 3: ")


def test_one_that_never_makes_a_step() -> None:
    """Five lives without a step are enough: the run would not end."""
    make = lives_in_turn(".......", ".!", ".......", "!", "!", "!", "!", "!", "!")
    message = r"environment 5 of shard 2 was built anew 5 times and made no step.*at step 6"
    failing_rollout(make, match=message)


def test_one_that_makes_a_step_now_and_then() -> None:
    """Is built anew as often as it takes."""
    env = indexed(partial(Scripted, ".!", 0), 10 * LIFE)
    shard = open_python_shard(env, 0, 2, SEED, faults=RESTART)
    (batch,) = rolled_out(env, shard, 1, 40)
    assert (batch.tally.n_transitions, batch.tally.n_restarts) == (2 * 20, 2 * 20)


def test_one_that_cannot_be_built_anew() -> None:
    """Both errors are named."""
    make = lives_in_turn(".......", "...!", ".......")  # and no fourth
    message = r"environment 5 of shard 2 failed at step 3: .*no step.*built anew: StopIteration"
    failing_rollout(make, match=message)


class Breaks(Scripted):
    """Breaks its contract at the fourth step."""

    def __init__(self, what: str) -> None:
        super().__init__("." * 9, 0)
        self.what = what

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Do it."""
        state, reward, *rest = super().step(action)
        if state == 4 and self.what == "says so":
            raise RewardError("it was nan")
        if state == 4:
            state, reward = (state, np.nan) if self.what == "reward" else (9999, reward)
        return state, reward, *rest


@pytest.mark.parametrize(
    ("what", "error"),
    [("reward", RewardError), ("state", StateRangeError), ("says so", RewardError)],
)
def test_a_broken_contract_is_no_accident(what: str, error: type[Exception]) -> None:
    """The model is wrong, and would be wrong again: it raises, restart or not."""
    caught = failing_rollout(partial(Breaks, what), match="environment 4")
    assert isinstance(caught.value, error)


class Closable(Scripted):
    """Writes down that it was closed; closing the second one fails."""

    def __init__(self, number: int, closed: list[int], script: str = "." * 99) -> None:
        super().__init__(script, 0)
        self.number, self.closed = number, closed
        if number == 3:
            raise OSError("no licence")

    def close(self) -> None:
        """Write it down."""
        self.closed.append(self.number)
        if self.number == 1:
            raise OSError("stuck")


def test_what_was_made_is_closed_when_another_cannot_be() -> None:
    """Nothing is left open, nor when closing one of them fails."""
    closed: list[int] = []
    numbers = iter(range(5))
    env = indexed(lambda: Closable(next(numbers), closed), 10 * LIFE)
    with pytest.raises(EnvironmentFault, match=r"environment 3 of shard 0 .*made.*no licence"):
        open_python_shard(env, 0, 5, SEED)
    assert closed == [0, 1, 2]


def test_a_restart_closes_the_old_one_and_the_end_closes_all() -> None:
    """Also those whose predecessor could not be closed."""
    closed: list[int] = []
    lives = iter([(0, "." * 99), (1, "..!"), (2, "." * 99), (4, "." * 99)])

    def make() -> Closable:
        number, script = next(lives)
        return Closable(number, closed, script)

    env = indexed(make, 10 * LIFE)
    shard = open_python_shard(env, 0, 3, SEED, faults=RESTART)
    (batch,) = rolled_out(env, shard, 1, 5)
    assert (closed, batch.tally.n_restarts) == ([1], 1)
    del shard
    gc.collect()
    assert closed == [1, 0, 4, 2]


# Learning with restarts


class Flaky(gymnasium.Env[Any, Any]):
    """A walk on a line of 12 states whose end pays 1; it may slip, and it may raise."""

    observation_space = spaces.Discrete(12)
    action_space = spaces.Discrete(2)

    def __init__(self, every: int = 0, chance: float = 0.0) -> None:
        self.every, self.chance, self.state, self.age = every, chance, 0, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Go to the beginning."""
        super().reset(seed=seed)
        self.state = int(self.np_random.integers(6))
        return self.state, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Take a step, or fail."""
        self.age += 1
        if self.age == self.every or self.np_random.random() < self.chance:
            raise OSError("lost connection")
        forward = bool(action) != (self.np_random.random() < 0.1)
        self.state = max(self.state + (1 if forward else -1), 0)
        over = self.state == 11
        return self.state, float(over), over, False, {}


N_ENVS, STEPS = 8, 32


def learner_of(make: Callable[..., Any], **settings: Any) -> QLearner:
    defaults = {
        "num_envs": N_ENVS,
        "shards": 2,
        "steps_per_round": STEPS,
        "epsilon": 0.5,
        "seed": 4,
        "on_env_error": "restart",
        "compile": False,
    }
    return QLearner(make, **(defaults | settings))


@pytest.mark.parametrize("policy_lag", [0, 1])
def test_counts(policy_lag: int) -> None:
    """Of 50 steps one fails, in every environment: all counters say so."""
    learner = learner_of(partial(Flaky, every=50), policy_lag=policy_lag).learn(6_000)
    history = learner.history
    steps = STEPS * np.arange(1, len(history["round"]) + 1)
    made = N_ENVS * (steps - steps // 50)
    np.testing.assert_array_equal(history["timesteps"], made)
    np.testing.assert_array_equal(history["n_restarts"].cumsum(), N_ENVS * (steps // 50))
    np.testing.assert_array_equal(history["n_transitions"].cumsum(), made)
    assert made[-2] < 6_000 <= made[-1]  # no round too few, and none too many
    assert int(learner.table.visits.sum()) == learner.num_timesteps == made[-1]
    assert learner.predict(np.arange(11))[0].tolist() == [1] * 11
    assert history["n_restarts"].attrs["long_name"] == "environments restarted after an error"


def test_no_restart_is_0() -> None:
    """Also where there is nothing that could be restarted."""
    for env in ("FrozenLake-v1", "dqlearn/Torus-v0"):
        learner = learner_of(env).learn(1_000)
        assert learner.history["n_restarts"].values.tolist() == [0] * len(learner.history["round"])


def test_they_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """In one record for each shard and round: environment, shard, step, error."""
    learner = learner_of(partial(Flaky, every=50), shards=4)
    with caplog.at_level(logging.WARNING, "dqlearn"):
        learner.learn(N_ENVS * 90)
    assert len(learner.history["round"]) == 3  # of 32 steps, and all fail in the second
    assert sorted(caplog.messages) == [
        f"environment {2 * w} of shard {w} was built anew: it failed at step 49: "
        "OSError('lost connection') (1 more in this round)"
        for w in range(4)
    ]
    assert {record.name for record in caplog.records} == {"dqlearn"}


def bits(learner: QLearner) -> tuple[np.ndarray, np.ndarray, xr.Dataset]:
    q, visits = dask.compute(learner.table.q, learner.table.visits)
    return q, visits, learner.history.drop_vars("wall_time")


def same_bits(one: QLearner, other: QLearner) -> None:
    """Table, counts and history."""
    for mine, theirs in zip(bits(one)[:2], bits(other)[:2], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert bits(one)[2].identical(bits(other)[2])


CHANCY = partial(Flaky, chance=0.05)


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_the_same_bits_twice(scheduler: str) -> None:
    """Restarts are as deterministic as the environments, with a clock running or not."""
    with dask.config.set(scheduler=scheduler):
        one = learner_of(CHANCY).learn(8_000)
        assert int(one.history["n_restarts"].sum()) > 100
        same_bits(learner_of(CHANCY).learn(8_000), one)
        same_bits(learner_of(CHANCY, env_timeout=60.0).learn(8_000), one)


@pytest.mark.cluster
@pytest.mark.parametrize("policy_lag", [0, 1])
def test_the_same_bits_on_a_cluster(policy_lag: int, client: Client) -> None:
    """As on threads, with no round too few because of steps that were expected and are lost."""
    with dask.config.set(scheduler="threads"):
        here = learner_of(CHANCY, policy_lag=policy_lag).learn(4_000)
        one_more = here.num_timesteps + 1
        here.learn(one_more)
    there = learner_of(CHANCY, policy_lag=policy_lag, env_timeout=60.0).learn(one_more)
    assert there.num_timesteps >= one_more
    with dask.config.set(scheduler="threads"):
        same_bits(here, there)


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.parametrize("policy_lag", [0, 1])
def test_the_same_bits_when_a_worker_dies(policy_lag: int) -> None:
    """Steps that are made again fail again, and are restarted again: P2."""

    def kill_one(event: RoundEnd) -> None:
        if event.report.round == 9:
            os.kill(min(client.run(os.getpid).values()), signal.SIGKILL)

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 10}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        there = learner_of(CHANCY, policy_lag=policy_lag).learn(8_000, callback=kill_one)
        with dask.config.set(scheduler="threads"):
            same_bits(learner_of(CHANCY, policy_lag=policy_lag).learn(8_000), there)


def test_a_copy_goes_on_with_the_same_restarts() -> None:
    """Frozen and thawed: the same rows, the same lives."""
    env = indexed(CHANCY, 12)
    shard = open_python_shard(env, 0, N_ENVS, SEED, faults=Faults("restart", 60.0))
    rolled_out(env, shard, 1, 40)
    copy = freeze(shard)
    policy = zero_policy(12)
    one, _ = python_rollout(env, shard, policy, 0.0, SEED, 40, 1)
    thawed = thaw(copy)
    assert thawed is not None
    two, _ = python_rollout(env, thawed, policy, 0.0, SEED, 40, 1)
    assert one.tally == two.tally
    assert one.tally.n_restarts > 0
    np.testing.assert_array_equal(one.state, two.state)


# Hangs


class Hanging(Flaky):
    """Waits at one point of one of its lives, once, until it may go on."""

    def __init__(self, folder: Path, where: str, build: int = 14, step: int = 19) -> None:
        super().__init__()
        self.folder, self.where, self.hangs_at = folder, where, step
        self.number = next(n for n in range(10**6) if _is_new(folder / f"{where}-{n}"))
        self.mine = self.number == build
        self.wait("make")

    def wait(self, where: str) -> None:
        """Hang here, if here is where."""
        if self.mine and where == self.where and _is_new(self.folder / "hangs"):
            while not (self.folder / "go on").exists():
                time.sleep(0.02)

    def reset(self, **kwargs: Any) -> tuple[int, dict[str, Any]]:
        """Perhaps."""
        self.wait("reset")
        return super().reset(**kwargs)

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Perhaps."""
        if self.age == self.hangs_at:
            self.wait("step")
        return super().step(action)

    def close(self) -> None:
        """Perhaps."""
        self.wait("close")
        (self.folder / f"closed-{self.number}").touch()


def _is_new(path: Path) -> bool:
    """Make a file; whether there was none."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where environments note what they do; at the end, all of them may go on."""
    yield tmp_path
    (tmp_path / "go on").touch()
    join_given_up()
    gc.collect()


HANG = {"shards": 1, "on_env_error": "raise", "env_timeout": 1.0}
CALLS = {
    "step": r"^environment 5 of shard 0 did not come back from step 19 within 1\.0 s: its thread "
    r"was given up; correct it, or pass a longer env_timeout$",
    "reset": "^environment 5 of shard 0 did not come back from being made or reset within",
    "make": "^environment 5 of shard 0 did not come back from being made or reset within",
}


@pytest.mark.parametrize("where", ["make", "reset"])
def test_opening_hangs(where: str, folder: Path) -> None:
    """It is named; the next attempt is one with other environments."""
    learner = learner_of(partial(Hanging, folder, where, build=6), **HANG)  # after the look at one
    with pytest.raises(EnvironmentFault, match=CALLS[where]):
        learner.learn(256)
    assert learner.learn(256).num_timesteps == 256


@pytest.mark.parametrize("policy_lag", [0, 1])
def test_a_step_hangs(policy_lag: int, folder: Path) -> None:
    """The table is that of the round before, environments are built anew, and learning goes on."""
    make = partial(Hanging, folder, "step", build=6)
    learner = learner_of(make, steps_per_round=4, policy_lag=policy_lag, **HANG)
    rounds = 4 - policy_lag
    with (
        pytest.warns(UserWarning, match=rf"round {rounds} failed.*built and reset anew"),
        pytest.raises(EnvironmentFault, match=CALLS["step"]),
    ):
        learner.learn(640)
    assert int(learner.table.visits.sum()) == learner.num_timesteps == rounds * 32
    learner.learn(640)
    assert int(learner.table.visits.sum()) == learner.num_timesteps == 640
    assert learner.history["round"].values.tolist() == list(range(20))


def test_a_thread_that_was_given_up_closes_what_it_holds(folder: Path) -> None:
    """When it comes back after all, it makes no further step, and what it had is closed."""
    env = indexed(partial(Hanging, folder, "step", build=2), 12)
    shard = open_python_shard(env, 0, 4, SEED, faults=Faults(timeout=1.0))
    with pytest.raises(EnvironmentFault, match="environment 2 of shard 0"):
        rolled_out(env, shard, 1, 40)
    assert (shard.round, shard.steps) == (-1, 19)
    (thread,) = [t for t in threading.enumerate() if t.name == "dqlearn-0"]
    (folder / "go on").touch()
    thread.join(60)
    assert (shard.round, shard.steps) == (-1, 20)
    del shard
    gc.collect()
    assert {path.name for path in folder.glob("closed-*")} == {f"closed-{n}" for n in range(4)}


def test_closing_hangs(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It does not keep anybody: it is told, and left behind."""
    env = indexed(partial(Hanging, folder, "close", build=2), 12)
    shard = open_python_shard(env, 0, 4, SEED, faults=Faults(timeout=0.5))
    with caplog.at_level(logging.WARNING, "dqlearn"):
        del shard
        gc.collect()
    (message,) = caplog.messages
    assert message.startswith("environment 2 of shard 0 did not come back from being closed within")
    assert not (folder / "closed-2").exists()


def test_a_restart_hangs(folder: Path) -> None:
    """Its own making, resetting and closing have the same time as a step; then it is a fault."""
    env = indexed(partial(Hanging, folder, "close", build=2, step=-1), 12)
    shard = open_python_shard(env, 0, 4, SEED, faults=Faults("restart", 1.0))
    for guard in shard.envs.envs:  # type: ignore[attr-defined]
        guard.env.every = 7
    with pytest.raises(EnvironmentFault, match=r"environment 2 of shard 0 .*from step 6 within"):
        rolled_out(env, shard, 1, 40)


def test_a_vector_environment_hangs(folder: Path) -> None:
    """All of its environments are named."""
    single = partial(Hanging, folder, "step", build=2)

    def make(num_envs: int) -> SyncVectorEnv:
        return SyncVectorEnv([single] * num_envs)

    env = indexed(make, 12)
    shard = open_python_shard(env, 0, 4, SEED, shard=3, faults=Faults(timeout=1.0))
    with pytest.raises(EnvironmentFault, match=r"environments 0 \.\. 3 of shard 3 .*step 19"):
        rolled_out(env, shard, 1, 40)


@pytest.mark.cluster
def test_a_step_hangs_on_a_cluster(folder: Path, client: Client) -> None:
    """The worker goes on, and so does the learner."""
    make = partial(Hanging, folder, "step", build=6)
    learner = learner_of(make, steps_per_round=4, **(HANG | {"shards": 2, "env_timeout": 2.0}))
    with (
        pytest.warns(UserWarning, match=r"round \d failed.*built and reset anew"),
        pytest.raises(EnvironmentFault, match=r"environment \d of shard [01] .*from step 19"),
    ):
        learner.learn(640)
    assert int(learner.table.visits.sum()) == learner.num_timesteps <= 4 * 32
    learner.learn(640)
    assert int(learner.table.visits.sum()) == learner.num_timesteps == 640


def test_without_a_timeout_there_is_no_thread() -> None:
    """Nor with compiled models."""

    class Where(Flaky):
        def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
            """Note the thread."""
            names.add(threading.current_thread().name)
            return super().step(action)

    for timeout, expected in ((None, {threading.current_thread().name}), (60.0, {"dqlearn-0"})):
        names: set[str] = set()
        with dask.config.set(scheduler="synchronous"):
            learner_of(Where, shards=1, env_timeout=timeout).learn(10)
        assert names == expected


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"on_env_error": "ignore"}, "on_env_error must be 'raise' or 'restart', got 'ignore'"),
        ({"env_timeout": 0}, "env_timeout must be None or a number of seconds above 0, got 0"),
        ({"env_timeout": -1.5}, "env_timeout .*got -1.5"),
        ({"env_timeout": np.nan}, "env_timeout .*got nan"),
        ({"env_timeout": np.inf}, "env_timeout .*got inf"),
        ({"env_timeout": "10"}, "env_timeout .*got '10'"),
        ({"env_timeout": True}, "env_timeout .*got True"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        learner_of(Flaky, **settings)


def test_vector_environments_cannot_be_restarted() -> None:
    """It is said at once, with what can be done."""

    def make(num_envs: int) -> SyncVectorEnv:
        return SyncVectorEnv([Flaky] * num_envs)

    with pytest.raises(ConfigurationError, match=r"make\(\) -> gymnasium.Env, got one that takes"):
        learner_of(make)
    assert learner_of(make, on_env_error="raise", env_timeout=60.0).learn(300).num_timesteps >= 300


@pytest.mark.parametrize("timeout", [None, 2.5, np.float32(2.5)])
def test_they_are_stored(timeout: Any, tmp_path: Path) -> None:
    """And a table of an earlier version, which does not say them, is loaded with the defaults."""
    path = tmp_path / "q.zarr"
    learner_of("FrozenLake-v1", env_timeout=timeout).learn(64).save(path)
    attrs = dqlearn.load(path).table.to_xarray().attrs
    seconds = "null" if timeout is None else "2.5"
    assert (attrs["on_env_error"], attrs["env_timeout"]) == ("restart", seconds)
    group = zarr.open_group(path, mode="r+")
    earlier = {k: v for k, v in group.attrs.items() if k not in ("on_env_error", "env_timeout")}
    group.attrs.put(earlier)
    attrs = dqlearn.load(path).table.to_xarray().attrs
    assert (attrs["on_env_error"], attrs["env_timeout"]) == ("raise", "null")


def test_on_the_command_line(tmp_path: Path) -> None:
    """Both are options."""
    gymnasium.register("Flaky-v0", Flaky, kwargs={"every": 50})
    arguments = ["train", "Flaky-v0", "--timesteps", "5000", "--out", str(tmp_path / "q.zarr")]
    with pytest.warns(UserWarning, match="built and reset anew"):
        result = CliRunner().invoke(main, [*arguments, "--evaluate", "0"])
    assert result.exit_code == 1
    assert re.search(r"^Error: environment \d+ of shard \d+ failed at step 49", result.stderr, re.M)
    options = ["--on-env-error", "restart", "--env-timeout", "60", "--overwrite"]
    result = CliRunner().invoke(main, [*arguments, *options, "--evaluate", "0"])
    assert result.exit_code == 0
    attrs = xr.open_zarr(tmp_path / "q.zarr").attrs
    assert (attrs["on_env_error"], attrs["env_timeout"]) == ("restart", "60.0")
    assert attrs["timesteps"] >= 5000
