"""Runs that survive: a repository of checkpoints beside the run that learns.

::

    place ── repository ── layout ──► writing (workers), reading (anybody), version (a resumed run)

A run's repository is an Icechunk repository, that is, transactional Zarr v3: a checkpoint is one
commit. Written by :meth:`QLearner.learn` with a `store`; looked at and kept in order from here.
"""

from dqlearn.storage.reading import (
    checkpoints,
    expire,
    export,
    open_history,
    open_table,
    tag,
    untag,
)
from dqlearn.storage.repository import CheckpointInfo

__all__ = [
    "CheckpointInfo",
    "checkpoints",
    "expire",
    "export",
    "open_history",
    "open_table",
    "tag",
    "untag",
]
