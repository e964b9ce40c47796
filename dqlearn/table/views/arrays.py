"""The table, live: Dask arrays over the chunks of one round, and a labelled Dataset of them.

::

    chunks of round r ──► q, visits      (state, action)     chunked as the grid
                      └─► value, policy  (state,)           derived from q, as a round derives them

Invariant: a Table is of one round, whole, and stays so while learning goes on: its arrays refer to
chunks that are never written to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.highlevelgraph import HighLevelGraph
from dask.utils import format_bytes

from dqlearn.algorithms import Q_LEARNING, Algorithm, Extent
from dqlearn.algorithms.rule import Found
from dqlearn.kernels.summary import action_dtype
from dqlearn.kernels.ties import ties
from dqlearn.spaces import Factor
from dqlearn.table.chunk import Chunk
from dqlearn.table.columns import COLUMNS, Column
from dqlearn.table.grid import ChunkGrid, table_nbytes
from dqlearn.table.keys import GraphNode, Task, TaskRef
from dqlearn.table.paged import read
from dqlearn.table.views.axes import dataset, factors_to_json

__all__ = ["Labels", "Table", "derived"]


@dataclass(frozen=True)
class Labels:
    """Names for the axes of a table, and attributes for its Dataset.

    Attributes
    ----------
    factors : tuple of Factor
        Factors that make up a state index, the first the most significant.
    actions : tuple of str, optional
        Names of the actions.
    attrs : dict
        Attributes of the Dataset, JSON types only.
    """

    factors: tuple[Factor, ...]
    actions: tuple[str, ...] | None
    attrs: dict[str, Any]

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes, with the factors of the states."""
        return self.attrs | {"state_factors": factors_to_json(self.factors)}


@dataclass(frozen=True, eq=False)
class Table:
    """The Q-table at the start of one round.

    Made by :attr:`dqlearn.QLearner.table`.

    Parameters
    ----------
    round : int
        Number of rounds that made the table.
    grid : ChunkGrid
        The grid of its chunks.
    dtype : dtype
        Type of the Q-values.
    labels : Labels
        Names for its axes.
    nodes : sequence of GraphNode or TaskRef
        The tasks or futures of its chunks.
    run : str
        Name of the run, which tells its arrays from those of other runs.
    seed : int
        Seed of the run; it breaks ties.
    algorithm : Algorithm
        The rule that the table was learned by, which defines the greedy action.
    columns : sequence of Column
        Columns of its chunks.
    """

    round: int
    grid: ChunkGrid
    dtype: np.dtype[Any]
    labels: Labels
    nodes: Sequence[GraphNode | TaskRef]
    run: str
    seed: int
    algorithm: Algorithm = Q_LEARNING
    columns: Sequence[Column] = COLUMNS

    @property
    def q(self) -> da.Array:
        """Q-values, ``(n_states, n_actions)``; with several members (state, member, action)."""
        return self._array("q")

    @property
    def visits(self) -> da.Array:
        """Number of updates of each value, uint32, shaped as `q`."""
        return self._array("visits")

    @property
    def value(self) -> da.Array:
        """Value of each state's greedy action, ``(n_states,)``."""
        return derived(self.q, "value", self.seed, self.algorithm)

    @property
    def policy(self) -> da.Array:
        """Greedy action of each state, ``(n_states,)``."""
        return derived(self.q, "policy", self.seed, self.algorithm)

    @property
    def nbytes(self) -> int:
        """Number of bytes of all columns."""
        return table_nbytes(self.grid.shape, self.dtype, self.grid.members)

    def to_xarray(self) -> xr.Dataset:
        """Return the table as a labelled Dataset, lazily.

        Returns
        -------
        xarray.Dataset
            ``q`` and ``visits`` over (state, action), or (state, member, action) if the algorithm
            has several members; ``value`` and ``policy`` over state; the hyperparameters, counters
            and spaces as attributes. If a state is made up of several factors, these are
            coordinates along it, up to 2**22 states; :func:`dqlearn.unfold` gives it one dimension
            per factor.
        """
        arrays = {column.name: self._array(column.name) for column in self.columns}
        arrays |= {"value": self.value, "policy": self.policy}
        return dataset(arrays, self.labels.actions, self.labels.attributes, columns=self.columns)

    def _array(self, field: str) -> da.Array:
        """Make the array of a column; a column without actions is read from a row's first chunk."""
        column = next(it for it in self.columns if it.name == field)
        name, pick = f"dqlearn-{field}-{self.run}-{self.round}", partial(_pick, field, self.round)
        layer: dict[Any, GraphNode] = {}
        for c, node in enumerate(self.nodes):
            i, j = self.grid.position(c)
            if j and "action" not in column.dims:
                continue
            key = (name, *column.along(i, j, dict.fromkeys(column.sizes, 0)))
            layer[key] = Task(key, pick, node if isinstance(node, TaskRef) else TaskRef(node.key))
            if not isinstance(node, TaskRef):
                layer[node.key] = node
        graph = HighLevelGraph.from_collections(name, layer)
        chunks = column.along(*self.grid.chunks, {dim: (n,) for dim, n in column.sizes.items()})
        return da.Array(graph, name, chunks, column.dtype_in(self.dtype))

    def __repr__(self) -> str:
        """Return a line with shape, dtype, chunks and round."""
        (n_states, n_actions), members = self.grid.shape, self.grid.members
        several = f" x {members} members" if members > 1 else ""
        return (
            f"<dqlearn.Table round {self.round}: {n_states} states x {n_actions} actions{several}, "
            f"{self.dtype}, {self.grid.n_chunks} chunks, {format_bytes(self.nbytes)}>"
        )

    def _repr_html_(self) -> str:
        """Return the line of `__repr__`, and Dask's drawing of the chunks."""
        line = repr(self).strip("<>")
        return f"<p><strong>{line}</strong></p>{self.q._repr_html_()}"


def _pick(field: str, round_: int, chunk: Chunk) -> npt.NDArray[Any]:
    """Return an array of a chunk that is still in its round."""
    return read(chunk.at(round_).columns[field])


def derived(q: da.Array, variable: str, seed: int, rule: Algorithm = Q_LEARNING) -> da.Array:
    """Derive the ``value`` or the ``policy`` of each state, as a round does, lazily.

    Parameters
    ----------
    q : dask.array.Array
        Q-values, ``(n_states, n_actions)`` or ``(n_states, members, n_actions)``.
    variable : {"value", "policy"}
        The variable to derive.
    seed : int
        Seed, which says what stands for tied actions.
    rule : Algorithm
        The rule, which defines the greedy action.

    Returns
    -------
    dask.array.Array
        ``(n_states,)``.
    """
    rows: Any = q.rechunk(dict.fromkeys(range(1, q.ndim), -1))
    pick, dtype = rule.value, q.dtype
    if variable == "policy":
        pick, dtype = rule.greedy, action_dtype(q.shape[-1])
    states: da.Array = rows.map_blocks(
        _greedy,
        *(rule, pick, seed),
        dtype=dtype,
        drop_axis=list(range(1, q.ndim)),
        meta=np.empty(0, dtype),
    )
    return states


def _greedy(
    q: npt.NDArray[Any],
    rule: Algorithm,
    pick: Callable[[Found, Extent], npt.NDArray[Any]],
    seed: int,
    block_info: Any = None,
) -> npt.NDArray[Any]:
    first = block_info[0]["array-location"][0][0]
    extent = Extent(q.shape[-1], ties(seed), first)
    return pick(rule.find(q, extent), extent)
