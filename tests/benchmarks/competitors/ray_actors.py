"""Ray: a parameter server of sharded actors, and actors that walk.

::

    Walker 0 ──(updates of the last step, states of this one)──► Shard 0, Shard 1
             ◄──────────── (largest value, its action) ──────────
    Walker 1    likewise

Each walker actor steps a large batch in NumPy. A step is one message to each shard and one answer:
it brings the updates of the step before and asks for the rows that the walkers have come to, which
are the bootstrap of this step and the greedy choice of the next. Nothing waits for the other walker
actor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import ray
from problems import LEARNING_RATE, THREADS, Problem

from competitors.rules import explore
from competitors.walkers import batch_of, walkers_of

WALKERS = 32_768  # of each actor
N_ACTORS = N_SHARDS = THREADS["num_workers"]
MEMORY = 2**29  # bytes of the store for objects

Ints = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.float32]


@ray.remote(num_cpus=0)
class Shard:
    """The rows of some states."""

    def __init__(self, n_states: int, n_actions: int) -> None:
        self._q = np.zeros((n_states, n_actions), np.float32)

    def exchange(
        self, state: Ints, action: Ints, target: Floats, asked: Ints
    ) -> tuple[Floats, Ints]:
        """Learn from transitions; return the largest value of each row asked for, and its action.

        States count from the shard's first one.
        """
        self._q[state, action] += LEARNING_RATE * (target - self._q[state, action])
        rows = self._q[asked]
        greedy = rows.argmax(axis=1)
        return np.take_along_axis(rows, greedy[:, None], axis=1)[:, 0], greedy.astype(np.int8)

    def value(self) -> Floats:
        """Return the largest value of each row."""
        return self._q.max(axis=1)


@ray.remote(num_cpus=0)
class Walker:
    """A batch of environments that learns into the shards."""

    def __init__(self, problem: Problem, shards: list[Any], size: int, seed: int) -> None:
        n = batch_of(problem, WALKERS)
        self._gamma, self._shards, self._size = np.float32(problem.gamma), shards, size
        self._walkers = walkers_of(problem, n, seed)
        self._random = np.random.Generator(np.random.SFC64([seed, 1]))
        self._greedy = np.zeros(n, np.int8)
        self._learned = (np.empty(0, np.int64), np.empty(0, np.int8), np.empty(0, np.float32))

    def run(self, steps: int) -> int:
        """Make so many steps; return the transitions that they are."""
        for _ in range(steps):
            self._step()
        return steps * len(self._greedy)

    def _step(self) -> None:
        state = self._walkers.state
        u = self._random.random(len(state), np.float32)
        action = explore(np, self._greedy, self._walkers.n_actions, u)
        reward, terminated = self._walkers.step(action)
        value = self._exchange(self._walkers.state)
        target = reward + self._gamma * np.where(terminated, np.float32(0.0), value)
        self._learned = state, action, target.astype(np.float32)

    def _exchange(self, asked: Ints) -> Floats:
        """Hand out what was learned to the shards; return the largest values of states."""
        learned, wanted = self._learned[0] // self._size, asked // self._size
        places = [np.flatnonzero(wanted == k) for k in range(len(self._shards))]
        answers = []
        for k, shard in enumerate(self._shards):
            state, action, target = (array[learned == k] for array in self._learned)
            first = k * self._size
            own = asked[places[k]] - first
            answers.append(shard.exchange.remote(state - first, action, target, own))
        value = np.empty(len(asked), np.float32)
        for place, (best, greedy) in zip(places, ray.get(answers), strict=True):
            value[place], self._greedy[place] = best, greedy
        return value


class Learner:
    """The shards, and the actors that learn into them."""

    def __init__(self, problem: Problem, seed: int) -> None:
        ray.shutdown()  # of the learner before
        ray.init(
            num_cpus=N_ACTORS,
            object_store_memory=MEMORY,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
        )
        probe = walkers_of(problem, 1, seed)
        size = -(-probe.n_states // N_SHARDS)
        self._batch = batch_of(problem, WALKERS)
        self._n_states = probe.n_states
        self._shards = [Shard.remote(size, probe.n_actions) for _ in range(N_SHARDS)]
        self._actors = [
            Walker.remote(problem, self._shards, size, seed + k) for k in range(N_ACTORS)
        ]

    def advance(self, transitions: int) -> int:
        """Learn, in whole steps of all walkers."""
        steps = -(-transitions // (self._batch * N_ACTORS))
        return sum(ray.get([actor.run.remote(steps) for actor in self._actors]))

    def value(self) -> Floats:
        """Return the largest Q-value of each state."""
        parts = ray.get([shard.value.remote() for shard in self._shards])
        return np.concatenate(parts)[: self._n_states]
