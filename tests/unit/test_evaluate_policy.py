"""Policies that are not in a table are played in the episodes that the learner plays."""

from __future__ import annotations

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest

from dqlearn import QLearner, TabularEnv, evaluate_policy
from dqlearn.envs import torus
from dqlearn.errors import ConfigurationError, SpaceError

States = npt.NDArray[np.int64]


def test_a_table_as_a_function_is_the_table() -> None:
    """To the bit, with episodes that terminate, are truncated and are cut off."""
    model = torus(side=6, slip=0.3, max_episode_steps=40)
    learner = QLearner(model, num_envs=64, seed=0).learn(20_000)
    greedy = learner.table.policy.compute()
    for max_steps in (10, 30, 100):
        ours = learner.evaluate(50, seed=3, max_steps=max_steps)
        theirs = evaluate_policy(model, lambda s, t: greedy[s], 50, 3, max_steps)
        assert ours.lengths.tolist() == theirs.lengths.tolist()
        assert ours.returns.tolist() == theirs.returns.tolist()
        assert ours.n_truncated == theirs.n_truncated


def test_a_policy_may_follow_the_clock() -> None:
    """Left and right in turn, without slips: every second step one is back."""
    asked: list[tuple[int, int]] = []

    def shuttle(states: States, t: int) -> States:
        asked.append((len(states), t))
        return np.full(len(states), 2 + t % 2)

    model = torus(side=50, slip=0.0)
    result = evaluate_policy(model, shuttle, n_episodes=5, max_steps=6)
    assert asked == [(5, t) for t in range(6)]
    assert result.n_truncated == 5


def test_an_environment_stands_for_its_model() -> None:
    env = gymnasium.make("dqlearn/Torus-v0", side=4, max_episode_steps=7)
    assert evaluate_policy(env, lambda s, t: s * 0, n_episodes=9).lengths.max() <= 7


@pytest.mark.parametrize(
    "actions", [np.array([0]), np.zeros(3), np.full(3, 4), np.full(3, -1), None]
)
def test_bad_actions_are_refused(actions: object) -> None:
    with pytest.raises(SpaceError, match=r"3 integers in 0 \.\. 3"):
        evaluate_policy(torus(side=8), lambda s, t: actions, n_episodes=3)  # type: ignore[arg-type,return-value]


def test_other_environments_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="nothing but one"):
        evaluate_policy(gymnasium.make("FrozenLake-v1"), lambda s, t: s * 0)


def test_a_model_that_leaves_its_states_is_named() -> None:
    model = TabularEnv(2, 1, lambda key, p: 0, lambda s, a, key, p: (5, 0.0, False))
    with pytest.raises(Exception, match=r"0 \.\. 1, got 5"):
        evaluate_policy(model, lambda s, t: s * 0, n_episodes=1)
