"""Recorded runs, and learners that are told of them: what the laws of `observe` share.

::

    Recorded(Walk) ─► learn ─► a log: one row a transition, cut into the rounds of the run
                                  └─► another learner: observe, a round a call

Invariant: a log has what its environment did, in the order of the steps.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import dask
import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from dqlearn import Every, Observed, QLearner, resume
from dqlearn.errors import NoCheckpointError

__all__ = ["COLUMNS", "Log", "Resent", "Walk", "batches", "contents", "recorded", "tell"]

COLUMNS = ("obs", "action", "reward", "next_obs", "terminated", "truncated")

Rows = dict[str, npt.NDArray[Any]]


class Walk(gymnasium.Env[Any, Any]):
    """A walk that slips, ends and is cut off, and writes down what it does."""

    observation_space = spaces.Discrete(23)
    action_space = spaces.Discrete(3)

    def __init__(self, log: list[tuple[Any, ...]] | None = None) -> None:
        self.at, self.left = 0, 0
        self.log = [] if log is None else log

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Begin somewhere."""
        super().reset(seed=seed)
        self.at, self.left = int(self.np_random.integers(23)), 30
        return self.at, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Go, and write it down."""
        before, slip = self.at, int(self.np_random.integers(3)) - 1
        self.at, self.left = (self.at + int(action) + slip) % 23, self.left - 1
        told = self.at, float(self.at % 5) / 3, self.at == 22, self.left == 0
        self.log.append((before, int(action), told[1], *told[:1], *told[2:]))
        return *told, {}


@dataclass
class Log:
    """What a run did, round by round, and the learner that did it."""

    learner: QLearner
    rounds: list[Rows] = field(default_factory=list)

    @property
    def whole(self) -> Rows:
        """All rows."""
        return {name: np.concatenate([it[name] for it in self.rounds]) for name in COLUMNS}


def recorded(total: int = 2_000, **settings: Any) -> Log:
    """Let one environment learn, and return what it did."""
    rows: list[tuple[Any, ...]] = []
    given = {"seed": 5, "num_envs": 1, "shards": 1, "steps_per_round": 16, **settings}
    learner = QLearner(lambda: Walk(rows), **given).learn(total)
    columns = dict(zip(COLUMNS, map(np.array, zip(*rows, strict=True)), strict=True))
    edges = np.cumsum(learner.history["n_transitions"].values)[:-1]
    cut = {name: np.split(column, edges) for name, column in columns.items()}
    return Log(learner, [{name: cut[name][r] for name in COLUMNS} for r in range(len(edges) + 1)])


def tell(learner: QLearner, rounds: list[Rows], **others: Any) -> list[Observed]:
    """Let a learner observe rounds."""
    return [learner.observe(**rows, **others) for rows in rounds]


def contents(learner: QLearner) -> list[bytes]:
    """The table, and the history but for its clock and its episodes, as bytes."""
    table, history = learner.table, learner.history
    arrays = [table.q.compute(), table.visits.compute(), table.policy.compute()]
    names = ("timesteps", "n_transitions", "epsilon", "learning_rate", "mean_abs_td")
    return [array.tobytes() for array in (*arrays, *(history[name].values for name in names))]


def batches(n_batches: int, n_states: int = 25, n: int = 40) -> list[Rows]:
    """Draw batches of transitions that two sources have sent, in turns, with numbers."""
    draw, log = np.random.default_rng(0), []
    for first in range(0, n_batches * n, n):
        log.append(
            {
                "obs": draw.integers(n_states, size=n),
                "action": draw.integers(4, size=n),
                "reward": draw.normal(size=n),
                "next_obs": draw.integers(n_states, size=n),
                "terminated": draw.random(n) < 0.1,
                "source": np.arange(n) % 2,
                "seq": first + np.arange(n),
            }
        )
    return log


@dataclass(frozen=True)
class Resent:
    """A client process that begins a run, or goes on with it, and is told a log from its beginning.

    Attributes
    ----------
    store : Path
        The repository.
    settings : dict
        Hyperparameters.
    rounds : int
        Batches of the log.
    """

    store: Path
    settings: dict[str, Any]
    rounds: int

    def learner(self) -> QLearner:
        """Make the learner."""
        plain = {"seed": 3, "num_envs": 8, "shards": 2, "steps_per_round": 1}
        return QLearner("dqlearn/Torus-v0", env_kwargs={"side": 5}, **plain, **self.settings)

    def do(self, answers: Connection) -> None:
        """Be that process."""
        with ExitStack() as stack:
            stack.enter_context(dask.config.set(scheduler="threads", num_workers=2))
            answers.send("begun")
            try:
                learner = resume(self.store)
            except NoCheckpointError:
                learner = self.learner()
            for rows in batches(self.rounds):
                learner.observe(**rows, store=self.store, checkpoint_every=Every(rounds=10))
            learner.checkpoint()
            answers.send((contents(learner), learner.sources))
