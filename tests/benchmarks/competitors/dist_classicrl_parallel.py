"""The package dist_classicrl: its ``ParallelQLearning``, processes on a table in shared memory.

A process steps a vector environment and learns transition by transition, in Python, under one lock
of the table. Each call of ``run_steps`` starts the processes, and brings the environments back when
it ends; they are forked, as the package expects. Written for version 0.1.17.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
from typing import Any

import numpy as np
import numpy.typing as npt
from dist_classicrl.algorithms.base_algorithms.q_learning_optimal import OptimalQLearningBase
from dist_classicrl.algorithms.runtime.parallel_runtime import ParallelQLearning
from dist_classicrl.schedules.constant_schedule import ConstantSchedule
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from problems import EPSILON, LEARNING_RATE, THREADS, Problem

from competitors.walkers import batch_of
from dqlearn import TabularEnv
from dqlearn.envs.faces.vector_view import TabularVectorEnv

N_PROCESSES = THREADS["num_workers"]
WALKERS = 1024  # of each process


def vector_env(problem: Problem) -> VectorEnv:
    """Make the environments of one process."""
    n, mode = batch_of(problem, WALKERS), AutoresetMode.SAME_STEP
    if isinstance(problem.env, TabularEnv):
        return TabularVectorEnv(problem.env, n, mode)
    return SyncVectorEnv([problem.env] * n, autoreset_mode=mode)


class Learner:
    """A ParallelQLearning, and its environments."""

    def __init__(self, problem: Problem, seed: int) -> None:
        multiprocessing.set_start_method("fork", force=True)
        self._envs = [vector_env(problem) for _ in range(N_PROCESSES)]
        for k, env in enumerate(self._envs):
            env.reset(seed=seed + k * env.num_envs)
        env = self._envs[0]
        algorithm = OptimalQLearningBase(
            env.single_observation_space.n, env.single_action_space.n, problem.gamma, seed
        )
        self._runtime = ParallelQLearning(
            algorithm, ConstantSchedule(LEARNING_RATE), ConstantSchedule(EPSILON)
        )
        self._runtime.sm_name = f"dqlearn_peer_{os.getpid()}_{seed}"
        self._runtime.init_training()
        atexit.register(self._runtime.close_training)
        self._states: list[dict[str, Any]] | None = None

    def advance(self, transitions: int) -> int:
        """Learn, in whole steps of all environments."""
        steps = -(-transitions // sum(env.num_envs for env in self._envs))
        ran = self._runtime.run_steps(steps * N_PROCESSES, self._envs, self._states)
        _, _, self._envs, self._states = ran
        return steps * sum(env.num_envs for env in self._envs)

    def value(self) -> npt.NDArray[np.float64]:
        """Return the largest Q-value of each state."""
        return self._runtime.algorithm.q_table.max(axis=1)
