"""Checkpoints in an Icechunk repository: transactional Zarr v3, in a folder or an object store.

::

    place ─► Place ─► Repository, a CheckpointStore ─► Draft ─► Commit, a Version
                                                   arrays: Zarr's side of both

Invariant: Icechunk's errors end here; what leaves has a name of dqlearn's.
"""
