"""Random walks of 19 states (Sutton and Barto 2018, example 7.1), many runs side by side.

::

    -1 ◄─ 1 ─ 2 ─ ... ─ 10 ─ ... ─ 18 ─ 19 ─► +1      a step to either side, with equal chances

Each environment walks on states of its own, so a table learns as many runs at once, one step a
round. The error of a run is the root of the mean squared error of its 19 values at the end of an
episode, averaged over the first ten episodes. There is one action: what is learned is a prediction.
"""

from __future__ import annotations

from typing import Any, ClassVar

import dask
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from dqlearn import QLearner

EPISODES = 10
_WIDTH, _START, _END = 21, 10, 20
_TRUE = np.arange(-18, 20, 2) / 20


class Walks(VectorEnv[Any, Any, Any]):
    """Walks on 21 states each, whose first and last are terminal.

    Parameters
    ----------
    num_envs, runs : int
        Number of these walks, and of those that the observation space has room for.
    """

    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(self, num_envs: int, runs: int) -> None:
        self.num_envs = num_envs
        self.single_observation_space, self.single_action_space = (
            Discrete(_WIDTH * runs),
            Discrete(1),
        )
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.first, self.at = _WIDTH * np.arange(num_envs), np.full(num_envs, _START)
        self.over, self.episodes = np.zeros(num_envs, np.bool_), np.zeros(num_envs, np.int64)
        self._draws = np.random.default_rng(0)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Begin anew."""
        if seed is not None:
            self._draws = np.random.default_rng(seed)
        self.at[:], self.over[:] = _START, False
        return self.first + self.at, {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Take a step of each walk; those that have ended begin anew."""
        move = np.where(self._draws.random(self.num_envs) < 0.5, -1, 1)
        self.at = np.where(self.over, _START, self.at + move)
        self.over = ((self.at == 0) | (self.at == _END)) & ~self.over
        reward = np.where(self.over, np.where(self.at == _END, 1.0, -1.0), 0.0)
        self.episodes += self.over
        return self.first + self.at, reward, self.over, np.zeros(self.num_envs, np.bool_), {}


def walk_error(rule: str, alpha: float, runs: int, seed: int = 0) -> tuple[float, float]:
    """Return the mean error of some runs, and its standard error."""
    made: list[Walks] = []

    def make(num_envs: int) -> Walks:
        made.append(Walks(num_envs, runs))
        return made[-1]

    errors, done = np.zeros((runs, EPISODES)), np.zeros(runs, np.int64)
    settings: dict[str, Any] = {"num_envs": runs, "steps_per_round": 1, "shards": 1, "gamma": 1.0}
    settings |= {"algorithm": rule, "learning_rate": alpha, "epsilon": 0.0, "dtype": "float64"}
    with dask.config.set({"scheduler": "synchronous", "dqlearn.fuse": False}):
        learner = QLearner(make, seed=seed, **settings)
        while (done < EPISODES).any():
            learner.learn(learner.num_timesteps + 1)
            ended = np.flatnonzero((made[-1].episodes > done) & (done < EPISODES))
            if len(ended):
                errors[ended, done[ended]] = _errors(learner.table.q.compute(), ended)
                done[ended] += 1
        learner.close()
    of_runs = errors.mean(axis=1)
    return float(of_runs.mean()), float(of_runs.std() / np.sqrt(runs))


def _errors(q: npt.NDArray[np.float64], runs: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the error of each of some runs."""
    learned = q.reshape(-1, _WIDTH)[runs, 1:_END]
    error: npt.NDArray[np.float64] = np.sqrt(((learned - _TRUE) ** 2).mean(axis=1))
    return error
