"""Rollout of compiled environments: pure, recorded in order, and counted right."""

from __future__ import annotations

from dataclasses import astuple, replace
from typing import Any

import numpy as np
import pytest
import reference
from reference import Settings

from dqlearn import TabularEnv
from dqlearn.algorithms import Q_LEARNING, Extent
from dqlearn.envs.problems.garnet import garnet
from dqlearn.envs.problems.torus import torus
from dqlearn.errors import RewardError, StateRangeError
from dqlearn.kernels.codes import NO_BOOTSTRAP
from dqlearn.kernels.ties import ties
from dqlearn.random import integers, uniform
from dqlearn.stages.policy import Policy
from dqlearn.stages.rollout import CompiledShard, open_shard, rollout
from dqlearn.stages.summary import summarize
from dqlearn.statistics import RoundStats
from dqlearn.table.chunk import Chunk

SEED = 11


def policy_of(q: np.ndarray, timesteps: int = 0) -> Policy:
    chunk = Chunk(q, np.zeros(q.shape, np.uint32), RoundStats(0, 0.0))
    extent = Extent(q.shape[1], ties(SEED))
    ((value, tied),) = summarize(chunk, Q_LEARNING, extent).found
    return Policy(value, tied, timesteps, RoundStats(timesteps, 0.0), extent)


def blank(env: TabularEnv) -> Policy:
    return policy_of(np.zeros((env.n_states, env.n_actions), np.float32))


def contents(shard: CompiledShard) -> list[Any]:
    return [np.asarray(value).tolist() for value in astuple(shard)]


# A walk in key form: it moves by the environment's own draws, and ends at one end.


def somewhere(key: Any, params: Any) -> Any:
    return integers(key, 0, 10)


def walk(state: Any, action: Any, key: Any, params: Any) -> Any:
    drawn = uniform(key, 0)
    by = action + 1 if drawn < params[0] else -1
    next_state = min(max(state + by, 0), 19)
    return next_state, uniform(key, 1) - 0.5, next_state == 19


MODELS = {
    "events": torus(side=5, slip=0.3, max_episode_steps=12),
    "events, endless": torus(side=6),
    "arrays": garnet(n_states=40, n_actions=3, max_episode_steps=7),
    "key": TabularEnv(20, 2, somewhere, walk, params=(0.6,), max_episode_steps=9),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("n_envs", "n_steps"), [(1, 50), (64, 20), (150, 7)])
def test_equals_the_reference(name: str, n_envs: int, n_steps: int) -> None:
    """Transitions, their order and the episodes' tally, in two rollouts that follow each other."""
    env, settings = MODELS[name], Settings(n_envs, n_steps, epsilon=0.3, seed=SEED)
    worlds, shard = reference.Models(env, settings), open_shard(env, 0, n_envs, SEED)
    for round_ in range(2):
        policy = blank(env)
        wanted = worlds.play(
            reference.policy_of(np.zeros((env.n_states, 1, env.n_actions), np.float32), SEED, 0),
            round_,
        )
        batch, shard = rollout(env, shard, policy, 0.3, SEED, n_steps)
        assert [(row.state, row.action) for row in wanted] == list(
            zip(batch.state.tolist(), batch.action.tolist(), strict=True)
        )
        assert [np.float32(row.reward) for row in wanted] == batch.reward.tolist()
        assert [
            NO_BOOTSTRAP if row.terminated else row.next_state for row in wanted
        ] == batch.next_state.tolist()
        returns, lengths = zip(*worlds.episodes, strict=True) if worlds.episodes else ((), ())
        assert batch.tally == RoundStats(
            0,
            0.3,
            n_envs * n_steps,
            len(returns),
            pytest.approx(sum(returns)),
            pytest.approx(sum(r * r for r in returns)),
            sum(lengths),
            pytest.approx(min(returns, default=np.inf)),
            pytest.approx(max(returns, default=-np.inf)),
        )
        worlds.episodes.clear()
    assert shard.state.tolist() == worlds.state
    assert shard.elapsed.tolist() == worlds.lengths
    assert shard.returns.tolist() == pytest.approx(worlds.returns)


@pytest.mark.parametrize("name", MODELS)
def test_pure(name: str) -> None:
    """The shard is left as it was, and the same rollout again gives the same bits."""
    env = MODELS[name]
    _, shard = rollout(env, open_shard(env, 0, 70, SEED), blank(env), 0.5, SEED, 5)
    before = contents(shard)
    first, after = rollout(env, shard, blank(env), 0.5, SEED, 5)
    assert contents(shard) == before
    again, after_again = rollout(env, shard, blank(env), 0.5, SEED, 5)
    for column in ("state", "action", "reward", "next_state"):
        assert getattr(first, column).tobytes() == getattr(again, column).tobytes()
    assert first.tally == again.tally
    assert contents(after) == contents(after_again) != before


def test_a_shard_is_a_part_of_the_whole() -> None:
    """Environments 64 .. 99 do the same in a shard of their own as in one with all others."""
    env = MODELS["key"]
    whole, _ = rollout(env, open_shard(env, 0, 100, SEED), blank(env), 0.5, SEED, 10)
    part, _ = rollout(env, open_shard(env, 64, 36, SEED), blank(env), 0.5, SEED, 10)
    for column in ("state", "action", "reward", "next_state"):
        assert getattr(whole, column)[640:].tolist() == getattr(part, column).tolist()


def test_two_short_rollouts_are_a_long_one() -> None:
    env = MODELS["events"]
    shard = open_shard(env, 0, 64, SEED)
    long, after = rollout(env, shard, blank(env), 0.5, SEED, 6)
    first, shard = rollout(env, shard, blank(env), 0.5, SEED, 2)
    second, shard = rollout(env, shard, blank(env), 0.5, SEED, 4)
    assert long.state.tolist() == [*first.state.tolist(), *second.state.tolist()]
    assert contents(shard) == contents(after)


def always_first(key: Any, params: Any) -> int:
    return 0


def along(state: Any, action: Any, key: Any, params: Any) -> Any:
    """A corridor: one step right at a time, for 1; state `params[0]` is terminal."""
    return state + 1, 1.0, state + 1 == params[0]


def corridor(**settings: Any) -> TabularEnv:
    return TabularEnv(5, 1, always_first, along, **settings)


def test_termination_stops_the_bootstrap_by_hand() -> None:
    """0 -> 1 -> 2 -> 3, terminal, and again from 0."""
    env = corridor(params=(3,))
    batch, shard = rollout(env, open_shard(env, 0, 1, SEED), blank(env), 0.0, SEED, 5)
    assert batch.state.tolist() == [0, 1, 2, 0, 1]
    assert batch.next_state.tolist() == [1, 2, NO_BOOTSTRAP, 1, 2]
    assert batch.tally == RoundStats(0, 0.0, 5, 1, 3.0, 9.0, 3, 3.0, 3.0)
    assert contents(shard) == [0, [2], [2], [2.0], 5]


def test_truncation_does_not_stop_the_bootstrap_by_hand() -> None:
    """Cut off after two steps, in state 2: its value still counts; the next episode is at 0."""
    env = corridor(params=(3,), max_episode_steps=2)
    batch, shard = rollout(env, open_shard(env, 0, 1, SEED), blank(env), 0.0, SEED, 5)
    assert batch.state.tolist() == [0, 1, 0, 1, 0]
    assert batch.next_state.tolist() == [1, 2, 1, 2, 1]
    assert batch.tally == RoundStats(0, 0.0, 5, 2, 4.0, 8.0, 4, 2.0, 2.0)
    assert contents(shard) == [0, [1], [1], [1.0], 5]


def test_termination_at_the_limit_is_termination() -> None:
    env = corridor(params=(3,), max_episode_steps=3)
    batch, _ = rollout(env, open_shard(env, 0, 1, SEED), blank(env), 0.0, SEED, 3)
    assert batch.next_state.tolist() == [1, 2, NO_BOOTSTRAP]
    assert batch.tally.n_episodes == 1


@pytest.mark.parametrize("epsilon", [0.0, 0.25, 1.0])
def test_actions_are_epsilon_greedy(epsilon: float) -> None:
    """Exploration is uniform: a greedy action comes with probability 1 - epsilon + epsilon / n."""
    env = MODELS["events, endless"]
    policy = replace(blank(env), tied=np.full(env.n_states, 1 << 2, np.uint8))
    batch, _ = rollout(env, open_shard(env, 0, 500, SEED), policy, epsilon, SEED, 40)
    share = np.bincount(batch.action, minlength=4) / 20_000
    chance = epsilon / 4 + (1 - epsilon) * np.eye(4)[2]
    assert share == pytest.approx(chance, abs=4 * np.sqrt(0.25 / 20_000))
    assert (share > 0).tolist() == (chance > 0).tolist()


def test_the_batch_is_of_the_smallest_dtypes_and_the_tables_own() -> None:
    env = MODELS["arrays"]
    for dtype in (np.float32, np.float64):
        policy = policy_of(np.zeros((env.n_states, env.n_actions), dtype), timesteps=123)
        batch, _ = rollout(env, open_shard(env, 0, 3, SEED), policy, 0.1, SEED, 2)
        columns = (batch.state, batch.action, batch.reward, batch.next_state)
        assert [column.dtype for column in columns] == [np.int32, np.uint8, dtype, np.int32]
        assert batch.tally.timesteps == 123


# Faults


def faulty(state: Any, action: Any, key: Any, params: Any) -> Any:
    """Like the corridor, but the step from `params[0]` goes to, and pays, what is told."""
    at, next_state, reward = params
    if state == at:
        return next_state, reward, False
    return state + 1, 0.0, False


@pytest.mark.parametrize("reward", [np.nan, np.inf, -np.inf])
def test_rewards_that_are_not_finite_are_refused(reward: float) -> None:
    env = TabularEnv(9, 1, always_first, faulty, params=(4, 5, reward))
    shard = open_shard(env, 128, 3, SEED)
    with pytest.raises(
        RewardError, match=f"got {reward} from environment 128 in state 4, action 0"
    ):
        rollout(env, shard, blank(env), 0.0, SEED, 5)


@pytest.mark.parametrize("next_state", [-1, 9, 2**40])
def test_states_outside_the_model_are_refused(next_state: int) -> None:
    env = TabularEnv(9, 1, always_first, faulty, params=(4, next_state, 0.0))
    shard = open_shard(env, 7, 3, SEED)
    with pytest.raises(
        StateRangeError, match=rf"0 \.\. 8, got {next_state} after environment 7 in"
    ):
        rollout(env, shard, blank(env), 0.0, SEED, 5)


def test_the_environment_at_fault_is_named() -> None:
    """Environment 64 + 70 is the only one that begins at the state at fault."""
    env = TabularEnv(9, 1, always_first, faulty, params=(4, -3, 0.0))
    shard = open_shard(env, 64, 80, SEED)
    shard.state[70] = 4
    with pytest.raises(StateRangeError, match="got -3 after environment 134 in state 4"):
        rollout(env, shard, blank(env), 0.0, SEED, 1)


def outside(key: Any, params: Any) -> int:
    return params[0]


def over(state: Any, action: Any, key: Any, params: Any) -> Any:
    return state, 0.0, True


@pytest.mark.parametrize("first", [-1, 4, 2**40])
def test_initial_states_outside_the_model_are_refused(first: int) -> None:
    env = TabularEnv(4, 1, outside, over, params=(first,))
    with pytest.raises(StateRangeError, match=f"got {first} for environment 5"):
        open_shard(env, 5, 2, SEED)
    inside = replace(env, params=(0,))
    shard = open_shard(inside, 5, 2, SEED)
    with pytest.raises(StateRangeError, match=rf"initial\(\) .* got {first} for environment 5"):
        rollout(env, shard, blank(env), 0.0, SEED, 1)
