"""The round again, in plain Python and NumPy: what that of `dqlearn.engine` must equal.

For reading, not for speed: no chunks, no Dask, nothing compiled, and random numbers of its own (the
published SplitMix64), so that it shares no mistake with the package. It steps one environment at a
time, and knows of shards only the order that they give to a batch.

    for every round r:
        play       every environment K steps, epsilon-greedy on Q_r (lag 1: on Q_{r-1})
        targets    y = reward + gamma * v_r(s'), or the reward alone at a terminal state; if the
                   rule looks n steps ahead, once these are there, or the episode has ended
        update     Q(s, a) += alpha * (y - Q(s, a)), one transition after another
        policy     the best actions of each state, of which one is drawn when it acts, and the one
                   with the largest hash stands for them; and v_{r+1}, by the rule:
                       q_learning      max_a Q(s, a)
                       double_q        Q_B(s, argmax_a Q_A(s, a)), and the other way round
                       expected_sarsa  the mean over the actions of an epsilon-greedy policy

Actions that are not valid have the value of minus infinity from the beginning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from dqlearn import TabularEnv
from dqlearn.schedules import Schedule, VisitCount

# SplitMix64

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15
STEPS, TIES, SEEDS = 1, 2, 3


def mix(z: Any) -> Any:
    """The finalizer of SplitMix64, of a Python int or of an array of uint64."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def word(key: int, i: Any) -> Any:
    """Output i of the generator whose state is `key`."""
    return mix(key + (i + 1) * GOLDEN & MASK)


def stream(seed: int, purpose: int, index: int) -> int:
    return mix(mix(mix(seed + GOLDEN & MASK) + purpose & MASK) + index * GOLDEN & MASK)


def step_key(environment: int, step: int) -> int:
    return mix(environment + step * 0xD1342543DE82EF95 & MASK)


def reset_key(key: int) -> int:
    return mix(key ^ 0xA24BAED4963EE407)


def member_of(key: int, members: int) -> int:
    """The table that learns from the step of a key."""
    return (word(mix(key ^ 0x9FB21C651E98DF25), 0) >> 32) * members >> 32


def choose(key: int, greedy: list[int], epsilon: float, valid: list[int]) -> int:
    """The upper half of a key decides whether to explore, the lower half which action it is."""
    explore = key >> 32 < round(epsilon * 2**32)
    among = valid if explore else greedy
    return among[(key % 2**32) * len(among) >> 32]


# What is learned, and how

TRACES = {"n_step": "every", "peng": "every", "watkins": "greedy", "tree_backup": "shared"}


@dataclass(frozen=True)
class Settings:
    """As the parameters of `QLearner`, which takes ``**vars(settings)``."""

    num_envs: int
    steps_per_round: int
    shards: int = 1
    gamma: float = 0.99
    learning_rate: float | Schedule | VisitCount = 0.1
    epsilon: float | Schedule = 0.1
    initial_value: float = 0.0
    policy_lag: int = 0
    dtype: str = "float32"
    seed: int = 0
    algorithm: str = "q_learning"

    @property
    def members(self) -> int:
        return 2 if self.algorithm == "double_q" else 1

    @property
    def returns(self) -> tuple[int, float, str]:
        """Steps that a target looks ahead, and lambda: after every action, or greedy ones."""
        kind, *numbers = self.algorithm.split(":")
        if not numbers:
            return 1, 0.0, "every"
        lambda_ = float(numbers[0]) if len(numbers) == 2 else 1.0
        return int(numbers[-1]), lambda_, TRACES[kind]

    @property
    def round_timesteps(self) -> int:
        return self.num_envs * self.steps_per_round

    def blocks(self) -> Iterator[range]:
        """Environments in the order of a batch: those of a shard, in blocks of at most 64."""
        unit = 64 if self.num_envs >= 64 * self.shards else 1
        units = math.ceil(self.num_envs / unit)
        starts = [w * units // self.shards * unit for w in range(self.shards)]
        for first, last in pairwise([*starts, self.num_envs]):
            for block in range(first, last, 64):
                yield range(block, min(block + 64, last))


class Transition(NamedTuple):
    state: int
    action: int
    reward: float
    next_state: int
    terminated: bool
    member: int
    env: int
    ended: bool


class Policy(NamedTuple):
    """Values of (state, member), which actions (state, action) are greedy, and which stands."""

    value: npt.NDArray[Any]
    tied: npt.NDArray[np.bool_]
    action: npt.NDArray[np.int64]
    timesteps: int


def policy_of(
    q: npt.NDArray[Any],
    seed: int,
    timesteps: int,
    algorithm: str = "q_learning",
    epsilon: float = 0.0,
) -> Policy:
    """What each state of a table (state, member, action) is worth, and its greedy actions."""
    n_states, _, n_actions = q.shape
    pairs = np.arange(n_states * n_actions, dtype=np.uint64).reshape(n_states, n_actions)
    hashes = word(stream(seed, TIES, 0), pairs)

    def greedy(scores: npt.NDArray[Any]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        tied = scores == scores.max(axis=1)[:, None]
        return tied, np.where(tied, hashes, 0).argmax(axis=1)

    def best(scores: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        return greedy(scores)[1]

    def of(values: npt.NDArray[Any], action: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        return values[np.arange(n_states), action]

    if algorithm == "double_q":
        one, other = q[:, 0], q[:, 1]
        value = np.stack([of(other, best(one)), of(one, best(other))], axis=1)
        return Policy(value, *greedy((one + other) / 2), timesteps)
    greatest = q[:, 0].max(axis=1)
    if algorithm == "expected_sarsa":
        total, n_valid = np.zeros(n_states), np.isfinite(q[:, 0]).sum(axis=1).clip(1)
        for a in range(n_actions):
            total += np.where(np.isfinite(q[:, 0, a]), q[:, 0, a], 0.0)
        total = total.astype(q.dtype).astype(float)
        expected = (1 - epsilon) * greatest.astype(float) + epsilon / n_valid * total
        greatest = expected.astype(q.dtype)
    return Policy(greatest[:, None], *greedy(q[:, 0]), timesteps)


def learn(
    env: TabularEnv | str | Callable[..., SyncVectorEnv],
    total_timesteps: int,
    settings: Settings,
    valid: npt.NDArray[np.bool_] | None = None,
) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint32]]:
    """Return q and visits after whole rounds of `total_timesteps` transitions or more.

    `valid` are the valid actions of each state, (n_states, n_actions); by default all.
    """
    worlds = Models(env, settings) if isinstance(env, TabularEnv) else Gyms(env, settings)
    if valid is not None:
        worlds.valid = [np.flatnonzero(row).tolist() for row in valid]
    shape = worlds.n_states, settings.members, worlds.n_actions
    q, visits = np.full(shape, settings.initial_value, settings.dtype), np.zeros(shape, np.uint32)
    if valid is not None:
        q[np.broadcast_to(~valid[:, None], shape)] = -np.inf

    def policy_after(timesteps: int) -> Policy:
        epsilon = _at(settings.epsilon, timesteps)
        return policy_of(q, settings.seed, timesteps, settings.algorithm, epsilon)

    policy = acted_on = policy_after(0)
    waiting: list[Transition] = []
    for round_ in count():
        if policy.timesteps >= total_timesteps:
            break
        batch = worlds.play(acted_on if settings.policy_lag else policy, round_)
        acted_on = policy
        targets, waiting = targets_of(waiting + batch, policy, settings)
        update(q, visits, targets, policy, settings)
        policy = policy_after(policy.timesteps + len(batch))
    return (q, visits) if settings.members > 1 else (q[:, 0], visits[:, 0])


def targets_of(
    rows: list[Transition], policy: Policy, settings: Settings
) -> tuple[list[tuple[Transition, Any]], list[Transition]]:
    """What is learned, in the order of a batch, and what waits for the steps that follow."""
    (n, lambda_, greedy), targets, waiting = settings.returns, [], []
    for block in settings.blocks():
        own = [row for row in rows if row.env in block]
        of_env = {e: [row for row in own if row.env == e] for e in block}
        next_of = dict.fromkeys(block, 0)
        for row in own:
            i = next_of[row.env]
            next_of[row.env] += 1
            window = of_env[row.env][i : i + n]
            length = next((k + 1 for k, it in enumerate(window) if it.ended), len(window))
            if length == n or window[length - 1].ended:
                y = return_of(window[:length], policy, settings.gamma, lambda_, greedy)
                targets.append((row, y))
            else:
                waiting.append(row)
    return targets, waiting


def return_of(
    window: list[Transition], policy: Policy, gamma: float, lambda_: float, greedy: str
) -> Any:
    """The return of the first transition of a window, in the table's own arithmetic."""
    real = policy.value.dtype.type
    discount, one = real(gamma), real(1)
    total, weight = real(0), one
    for row, following in zip(window, [*window[1:], None], strict=True):
        trace = real(0)
        if following is not None:
            tied = policy.tied[following.state]
            trace = real(lambda_) if greedy == "every" or tied[following.action] else real(0)
            if greedy == "shared":
                trace = real(float(trace) / int(tied.sum()))
        future = discount * ((one - trace) * policy.value[row.next_state, window[0].member])
        total += weight * (real(row.reward) + (real(0) if row.terminated else future))
        weight *= discount * trace
    return total


def update(
    q: npt.NDArray[Any],
    visits: npt.NDArray[np.uint32],
    targets: list[tuple[Transition, Any]],
    policy: Policy,
    settings: Settings,
) -> None:
    """Temporal-difference steps in the order of the batch, in the table's own arithmetic."""
    real, rate = q.dtype.type, settings.learning_rate
    for (s, a, *_, m, _, _), target in targets:
        if isinstance(rate, VisitCount):
            alpha = rate.rate(int(visits[s, m, a]))
        else:
            alpha = _at(rate, policy.timesteps)
        q[s, m, a] += real(alpha) * (target - q[s, m, a])
        visits[s, m, a] += 1


def _at(value: float | Schedule, timesteps: int) -> float:
    return value(timesteps) if isinstance(value, Schedule) else value


# Environments


class Worlds:
    """All environments of a run; a subclass says how one of them begins and steps."""

    n_states: int
    n_actions: int
    late = False
    """Whether the step after an episode's end only resets: Gymnasium's NEXT_STEP."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.valid = [[*range(self.n_actions)]] * self.n_states
        self.resetting = [False] * settings.num_envs
        self.streams = [stream(settings.seed, STEPS, e) for e in range(settings.num_envs)]
        self.state = [self.begin(e) for e in range(settings.num_envs)]
        self.returns = [0.0] * settings.num_envs
        self.lengths = [0] * settings.num_envs
        self.episodes: list[tuple[float, int]] = []

    def begin(self, e: int) -> int:
        """First state of environment e."""
        raise NotImplementedError

    def step(self, e: int, action: int, key: int) -> tuple[int, float, bool, bool]:
        """(next_state, reward, terminated, truncated)."""
        raise NotImplementedError

    def restart(self, e: int, key: int) -> int:
        """First state of the next episode, after the one that the step of `key` ended."""
        raise NotImplementedError

    def play(self, policy: Policy, round_: int) -> list[Transition]:
        """K steps of every environment, in the order of a batch."""
        steps = self.settings.steps_per_round
        moves = (
            self.move(e, policy, round_ * steps + k)
            for block in self.settings.blocks()
            for k in range(steps)
            for e in block
        )
        return [move for move in moves if move is not None]

    def move(self, e: int, policy: Policy, t: int) -> Transition | None:
        """Step t of environment e; None if that only resets it."""
        key, state = step_key(self.streams[e], t), self.state[e]
        if self.resetting[e]:
            self.state[e], self.resetting[e] = self.restart(e, key), False
            return None
        epsilon = _at(self.settings.epsilon, policy.timesteps)
        best = np.flatnonzero(policy.tied[state]).tolist()
        greedy = [a for a in best if a in self.valid[state]]
        action = choose(key, greedy, epsilon, self.valid[state])
        next_state, reward, terminated, truncated = self.step(e, action, key)
        self.returns[e] += reward
        self.lengths[e] += 1
        self.state[e] = next_state
        if terminated or truncated:
            self.episodes.append((self.returns[e], self.lengths[e]))
            self.returns[e], self.lengths[e] = 0.0, 0
            self.resetting[e] = self.late
            if not self.late:
                self.state[e] = self.restart(e, key)
        member = member_of(key, self.settings.members)
        over = terminated or truncated
        return Transition(state, action, reward, next_state, terminated, member, e, over)


class Models(Worlds):
    """Environments of a `TabularEnv`: its functions, called as the Python that they are."""

    def __init__(self, model: TabularEnv, settings: Settings) -> None:
        self.model, self.n_states, self.n_actions = model, model.n_states, model.n_actions
        self.initial, self.transition, self.events = (
            getattr(function, "py_func", function)
            for function in (model.initial, model.transition, model.events)
        )
        super().__init__(settings)

    def begin(self, e: int) -> int:
        return self.restart(e, self.streams[e])

    def restart(self, e: int, key: int) -> int:
        return int(self.initial(np.uint64(reset_key(key)), self.model.params))

    def step(self, e: int, action: int, key: int) -> tuple[int, float, bool, bool]:
        state, params = self.state[e], self.model.params
        happened: Any = np.uint64(key)
        if self.events is not None:
            chances = self.events(state, action, params)
            happened = sum(
                1 << i for i, p in enumerate(chances) if (word(key, i) >> 11) / 2**53 < p
            )
        next_state, reward, terminated = self.transition(state, action, happened, params)
        limit = self.model.max_episode_steps
        truncated = limit is not None and self.lengths[e] + 1 >= limit
        return int(next_state), float(reward), bool(terminated), truncated


class Gyms(Worlds):
    """Gymnasium environments with `Discrete` spaces, each made and stepped by itself."""

    def __init__(self, make: str | Callable[..., SyncVectorEnv], settings: Settings) -> None:
        if isinstance(make, str):
            self.envs = [gymnasium.make(make) for _ in range(settings.num_envs)]
        else:
            vector = make(num_envs=settings.num_envs)
            self.envs = list(vector.envs)
            self.late = vector.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
        self.n_states = int(self.envs[0].observation_space.n)  # type: ignore[attr-defined]
        self.n_actions = int(self.envs[0].action_space.n)  # type: ignore[attr-defined]
        super().__init__(settings)

    def begin(self, e: int) -> int:
        return int(self.envs[e].reset(seed=stream(self.settings.seed, SEEDS, e) >> 33)[0])

    def restart(self, e: int, key: int) -> int:
        return int(self.envs[e].reset()[0])

    def step(self, e: int, action: int, key: int) -> tuple[int, float, bool, bool]:
        next_state, reward, terminated, truncated, _ = self.envs[e].step(action)
        return int(next_state), float(reward), terminated, truncated
