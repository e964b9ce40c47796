"""The engine: stages as tasks of Dask, on the threads of this process or on a cluster.

::

    lifecycle ─► round ─► graph ─► executor (threads) | cluster (worker processes)
                   └─► tasks: the stages, called with what each task is given

Invariant: where tasks run, and how often, does not show in what they return.
"""
