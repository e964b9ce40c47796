"""The columns of a chunk, declared once: what is written, read, copied and shown of a table.

::

    Column("q",      ("state", "action"))    float, as the table's; begins with its initial value
    Column("visits", ("state", "action"))    uint32; begins with 0
    a column more    ("state",)              is stored, read, re-balanced and shown like these

Invariant: the first dimension of a column is the state, so a row of every column is of one state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, TypeVar

import numpy as np

__all__ = ["COLUMNS", "Column", "columns_of"]

Along = TypeVar("Along")


@dataclass(frozen=True)
class Column:
    """One array of a chunk.

    Parameters
    ----------
    name : str
        Name of the array.
    dims : tuple of str
        Names of its dimensions, the first of which is "state".
    about : mapping
        Attributes of the stored variable: ``long_name`` and ``units``.
    dtype : dtype, optional
        Type of its values; by default the table's.
    fill : float, optional
        Value of every cell before anything is learned; None is the initial value of the table.
    sizes : mapping
        Sizes of the dimensions that are neither "state" nor "action".

    Examples
    --------
    >>> member = Column("q", ("state", "action", "member"), {}, fill=None, sizes={"member": 2})
    >>> member.shape(10, 3)
    (10, 3, 2)
    >>> Column("last", ("state",), {}).region(slice(4, 6), slice(0, 3))
    (slice(4, 6, None),)
    """

    name: str
    dims: tuple[str, ...]
    about: Mapping[str, str]
    dtype: np.dtype[Any] | None = None
    fill: float | None = 0
    sizes: Mapping[str, int] = field(default_factory=dict)

    def dtype_in(self, table: np.dtype[Any]) -> np.dtype[Any]:
        """Return the column's dtype in a table of this dtype."""
        return table if self.dtype is None else self.dtype

    def fill_in(self, initial_value: float) -> float:
        """Return the column's first value in a table with this initial value."""
        return initial_value if self.fill is None else self.fill

    def shape(self, n_states: int, n_actions: int) -> tuple[int, ...]:
        """Return the column's shape for so many states and actions."""
        return self.along(n_states, n_actions, self.sizes)

    def region(self, states: slice, actions: slice) -> tuple[slice, ...]:
        """Return the region of the column that belongs to some states and actions."""
        return self.along(states, actions, {dim: slice(0, n) for dim, n in self.sizes.items()})

    def along(
        self, states: Along, actions: Along, others: Mapping[str, Along]
    ) -> tuple[Along, ...]:
        """Return one value for each dimension of the column, in their order."""
        known = {**others, "state": states, "action": actions}
        return tuple(known[dim] for dim in self.dims)


COLUMNS = (
    Column("q", ("state", "action"), {"long_name": "action value", "units": "reward"}, fill=None),
    Column(
        "visits",
        ("state", "action"),
        {"long_name": "updates of the pair", "units": "1"},
        np.dtype(np.uint32),
    ),
)
"""The columns of a table."""


@cache
def columns_of(members: int) -> tuple[Column, ...]:
    """Return the columns of a table of several members: a state's values lie side by side.

    Parameters
    ----------
    members : int
        Number of members, at least 1; a table of one has no dimension for them.

    Returns
    -------
    tuple of Column

    Examples
    --------
    >>> [column.dims for column in columns_of(2)]
    [('state', 'member', 'action'), ('state', 'member', 'action')]
    """
    if members == 1:
        return COLUMNS
    dims, sizes = ("state", "member", "action"), {"member": members}
    return tuple(replace(column, dims=dims, sizes=sizes) for column in COLUMNS)
