"""Masks as environments say them, and as kernels take them."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from hypothesis import given
from hypothesis import strategies as st

from dqlearn import QLearner
from dqlearn.envs.play import random_valid
from dqlearn.envs.python.masks import Seen, mask_of, masks_of, says_masks
from dqlearn.errors import ActionMaskError
from dqlearn.kernels.choose import choose_actions, choose_valid_actions
from dqlearn.kernels.ties import empty_sets, members_of, sets_of
from dqlearn.random import exploration_threshold, streams
from dqlearn.spaces import SpaceIndex

PLAIN = SpaceIndex.from_space(spaces.Discrete(3, start=5), name="action")
PARTS = SpaceIndex.from_space(spaces.MultiDiscrete([2, 3]), name="action")


@pytest.mark.parametrize(
    "mask",
    [[1, 0, 1], np.array([1, 0, 1], np.int8), np.array([True, False, True]), (1.0, 0.0, 1.0)],
)
def test_all_sorts_of_flags(mask: Any) -> None:
    found = masks_of({"action_mask": [mask, [1, 1, 1]]}, PLAIN)
    assert found is not None
    assert found.tolist() == [[True, False, True], [True] * 3]


@pytest.mark.parametrize("mask", [([1, 0], [0, 1, 1]), [1, 0, 0, 1, 1], np.array([1, 0, 0, 1, 1])])
def test_an_action_of_parts_is_valid_if_each_part_is(mask: Any) -> None:
    found = masks_of({"action_mask": [mask]}, PARTS)
    assert found is not None
    expected = [bool([1, 0][a] and [0, 1, 1][b]) for a, b in PARTS.decode(np.arange(6)).tolist()]
    assert found[0].tolist() == expected


@pytest.mark.parametrize("mask", [[1, 0], [1, 0, 2], [[1, 0, 1]], ["a", "b"], "abc", [0.5] * 3])
def test_what_is_no_mask_is_refused(mask: Any) -> None:
    with pytest.raises(ActionMaskError, match="0 or 1 for each of 3"):
        masks_of({"action_mask": [mask]}, PLAIN)


def test_who_is_idle_needs_none() -> None:
    assert masks_of({}, PLAIN) is None
    info = {
        "action_mask": np.array([[1, 0, 1], [0, 0, 0]]),
        "_action_mask": np.array([True, False]),
    }
    with pytest.raises(ActionMaskError, match="environment 1"):
        masks_of(info, PLAIN)
    found = masks_of(info, PLAIN, np.array([False, True]))
    assert found is not None
    assert found.tolist() == [[True, False, True], [True] * 3]


def test_both_ways_to_say_it() -> None:
    class Method(gymnasium.Env[Any, Any]):
        observation_space, action_space = spaces.Discrete(2), spaces.Discrete(2)

        def action_masks(self) -> Any:
            return [0, 1]

    assert mask_of(Method(), {}) == [0, 1]
    assert mask_of(Method(), {"action_mask": [1, 0]}) == [1, 0]
    assert says_masks(Method())
    assert says_masks(SyncVectorEnv([Method]))
    assert says_masks(gymnasium.make("Taxi-v4"))
    assert not says_masks(gymnasium.make("FrozenLake-v1"))


def test_a_state_is_told_once() -> None:
    seen, mask = Seen(), np.array([[True, False]])
    seen.note(np.array([7]), mask, 0)
    seen.note(np.array([7]), mask, 0)
    states, masks = seen.told(2)
    assert (states.tolist(), masks.tolist()) == ([7], [[True, False]])
    assert seen.told(2)[1].shape == (0, 2)
    with pytest.raises(ActionMaskError, match="environment 3 in state 7"):
        seen.note(np.array([7]), ~mask, 3)
    with pytest.raises(ActionMaskError, match="must have a valid action"):
        seen.note(np.array([8]), mask & False, 3)


def test_parts_of_an_action_are_learned_within_their_masks() -> None:
    class Pair(gymnasium.Env[Any, Any]):
        observation_space, action_space = spaces.Discrete(2), spaces.MultiDiscrete([2, 3])
        state = 0

        def _info(self) -> dict[str, Any]:
            return {"action_mask": ([1, self.state], [0, 1, 1])}

        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            self.state = 0
            return 0, self._info()

        def step(self, action: Any) -> Any:
            assert action[1] > 0
            assert self.state or action[0] == 0
            self.state = 1 - self.state
            return self.state, float(action[0]), False, False, self._info()

    learner = QLearner(Pair, num_envs=4, seed=1, epsilon=0.5, gamma=0.0).learn(2_000)
    valid = ~np.isneginf(learner.table.q.compute())
    assert valid.reshape(2, 2, 3)[0].tolist() == [[False, True, True], [False] * 3]
    assert valid.reshape(2, 2, 3)[1].tolist() == [[False, True, True]] * 2
    assert learner.predict(1)[0].tolist()[0] == 1


# Sets and draws


@given(st.sampled_from([1, 3, 8, 9, 64, 65, 130]), st.integers(0, 2**32))
def test_sets_and_masks_are_one_another(n_actions: int, seed: int) -> None:
    masks = np.random.default_rng(seed).random((5, n_actions)) < 0.5
    tied = empty_sets(5, n_actions)
    sets_of(masks, tied)
    np.testing.assert_array_equal(members_of(tied, n_actions), masks)


@given(st.sampled_from([2, 5, 70]), st.floats(0, 1), st.integers(0, 2**32))
def test_draws_are_valid_and_those_without_a_mask_where_all_is(
    n_actions: int, epsilon: float, seed: int
) -> None:
    rng, n = np.random.default_rng(seed), 64
    keys, tied = streams(np.uint64(seed), 1, 0, n), empty_sets(n, n_actions)
    greedy = rng.random((n, n_actions)) < 0.5
    greedy[np.arange(n), rng.integers(n_actions, size=n)] = True
    sets_of(greedy, tied)
    rows, drawn, alike = np.arange(n), np.empty(n, np.int64), np.empty(n, np.int64)
    threshold = exploration_threshold(epsilon)
    everything = np.ones((n, n_actions), np.bool_)
    choose_valid_actions(keys, 3, rows, tied, threshold, everything, drawn)
    choose_actions(keys, 3, rows, tied, threshold, n_actions, alike)
    np.testing.assert_array_equal(drawn, alike)
    valid = rng.random((n, n_actions)) < 0.3
    choose_valid_actions(keys, 3, rows, tied, threshold, valid, drawn)
    some = valid.any(axis=1)
    assert valid[np.flatnonzero(some), drawn[some]].all()
    assert (drawn[~some] < 0).all()


def test_random_actions_are_even() -> None:
    valid = np.tile([True, False, True, True], (30_000, 1))
    counts = np.bincount(random_valid(np.random.default_rng(0), valid), minlength=4)
    assert counts[1] == 0
    assert np.abs(counts[[0, 2, 3]] - 10_000).max() < 500
