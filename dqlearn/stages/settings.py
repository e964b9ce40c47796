"""A run's settings: what the user chose, the defaults that depend on it, and both as JSON.

Invariant: a default depends on the environment and on what was chosen, except `shards`, which is
the number of threads or processes there are; a stored table names all of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.algorithms import Algorithm, as_algorithm, find_algorithm
from dqlearn.checks import check_count
from dqlearn.envs.problems.recipe import Recipe
from dqlearn.envs.python.faults import Faults
from dqlearn.envs.resolve import Resolved
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import ConfigurationError
from dqlearn.schedules import Schedule, VisitCount, as_learning_rate, as_schedule, from_spec
from dqlearn.stages.plan import Plan
from dqlearn.table.grid import ChunkGrid, Chunks
from dqlearn.table.hash_grid import Grid, HashGrid
from dqlearn.table.snapshot import Snapshot
from dqlearn.text import shortened

__all__ = ["Settings"]

_COMPILED_ENVS, _PYTHON_ENVS = 4096, 64
_COMPILED_STEPS, _PYTHON_STEPS = 1024, 64
_GATHER_ENVS = 65_536  # compiled ones: there is one step a round
_GATHER_STATES = 16  # for each transition of a round, and at least a million: then it pays to ask
_GATHER_STATES_AT_LEAST = 1_000_000
_LARGEST_COUNT = 2**62
_ADVISED = {  # what a recipe may say
    "num_envs",
    "steps_per_round",
    "gamma",
    "learning_rate",
    "epsilon",
    "initial_value",
}


@dataclass(frozen=True)
class Settings:
    """What :class:`dqlearn.QLearner` takes besides the environment; see there."""

    num_envs: int | None = None
    shards: int | None = None
    steps_per_round: int | None = None
    gamma: float = 0.99
    learning_rate: float | Schedule | VisitCount = 0.1
    epsilon: float | Schedule = 0.1
    initial_value: float = 0.0
    policy_lag: int | None = None
    chunks: Chunks = "auto"
    dtype: npt.DTypeLike = "float32"
    seed: int = 0
    on_env_error: str = "raise"
    env_timeout: float | None = None
    exchange: str = "auto"
    sparse: bool = False
    sparse_block: int = 1
    algorithm: str | Algorithm = "q_learning"
    balanced: bool | None = None  # the learner's own: whether chunks were chosen automatically

    @classmethod
    def of(cls, given: Mapping[str, Any], recipe: Recipe | None) -> Settings:
        """Take what is given, then what a recipe says, then what holds for all."""
        said = {k: v for k, v in given.items() if v is not None or k not in _ADVISED}
        return cls(**({**recipe.settings} if recipe else {}) | said)

    @property
    def table_dtype(self) -> np.dtype[Any]:
        """The dtype as one."""
        try:
            if self.dtype is None:  # which NumPy takes for float64
                raise TypeError("no dtype")
            return np.dtype(self.dtype)
        except (TypeError, ValueError, SyntaxError) as error:  # NumPy parses texts
            raise ConfigurationError(
                f"dtype must be float32 or float64, got {shortened(self.dtype)}"
            ) from error

    def plan(self, resolved: Resolved, width: int, origin: Snapshot | None = None) -> Plan:
        """Make the plan of a run, of `width` shards if nobody says how many."""
        n_states, n_actions = resolved.states.n, resolved.actions.n
        compiled = isinstance(resolved.env, TabularEnv)
        default = _COMPILED_ENVS if compiled else _PYTHON_ENVS
        num_envs = default if self.num_envs is None else check_count("num_envs", self.num_envs)
        steps = self.steps_per_round
        if steps is None:
            most = _COMPILED_STEPS if compiled else _PYTHON_STEPS
            steps = min(max(1, math.ceil(n_states * n_actions / num_envs)), most)
        exchange = (
            "gather"
            if self.sparse and self.exchange == "auto"
            else self._exchange(n_states, num_envs)
        )
        if exchange == "gather":
            steps = 1 if self.steps_per_round is None else steps
            num_envs = _GATHER_ENVS if compiled and self.num_envs is None else num_envs
        lag = int(exchange == "gather") if self.policy_lag is None else self.policy_lag
        dtype, rule = self.table_dtype, as_algorithm(self.algorithm)
        return Plan(
            env=resolved.env,
            grid=self._grid(n_states, n_actions, dtype.itemsize, rule.members),
            num_envs=num_envs,
            shards=min(width, num_envs) if self.shards is None else self.shards,
            steps_per_round=steps,
            gamma=self.gamma,
            learning_rate=as_learning_rate(self.learning_rate),
            epsilon=as_schedule(self.epsilon, name="epsilon"),
            initial_value=self.initial_value,
            policy_lag=lag,
            dtype=dtype,
            seed=self.seed,
            origin=origin,
            faults=Faults(self.on_env_error, self.env_timeout),
            exchange=exchange,
            balanced=compiled and not self.sparse and self._chosen,
            algorithm=rule,
        )

    def changed(self, **changes: Any) -> Settings:
        """Return others; chunks that are among the changes are not the ones chosen before."""
        if "chunks" in changes:
            changes["balanced"] = None
        return replace(self, **changes)

    @property
    def _chosen(self) -> bool:
        """Whether the chunks are, or were once, chosen automatically."""
        auto = isinstance(self.chunks, str) and self.chunks == "auto"
        return auto if self.balanced is None else self.balanced

    def _grid(self, n_states: int, n_actions: int, itemsize: int, members: int) -> Grid:
        if not isinstance(self.sparse, bool):
            raise ConfigurationError(
                f"sparse must be a bool, got {self.sparse!r}: sparse_block says how many states "
                "stand side by side"
            )
        block = check_count("sparse_block", self.sparse_block)
        if self.sparse:
            return HashGrid.of(n_states, n_actions, self.chunks, block, members)
        if block != 1:
            raise ConfigurationError(f"sparse_block={block} is of sparse tables: pass sparse=True")
        return ChunkGrid.of(n_states, n_actions, self.chunks, itemsize, members)

    def _exchange(self, n_states: int, num_envs: int) -> str:
        """Choose the exchange by the size of the table, between rounds of the same transitions."""
        if self.exchange != "auto":
            return self.exchange
        large = n_states >= max(_GATHER_STATES * num_envs, _GATHER_STATES_AT_LEAST)
        one_step = self.steps_per_round == 1 and self.policy_lag in (None, 1)
        return "gather" if large and one_step else "broadcast"


def attributes(plan: Plan, resolved: Resolved) -> dict[str, Any]:
    """Return all that a stored table says of its run, nested parts as JSON text."""
    return {
        "num_envs": plan.num_envs,
        "shards": plan.shards,
        "steps_per_round": plan.steps_per_round,
        "gamma": plan.gamma,
        "learning_rate": json.dumps(plan.learning_rate.spec()),
        "epsilon": json.dumps(plan.epsilon.spec()),
        "initial_value": plan.initial_value,
        "policy_lag": plan.policy_lag,
        "exchange": plan.exchange,
        "algorithm": plan.algorithm.name,
        "members": plan.algorithm.members,
        "chunks": json.dumps(plan.grid.chunks),
        "balanced": int(plan.balanced),
        "sparse": int(isinstance(plan.grid, HashGrid)),
        "sparse_block": plan.grid.block if isinstance(plan.grid, HashGrid) else 1,
        "dtype": str(plan.dtype),
        "seed": str(plan.seed),  # JSON readers in other languages lose bits beyond 2**53
        "on_env_error": plan.faults.on_error,
        "env_timeout": json.dumps(plan.faults.timeout, default=float),
        "environment": json.dumps(resolved.spec),
        "observation_space": json.dumps(resolved.states.spec()),
        "action_space": json.dumps(resolved.actions.spec()),
        "versions": json.dumps({name: version(name) for name in ("dqlearn", "numpy", "gymnasium")}),
    }


def from_attributes(attrs: Mapping[str, Any]) -> Settings:
    """Return the settings that a stored table was learned with.

    Raises what it likes for attributes that :func:`attributes` does not make.
    """
    sparse, block = sparse_of(attrs)  # tables of earlier versions do not say all
    return Settings(
        num_envs=whole_number(attrs["num_envs"]),
        shards=whole_number(attrs["shards"]),
        steps_per_round=whole_number(attrs["steps_per_round"]),
        gamma=number(attrs["gamma"]),
        learning_rate=as_learning_rate(from_spec(json.loads(attrs["learning_rate"]))),
        epsilon=_schedule(json.loads(attrs["epsilon"])),
        initial_value=number(attrs["initial_value"]),
        policy_lag=whole_number(attrs["policy_lag"]),
        chunks=chunks_of(json.loads(attrs["chunks"]), sparse),
        dtype=_one_of("float32 float64", attrs["dtype"]),
        seed=int(attrs["seed"]),
        on_env_error=_one_of("raise restart", attrs.get("on_env_error", "raise")),
        env_timeout=_timeout(json.loads(attrs.get("env_timeout", "null"))),
        exchange=_one_of("broadcast gather", attrs.get("exchange", attrs.get("path", "broadcast"))),
        sparse=sparse,
        sparse_block=block,
        algorithm=rule_of(attrs),
        balanced=bool(attrs.get("balanced", False)),
    )


def sparse_of(attrs: Mapping[str, Any]) -> tuple[bool, int]:
    """Return whether a stored table is sparse, and the states of a block.

    Parameters
    ----------
    attrs : mapping
        Of the table. Where there is no ``sparse_block``, ``sparse`` is the states of a block, or 0.

    Returns
    -------
    (bool, int)
    """
    sparse = whole_number(attrs.get("sparse", 0))
    return sparse > 0, whole_number(attrs.get("sparse_block", sparse or 1))


def rule_of(attrs: Mapping[str, Any]) -> Algorithm:
    """Return the rule that a stored table was learned by; earlier versions knew one.

    Parameters
    ----------
    attrs : mapping
        Of the table.

    Returns
    -------
    Algorithm

    Raises
    ------
    ValueError
        If it is not known here.
    """
    rule = find_algorithm(str(attrs.get("algorithm", "q_learning")))
    if rule.members != (stored := whole_number(attrs.get("members", 1))):
        raise ValueError(f"expected {stored} members of {rule.name!r}, got {rule.members}")
    return rule


def whole_number(value: Any) -> int:
    """Return a counter of a stored table.

    Parameters
    ----------
    value : int
        Of JSON, so it may be anything.

    Returns
    -------
    int

    Raises
    ------
    TypeError
        If it is no number; `ValueError` if it is no integer, negative, or more than 2**62.
    """
    if not isinstance(value, int | float):
        raise TypeError(f"expected an integer, got {shortened(value)}")
    if not (0 <= value <= _LARGEST_COUNT and value == int(value)):
        raise ValueError(f"expected an integer in 0 .. 2**62, got {shortened(value)}")
    return int(value)  # older tables may have true, or 1.0, for 1


def number(value: Any) -> float:
    """Return a number of a stored table, or raise TypeError."""
    if not isinstance(value, int | float):
        raise TypeError(f"expected a number, got {shortened(value)}")
    return float(value)


def _timeout(value: Any) -> float | None:
    return None if value is None else number(value)


def _one_of(names: str, value: Any) -> str:
    if value not in names.split():
        raise ValueError(f"expected one of {names}, got {shortened(value)}")
    return str(value)


def chunks_of(stored: Any, sparse: bool) -> Chunks:
    """Return the chunks of a stored table; those of one that is laid out are all written out."""
    if sparse:
        return whole_number(stored)
    rows, columns = stored
    return tuple(map(whole_number, rows)), tuple(map(whole_number, columns))


def _schedule(spec: Mapping[str, Any]) -> Schedule:
    schedule = from_spec(spec)
    if isinstance(schedule, VisitCount):
        raise ConfigurationError(f"epsilon cannot depend on visits, got {spec}")
    return as_schedule(schedule, name="epsilon")
