"""Checkpoints in an Icechunk repository: transactional Zarr v3, in a folder or an object store.

::

    Place ─► Repository, a CheckpointStore ─► IcechunkTransaction ─► Commit, a Version
                 └── Commits, read-only           arrays: Zarr's part of both

Invariant: an error of Icechunk that leaves this package is one of dqlearn's errors.
"""
