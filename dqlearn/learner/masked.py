"""Greedy actions among the valid ones of some states.

::

    policy ──► greedy action ── valid? ──► it is the answer
                                 └─ no ──► q of the state, others at minus infinity ──► the best

Invariant: where the greedy action of a table is valid, a mask changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.errors import ActionMaskError, SpaceError
from dqlearn.stages.plan import Plan
from dqlearn.stages.policy import KnownPolicy, Policy
from dqlearn.table.views.arrays import Table
from dqlearn.table.views.sparse import SparseTable

__all__ = ["as_masks", "best_valid"]

Bools = npt.NDArray[np.bool_]


def as_masks(given: Any, n: int, n_actions: int) -> Bools:
    """Check the masks that a user gave.

    Parameters
    ----------
    given : array of bool or of 0 and 1, (n_actions,) or (n, n_actions)
        The valid actions of each state, or of all.
    n, n_actions : int
        Numbers of states and of actions.

    Returns
    -------
    bool (n, n_actions)

    Raises
    ------
    SpaceError
        If it has another shape, or other values.
    ActionMaskError
        If a state has no valid action.
    """
    array = np.asarray(given)
    if array.ndim == 1:
        array = np.broadcast_to(array, (n, *array.shape))
    flags = array.dtype.kind in "biuf" and np.isin(array, (0, 1)).all()
    if array.shape != (n, n_actions) or not flags:
        raise SpaceError(
            f"action_masks must have 0 or 1 for each action, in the shape ({n_actions},) or "
            f"({n}, {n_actions}), got an array of shape {np.shape(given)} in {array.dtype}"
        )
    valid = array.astype(np.bool_)
    for i in np.flatnonzero(~valid.any(axis=1))[:1].tolist():
        raise ActionMaskError(f"a state must have a valid action, got none in action_masks[{i}]")
    return valid


def best_valid(
    plan: Plan,
    policy: Policy | KnownPolicy,
    table: Table | SparseTable,
    states: npt.NDArray[np.int64],
    valid: Bools,
) -> npt.NDArray[np.int64]:
    """Return the best valid action of each state.

    Parameters
    ----------
    plan : Plan
        The plan of the run.
    policy : Policy or KnownPolicy
        The greedy actions of the table.
    table : Table or SparseTable
        The table.
    states : int64 (m,)
        The states.
    valid : bool (m, n_actions)
        Their valid actions.

    Returns
    -------
    int64 (m,)
    """
    actions, rows = np.zeros(len(states), np.int64), states
    known = np.ones(len(states), np.bool_)
    if isinstance(table, SparseTable):
        rows = np.searchsorted(table.states, states)
        known = np.take(table.states, rows, mode="clip") == states
    if known.any():
        q: Any = table.q[rows[known]].compute()
        mask = valid[known] if q.ndim == 2 else valid[known, None]
        actions[known] = _greedy(plan, np.where(mask, q, -np.inf).astype(q.dtype), states[known])
        known &= np.take_along_axis(valid, actions[:, None], axis=1)[:, 0]
    for i in np.flatnonzero(~known).tolist():  # the table knows nothing of its valid actions
        actions[i] = policy.choose_valid(int(states[i]), valid[i])
    return actions


def _greedy(plan: Plan, q: npt.NDArray[Any], states: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Return the greedy actions of the values of some states."""
    asked = replace(plan.extent(), states=states, rows=np.arange(len(q)))
    rule = plan.algorithm
    return rule.greedy(rule.find(q, asked), asked)
