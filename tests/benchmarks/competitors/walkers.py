"""Many environments stepped together from NumPy: a model as array arithmetic, or Gymnasium's.

::

    state ──step(action)──► reward, terminated, and the state where each goes on

Where an episode has terminated, the walker is at the beginning of the next one, and the target
needs no successor: so `state` after a step is all that a learner must look up.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from problems import Problem

from competitors.rules import rules_of

States = npt.NDArray[np.intp]
Rewards = npt.NDArray[np.floating[Any]]
Flags = npt.NDArray[np.bool_]

PYTHON_ENVS = 64


class Walkers(Protocol):
    """A batch of environments."""

    n_states: int
    n_actions: int
    state: States

    def step(self, action: npt.NDArray[np.integer[Any]]) -> tuple[Rewards, Flags]:
        """Make one transition of each; return rewards, and whose episode terminated."""


def batch_of(problem: Problem, most: int) -> int:
    """Return how many environments to step at once: of slow ones few, of a tiny model fewer."""
    return PYTHON_ENVS if problem.name == "taxi" else min(most, problem.env.n_states)


def walkers_of(problem: Problem, n: int, seed: int) -> Walkers:
    """Open `n` environments of a problem."""
    kind = GymWalkers if problem.name == "taxi" else ModelWalkers
    return kind(problem, n, seed)


class ModelWalkers:
    """Environments of a model."""

    def __init__(self, problem: Problem, n: int, seed: int) -> None:
        self._rules = rules_of(problem)
        self.n_states, self.n_actions = self._rules.n_states, self._rules.n_actions
        self._random = np.random.Generator(np.random.SFC64(seed))
        self.state = self._random.integers(self.n_states, size=n)

    def step(self, action: npt.NDArray[np.integer[Any]]) -> tuple[Rewards, Flags]:
        """Make one transition of each."""
        u = self._random.random(len(self.state), np.float32)
        after, reward, terminated = self._rules.step(np, self._rules.arrays, self.state, action, u)
        ended = np.flatnonzero(terminated)
        after[ended] = self._random.integers(self.n_states, size=len(ended))
        self.state = after
        return reward, terminated


class GymWalkers:
    """Gymnasium environments that are never truncated."""

    def __init__(self, problem: Problem, n: int, seed: int) -> None:
        self._envs = SyncVectorEnv([problem.env] * n, autoreset_mode=AutoresetMode.SAME_STEP)
        self.n_states = int(self._envs.single_observation_space.n)
        self.n_actions = int(self._envs.single_action_space.n)
        self.state, _ = self._envs.reset(seed=seed)

    def step(self, action: npt.NDArray[np.integer[Any]]) -> tuple[Rewards, Flags]:
        """Make one transition of each."""
        self.state, reward, terminated, _, _ = self._envs.step(action)
        return reward, terminated
