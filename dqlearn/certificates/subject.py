"""What is certified: the values of a table, the model, and the discount factor, checked.

::

    learner ─┐                                                       ┌─ q     (state, action)
    Table ───┼─► Dataset or array ─► mean of the members, all actions ┼─ policy, with members
    Dataset ─┘                                                       └─ gamma of its attributes

Invariant: whatever comes out of here has the shape of the model, which has its outcomes listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dask.array as da
import gymnasium
import numpy as np
import xarray as xr

from dqlearn.checks import check_number
from dqlearn.envs.faces.gym_view import TabularGymEnv
from dqlearn.envs.from_tables import from_table
from dqlearn.envs.resolve import resolve
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import ConfigurationError, IncompatibleTableError, NotEnumerableError
from dqlearn.storage.attributes import nested
from dqlearn.table.views.arrays import Table
from dqlearn.table.views.sparse import SparseTable
from dqlearn.text import shortened

__all__ = ["Subject"]

_KEPT = (np.float32, np.float64)
"""Types of values that are certified as they are; others become float64 first."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A table to certify, with the model that it is about.

    Parameters
    ----------
    q : dask.array.Array
        Values, float (n_states, n_actions); all actions of a state are in one chunk. Minus infinity
        where, and only where, an action is not valid.
    policy : dask.array.Array, optional
        Greedy actions, int (n_states,), of a table of several members.
    model : TabularEnv
        The model, in events form.
    gamma : float
        Discount factor, 0 .. 1.
    name : str
        Name of the environment.
    """

    q: da.Array
    policy: da.Array | None
    model: TabularEnv
    gamma: float
    name: str

    @classmethod
    def of(cls, table: Any, env: Any, gamma: float | None, listed: bool = True) -> Subject:
        """Check what a user gave; see :func:`dqlearn.certify`.

        Parameters
        ----------
        table : QLearner, Table, xarray.Dataset or array
            The table.
        env : str, TabularEnv or gymnasium.Env, optional
            The environment; by default that of the learner.
        gamma : float, optional
            Discount factor; by default that of the table.
        listed : bool
            Whether the outcomes of the model must be listed.

        Returns
        -------
        Subject

        Raises
        ------
        NotEnumerableError
            If the outcomes of the environment cannot be listed.
        IncompatibleTableError
            If the table is sparse, or has another shape than the model.
        ConfigurationError
            If something is missing or out of range.
        """
        learner = _learner(table)
        if env is None and learner is None:
            raise ConfigurationError("env is needed with a table: pass an id or a TabularEnv")
        model = model_of(env if env is not None else learner.model or learner, listed)
        found = learner.table if learner is not None else table
        dataset = found.to_xarray() if isinstance(found, Table | SparseTable) else found
        q, policy = _values(dataset)
        _check_shape(q, model)
        attrs = getattr(dataset, "attrs", {})
        chosen = attrs.get("gamma") if gamma is None else gamma
        cure = "pass gamma=, where the table does not say its own" if gamma is None else ""
        discount = check_number("gamma", chosen, 0, 1, cure=cure)
        return cls(_masked(q, model), policy, model, discount, _name(env, attrs, model))


def _learner(table: Any) -> Any:
    """Return a learner, None for anything else; a Dataset may have any names as attributes."""
    if isinstance(table, xr.Dataset) or not all(hasattr(table, it) for it in ("table", "model")):
        return None
    return table


def _name(env: Any, attrs: Mapping[str, Any], model: TabularEnv) -> str:
    """Return the id that was given, or that a learner's table says, else the model's name."""
    if isinstance(env, str):
        return env
    said = nested(attrs, "environment") if env is None else {}
    return str(said.get("id", model.called))


def model_of(env: Any, listed: bool = True) -> TabularEnv:
    """Return the compiled model of an environment.

    Parameters
    ----------
    env : str, TabularEnv or gymnasium.Env
        An id, a model, an environment made of a model, or one that follows its table ``P``.
    listed : bool
        Whether its outcomes must be listed, as they are in events form.

    Returns
    -------
    TabularEnv

    Raises
    ------
    NotEnumerableError
        If it has no model, or if its outcomes are not listed and must be.

    Examples
    --------
    >>> model_of("FrozenLake-v1").n_events
    2
    """
    found = resolve(env).env if isinstance(env, str) else env
    if isinstance(found, gymnasium.Env):
        base = found.unwrapped
        found = base.model if isinstance(base, TabularGymEnv) else _compiled(found)
    if isinstance(found, TabularEnv) and (found.events is not None or not listed):
        return found
    form, cure = "an environment", "judge the policy by evaluate()"
    if isinstance(found, TabularEnv):
        form, cure = "a model in key form", "estimate what a certificate proves: estimate_residual"
    raise NotEnumerableError(
        f"expected a model whose outcomes are listed, got {form} that can only be sampled, "
        f"{shortened(env)}: write it in events form, TabularEnv(..., events=, n_events=), or {cure}"
    )


def _compiled(env: gymnasium.Env[Any, Any]) -> TabularEnv | gymnasium.Env[Any, Any]:
    return from_table(env) if hasattr(env.unwrapped, "P") else env


def _values(table: Any) -> tuple[da.Array, da.Array | None]:
    """Return the values of a Dataset or array, and the policy where members need one."""
    if isinstance(table, xr.Dataset):
        if "q" not in table or "state" in table.indexes:
            raise IncompatibleTableError(
                "expected a table with q of all states, got a sparse one, or none: "
                f"{shortened(list(table.variables))}; of a sparse table unvisited states are not "
                "known: learn it with sparse=False"
            )
        q, policy = _as_dask(table["q"].data), _as_dask(table["policy"].data)
    else:
        q, policy = _as_dask(table), None
    if q.ndim == 3 and policy is not None:
        mean: Any = _rows(q).mean(axis=1, dtype=np.float64)
        return mean, policy
    return _rows(q), None


def _as_dask(array: Any) -> da.Array:
    if isinstance(array, da.Array):
        return array
    try:
        values = np.asarray(array)
        values = values if values.dtype in _KEPT else values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"table must be a learner, its table, a Dataset or an array, got {shortened(array)}"
        ) from error
    made: da.Array = da.from_array(values, name=False)
    return made


def _rows(q: da.Array) -> da.Array:
    """Return values with all actions of a state in one chunk."""
    numbers = q if q.dtype in _KEPT else q.astype(np.float64)
    whole: da.Array = numbers.rechunk(dict.fromkeys(range(1, q.ndim), -1))
    return whole


def _masked(q: da.Array, model: TabularEnv) -> da.Array:
    """Mask the pairs that are not valid; refuse values of the others that are not finite."""
    checked: Any = _only_valid
    made: da.Array = q.map_blocks(checked, model, dtype=q.dtype, meta=np.empty((0, 0), q.dtype))
    return made


def _only_valid(q: Any, model: TabularEnv, block_info: Any = None) -> Any:
    values = q
    if model.valid is not None:
        first, last = block_info[0]["array-location"][0]
        valid = model.masks(np.arange(first, last))
        values = np.where(valid, q, -np.inf).astype(q.dtype)
        q = np.where(valid, q, 0)
    if not np.isfinite(q).all():
        raise IncompatibleTableError(
            "expected finite values of all valid pairs, got NaN or infinity: lower the learning "
            "rate, or go back to an earlier checkpoint"
        )
    return values


def _check_shape(q: da.Array, model: TabularEnv) -> None:
    if q.shape != (model.n_states, model.n_actions):
        raise IncompatibleTableError(
            f"expected a table of shape ({model.n_states}, {model.n_actions}), as the model "
            f"{model.called!r} has it, got {q.shape}: pass the environment that it was learned in"
        )
