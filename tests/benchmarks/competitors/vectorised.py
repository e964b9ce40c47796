"""NumPy: all walkers at once, each step a dozen array operations, on one core.

The batch is as large as pays: the operations' overhead is gone, and their temporaries are still in
the cache. Of walkers that update the same pair in one step the last one wins.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from problems import LEARNING_RATE, Problem

from competitors.rules import explore
from competitors.walkers import batch_of, walkers_of

WALKERS = 8192


class Learner:
    """A table, and a batch of walkers."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self._gamma = np.float32(problem.gamma)
        self._walkers = walkers_of(problem, batch_of(problem, WALKERS), seed)
        self._q = np.zeros((self._walkers.n_states, self._walkers.n_actions), np.float32)
        self._random = np.random.Generator(np.random.SFC64([seed, 1]))
        self._greedy = np.zeros(len(self._walkers.state), np.intp)

    def advance(self, transitions: int) -> int:
        """Learn, in whole steps of all walkers."""
        steps = -(-transitions // len(self._greedy))
        for _ in range(steps):
            self._step()
        return steps * len(self._greedy)

    def _step(self) -> None:
        walkers, state = self._walkers, self._walkers.state
        u = self._random.random(len(state), np.float32)
        action = explore(np, self._greedy, walkers.n_actions, u)
        reward, terminated = walkers.step(action)
        # These rows are the bootstrap of this step and the greedy choice of the next.
        rows = self._q[walkers.state]
        self._greedy = rows.argmax(axis=1)
        value = np.take_along_axis(rows, self._greedy[:, None], axis=1)[:, 0]
        target = reward + self._gamma * np.where(terminated, np.float32(0.0), value)
        self._q[state, action] += LEARNING_RATE * (target - self._q[state, action])

    def value(self) -> npt.NDArray[np.float32]:
        """Return the largest Q-value of each state."""
        return self._q.max(axis=1)
