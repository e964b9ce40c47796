"""Python environments: every transition against the truth, in all of Gymnasium's autoreset modes.

The environment `Scripted` plays episodes that are written down beforehand: a state tells which
environment, which episode and which step it is, and a reward tells state and action. So the rows of
a rollout can be compared one by one with what the script says.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import DiscretizeObservation

from dqlearn import QLearner
from dqlearn.algorithms import Extent
from dqlearn.envs.python.gymnasium_env import (
    Begin,
    PythonEnv,
    PythonShard,
    freeze,
    open_python_shard,
    thaw,
)
from dqlearn.errors import ConfigurationError, EnvironmentFault, StaleShardError
from dqlearn.kernels.codes import NO_BOOTSTRAP
from dqlearn.kernels.ties import set_dtype, ties
from dqlearn.spaces import Bins, SpaceIndex
from dqlearn.stages.policy import Policy
from dqlearn.stages.rollout import BLOCK
from dqlearn.stages.rollout_python import python_rollout
from dqlearn.stages.route import route
from dqlearn.statistics import RoundStats
from dqlearn.table.grid import ChunkGrid
from dqlearn.table.transitions import Transitions

EPISODES, STEPS = 40, 5  # of one environment, before its states run out
N_ACTIONS = 6
MODES = list(AutoresetMode)


def length(env: int, episode: int) -> int:
    """Transitions of a scripted episode: 1 .. 4."""
    return 1 + (3 * env + 7 * episode + env * episode) % 4


def ends(env: int, episode: int) -> tuple[bool, bool]:
    """Whether a scripted episode is terminated, and whether it is truncated; perhaps both."""
    return [(True, False), (False, True), (True, True)][(env + episode) % 3]


def reward_of(state: int, action: int) -> float:
    """Exact in float32."""
    return state + action / 8


class Scripted(gymnasium.Env[Any, Any]):
    """Plays the script of environment number `env`."""

    def __init__(
        self, env: int, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
    ) -> None:
        self.env, self.episode, self.t = env, -1, 0
        self.observation_space, self.action_space = observation_space, action_space
        self.states = SpaceIndex.from_space(observation_space)
        self.actions = SpaceIndex.from_space(action_space)

    @property
    def state(self) -> int:
        """All that can be known."""
        return (self.env * EPISODES + self.episode) * STEPS + self.t

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin the next episode of the script."""
        super().reset(seed=seed)
        self.episode, self.t = self.episode + 1, 0
        return self.states.decode_one(self.state), {"episode": {"number": self.episode}}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Refuse to go beyond an episode's end."""
        assert self.t < length(self.env, self.episode)
        assert self.action_space.contains(action)
        reward = reward_of(self.state, self.actions.encode_one(action))
        self.t += 1
        over = self.t == length(self.env, self.episode)
        terminated, truncated = ends(self.env, self.episode) if over else (False, False)
        return self.states.decode_one(self.state), reward, terminated, truncated, {"t": self.t}


def discrete(n_envs: int) -> spaces.Space[Any]:
    return spaces.Discrete(n_envs * EPISODES * STEPS)


OBSERVATIONS = {
    "Discrete": discrete,
    "MultiDiscrete": lambda n: spaces.MultiDiscrete([n, EPISODES, STEPS]),
    "Tuple": lambda n: spaces.Tuple(
        (spaces.Discrete(n), spaces.MultiDiscrete([EPISODES]), spaces.Discrete(STEPS, start=1))
    ),
    "Dict": lambda n: spaces.Dict(
        env=spaces.Discrete(n),
        inner=spaces.Dict(episode=spaces.Discrete(EPISODES), step=spaces.MultiDiscrete([STEPS])),
    ),
}
ACTIONS = {
    "Discrete": spaces.Discrete(N_ACTIONS, start=3),
    "MultiDiscrete": spaces.MultiDiscrete([2, 3]),
    "Tuple": spaces.Tuple((spaces.Discrete(3), spaces.MultiBinary(1))),
}


def scripted(
    n_envs: int,
    mode: AutoresetMode,
    observation: str = "Discrete",
    action: str = "Discrete",
    vector: Any = SyncVectorEnv,
) -> PythonEnv:
    """Return what makes `n_envs` scripted environments."""
    seen, done = OBSERVATIONS[observation](n_envs), ACTIONS[action]

    def make(num_envs: int) -> VectorEnv[Any, Any, Any]:
        each = [partial(Scripted, e, seen, done) for e in range(num_envs)]
        return vector(each, autoreset_mode=mode)

    return PythonEnv(make, SpaceIndex.from_space(seen), SpaceIndex.from_space(done))


def greedy_policy(n_states: int, n_actions: int = N_ACTIONS, timesteps: int = 0) -> Policy:
    """Action ``state % n_actions``, value ``1000 + state``."""
    states = np.arange(n_states)
    tied = (1 << states % n_actions).astype(set_dtype(n_actions))
    counts = RoundStats(timesteps, 0.0)
    extent = Extent(n_actions, ties(0))
    return Policy((1000 + states).astype(np.float32), tied, timesteps, counts, extent)


def make_rounds(
    env: PythonEnv, n_envs: int, rounds: int, n_steps: int
) -> tuple[list[Transitions], PythonShard]:
    """Roll out some rounds, greedily."""
    shard = open_python_shard(env, 0, n_envs, seed=3)
    policy, batches = greedy_policy(env.states.n), []
    for r in range(rounds):
        batch, shard = python_rollout(env, shard, policy, 0.0, 3, n_steps, r)
        batches.append(batch)
    return batches, shard


Row = tuple[int, int, float, int]


def script_of(env: int, mode: AutoresetMode) -> Iterator[tuple[Row | None, float | None, int]]:
    """Yield, for each vector step, the true row or None, and return and length if it ends."""
    for episode in range(EPISODES):
        first, n = (env * EPISODES + episode) * STEPS, length(env, episode)
        total = 0.0
        for t in range(n):
            state, last = first + t, t == n - 1
            reward = reward_of(state, state % N_ACTIONS)
            total += reward
            stops = last and ends(env, episode)[0]
            row = (state, state % N_ACTIONS, reward, NO_BOOTSTRAP if stops else state + 1)
            yield row, total if last else None, n
        if mode is AutoresetMode.NEXT_STEP:
            yield None, None, 0  # the row that only resets


def truth(mode: AutoresetMode, n_envs: int, rounds: int, n_steps: int) -> list[Any]:
    """Return the rows of each round in the documented order, and its episodes."""
    scripts = [script_of(e, mode) for e in range(n_envs)]
    made = []
    for _ in range(rounds):
        steps = [[next(script) for script in scripts] for _ in range(n_steps)]
        rows = [
            step[e][0]
            for block in range(0, n_envs, BLOCK)
            for step in steps
            for e in range(block, min(block + BLOCK, n_envs))
        ]
        episodes = [(total, n) for step in steps for _, total, n in step if total is not None]
        made.append(([row for row in rows if row is not None], episodes))
    return made


def rows_of(batch: Transitions) -> list[Row]:
    columns = (batch.state, batch.action, batch.reward, batch.next_state)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def check(env: PythonEnv, mode: AutoresetMode, n_envs: int, rounds: int, n_steps: int) -> None:
    """Compare all rows and all counts with the script."""
    batches, shard = make_rounds(env, n_envs, rounds, n_steps)
    shard.envs.close()
    expected = truth(mode, n_envs, rounds, n_steps)
    assert any(episodes for _, episodes in expected)
    for batch, (rows, episodes) in zip(batches, expected, strict=True):
        assert rows_of(batch) == rows
        returns, lengths = [r for r, _ in episodes], [n for _, n in episodes]
        tally = batch.tally
        assert tally.n_transitions == len(rows)
        assert (tally.n_episodes, tally.length_sum) == (len(episodes), sum(lengths))
        assert tally.return_sum == sum(returns)
        assert tally.return_sq_sum == sum(r * r for r in returns)
        assert tally.return_min == min(returns, default=np.inf)
        assert tally.return_max == max(returns, default=-np.inf)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_rows_are_the_scripts(mode: AutoresetMode, observation: str) -> None:
    """No made-up row, no final state lost, no count wrong, whatever resets the environments."""
    check(scripted(5, mode, observation), mode, n_envs=5, rounds=4, n_steps=9)


@pytest.mark.parametrize("action", ACTIONS)
def test_actions_arrive_as_chosen(action: str) -> None:
    """Whatever the action space: the reward tells which action the environment was given."""
    mode = AutoresetMode.SAME_STEP
    check(scripted(5, mode, "Dict", action), mode, n_envs=5, rounds=2, n_steps=9)


@pytest.mark.parametrize("mode", MODES)
def test_order_of_a_batch(mode: AutoresetMode) -> None:
    """Block of 64 environments, step, environment."""
    n_envs = BLOCK + 6
    check(scripted(n_envs, mode), mode, n_envs, rounds=2, n_steps=6)


@pytest.mark.parametrize(
    "mode",
    [
        AutoresetMode.SAME_STEP,
        pytest.param(AutoresetMode.NEXT_STEP, marks=pytest.mark.slow),
        pytest.param(AutoresetMode.DISABLED, marks=pytest.mark.slow),
    ],
)
def test_rows_from_other_processes(mode: AutoresetMode) -> None:
    """AsyncVectorEnv, with observations in shared memory."""
    env = scripted(2, mode, "Dict", vector=partial(AsyncVectorEnv, context="forkserver"))
    check(env, mode, n_envs=2, rounds=2, n_steps=9)


def test_a_single_environments_factory() -> None:
    """Becomes a SyncVectorEnv that resets in the same step."""
    seen, done = discrete(1), ACTIONS["Discrete"]
    states, actions = SpaceIndex.from_space(seen), SpaceIndex.from_space(done)
    env = PythonEnv(lambda: Scripted(0, seen, done), states, actions)
    assert not env.vectorised
    check(env, AutoresetMode.SAME_STEP, n_envs=1, rounds=3, n_steps=9)


@pytest.mark.parametrize("mode", MODES)
def test_terminated_stops_the_bootstrap_and_truncated_does_not(mode: AutoresetMode) -> None:
    """The target is y = r when terminated, else r + gamma * V(final state): P5."""
    env = scripted(3, mode)
    (batch,), _ = make_rounds(env, 3, 1, 12)
    policy, grid = greedy_policy(env.states.n), ChunkGrid((env.states.n,), (N_ACTIONS,))
    routed = route(batch, policy.value, 0.5, grid)
    targets, kinds = {}, set()
    for env_number in range(3):
        for episode in range(EPISODES):
            for t in range(n := length(env_number, episode)):
                s = (env_number * EPISODES + episode) * STEPS + t
                terminated, truncated = ends(env_number, episode) if t == n - 1 else (False, False)
                future = 0.0 if terminated else 0.5 * (1000 + s + 1)
                targets[s] = reward_of(s, s % N_ACTIONS) + future
                if s in batch.state:
                    kinds.add((terminated, truncated))
    assert kinds == {(False, False), (True, False), (False, True), (True, True)}
    states = routed.columns[0] // N_ACTIONS
    assert routed.columns[-1].tolist() == [targets[s] for s in states.tolist()]


class Recorded(gymnasium.vector.VectorWrapper[Any, Any, Any, Any, Any]):
    """Writes down what the vector environment was given, and what it gave."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Begin the record."""
        observation, info = self.env.reset(**kwargs)
        self.record: list[Any] = [(observation.copy(), None, None, None, None)]
        return observation, info

    def step(self, actions: Any) -> tuple[Any, ...]:
        """Add to the record."""
        observation, *rest, info = self.env.step(actions)
        kept = (observation.copy(), actions.copy(), *(part.copy() for part in rest))
        self.record.append(kept)
        return (observation, *rest, info)


def cart_poles(num_envs: int) -> Recorded:
    return Recorded(
        gymnasium.make_vec(
            "CartPole-v1",
            num_envs=num_envs,
            vectorization_mode="vector_entry_point",
            max_episode_steps=15,
        )
    )


def test_vector_entry_point() -> None:
    """CartPole's own vector environment: the rows are those of its record that are no resets."""
    one = cart_poles(1)
    bins = Bins.uniform([-2.4, -3, -0.21, -3], [2.4, 3, 0.21, 3], 8)
    states = SpaceIndex.from_space(one.single_observation_space, bins)
    env = PythonEnv(cart_poles, states, SpaceIndex.from_space(one.single_action_space))
    shard = open_python_shard(env, 0, 6, seed=1)
    batch, shard = python_rollout(env, shard, greedy_policy(states.n, 2), 0.5, 1, 60, 0)
    record = shard.envs.record  # type: ignore[attr-defined]
    expected, kinds = [], {"terminated": 0, "truncated": 0, "reset": 0}
    over = np.zeros(6, np.bool_)
    for (before, *_), (after, action, reward, terminated, truncated) in pairwise(record):
        s, s_next = states.encode(before), states.encode(after)
        for e in range(6):
            kinds["reset"] += bool(over[e])
            if not over[e]:
                kinds["terminated"] += bool(terminated[e])
                kinds["truncated"] += bool(truncated[e] and not terminated[e])
                target = NO_BOOTSTRAP if terminated[e] else int(s_next[e])
                expected.append((int(s[e]), int(action[e]), float(reward[e]), target))
        over = terminated | truncated
    assert min(kinds.values()) > 0
    assert rows_of(batch) == expected
    assert batch.tally.n_transitions == 6 * 60 - kinds["reset"]
    assert batch.tally.return_sum <= batch.tally.n_transitions


class SeedTeller(gymnasium.Env[np.int64, np.int64]):
    """Its first state is the seed it was given; a next episode's is drawn."""

    observation_space = spaces.Discrete(2**31)
    action_space = spaces.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.int64, dict[str, Any]]:
        """Tell the seed."""
        super().reset(seed=seed)
        drawn = self.np_random.integers(2**31) if seed is None else seed
        return np.int64(drawn), {}

    def step(self, action: Any) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        """End the episode."""
        return np.int64(self.np_random.integers(2**31)), 1.0, True, False, {}


SEED_TELLER = PythonEnv(
    SeedTeller,
    SpaceIndex.from_space(SeedTeller.observation_space),
    SpaceIndex.from_space(SeedTeller.action_space),
)


def seeds(first: int, n: int, seed: int = 0, attempt: int = 0) -> list[int]:
    shard = open_python_shard(SEED_TELLER, first, n, seed, Begin(attempt=attempt))
    return [int(s) for s in shard.state]


def test_seeds() -> None:
    """One for each environment, of its index alone: shards do not change them."""
    whole = seeds(0, 200)
    assert len(set(whole)) == 200
    assert seeds(0, 70) + seeds(70, 130) == whole
    assert not set(seeds(0, 200, seed=1)) & set(whole)
    assert not set(seeds(0, 200, attempt=1)) & set(whole)


@pytest.mark.parametrize("mode", MODES)
def test_shards_do_not_change_the_episodes(mode: AutoresetMode) -> None:
    """FrozenLake in one shard of 6, and in shards of 4 and 2: the same rows of each environment."""
    resolved = PythonEnv(
        lambda num_envs: SyncVectorEnv(
            [partial(gymnasium.make, "FrozenLake-v1")] * num_envs, autoreset_mode=mode
        ),
        SpaceIndex.from_space(spaces.Discrete(16)),
        SpaceIndex.from_space(spaces.Discrete(4)),
    )
    policy = greedy_policy(16, 4)

    def rows(first: int, n: int) -> list[list[Row]]:
        shard = open_python_shard(resolved, first, n, seed=5)
        each: list[list[Row]] = [[] for _ in range(n)]
        for r in range(40):  # rounds of one step: a batch of one environment's row each
            resetting = shard.resetting.copy()
            batch, shard = python_rollout(resolved, shard, policy, 0.7, 5, 1, r)
            for e, row in zip(np.flatnonzero(~resetting), rows_of(batch), strict=True):
                each[e].append(row)
        return each

    assert rows(0, 4) + rows(4, 2) == rows(0, 6)


def test_stale_shard() -> None:
    """A shard that is asked for a round that it has left says so, and is not stepped."""
    env = scripted(2, AutoresetMode.SAME_STEP)
    batches, shard = make_rounds(env, 2, 2, 3)
    policy = greedy_policy(env.states.n)
    for round_ in (0, 1, 3):
        with pytest.raises(StaleShardError, match=f"is in round 2, expected {round_}"):
            python_rollout(env, shard, policy, 0.0, 3, 3, round_)
    batch, _ = python_rollout(env, shard, policy, 0.0, 3, 3, 2)
    expected = truth(AutoresetMode.SAME_STEP, 2, 3, 3)
    assert [rows_of(b) for b in [*batches, batch]] == [rows for rows, _ in expected]


def test_a_failed_rollout_leaves_no_shard_to_go_on_with() -> None:
    """It stopped in mid-round, so every round finds it stale."""
    env = scripted(1, AutoresetMode.SAME_STEP)
    shard = open_python_shard(env, 0, 1, seed=3)
    policy = greedy_policy(env.states.n)
    with pytest.raises(
        EnvironmentFault, match=r"environments 0 \.\. 0 of shard 0 failed at step \d+"
    ):
        python_rollout(env, shard, policy, 0.0, 3, EPISODES * STEPS, 0)  # the script runs out
    for round_ in (0, 1):
        with pytest.raises(StaleShardError):
            python_rollout(env, shard, policy, 0.0, 3, 1, round_)


@pytest.mark.parametrize("mode", MODES)
def test_a_copy_goes_on_as_the_original(mode: AutoresetMode) -> None:
    """Frozen in mid-episode and thawed, a shard makes the same rows."""
    env = scripted(4, mode, "Dict")
    _, shard = make_rounds(env, 4, 1, 3)
    copy = freeze(shard)
    assert copy is not None
    policy = greedy_policy(env.states.n)
    original, _ = python_rollout(env, shard, policy, 0.0, 3, 12, 1)
    again, _ = python_rollout(env, thaw(copy), policy, 0.0, 3, 12, 1)
    assert rows_of(again) == rows_of(original)
    assert again.tally == original.tally


def test_a_factory_must_make_as_many_as_it_is_asked_for() -> None:
    """A vector environment of another size is refused, with both numbers."""
    env = PythonEnv(
        lambda num_envs: SyncVectorEnv([SeedTeller]), SEED_TELLER.states, SEED_TELLER.actions
    )
    with pytest.raises(EnvironmentFault, match="VectorEnv of 3 environments") as caught:
        open_python_shard(env, 0, 3, seed=0)
    assert isinstance(caught.value.__cause__, ConfigurationError)


def test_blackjack() -> None:
    """A Tuple of three: whoever holds 20 or 21 sticks."""
    learner = QLearner("Blackjack-v1", gamma=1.0, epsilon=0.5, learning_rate=0.05, shards=2, seed=0)
    learner.learn(30_000)
    assert learner.table.q.shape == (32 * 11 * 2, 2)
    assert [factor.size for factor in learner.state_index.factors] == [32, 11, 2]
    for player in (20, 21):
        actions, _ = learner.predict((np.full(9, player), np.arange(2, 11), np.zeros(9, np.int64)))
        assert actions.tolist() == [0] * 9
    assert int(learner.table.visits.sum()) == learner.num_timesteps
    assert learner.evaluate(500, seed=1).mean > -0.2  # drawing at random loses 0.4 a game


CART_POLE_BINS = Bins([[], [], [-0.1, -0.05, 0.0, 0.05, 0.1], [-1.0, -0.3, 0.0, 0.3, 1.0]])


def stays_up(learner: QLearner) -> None:
    """Learn, and see that the pole stays up longer than at random: 22 steps."""
    learner.learn(40_000)
    assert int(learner.table.visits.sum()) == learner.num_timesteps
    assert learner.evaluate(10, seed=1).mean > 60


def test_cart_pole_with_bins() -> None:
    """A Box through the edges of its dimensions."""
    stays_up(QLearner("CartPole-v1", bins=CART_POLE_BINS, learning_rate=0.2, shards=2, seed=0))


def test_cart_pole_vector_entry_point() -> None:
    """The same through a factory of vector environments, whose NEXT_STEP resets cost rows."""
    make = partial(gymnasium.make_vec, "CartPole-v1", vectorization_mode="vector_entry_point")
    learner = QLearner(
        partial(_vector_of, make), bins=CART_POLE_BINS, learning_rate=0.2, shards=2, seed=0
    )
    stays_up(learner)
    assert learner.num_timesteps < len(learner.history["round"]) * 64 * 2
    assert int(learner.history["n_transitions"].sum()) == learner.num_timesteps


def _vector_of(make: Any, num_envs: int) -> VectorEnv[Any, Any, Any]:
    return make(num_envs=num_envs)


def test_discretize_observation() -> None:
    """Gymnasium's own wrapper, through a factory: a Discrete space without any bins of ours."""

    def make() -> gymnasium.Env[Any, Any]:
        clipped = gymnasium.wrappers.TransformObservation(
            gymnasium.make("CartPole-v1"),
            lambda x: np.clip(x, -1.0, 1.0).astype(np.float32),
            spaces.Box(-1.0, 1.0, (4,), np.float32),
        )
        return DiscretizeObservation(clipped, bins=(1, 1, 20, 6), multidiscrete=False)

    learner = QLearner(make, learning_rate=0.2, shards=2, seed=0)
    assert learner.table.q.shape == (120, 2)
    learner.learn(20_000)
    assert learner.evaluate(10, seed=1).mean > 30
