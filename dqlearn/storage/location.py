"""The store that a user names: a folder, a URL, an Icechunk storage, or the user's own store.

::

    "runs/traffic"  s3://bucket/prefix  icechunk.Storage ──► Repository ─┐
    a CheckpointStore ───────────────────────────────────────────────────┴─► CheckpointStore

Invariant: this is the only place that knows which stores there are. Nothing is opened here.
"""

from __future__ import annotations

import os
from typing import TypeAlias

import icechunk

from dqlearn.storage.icechunk.place import place_of
from dqlearn.storage.icechunk.repository import Repository
from dqlearn.storage.protocol import CheckpointStore

__all__ = ["StoreLike", "store_of"]

StoreLike: TypeAlias = "str | os.PathLike[str] | icechunk.Storage | CheckpointStore"


def store_of(store: StoreLike) -> CheckpointStore:
    """Return the store of checkpoints that a user names.

    Parameters
    ----------
    store : str, path-like, icechunk.Storage or CheckpointStore
        A folder; ``s3://bucket/prefix``, ``gs://bucket/prefix`` or
        ``az://account/container/prefix``, with credentials from the environment; any storage that
        Icechunk has; or a store, which is returned unchanged.

    Returns
    -------
    CheckpointStore

    Raises
    ------
    ConfigurationError
        If `store` is none of these.

    Examples
    --------
    >>> store_of("runs/traffic").name
    'runs/traffic'
    """
    return store if isinstance(store, CheckpointStore) else Repository(place_of(store))
