"""A run's settings: the values that were chosen, and defaults that depend on the environment.

::

    what a user says, else a recipe, else the default ──► Settings ── environment ──► Plan

Invariant: each setting has been checked by itself. A default depends on the environment and on what
was chosen, except that of `shards`, which is the number of threads or processes there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np

from dqlearn.algorithms import as_algorithm
from dqlearn.algorithms.federated import Federated
from dqlearn.envs.problems.recipe import Recipe
from dqlearn.envs.python.faults import Faults
from dqlearn.envs.resolve import Resolved
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import ConfigurationError
from dqlearn.stages.plan import Plan
from dqlearn.stages.settings.hyperparameters import HYPERPARAMETERS, Hyperparameters
from dqlearn.stages.settings.sizes import LARGE_PAIRS, round_size
from dqlearn.table.grid import ChunkGrid
from dqlearn.table.hash_grid import Grid, HashGrid
from dqlearn.table.snapshot import Snapshot

__all__ = ["Settings"]

_GATHER_STATES = 16  # for each transition of a round, and at least a million: then it pays to ask
_GATHER_STATES_AT_LEAST = 1_000_000


@dataclass(frozen=True)
class Settings:
    """The values that were chosen for a run.

    Attributes
    ----------
    values : Hyperparameters
        The value of every hyperparameter, checked; None where the environment decides.
    balanced : bool, optional
        For a run that goes on from a stored table: whether its chunks were first chosen
        automatically, though `chunks` now lists their sizes. None where `chunks` itself tells.
    """

    values: Hyperparameters
    balanced: bool | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any], recipe: Recipe | None = None) -> Settings:
        """Take each value from `given`, else from the recipe, else from the general defaults."""
        check_names(given)
        advice = recipe.settings if recipe else {}
        values = {}
        for name, it in HYPERPARAMETERS.items():
            value = given.get(name, it.shown_default)
            if value is None and it.advised:
                value = advice.get(name, it.default)
            values[name] = it.check(name, value)
        return cls(cast("Hyperparameters", values))

    def changed(self, **changes: Any) -> Settings:
        """Return settings with some values changed; new `chunks` reset `balanced`."""
        values = {**self.values, **checked(changes)}
        balanced = None if "chunks" in changes else self.balanced
        return Settings(cast("Hyperparameters", values), balanced)

    def plan(self, resolved: Resolved, width: int, origin: Snapshot | None = None) -> Plan:
        """Make the plan of a run; it has `width` shards unless their number was chosen."""
        it, (n_states, n_actions) = self.values, (resolved.states.n, resolved.actions.n)
        compiled = isinstance(resolved.env, TabularEnv)
        grid, exchange = self._grid(n_states, n_actions), self._exchange(n_states, n_actions)
        lag = int(exchange == "gather") if it["policy_lag"] is None else it["policy_lag"]
        apart = it["federated"].members if isinstance(it["federated"], Federated) else 1
        envs = it["num_envs"] and max(1, it["num_envs"] // apart)  # of each table
        envs, steps = round_size(
            n_states * n_actions,
            envs,
            it["steps_per_round"],
            compiled=compiled,
            gather=exchange == "gather",
            fusible=not lag and grid.n_columns == 1,
            shards=it["shards"] or width,
        )
        num_envs = it["num_envs"] or envs * apart
        rule = as_algorithm(it["algorithm"])
        if rule.by_env and num_envs < apart * rule.members:
            raise ConfigurationError(
                f"algorithm={rule.name!r} has an environment for each of its {rule.members} "
                f"members, or several, got num_envs={num_envs}: pass at least "
                f"{apart * rule.members}, or leave it out"
            )
        settled: dict[str, Any] = {
            **it,
            "num_envs": num_envs,
            "shards": it["shards"] or (apart if apart > 1 else min(width, num_envs)),
            "steps_per_round": steps,
            "exchange": exchange,
            "policy_lag": lag,
        }
        if not isinstance(begun := it["initial_value"], float | int):
            settled |= {"initial": begun, "initial_value": 0.0}
        used = {field.name for field in fields(Plan)}  # the others make its parts
        return Plan(
            env=resolved.env,
            grid=grid,
            origin=origin,
            faults=Faults(it["on_env_error"], it["env_timeout"]),
            balanced=compiled and not (it["sparse"] or it["federated"]) and self._chosen,
            **{name: value for name, value in settled.items() if name in used},
        )

    @property
    def masks(self) -> bool:
        """Whether masks of actions are used."""
        return self.values["action_masks"]

    @property
    def _chosen(self) -> bool:
        """Whether the chunks are, or were at first, chosen automatically."""
        chunks = self.values["chunks"]
        auto = isinstance(chunks, str) and chunks == "auto"
        return auto if self.balanced is None else self.balanced

    def _grid(self, n_states: int, n_actions: int) -> Grid:
        it, members = self.values, as_algorithm(self.values["algorithm"]).members
        if it["sparse"]:
            return HashGrid.of(n_states, n_actions, it["chunks"], it["sparse_block"], members)
        if (block := it["sparse_block"]) != 1:
            raise ConfigurationError(f"sparse_block={block} is of sparse tables: pass sparse=True")
        itemsize = np.dtype(it["dtype"]).itemsize
        return ChunkGrid.of(n_states, n_actions, it["chunks"], itemsize, members)

    def _exchange(self, n_states: int, n_actions: int) -> str:
        """Return the user's exchange; else gather if sparse, or if large with one step a round."""
        it = self.values
        if it["exchange"] != "auto":
            return it["exchange"]
        if it["federated"] and not it["sparse"]:
            return "broadcast"
        large = n_states >= max(_GATHER_STATES * (it["num_envs"] or 1), _GATHER_STATES_AT_LEAST)
        lags = it["policy_lag"] in ((None, 1) if n_states * n_actions > LARGE_PAIRS else (1,))
        ahead = as_algorithm(it["algorithm"]).returns  # they read more values than gather brings
        one_step = it["steps_per_round"] == 1 and lags and ahead is None
        return "gather" if it["sparse"] or (large and one_step) else "broadcast"


def check_names(given: Iterable[str]) -> None:
    """Refuse names that are no hyperparameter's, as Python refuses unknown keyword arguments.

    Parameters
    ----------
    given : iterable of str
        The names.

    Raises
    ------
    TypeError
        If a name is no hyperparameter's.
    """
    for name in given:
        if name not in HYPERPARAMETERS:
            raise TypeError(
                f"QLearner() got an unexpected keyword argument {name!r}: its hyperparameters are "
                f"{', '.join(HYPERPARAMETERS)}"
            )


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return given hyperparameters, each checked by itself.

    Parameters
    ----------
    given : mapping
        The values, by the hyperparameters' names.

    Returns
    -------
    dict
        The checked values, by the same names.

    Raises
    ------
    TypeError
        If a name is no hyperparameter's.
    ConfigurationError
        If a value is not one that its hyperparameter can have.
    """
    check_names(given)
    return {name: HYPERPARAMETERS[name].check(name, value) for name, value in given.items()}
