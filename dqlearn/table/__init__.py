"""The table and what travels to it, as data.

::

    grid, hash_grid     which chunk owns a pair         transitions   what a shard sends
    chunk, row_index    the values of some pairs        arrays, sparse, axes   what a user sees

Invariant: these are values; the run that fills a table is described elsewhere.
"""
