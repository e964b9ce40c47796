"""Storage: tables and checkpoints at rest. The only place that knows Zarr and Icechunk.

::

    protocol       what a store of checkpoints is        location   the store that a user names
    schema         the arrays of a run                   icechunk/  a store in Icechunk repositories
    writer, reader chunks, shards and batches of a run   origin     a saved table to begin with
    zarr_table     one saved table                       reading    tables and histories for people
    description    what a table says about its run       attributes JSON that anybody may edit
    paths          folders and URLs                      names      names of checkpoints

Invariant: what is read is what was written, or an error that says which of the two is wrong.
"""
