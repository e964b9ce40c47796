r"""Initial values: what the pairs of a chunk are worth before anything is learned.

.. math:: Q_0(s, a) = \Phi(s, a)

of an array of all pairs, or of a function of states. High values make a learner try what it knows
nothing of; a good guess is learned from faster, as by shaping rewards with the same potential
(Wiewiora 2003, "Potential-based shaping and Q-value initialization are equivalent", JAIR 19).
Invariant: the values of a state do not depend on the chunk that it is in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dqlearn.algorithms.fields import Extent
from dqlearn.errors import ConfigurationError
from dqlearn.table.chunk import Chunk
from dqlearn.text import shortened

__all__ = ["InitialValues", "begun_with"]

InitialValues = npt.NDArray[np.float64] | Callable[[npt.NDArray[np.int64]], npt.ArrayLike]
"""Values (n_states, n_actions), or a function of states (m,) that returns (m, n_actions)."""


def begun_with(chunk: Chunk, initial: InitialValues, extent: Extent) -> Chunk:
    """Give the pairs of a new chunk their initial values, in place.

    Parameters
    ----------
    chunk : Chunk
        A chunk of a dense table that was just made.
    initial : array or callable
        The values of all pairs, or a function that returns those of some states.
    extent : Extent
        First state and first action of the chunk.

    Returns
    -------
    Chunk
        The chunk, which counts as changed, so that it is stored.

    Raises
    ------
    ConfigurationError
        If a function returns something else than a number for each pair.
    """
    states = np.arange(extent.first_state, extent.first_state + len(chunk.q))
    values = _of_states(initial, states, extent.n_actions) if callable(initial) else initial[states]
    actions = slice(extent.first_action, extent.first_action + chunk.q.shape[-1])
    own = values[..., actions]
    chunk.q[...] = own[:, None] if own.ndim < chunk.q.ndim else own
    return replace(chunk, changed=max(chunk.changed, 0))


def _of_states(
    function: Callable[[npt.NDArray[np.int64]], npt.ArrayLike],
    states: npt.NDArray[np.int64],
    n_actions: int,
) -> npt.NDArray[np.float64]:
    """Return what a user's function says of some states, checked."""
    returned = function(states)
    try:
        values = np.asarray(returned, np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    right = values.shape == (len(states), n_actions)
    if not right or not (np.isfinite(values) | np.isneginf(values)).all():
        raise ConfigurationError(
            f"initial_value must return a number for each of {len(states)} states and {n_actions} "
            f"actions, in the shape ({len(states)}, {n_actions}), got {shortened(returned)}"
        )
    return values
