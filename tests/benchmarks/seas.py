"""Two models in which a reward is far away: a corridor, and the deep sea of bsuite.

::

    corridor   0 ─ 1 ─ ... ─ 49     the right end pays 1, everything else nothing
    deep sea   N x N cells: each step goes down a row, and to one side; the way to the right costs
               0.01 / N a step, and pays 1 in the last cell. Which action is which is drawn a cell.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dqlearn import QLearner, TabularEnv

_SOME = 400


def begin(key: Any, params: Any) -> Any:
    """Begin in state 0."""
    return 0


def along(state: Any, action: Any, key: Any, params: Any) -> Any:
    """Go to the right or back."""
    last = params[0]
    after = min(state + 1, last) if action == 1 else max(state - 1, 0)
    return after, 1.0 if after == last else 0.0, after == last


def transitions_to_the_end(rule: str, length: int, seed: int) -> int:
    """Count transitions until every state of a corridor knows the way to its end."""
    model = TabularEnv(length, 2, begin, along, params=(length - 1,), max_episode_steps=5_000)
    settings: dict[str, Any] = {"num_envs": 4, "steps_per_round": 1, "shards": 1, "gamma": 0.98}
    learner = QLearner(model, algorithm=rule, learning_rate=0.5, seed=seed, **settings)
    while (learner.table.policy.compute()[:-1] != 1).any():
        learner.learn(learner.num_timesteps + _SOME)
    return learner.num_timesteps


def down(state: Any, action: Any, key: Any, params: Any) -> Any:
    """Sink by a row, to the right or to the left."""
    side, rights = params
    row, column = state // side, state % side
    right = action == rights[state]
    treasure = right and state == side * side - 1
    reward = (-0.01 / side if right else 0.0) + (1.0 if treasure else 0.0)
    across = min(column + 1, side - 1) if right else max(column - 1, 0)
    over = row == side - 1
    return state if over else (row + 1) * side + across, reward, over


def episodes_to_treasure(rule: str, side: int, seed: int) -> int:
    """Count the episodes of one environment until the treasure, on optimistic values."""
    rights = np.random.default_rng(seed).integers(0, 2, side * side)
    model = TabularEnv(side * side, 2, begin, down, params=(side, rights))
    settings: dict[str, Any] = {"num_envs": 1, "steps_per_round": 1, "shards": 1, "gamma": 1.0}
    settings |= {"learning_rate": 1.0, "epsilon": 0.0, "initial_value": 2.0, "seed": seed}
    learner = QLearner(model, algorithm=rule, **settings)
    while True:
        learner.learn(learner.num_timesteps + 10 * side)
        found = np.flatnonzero(learner.history["return_max"].values > 0.5)
        if len(found):
            return (int(found[0]) + 1) // side
