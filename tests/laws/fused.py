"""What the laws of fused rounds share: rounds that are not, and everything that a run has made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dask

from dqlearn import QLearner

__all__ = ["apart", "contents"]


def contents(learner: QLearner) -> list[bytes]:
    """Everything that a run has made, as bytes; its times apart."""
    table, history = learner.table, learner.history
    arrays = [table.q.compute(), table.visits.compute(), table.policy.compute()]
    told = [history[name].values for name in history.variables if name != "wall_time"]
    return [array.tobytes() for array in (*arrays, *told)]


@contextmanager
def apart() -> Iterator[None]:
    """Make each round in tasks of its own."""
    with dask.config.set({"dqlearn.fuse": False}):
        yield
