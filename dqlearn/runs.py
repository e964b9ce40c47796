"""Runs that survive: a store of checkpoints beside the run that learns.

::

    learn(store=...) ──► checkpoints ──► resume, open_table, export
                             └── tag, untag, expire

A run's store is by default an Icechunk repository, that is, transactional Zarr v3: a checkpoint is
one commit. Written by :meth:`QLearner.learn` with a `store`; looked at and kept in order from here.
Another store is a :class:`CheckpointStore` of your own, which `learn`, `resume` and all functions
here take as it is; :func:`dqlearn.testing.check_store` says when it is done.
"""

from dqlearn.storage.location import store_of
from dqlearn.storage.names import CheckpointInfo, check_tag
from dqlearn.storage.protocol import CheckpointStore, Transaction, Version, Writer, WriteResult
from dqlearn.storage.reading import (
    checkpoints,
    expire,
    export,
    open_history,
    open_table,
    tag,
    untag,
)
from dqlearn.table.snapshot import ArraySpec, Snapshot

__all__ = [
    "ArraySpec",
    "CheckpointInfo",
    "CheckpointStore",
    "Snapshot",
    "Transaction",
    "Version",
    "WriteResult",
    "Writer",
    "check_tag",
    "checkpoints",
    "expire",
    "export",
    "open_history",
    "open_table",
    "store_of",
    "tag",
    "untag",
]
