r"""Torus: a walk on a grid whose edges are joined, as large as one likes.

::

    ┌──► column
    │   G . . .      G  cell 0, the goal: entering it pays and ends the episode
    ▼   . . . .      .  any other cell: a step costs a little
    row . . . .      state = row * side + column

With probability `slip` the direction is drawn from all four instead of being the action's, so that
one step has three events: (slip, coin, coin). Invariant: a transition is arithmetic and selections
alone, without a branch, a division or a table, so that the rollout's loop over environments
vectorises.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dqlearn.checks import check_number, check_probability, check_whole
from dqlearn.envs.tabular import TabularEnv
from dqlearn.random import integers

__all__ = ["torus"]

MAX_SIDE = 2**25


def torus(
    side: int = 1024,
    slip: float = 0.1,
    step_reward: float = -0.01,
    goal_reward: float = 1.0,
    max_episode_steps: int | None = None,
) -> TabularEnv:
    """Make a model of a walk on a torus of ``side * side`` cells.

    Parameters
    ----------
    side : int, default 1024
        Cells in a row and in a column, 2 .. 2**25.
    slip : float, default 0.1
        Probability that the direction is drawn uniformly from all four.
    step_reward : float, default -0.01
        Reward of a step that does not enter the goal.
    goal_reward : float, default 1.0
        Reward of a step that does.
    max_episode_steps : int, optional
        Truncate episodes after so many steps.

    Returns
    -------
    TabularEnv
        Actions are up, down, left and right; episodes begin in a uniformly drawn cell.

    Raises
    ------
    ConfigurationError
        If `side` or `slip` is out of range, or a reward is not finite.

    Examples
    --------
    One step left of cell 1 is the goal, and one slip in four goes there as well:

    >>> from dqlearn.envs.problems.torus import torus
    >>> walk = torus(side=4, slip=0.1)
    >>> round(sum(p for p, state, reward, terminated in walk.outcomes(1, 2) if terminated), 3)
    0.925
    """
    side = check_whole("side", side, 2, MAX_SIDE)
    check_probability("slip", slip)
    check_number("step_reward", step_reward)
    check_number("goal_reward", goal_reward)
    return TabularEnv(
        side * side,
        4,
        _initial,
        _transition,
        _events,
        n_events=3,
        params=(side, 1.0 / side, float(slip), float(step_reward), float(goal_reward)),
        max_episode_steps=max_episode_steps,
        state_dims={"row": side, "column": side},
        action_labels=("up", "down", "left", "right"),
        name="Torus",
    )


def _initial(key: Any, params: tuple[Any, ...]) -> Any:
    side = params[0]
    return integers(key, 0, side) * side + integers(key, 1, side)


def _events(state: Any, action: Any, params: tuple[Any, ...]) -> tuple[float, ...]:
    return params[2], 0.5, 0.5


def _transition(
    state: Any, action: Any, happened: Any, params: tuple[Any, ...]
) -> tuple[Any, Any, Any]:
    side, inverse, _, step_reward, goal_reward = params
    n = side * side
    direction = happened >> 1 if happened & 1 else action
    move = 2 * (direction & 1) - 1
    # Exact up to MAX_SIDE: the half keeps the product away from integers by more than it can err.
    column = state - side * np.int64((state + 0.5) * inverse)
    along = column + move
    along += side if along < 0 else 0
    along -= side if along >= side else 0
    across = state + side * move
    across += n if across < 0 else 0
    across -= n if across >= n else 0
    arrived = across if direction < 2 else state - column + along
    return arrived, goal_reward if arrived == 0 else step_reward, arrived == 0
