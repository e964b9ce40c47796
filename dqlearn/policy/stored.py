"""A stored table, as a policy reads it: its spaces, its rule, its version and its blocks.

::

    Snapshot ──attributes──► spaces, rule, seed ──► tie key
             ──arrays──────► rows     (first state, blocks over the actions)    all states
                             listed   (states, q, visits)                       a sparse table

Invariant: attributes and arrays say the same, or the table is refused; nothing stored is executed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.errors import IncompatibleTableError
from dqlearn.policy.decision import TableVersion
from dqlearn.policy.ties import tie_key
from dqlearn.spaces import SpaceIndex
from dqlearn.storage.attributes import nested, understood
from dqlearn.table.snapshot import Snapshot

__all__ = ["StoredTable"]

_PLACES = 2**16  # of a sparse chunk that are read together

Block = tuple[int, npt.NDArray[Any], npt.NDArray[Any]]
"""First action, values (m, members, n), visits."""


@dataclass(frozen=True)
class StoredTable:
    """A stored table, of which nothing but the attributes has been read.

    Attributes
    ----------
    snapshot : Snapshot
        The saved table, or the checkpoint.
    states, actions : SpaceIndex
        Observations and actions as numbers.
    rule : str
        Name of the rule that it was learned by.
    key : uint64
        The key that breaks ties.
    sparse : bool
        Whether only some states have a row.
    """

    snapshot: Snapshot
    states: SpaceIndex
    actions: SpaceIndex
    rule: str
    key: np.uint64
    sparse: bool

    @classmethod
    def of(cls, snapshot: Snapshot) -> StoredTable:
        """Read the attributes of a stored table.

        Parameters
        ----------
        snapshot : Snapshot
            The saved table, or the checkpoint.

        Returns
        -------
        StoredTable

        Raises
        ------
        IncompatibleTableError
            If they are not written as dqlearn writes them.
        """
        attrs: Mapping[str, Any] = snapshot.attributes
        with understood(snapshot.name):
            spaces = (nested(attrs, f"{kind}_space") for kind in ("observation", "action"))
            states, actions = map(SpaceIndex.from_spec, spaces)
            rule = str(attrs.get("algorithm", "q_learning"))  # tables from before there was another
            key = tie_key(int(attrs["seed"]))
            sparse = float(attrs.get("sparse", 0)) > 0
        return cls(snapshot, states, actions, rule, key, sparse)

    @property
    def version(self) -> TableVersion:
        """The version of the table."""
        it = self.snapshot
        number, id_ = getattr(it, "number", None), getattr(it, "snapshot", None)
        return TableVersion(it.name, it.round, it.timesteps, number, id_)

    def check(self, members: int) -> None:
        """Check that the arrays are those that the attributes speak of.

        Parameters
        ----------
        members : int
            Number of members that the rule has.

        Raises
        ------
        IncompatibleTableError
            If they are not.
        """
        kind, several = self._within(""), () if members == 1 else (members,)
        skipped = 2 if kind else int(self.sparse)
        expected = (*(() if self.sparse else (self.states.n,)), *several, self.actions.n)
        for name in ("q", "visits"):
            array = self.snapshot.array(f"{kind}{name}")
            found = tuple(array.shape[skipped:])
            if found != expected or array.dtype.kind not in ("f" if name == "q" else "iu"):
                raise IncompatibleTableError(
                    f"expected numbers of shape {expected} in {name!r} at {self.snapshot.name!r}, "
                    f"as its attributes have it, got {array.dtype} of shape {found}"
                )

    def _within(self, name: str) -> str:
        """Return the name of an array; a checkpoint of a sparse table has them in a group."""
        checkpoint = hasattr(self.snapshot, "number")
        return f"known/{name}" if self.sparse and checkpoint else name

    def rows(self) -> Iterator[tuple[npt.NDArray[np.int64], Iterator[Block]]]:
        """Read a table that has a row for every state, one stored chunk after another.

        Yields
        ------
        states : int64 (m,)
            The states of a row of chunks.
        blocks : iterator of (int, ndarray, ndarray)
            First action, values and visits of each chunk of that row.
        """
        chunks = self.snapshot.array("q").chunks
        for first in range(0, self.states.n, chunks[0]):
            states = slice(first, min(first + chunks[0], self.states.n))
            yield np.arange(states.start, states.stop), self._blocks(states, chunks[-1])

    def _blocks(self, states: slice, width: int) -> Iterator[Block]:
        for first in range(0, self.actions.n, width):
            actions = slice(first, min(first + width, self.actions.n))
            q, visits = (self._read(name, (states,), actions) for name in ("q", "visits"))
            yield first, q, visits

    def _read(self, name: str, rows: tuple[slice, ...], actions: slice) -> npt.NDArray[Any]:
        """Read some rows of an array, as (rows, members, actions)."""
        members = self.snapshot.array(name).shape[len(rows) : -1]
        whole = (slice(0, n) for n in members)
        values = self.snapshot.read(name, (*rows, *whole, actions))
        n_rows = rows[-1].stop - rows[-1].start
        return values.reshape(n_rows, -1, actions.stop - actions.start)

    def listed(self) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[Any], npt.NDArray[Any]]]:
        """Read a sparse table, some of its rows after others.

        Yields
        ------
        states : int64 (m,)
            The states of some rows.
        q : float (m, members, n_actions)
            Their values.
        visits : int (m, members, n_actions)
            Their visits.
        """
        all_actions = slice(0, self.actions.n)
        for at in self._places():
            numbers = self.snapshot.read(self._within("state"), at).reshape(-1)
            q, visits = (
                self._read(self._within(name), at, all_actions) for name in ("q", "visits")
            )
            yield numbers.astype(np.int64), q, visits

    def _places(self) -> Iterator[tuple[slice, ...]]:
        """Iterate over the places of the rows of a sparse table."""
        if self._within("") == "":
            n, step = self.snapshot.array("q").shape[0], self.snapshot.array("q").chunks[0]
            yield from ((slice(i, min(i + step, n)),) for i in range(0, n, step))
            return
        n_chunks = self.snapshot.array("known/n").shape[0]
        counts = self.snapshot.read("known/n", (slice(0, n_chunks),))
        for c, n in enumerate(counts.tolist()):
            for first in range(0, n, _PLACES):
                yield slice(c, c + 1), slice(first, min(first + _PLACES, n))
