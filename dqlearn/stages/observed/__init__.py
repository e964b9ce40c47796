"""Transitions that somebody else has made, from what is said of them to a batch.

::

    arrays, a Dataset, a frame ─► Told ─► sift: what was learned before is dropped
                                    └───► check: states, actions, rewards; bad rows are named
                                                 └─► batch: Transitions, as those of shards

Invariant: what is learned follows from the rows alone, in their order, and from the counters of
their sources; nothing here knows of Dask, or has state.
"""
