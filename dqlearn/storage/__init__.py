"""Storage: tables and checkpoints at rest. The only place that knows Zarr and Icechunk.

::

    protocol       what a store of checkpoints is        location     which one a user means
    schema         the arrays of a run                   icechunk/    one in Icechunk repositories
    writer, reader chunks, shards and batches of a run   origin       a saved table to begin with
    zarr_table     one saved table                       reading      what people look at
    description    what a table says of its run          attributes   JSON that anybody may edit
    paths          folders and URLs                      names        what checkpoints are called

Invariant: what is read is what was written, or an error that says which of the two is wrong.
"""
