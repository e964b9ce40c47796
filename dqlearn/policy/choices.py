"""What a policy keeps of a table: the greedy action of each state, and whether it was visited.

::

    Choices         state s ─► action[s], bit s                         a byte and a bit a state
    SparseChoices   state s ─► row where states[row] == s ─► action     none: what the hash draws

What is large lies in a temporary file that is mapped into memory, has no name, and goes when
nothing refers to it any more. Invariant: after it is made nothing here is written to, so any number
of threads may read.
"""

from __future__ import annotations

import os
import tempfile
from bisect import bisect_left
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dqlearn.errors import TableTooLargeError
from dqlearn.policy.ties import tie_hashes

__all__ = ["Choices", "ChoicesLike", "SparseChoices", "as_frozen", "room"]

_LARGE = 64 * 2**20  # bytes
_PAIRS = 2**20  # whose hashes are made together


class ChoicesLike(Protocol):
    """The greedy actions of all states, by their numbers."""

    def action_of(self, state: int) -> int:
        """Return the number of a state's greedy action."""

    def is_known(self, state: int) -> bool:
        """Whether any action of a state was ever updated."""

    def actions_of(self, states: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the numbers of the greedy actions, shape ``(m,)``."""

    def are_known(self, states: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return whether any action of each state was ever updated, shape ``(m,)``."""


def room(n: int, dtype: Any) -> npt.NDArray[Any]:
    """Return zeros: in memory, or, if they are many, in a file that goes away with them.

    Parameters
    ----------
    n : int
        How many.
    dtype : dtype
        Their type.

    Returns
    -------
    ndarray (n,)
        The zeros.

    Raises
    ------
    TableTooLargeError
        If the disk has no room for them.
    """
    dtype = np.dtype(dtype)
    if n * dtype.itemsize <= _LARGE:
        return np.zeros(n, dtype)
    with tempfile.TemporaryFile(prefix="dqlearn-policy-") as file:
        _reserve(file.fileno(), n * dtype.itemsize)
        return np.asarray(np.memmap(file, dtype, "r+", shape=(n,)))


def _reserve(file: int, nbytes: int) -> None:
    """Reserve room: a write to memory that finds the disk full would end the process."""
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file, 0, nbytes)
        else:
            os.truncate(file, nbytes)
    except OSError as error:
        raise TableTooLargeError(
            f"a policy needs {nbytes:,} bytes in a file in {tempfile.gettempdir()!r}, which cannot "
            f"be had: {error}; make room, or set TMPDIR to a folder on a larger disk"
        ) from error


def as_frozen(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array as one that cannot be written to, in a file if it is large.

    Parameters
    ----------
    values : ndarray (n,)
        An array that nobody else holds, made by `room` or in memory.

    Returns
    -------
    ndarray (n,)
        The same values.
    """
    kept = values
    if values.nbytes > _LARGE and not isinstance(values.base, np.memmap):
        kept = room(len(values), values.dtype)
        kept[:] = values
    kept.flags.writeable = False
    return kept


class Choices:
    """The greedy action of every state, and a bit for those that are known.

    Parameters
    ----------
    action : unsigned int (n_states,)
        The number of each state's greedy action.
    bits : uint8 (n_states / 8,)
        Bit ``s % 8`` of byte ``s // 8`` says whether state s is known.
    """

    def __init__(self, action: npt.NDArray[Any], bits: npt.NDArray[np.uint8]) -> None:
        self._action, self._bits = as_frozen(action), as_frozen(bits)
        # Their elements are Python's own integers, twice as fast as an array's.
        self._actions, self._bytes = self._action.data, self._bits.data

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arrays alone, for another process."""
        return Choices, (self._action, self._bits)

    def action_of(self, state: int) -> int:
        """Return the number of a state's greedy action."""
        action: int = self._actions[state]
        return action

    def is_known(self, state: int) -> bool:
        """Whether any action of a state was ever updated."""
        return bool(self._bytes[state >> 3] >> (state & 7) & 1)

    def actions_of(self, states: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the numbers of the greedy actions, shape ``(m,)``."""
        return self._action[states].astype(np.int64)

    def are_known(self, states: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return whether any action of each state was ever updated, shape ``(m,)``."""
        bit = self._bits[states >> 3] >> (states & 7).astype(np.uint8)
        known: npt.NDArray[np.bool_] = (bit & 1).astype(np.bool_)
        return known


class SparseChoices:
    """The greedy action of every state that was visited; of all others what the tie hash draws.

    Parameters
    ----------
    states : int64 (m,)
        The states that are known, ascending.
    action : unsigned int (m,)
        The number of the greedy action of each of them.
    key : uint64
        The key that breaks ties.
    n_actions : int
        Number of actions of the table.
    """

    def __init__(
        self,
        states: npt.NDArray[np.int64],
        action: npt.NDArray[Any],
        key: np.uint64,
        n_actions: int,
    ) -> None:
        self._states, self._action = as_frozen(states), as_frozen(action)
        self._numbers, self._actions = self._states.data, self._action.data
        self._key, self._n_actions = key, n_actions

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arrays alone, for another process."""
        return SparseChoices, (self._states, self._action, self._key, self._n_actions)

    def _row_of(self, state: int) -> int:
        """Return the row of a state; -1 if it has none."""
        row = bisect_left(self._numbers, state)
        return row if row < len(self._numbers) and self._numbers[row] == state else -1

    def action_of(self, state: int) -> int:
        """Return the number of a state's greedy action."""
        row = self._row_of(state)
        action: int = self._actions[row] if row >= 0 else int(self._untried(np.array([state]))[0])
        return action

    def is_known(self, state: int) -> bool:
        """Whether any action of a state was ever updated."""
        return self._row_of(state) >= 0

    def _found(
        self, states: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return the row of each state, and whether it is that state's own."""
        if not len(self._states):
            return np.zeros(len(states), np.int64), np.zeros(len(states), np.bool_)
        order, row = np.argsort(states), np.empty(len(states), np.int64)
        row[order] = np.searchsorted(self._states, states[order])  # ascending: the cache is warm
        np.minimum(row, len(self._states) - 1, out=row)
        return row, self._states[row] == states

    def actions_of(self, states: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the numbers of the greedy actions, shape ``(m,)``."""
        row, known = self._found(states)
        actions = np.empty(len(states), np.int64)
        actions[known] = self._action[row[known]]
        actions[~known] = self._untried(states[~known])
        return actions

    def are_known(self, states: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return whether any action of each state was ever updated, shape ``(m,)``."""
        return self._found(states)[1]

    def _untried(self, states: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the greedy actions of states whose values are all equal."""
        n, actions = self._n_actions, np.empty(len(states), np.int64)
        step = max(1, _PAIRS // n)
        for first in range(0, len(states), step):
            part = slice(first, first + step)
            hashes = tie_hashes(self._key, states[part, None], np.arange(n), n)
            actions[part] = hashes.argmax(axis=1)
        return actions
