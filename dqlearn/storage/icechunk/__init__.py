"""Checkpoints in an Icechunk repository: transactional Zarr v3, in a folder or an object store.

::

    Place ─► Repository, a CheckpointStore ─► IcechunkTransaction ─► Commit, a Version
                 └── Commits, to look at         arrays: Zarr's side of both

Invariant: Icechunk's errors end here; what leaves has a name of dqlearn's.
"""
