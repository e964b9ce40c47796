"""Storage: tables and checkpoints at rest. The only place that knows Zarr and Icechunk.

::

    zarr_table     one saved table              location ─► repository ─► writer, snapshot
    description    what a table says of its run     schema    the names and shapes at rest

Invariant: what is read is what was written, or an error that says which of the two is wrong.
"""
