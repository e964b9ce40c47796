"""Runs with checkpoints, and what they must end with, whatever happens to them.

::

    Kind ──► learner(), saving(store) ──► learn ──► Ending.of(learner) == undisturbed(kind, n)
                                                    SHA-256 of q, of visits, of the history

Invariant: what is compared does not depend on time, nor on where it was learned.
"""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import dask
import numpy as np
from cases import ALL_RUNS, Bits, Run, bits

from dqlearn import Every, QLearner
from dqlearn.callbacks import Callback, EvalCallback
from dqlearn.errors import NoCheckpointError
from dqlearn.runs import checkpoints, open_table

CHECKPOINTS = Every(rounds=4)


@dataclass(frozen=True)
class Kind:
    """A run of `cases`, and how it is stored.

    Attributes
    ----------
    name : str
        Of the run.
    policy_lag : int, optional
        Another one than the run's own.
    restart : bool
        Whether Python environments begin anew at each checkpoint.
    keep : int, optional
        Checkpoints that are not deleted.
    evaluated : bool
        Whether it is evaluated now and then; the best so far has a checkpoint at once.
    """

    name: str
    policy_lag: int | None = None
    restart: bool = False
    keep: int | None = None
    evaluated: bool = False

    def __str__(self) -> str:
        parts = {
            f"lag{self.policy_lag}": self.policy_lag is not None,
            "restarted": self.restart,
            "keep": self.keep,
            "evaluated": self.evaluated,
        }
        return "-".join([self.name, *(part for part, there in parts.items() if there)])

    @property
    def run(self) -> Run:
        return ALL_RUNS[self.name]

    @property
    def round(self) -> int:
        """Transitions of a round."""
        return self.run.settings.round_timesteps

    def learner(self) -> QLearner:
        """Make the learner, with a table of three chunks."""
        lag = {} if self.policy_lag is None else {"policy_lag": self.policy_lag}
        chunks = self.run.chunks("three" if self.run.sparse else "states")
        return self.run.learner(chunks=chunks, **lag)

    def saving(self, store: Path, *others: Callback) -> dict[str, Any]:
        """Return the arguments of `learn` that are about checkpoints, and its callbacks."""
        own = [EvalCallback(3, n_eval_episodes=4)] if self.evaluated else []
        return {
            "callback": [*others, *own],
            "store": store,
            "checkpoint_every": CHECKPOINTS,
            "keep_checkpoints": self.keep,
            "restart_envs": self.restart,
        }


class Ending(NamedTuple):
    """What must not depend on any trouble: the table, and the history but for its clock."""

    table: Bits
    history: Bits
    timesteps: int

    @classmethod
    def of(cls, learner: QLearner) -> Ending:
        """Hash what a learner has learned."""
        history = learner.history.drop_vars("wall_time")
        columns = [history[name].values.astype("U") for name in sorted(history.data_vars)]
        told = np.concatenate(columns)
        return cls(bits(learner), Bits.of(told, history["round"].values), learner.num_timesteps)


@functools.cache
def undisturbed(kind: Kind, timesteps: int) -> Ending:
    """Learn in peace, in one thread; without a store, where that makes no difference."""
    with tempfile.TemporaryDirectory() as folder, dask.config.set(scheduler="synchronous"):
        saving = kind.saving(Path(folder) / "run") if kind.restart else {}
        return Ending.of(kind.learner().learn(timesteps, **saving))


def newest(store: Path) -> int:
    """Read every checkpoint there is; return the number of the latest, -1 if there is none yet."""
    try:
        open_table(store).load()
    except NoCheckpointError:
        return -1
    found = checkpoints(store)
    for info in found:
        open_table(store, at=info.number).load()
    return found[0].number
