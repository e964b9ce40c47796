"""Naive ``dask.array``: the table is a chunked array, read and written by fancy indexing each step.

What one writes first who has a table too big for NumPy and knows Dask as "NumPy, chunked". Each
step has three graphs: two gathers over all chunks, and an assignment of whole rows (one index array
is all that it takes) that copies the chunks that it touches. `persist` keeps the graph from
growing. To give it its due, the batch is large.
"""

from __future__ import annotations

import dask
import dask.array as da
import numpy as np
import numpy.typing as npt
from problems import LEARNING_RATE, THREADS, Problem

from competitors.rules import explore
from competitors.walkers import batch_of, walkers_of

WALKERS = 65_536
N_CHUNKS = 8


class Learner:
    """A chunked table, and a batch of walkers."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self._gamma = np.float32(problem.gamma)
        self._walkers = walkers_of(problem, batch_of(problem, WALKERS), seed)
        shape = self._walkers.n_states, self._walkers.n_actions
        self._q = da.zeros(shape, np.float32, chunks=(-(-shape[0] // N_CHUNKS), -1)).persist()
        self._random = np.random.Generator(np.random.SFC64([seed, 1]))

    def advance(self, transitions: int) -> int:
        """Learn, in whole steps of all walkers."""
        n = len(self._walkers.state)
        steps = -(-transitions // n)
        with dask.config.set(THREADS):
            for _ in range(steps):
                self._step()
        return steps * n

    def _step(self) -> None:
        walkers, state = self._walkers, self._walkers.state
        each = np.arange(len(state))
        rows = self._q[state].compute()
        u = self._random.random(len(state), np.float32)
        action = explore(np, rows.argmax(axis=1), walkers.n_actions, u)
        reward, terminated = walkers.step(action)
        best = self._q[walkers.state].compute().max(axis=1)
        target = reward + self._gamma * np.where(terminated, np.float32(0.0), best)
        rows[each, action] += LEARNING_RATE * (target - rows[each, action])
        self._q[state] = rows
        self._q = self._q.persist()

    def value(self) -> npt.NDArray[np.float32]:
        """Return the largest Q-value of each state."""
        with dask.config.set(THREADS):
            return self._q.max(axis=1).compute()
