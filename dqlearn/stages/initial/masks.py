r"""Masks: a pair that is not valid has the value of minus infinity.

.. math:: Q(s, a) = -\infty \quad \text{where } a \text{ is not valid in } s

It is never greatest, so that neither the greedy actions nor a bootstrap know of it, whatever the
rule; it is never tried, so that it stays as it is; and it is stored with the table::

    a model      valid(s, a)         when a chunk is made; of a sparse one, when a state is met
    Python       info["action_mask"] with the first transition from a state

Until then all its pairs have the initial value, which the mask does not change the maximum of.
Invariant: the mask is a function of the state, so that a chunk has the same one whoever makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.algorithms.fields import Extent
from dqlearn.envs.python.gymnasium_env import PythonEnv
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import ActionMaskError
from dqlearn.table.chunk import Chunk
from dqlearn.table.transitions import Masks, Piece

__all__ = ["Forbid", "Masking", "check_tried"]

Forbid = Callable[[npt.NDArray[Any], npt.NDArray[Any]], None]
"""A function (rows of values, their states) that masks the rows, in place."""


@dataclass(frozen=True)
class Masking:
    """The masks of one chunk.

    Parameters
    ----------
    env : TabularEnv or PythonEnv
        The environment; a model may have a mask of all states.
    extent : Extent
        First state and first action of the chunk.
    """

    env: Any
    extent: Extent

    @property
    def _model(self) -> TabularEnv | None:
        env = self.env
        return env if isinstance(env, TabularEnv) and env.valid is not None else None

    def made(self, chunk: Chunk) -> Chunk:
        """Mask a chunk of a dense table that was just made, in place.

        Parameters
        ----------
        chunk : Chunk
            A chunk that nobody else holds.

        Returns
        -------
        Chunk
            The chunk. With pairs that are not valid it counts as changed, so that it is stored.
        """
        if (model := self._model) is None:
            return chunk
        q = chunk.q if chunk.q.flags.writeable else chunk.q.copy()
        first = self.extent.first_state, None, self.extent.first_action
        n = model.kernels.forbid(_by_member(q), *first, model.params)
        return replace(chunk, q=q, changed=max(chunk.changed, 0)) if n else chunk

    @property
    def of_rows(self) -> Forbid | None:
        """What masks new rows of a sparse chunk; None without a mask of all states."""
        if (model := self._model) is None:
            return None
        forbid, params = model.kernels.forbid, model.params
        return lambda q, states: forbid(_by_member(q), 0, states, 0, params)

    def concerns(self, chunk: Chunk, pieces: Sequence[Piece]) -> bool:
        """Whether environments have told of pairs of a chunk that are not valid.

        Parameters
        ----------
        chunk : Chunk
            The chunk.
        pieces : sequence of Piece
            What it receives from each shard.
        """
        return any(len(self._own(chunk, it.masks)[0]) for it in pieces if it.masks is not None)

    def learn(self, chunk: Chunk, pieces: Sequence[Piece]) -> None:
        """Mask what environments told of, in the arrays of a chunk, which has rows for it.

        Parameters
        ----------
        chunk : Chunk
            The chunk, whose arrays are written to.
        pieces : sequence of Piece
            What it receives from each shard.

        Raises
        ------
        ActionMaskError
            If the mask of a state is not what another shard, or the table, says, or a transition
            is of a pair that is not valid.
        """
        q = _by_member(chunk.q)
        for masks in (piece.masks for piece in pieces if piece.masks is not None):
            rows, valid = self._own(chunk, masks)
            before = ~np.isneginf(q[rows, 0])
            clash = ~before.all(axis=1) & (before != valid).any(axis=1)
            for i in np.flatnonzero(clash)[:1].tolist():
                raise ActionMaskError(
                    "the mask of a state must always be the same, got the valid actions "
                    f"{np.flatnonzero(valid[i]).tolist()} and {np.flatnonzero(before[i]).tolist()} "
                    "in one state: add what it depends on to the observation, or pass "
                    "action_masks=False"
                )
            q[rows] = np.where(valid[:, None, :], q[rows], -np.inf)
        if isinstance(self.env, PythonEnv) and self.env.masks:
            for piece in pieces:
                check_tried(chunk.q.ravel()[piece.alone().columns[0]])

    def _own(self, chunk: Chunk, masks: Masks) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Return the rows of a chunk that have pairs which are not valid, and the valid actions."""
        first = self.extent.first_action
        valid = masks.valid[:, first : first + chunk.q.shape[-1]]
        if chunk.known is None:
            rows = masks.states - self.extent.first_state
            own = (rows >= 0) & (rows < len(chunk.q))
        else:
            rows = chunk.known.rows(masks.states)
            own = rows >= 1 << chunk.known.bits
        own &= ~valid.all(axis=1)
        return rows[own], valid[own]


def check_tried(values: npt.NDArray[Any]) -> None:
    """Refuse to learn pairs that are not valid, given the values that they have.

    Parameters
    ----------
    values : float (m,)
        The values.

    Raises
    ------
    ActionMaskError
        If one is minus infinity.
    """
    if np.isneginf(values).any():
        raise ActionMaskError(
            "an action that was taken must be valid, got transitions of actions that the mask of "
            "their state forbids: correct the log, or learn with action_masks=False"
        )


def _by_member(q: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return q.reshape(len(q), -1, q.shape[-1])
