"""Decide: the greedy policy of a stored table, read-only, in microseconds.

::

    a saved table, a checkpoint ──opening──► StoredTable      what is stored, and as which version
                                  greedy───► Choices          an action and a bit of each state
    observation ──► Policy ──► action                         read, and nothing else

    decision   Decision, TableVersion       ties       the hash that breaks ties, in NumPy
    compiled   the greedy actions of a rule of the user's own

Invariant: what decides is the table alone, so neither Dask, nor Numba, nor an environment is
imported; Zarr is when a table is opened, and Numba for a rule of the user's own.
"""

from __future__ import annotations

from dqlearn.policy.decision import Decision, TableVersion
from dqlearn.policy.policy import Policy

__all__ = ["Decision", "Policy", "TableVersion"]
