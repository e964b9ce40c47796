"""What a chunk says of its states: fields of a summary, found in a chunk and merged over chunks.

::

    chunk (i, 0) ─► find ┐
    chunk (i, 1) ─► find ┴ merge ─► columns, one row a state ─► value of the target

A field is found among the actions of one chunk, and merged with the same field of the other chunks
that have the same states. Invariant: merging is associative and commutative, to the bit, or the
field says that it is not (`splits`), and the actions are in one chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from dqlearn.kernels.buffers import empty
from dqlearn.kernels.summary import (
    Scalar,
    action_dtype,
    find_best,
    find_sums,
    merge_best,
    unroll,
)
from dqlearn.kernels.ties import empty_sets, pick_of_each

__all__ = ["Best", "BestOfAll", "Columns", "Extent", "Field", "Sum"]

Columns = tuple[npt.NDArray[Any], ...]
"""What a field knows of some states, one row a state."""


@dataclass(frozen=True)
class Extent:
    """Which states and actions a block of values is about.

    Parameters
    ----------
    n_actions : int
        Number of actions of the whole table.
    tie_key : uint64
        The :func:`dqlearn.kernels.ties.ties` of the seed.
    first_state, first_action : int
        First state and first action of the block.
    states : int (m,), optional
        States of the block that are asked about; by default all.
    rows : int (m,), optional
        Rows of these states in the block, if they are not in order from its first state.
    """

    n_actions: int
    tie_key: np.uint64
    first_state: int = 0
    first_action: int = 0
    states: npt.NDArray[Any] | None = None
    rows: npt.NDArray[Any] | None = None

    @property
    def named(self) -> Any:
        """The states that are asked about, or the first of successive ones, for a kernel."""
        return self.first_state if self.states is None else self.states

    def pick(self, tied: npt.NDArray[Any], states: Any = None) -> npt.NDArray[Any]:
        """Return the action that stands for each set of tied actions.

        Parameters
        ----------
        tied : unsigned int (m,) or uint64 (m, words)
            The sets; see :mod:`dqlearn.kernels.ties`.
        states : int (m,) or int, optional
            Their states, or the first of successive ones; by default those that are asked about.

        Returns
        -------
        unsigned int (m,)
        """
        action = empty(len(tied), action_dtype(self.n_actions))
        of = self.named if states is None else states
        pick_of_each(tied, of, self.n_actions, self.tie_key, action)
        return action

    def size(self, q: npt.NDArray[Any]) -> int:
        """Return how many states are asked about.

        Parameters
        ----------
        q : float (states, members, actions)
            The block.

        Returns
        -------
        int
        """
        return len(q) if self.states is None else len(self.states)


@dataclass(frozen=True)
class Best:
    """The actions with the greatest score, and what they are worth.

    Parameters
    ----------
    score : callable
        ``score(q, s, a)``: what is maximised, from the values of action `a` of state `s` alone. It
        is compiled; ``q`` is (states, members, actions).
    value : callable, optional
        ``value(q, s, a)``, from the same values, of the action with the greatest score; by default
        the score. Of several such actions it is the one with the largest hash of the pair.

    Notes
    -----
    Its columns are (score, set of actions), or (score, set of actions, value); see
    :mod:`dqlearn.kernels.ties`.
    """

    splits: ClassVar[bool] = True

    score: Scalar
    value: Scalar | None = None

    def find(self, q: npt.NDArray[Any], extent: Extent) -> Columns:
        """Find the best of the actions of a block.

        Parameters
        ----------
        q : float (states, members, actions)
            The block's values.
        extent : Extent
            States and actions of the block.

        Returns
        -------
        tuple of arrays (m, ...)
            Score, set of actions, and, where it is another number, the value.
        """
        n = extent.size(q)
        score, tied = empty(n, q.dtype), empty_sets(n, extent.n_actions)
        worth = None if self.value is None else empty(n, q.dtype)
        kernel = find_best(unroll(q.shape[2]), self.score, self.value)
        firsts = extent.first_state, extent.first_action
        asked = extent.states, extent.rows
        kernel(q, *asked, *firsts, extent.n_actions, extent.tie_key, score, tied, worth)
        return (score, tied) if worth is None else (score, tied, worth)

    def merge(self, mine: Columns, others: Columns, extent: Extent) -> None:
        """Take what is known of other actions into what is known of the same states, in place.

        Parameters
        ----------
        mine, others : tuple of arrays (m, ...)
            What `find` returns; `mine` is written to.
        extent : Extent
            States that both are about.
        """
        merge_best(mine, others, extent.named, extent.n_actions, extent.tie_key)

    def value_of(self, columns: Columns) -> npt.NDArray[Any]:
        """Return what the best action of each state is worth.

        Parameters
        ----------
        columns : tuple of arrays (m, ...)
            What `find` returns.

        Returns
        -------
        float (m,)
        """
        return columns[0] if self.value is None else columns[2]

    def bytes_of_state(self, dtype: np.dtype[Any]) -> int:
        """Return the bytes of a state's columns, for a set of at most 8 actions.

        Parameters
        ----------
        dtype : dtype
            Type of the table's values.

        Returns
        -------
        int
        """
        return dtype.itemsize + 1 + dtype.itemsize * (self.value is not None)


@dataclass(frozen=True)
class BestOfAll(Best):
    """The actions with the greatest score, which depends on all actions of a state.

    The parameters are those of :class:`Best`. All actions of a state are in one chunk.
    """

    splits: ClassVar[bool] = False


@dataclass(frozen=True)
class Sum:
    """The sum of a term over all actions.

    Parameters
    ----------
    term : callable
        ``term(q, s, a)``, compiled as a score is.

    Notes
    -----
    Rounding depends on the order of a sum, so all actions of a state are in one chunk.
    """

    splits: ClassVar[bool] = False

    term: Scalar

    def find(self, q: npt.NDArray[Any], extent: Extent) -> Columns:
        """Add the actions of a block.

        Parameters
        ----------
        q : float (states, members, actions)
            The block's values.
        extent : Extent
            States and actions of the block.

        Returns
        -------
        tuple of one array (m,)
            The sum.
        """
        total = empty(extent.size(q), q.dtype)
        find_sums(self.term)(q, extent.states, extent.rows, extent.first_state, total)
        return (total,)

    def merge(self, mine: Columns, others: Columns, extent: Extent) -> None:
        """Refuse to merge.

        Parameters
        ----------
        mine, others : tuple of arrays (m,)
            What `find` returns.
        extent : Extent
            States that both are about.

        Raises
        ------
        TypeError
            Always; a run checks before that its chunks do not split the actions.
        """
        raise TypeError("a sum over actions depends on their order: it has no parts to merge")

    def value_of(self, columns: Columns) -> npt.NDArray[Any]:
        """Return the sum of each state.

        Parameters
        ----------
        columns : tuple of one array (m,)
            What `find` returns.

        Returns
        -------
        float (m,)
        """
        return columns[0]

    def bytes_of_state(self, dtype: np.dtype[Any]) -> int:
        """Return the bytes of the sum of a state.

        Parameters
        ----------
        dtype : dtype
            Type of the table's values.

        Returns
        -------
        int
        """
        return dtype.itemsize


Field = Best | Sum
