"""The classic master and workers: ``multiprocessing`` queues, one transition a message.

::

    worker 0 ──┐                         ┌──► worker 0
    worker 1 ──┴──► results ──► master ──┴──► worker 1
        (state, action, reward, next state, terminated)        the next action

The master holds the table, learns from each transition as it comes and answers with an action.
Simple, exact and common in tutorials; what it costs is two messages a transition.
"""

from __future__ import annotations

import multiprocessing
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from problems import EPSILON, LEARNING_RATE, THREADS, Problem

from dqlearn import TabularEnv
from dqlearn.envs.faces.gym_view import TabularGymEnv

N_WORKERS = THREADS["num_workers"]


def environment(problem: Problem) -> gymnasium.Env[Any, Any]:
    """Make one environment of a problem."""
    env = problem.env
    return TabularGymEnv(env) if isinstance(env, TabularEnv) else env()


def work(problem: Problem, seed: int, me: int, results: Any, actions: Any) -> None:
    """Step one environment by the actions that come."""
    env = environment(problem)
    state, _ = env.reset(seed=seed)
    results.put((me, int(state), None))
    while True:
        action = actions.get()
        after, reward, terminated, _, _ = env.step(action)
        transition = int(state), action, float(reward), int(after), terminated
        state = env.reset()[0] if terminated else after
        results.put((me, int(state), transition))


class Learner:
    """The master."""

    def __init__(self, problem: Problem, seed: int) -> None:
        env = environment(problem)
        self._gamma, self._n_actions = problem.gamma, int(env.action_space.n)
        self._q = np.zeros((int(env.observation_space.n), self._n_actions), np.float32)
        self._random = np.random.default_rng(seed)
        processes = multiprocessing.get_context("spawn")
        self._results = processes.Queue()
        self._actions = [processes.Queue() for _ in range(N_WORKERS)]
        start = partial(processes.Process, target=work, daemon=True)
        for k, actions in enumerate(self._actions):
            start(args=(problem, seed + k, k, self._results, actions)).start()
        self._waiting = [self._results.get()[:2] for _ in self._actions]

    def advance(self, transitions: int) -> int:
        """Learn, one transition of each worker at least; they then wait for their next actions."""
        transitions = max(transitions, N_WORKERS)
        waiting, self._waiting = self._waiting, []
        for worker, state in waiting:
            self._answer(worker, state)
        for made in range(transitions):
            worker, state, transition = self._results.get()
            self._learn(*transition)
            if made + N_WORKERS < transitions:
                self._answer(worker, state)
            else:
                self._waiting.append((worker, state))
        return transitions

    def _answer(self, worker: int, state: int) -> None:
        explore = self._random.random() < EPSILON
        action = self._random.integers(self._n_actions) if explore else self._q[state].argmax()
        self._actions[worker].put(int(action))

    def _learn(self, state: int, action: int, reward: float, after: int, terminated: bool) -> None:
        value = 0.0 if terminated else self._q[after].max()
        target = reward + self._gamma * value
        self._q[state, action] += LEARNING_RATE * (target - self._q[state, action])

    def value(self) -> npt.NDArray[np.float32]:
        """Return the largest Q-value of each state."""
        return self._q.max(axis=1)
