"""A sparse table, live: Dask arrays over the states that were visited, in their order.

::

    chunk c ─► visited states, ascending ─► those from part k ┐
                                                              ├ merge ─► part k of q and visits
    chunk d ─► visited states, ascending ─► those from part k ┘

Every other state has the initial value, and no visits. Invariant: the arrays do not depend on which
chunks the states are in.
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
from dqlearn.table.chunk import Chunk
from dqlearn.table.columns import COLUMNS, Column, columns_of
from dqlearn.table.grid import table_nbytes
from dqlearn.table.hash_grid import HashGrid
from dqlearn.table.insert import visited
from dqlearn.table.keys import GraphNode, List, Task, TaskRef
from dqlearn.table.views.arrays import Labels
from dqlearn.table.views.axes import dataset

__all__ = ["SparseTable", "merged"]

_PART = 2**17  # number of states

Rows = tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[Any]]]
"""States, and the rows of each column for them."""


@dataclass(frozen=True, eq=False)
class SparseTable:
    """The visited part of a sparse Q-table at the start of one round.

    Made by :attr:`dqlearn.QLearner.table`.

    Parameters
    ----------
    round : int
        Number of rounds that made the table.
    grid : HashGrid
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
    visited : sequence of int64 (m,)
        The states that each chunk has learned of, ascending.
    algorithm : Algorithm
        The rule that the table was learned by, which defines the greedy action.

    Examples
    --------
    >>> import dqlearn
    >>> learner = dqlearn.QLearner("dqlearn/Torus-v0", num_envs=64, sparse=True, seed=0)
    >>> table = learner.learn(6_400).table
    >>> table.q.shape == (table.n_visited, 4)
    True
    """

    round: int
    grid: HashGrid
    dtype: np.dtype[Any]
    labels: Labels
    nodes: Sequence[GraphNode | TaskRef]
    run: str
    seed: int
    visited: Sequence[npt.NDArray[np.int64]]
    algorithm: Algorithm = Q_LEARNING

    @property
    def states(self) -> npt.NDArray[np.int64]:
        """States that were visited, ascending, ``(n_visited,)``."""
        return np.sort(np.concatenate(self.visited))

    @property
    def n_visited(self) -> int:
        """Number of states that were visited."""
        return sum(map(len, self.visited))

    @property
    def q(self) -> da.Array:
        """Q-values of visited states, ``(n_visited, n_actions)``, or with members between."""
        return self._arrays(self.states)["q"]

    @property
    def visits(self) -> da.Array:
        """Number of updates of each value, uint32, shaped as `q`."""
        return self._arrays(self.states)["visits"]

    @property
    def value(self) -> da.Array:
        """Value of the greedy action of each visited state, ``(n_visited,)``."""
        return self._arrays(self.states)["value"]

    @property
    def policy(self) -> da.Array:
        """Greedy action of each visited state, ``(n_visited,)``."""
        return self._arrays(self.states)["policy"]

    @property
    def nbytes(self) -> int:
        """Number of bytes of the columns and the states."""
        shape = self.n_visited, self.grid.n_actions
        return table_nbytes(shape, self.dtype, self.grid.members) + 8 * self.n_visited

    def to_xarray(self) -> xr.Dataset:
        """Return the visited part of the table as a labelled Dataset, lazily.

        Returns
        -------
        xarray.Dataset
            The Dataset of :meth:`Table.to_xarray`, with the states as coordinates: ``ds.sel(state=
            10**11)``. :func:`dqlearn.unfold` adds the factors of each state as coordinates.
        """
        states = self.states
        labels, columns = self.labels, columns_of(self.grid.members)
        return dataset(self._arrays(states), labels.actions, labels.attributes, states, columns)

    def _arrays(self, states: npt.NDArray[np.int64]) -> dict[str, da.Array]:
        name = f"dqlearn-visited-{self.run}-{self.round}"
        like = (self.grid.n_actions, self.dtype, self.algorithm)
        columns = columns_of(self.grid.members)
        return merged(name, self.nodes, states, like, self.seed, self.round, columns)

    def __repr__(self) -> str:
        """Return a line with shape, dtype, visited states, chunks and round."""
        (n_states, n_actions), members = self.grid.shape, self.grid.members
        several = f" x {members} members" if members > 1 else ""
        return (
            f"<dqlearn.SparseTable round {self.round}: {self.n_visited} of {n_states} states x "
            f"{n_actions} actions{several}, {self.dtype}, {self.grid.n_chunks} chunks, "
            f"{format_bytes(self.nbytes)}>"
        )

    def _repr_html_(self) -> str:
        """Return the line of `__repr__`, and Dask's drawing of the visited part."""
        line = repr(self).strip("<>")
        return f"<p><strong>{line}</strong></p>{self.q._repr_html_()}"


def merged(
    name: str,
    nodes: Sequence[GraphNode | TaskRef],
    states: npt.NDArray[np.int64],
    like: tuple[int, np.dtype[Any], Algorithm],
    seed: int,
    round_: int,
    columns: Sequence[Column] = COLUMNS,
) -> dict[str, da.Array]:
    """Merge sparse chunks by state, lazily.

    Parameters
    ----------
    name : str
        Name of the tasks; equal names must mean equal chunks.
    nodes : sequence of GraphNode or TaskRef
        The tasks or futures of the chunks.
    states : int64 (n,)
        All states that the chunks have learned about, ascending.
    like : (int, dtype, Algorithm)
        Number of actions, dtype of the Q-values, and the rule that they were learned by.
    seed, round_ : int
        Seed and round, which break ties.
    columns : sequence of Column
        Columns of the chunks.

    Returns
    -------
    dict of dask.array.Array
        The columns, and ``value`` and ``policy`` (n,), by name.
    """
    n, (n_actions, dtype, rule) = len(states), like
    inner = (n_actions,) if rule.members == 1 else (rule.members, n_actions)
    firsts = range(0, max(n, 1), _PART)
    sizes = tuple(min(_PART, n - first) for first in firsts)
    parts = [states[first : first + _PART] for first in firsts]
    layer = _layer(name, nodes, parts, round_)
    arrays = {}
    for column in columns:
        array, others = f"{name}-{column.name}", {dim: (n,) for dim, n in column.sizes.items()}
        picked: dict[Any, GraphNode] = {}
        for k in range(len(parts)):
            key = (array, k, *[0] * (len(column.dims) - 1))
            picked[key] = Task(key, _pick, column.name, TaskRef((f"{name}-rows", k)))
        graph = HighLevelGraph.from_collections(array, layer | picked)
        chunks = column.along(sizes, (n_actions,), others)
        arrays[column.name] = da.Array(graph, array, chunks, column.dtype_in(dtype))
    labels = da.from_array(states, chunks=(sizes,), name=f"{name}-states")
    along = labels[(slice(None), *[None] * len(inner))]
    of_state = (("value", rule.value, dtype), ("policy", rule.greedy, action_dtype(n_actions)))
    for field, pick, own in of_state:
        best = partial(_greedy, rule, pick, np.uint64(ties(seed)))
        axes = [*range(1, 1 + len(inner))]
        arrays[field] = da.map_blocks(
            best, arrays["q"], along, dtype=own, drop_axis=axes, meta=np.empty(0, own)
        )
    return arrays


def _layer(
    name: str,
    nodes: Sequence[GraphNode | TaskRef],
    parts: Sequence[npt.NDArray[np.int64]],
    round_: int,
) -> dict[Any, GraphNode]:
    """Add tasks that find, split and merge the rows of chunks."""
    layer: dict[Any, GraphNode] = {
        node.key: node for node in nodes if not isinstance(node, TaskRef)
    }
    refs = [node if isinstance(node, TaskRef) else TaskRef(node.key) for node in nodes]
    for c, chunk in enumerate(refs):
        layer[name, "visited", c] = Task((name, "visited", c), _visited, chunk, round_)
    for k, part in enumerate(parts):
        ends = (part[0], part[-1]) if len(part) else (0, -1)
        for c, chunk in enumerate(refs):
            key = (name, "part", k, c)
            layer[key] = Task(key, _part, chunk, TaskRef((name, "visited", c)), *ends)
        rows = List(*(TaskRef((name, "part", k, c)) for c in range(len(refs))))
        layer[f"{name}-rows", k] = Task((f"{name}-rows", k), _merge, rows)
    return layer


def _visited(chunk: Chunk, round_: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    return visited(chunk.at(round_))


def _part(
    chunk: Chunk,
    found: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    first: int,
    last: int,
) -> Rows:
    """Return the rows of a chunk for its states from `first` to `last`."""
    states, rows = found
    own = slice(np.searchsorted(states, first), np.searchsorted(states, last, side="right"))
    return states[own], {name: array[rows[own]] for name, array in chunk.columns.items()}


def _merge(parts: Sequence[Rows]) -> dict[str, npt.NDArray[Any]]:
    order = np.argsort(np.concatenate([states for states, _ in parts]))
    return {
        name: np.concatenate([columns[name] for _, columns in parts])[order] for name in parts[0][1]
    }


def _pick(field: str, rows: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return rows[field]


def _greedy(
    rule: Algorithm,
    pick: Callable[[Found, Extent], npt.NDArray[Any]],
    tie_key: np.uint64,
    q: npt.NDArray[Any],
    states: npt.NDArray[np.int64],
) -> npt.NDArray[Any]:
    """Return the value, or the action, of each row."""
    extent = Extent(q.shape[-1], tie_key, states=states.ravel(), rows=np.arange(len(q)))
    return pick(rule.find(q, extent), extent)
