"""The greedy actions of a rule of the user's own, whose score only Numba can be sure to evaluate.

::

    "my.rules:MAXMIN" ──► Algorithm ──► behaviour: Best(score) ──► find, compiled for that score

Importing this module brings Numba, so it is imported for such rules alone. Invariant: the rule is
found in a module that is imported already; nothing is imported because a table names it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.algorithms.fields import Extent
from dqlearn.algorithms.registry import find_algorithm
from dqlearn.policy.greedy import Best, Find
from dqlearn.policy.stored import StoredTable
from dqlearn.storage.attributes import understood

__all__ = ["compiled_finder"]


def compiled_finder(table: StoredTable) -> tuple[int, Find]:
    """Make the function that finds the best actions of a block, for a table's own rule.

    Parameters
    ----------
    table : StoredTable
        A stored table.

    Returns
    -------
    members : int
        Number of members that the rule has.
    find : callable
        The function.

    Raises
    ------
    IncompatibleTableError
        If the module that declares the rule is not imported.
    """
    with understood(table.snapshot.name):
        rule = find_algorithm(table.rule)
    field = rule.summary[rule.behaviour]

    def find(q: npt.NDArray[Any], states: npt.NDArray[np.int64], first: int) -> Best:
        rows = np.arange(len(q))
        extent = Extent(table.actions.n, table.key, 0, first, states, rows)
        score, tied, *_ = field.find(q, extent)
        return score, extent.pick(tied).astype(np.int64)

    return rule.members, find
