"""Distributed tabular Q-learning on Dask.

>>> import dqlearn
>>> learner = dqlearn.QLearner("dqlearn/Torus-v0", env_kwargs={"side": 16}, seed=0)
>>> learner.learn(total_timesteps=200_000).table.q.shape
(256, 4)
"""

from __future__ import annotations

from dqlearn import callbacks, envs, exact, random, schedules, spaces
from dqlearn.envs.registry import register
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import DQLearnError
from dqlearn.learner.q_learner import QLearner
from dqlearn.learner.reopen import load, resume
from dqlearn.runs import open_history, open_table
from dqlearn.stages.evaluation import EvaluationResult
from dqlearn.stages.reference_policy import evaluate_policy
from dqlearn.table.arrays import Table
from dqlearn.table.axes import unfold
from dqlearn.table.history import learning_curve
from dqlearn.table.sparse import SparseTable
from dqlearn.training.every import Every

__version__ = "0.1.0"

__all__ = [
    "DQLearnError",
    "EvaluationResult",
    "Every",
    "QLearner",
    "SparseTable",
    "Table",
    "TabularEnv",
    "callbacks",
    "envs",
    "evaluate_policy",
    "exact",
    "learning_curve",
    "load",
    "open_history",
    "open_table",
    "random",
    "resume",
    "runs",
    "schedules",
    "spaces",
    "unfold",
]

register()


def __dir__() -> list[str]:
    """Return the public names, and those that every module has."""
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
