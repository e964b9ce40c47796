"""dqlearn itself, as a user calls it: two threads, or two worker processes for Python environments.

Compiled models run without the interpreter's lock. Environments written in Python hold it, so for
them one starts a cluster.
"""

from __future__ import annotations

import atexit
from contextlib import ExitStack

import numpy as np
import numpy.typing as npt
from problems import THREADS, Problem, two_workers


class Learner:
    """A QLearner with the settings of its problem."""

    def __init__(self, problem: Problem, seed: int) -> None:
        opened = ExitStack()
        atexit.register(opened.close)
        in_python = problem.name == "taxi"
        scheduler = opened.enter_context(two_workers()) if in_python else THREADS
        self._learner = problem.learner(scheduler, seed=seed)

    def advance(self, transitions: int) -> int:
        """Learn, in whole rounds."""
        return self._learner.advance(transitions)

    def value(self) -> npt.NDArray[np.floating]:
        """Return the largest Q-value of each state."""
        return self._learner.value()
