"""The plan of a run: all that a round needs besides the state it starts from.

Invariant: a plan is frozen, and the same for every round; tasks refer to one copy of it per worker,
which is pickled once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from dqlearn.algorithms import Q_LEARNING, Algorithm, Extent
from dqlearn.algorithms.federated import Federated
from dqlearn.algorithms.rule import Found
from dqlearn.envs.python.faults import RAISE, Faults
from dqlearn.envs.python.gymnasium_env import PythonEnv
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import ConfigurationError
from dqlearn.kernels.ties import ties
from dqlearn.packing import PackedOnce
from dqlearn.schedules import Schedule, VisitCount
from dqlearn.stages.initial.values import InitialValues
from dqlearn.stages.merge import check_mergeable
from dqlearn.table.columns import Column, columns_of
from dqlearn.table.grid import ChunkGrid, table_nbytes
from dqlearn.table.hash_grid import Grid, HashGrid
from dqlearn.table.snapshot import Snapshot

__all__ = ["Plan"]

_MOST_SHARDS = 2**20


@dataclass(frozen=True)
class Plan(PackedOnce):
    """Everything that a run is told: its environment, grid, rule and hyperparameters.

    Each hyperparameter is an attribute of its own name, with the meaning that
    :class:`~dqlearn.stages.settings.Hyperparameters` gives; it is checked, and every default that
    depends on the environment is filled in.

    Attributes
    ----------
    env : TabularEnv or PythonEnv
        The environment.
    grid : ChunkGrid or HashGrid
        The table's chunks; a HashGrid if the table is sparse.
    num_envs, shards, steps_per_round, gamma, learning_rate, epsilon, initial_value, policy_lag
        The hyperparameters of these names.
    dtype, seed, exchange
        The hyperparameters of these names.
    origin : Snapshot, optional
        The stored table that the run begins with; without one, `initial_value` everywhere.
    faults : Faults
        What to do about environments that raise, or never return.
    out_of_core : bool
        Whether the table lies on disks; decided where the run is placed, and never by the user.
    balanced : bool
        Whether the grid is cut anew when its chunks' loads are uneven.
    begun : ChunkGrid, optional
        The grid that the run began with, and that its repository has; None while it equals `grid`.
    algorithm : Algorithm
        The learning rule.
    initial : array or callable, optional
        Initial values of the pairs, in place of `initial_value`.
    federated : Federated, optional
        How tables that learn apart are merged; None if there is one table.
    first_env, beside : int
        In the plan of one of these tables, the run's number of its first environment, and the
        transitions that all others make in one of its rounds.
    """

    env: TabularEnv | PythonEnv
    grid: Grid
    num_envs: int
    shards: int
    steps_per_round: int
    gamma: float
    learning_rate: Schedule | VisitCount
    epsilon: Schedule
    initial_value: float
    policy_lag: int
    dtype: np.dtype[Any]
    seed: int
    origin: Snapshot | None = None
    faults: Faults = RAISE
    exchange: str = "broadcast"
    out_of_core: bool = False
    balanced: bool = False
    begun: ChunkGrid | None = None
    algorithm: Algorithm = Q_LEARNING
    initial: InitialValues | None = None
    federated: Federated | None = None
    first_env: int = 0
    beside: int = 0

    def __post_init__(self) -> None:
        """Check what no single part can check for itself."""
        if self.shards > _MOST_SHARDS:
            raise ConfigurationError(
                f"shards must be at most {_MOST_SHARDS}, each is a task of every round; got "
                f"{self.shards}"
            )
        if self.shards > self.num_envs:
            raise ConfigurationError(
                f"shards must be at most num_envs={self.num_envs}, got {self.shards}"
            )
        if self.exchange == "gather" and (self.steps_per_round, self.policy_lag) != (1, 1):
            raise ConfigurationError(
                "exchange='gather' needs steps_per_round=1 and policy_lag=1, got "
                f"steps_per_round={self.steps_per_round} and policy_lag={self.policy_lag}: "
                "leave them out, or pass exchange='broadcast'"
            )
        if self.exchange == "gather" and self.waits:
            raise ConfigurationError(
                f"algorithm={self.algorithm.name!r} needs exchange='broadcast' and a table that is "
                "not sparse: its targets read the values of all states of a window, and on the "
                "gather path a shard is told those of its present states only"
            )
        if self.sparse and self.exchange != "gather":
            raise ConfigurationError(
                "a sparse table needs exchange='gather': the maxima of all its states are never "
                f"made; got {self.exchange!r}"
            )
        self._check_initial()
        if self.grid.n_columns > 1 and not self.algorithm.splits_actions:
            raise ConfigurationError(
                f"algorithm={self.algorithm.name!r} adds over the actions of a state, which rounds "
                f"in the order of the sum, so chunks must not split the {self.n_actions} actions; "
                f"got {self.grid.n_columns} chunks of them: pass chunks=(states, {self.n_actions})"
            )
        if self.federated:
            self._check_members(self.federated)
            check_mergeable(self.federated, self.learning_rate, self.algorithm)
        if self.faults.on_error == "restart" and not self._one_by_one:
            raise ConfigurationError(
                "on_env_error='restart' needs a factory of single environments, make() -> "
                "gymnasium.Env, got one that takes num_envs: those of a VectorEnv cannot be built "
                "anew one by one; pass on_env_error='raise'"
            )

    def _check_initial(self) -> None:
        """Refuse initial values that are not those of this table."""
        if self.initial is None:
            return
        if self.sparse:
            raise ConfigurationError(
                "a sparse table has one initial_value, a number: states without a row have it too; "
                "pass sparse=False, or load a table"
            )
        (n_states, n_actions), members = self.grid.shape, self.grid.members
        shapes = [(n_states, n_actions), (n_states, members, n_actions)][: 1 + (members > 1)]
        if not callable(self.initial) and self.initial.shape not in shapes:
            raise ConfigurationError(
                f"initial_value must be a number or of the shape {shapes[0]}, got an array of "
                f"shape {self.initial.shape}"
            )

    def _check_members(self, federated: Federated) -> None:
        """Check that members can learn apart, each of them on a whole table and all alike."""
        said = f"federated={federated}"
        if self.donated:
            raise ConfigurationError(
                f"{said} needs a compiled model, whose environments are data that any worker can "
                "step again: pass a TabularEnv, or leave federated= out"
            )
        if (self.exchange, self.policy_lag) != ("broadcast", 0):
            raise ConfigurationError(
                f"{said} needs exchange='broadcast', policy_lag=0 and no sparse table, as each "
                "member has a whole table, and acts on it as it is; got "
                f"exchange={self.exchange!r} and policy_lag={self.policy_lag}"
            )
        if self.grid.n_columns > 1:
            raise ConfigurationError(
                f"{said} needs chunks that do not split the {self.n_actions} actions of a state, "
                f"got {self.grid.n_columns} chunks of them: pass chunks=(states, {self.n_actions})"
            )
        if self.algorithm.returns:
            raise ConfigurationError(
                f"{said} needs a rule of one step: the windows of "
                f"algorithm={self.algorithm.name!r} cross the ends of rounds, and a member begins "
                "each of its own anew; leave federated= out"
            )
        if self.shards % federated.members:
            raise ConfigurationError(
                f"each of {federated.members} members has equally many shards, so that shards must "
                f"be a multiple of that, got {self.shards}: leave it out for one each"
            )

    @property
    def _one_by_one(self) -> bool:
        """Whether environments are made one by one, and not by a factory of vector environments."""
        return not (isinstance(self.env, PythonEnv) and self.env.vectorised)

    @property
    def donated(self) -> bool:
        """Whether shards are stepped in place."""
        return isinstance(self.env, PythonEnv)

    @property
    def waits(self) -> bool:
        """Whether transitions wait for those that follow, before they are learned."""
        return self.algorithm.returns is not None

    @property
    def most_learned(self) -> int:
        """Transitions of one environment that a round learns from, at most."""
        returns = self.algorithm.returns
        return self.steps_per_round + (returns.n_steps - 1 if returns else 0)

    @property
    def sparse(self) -> bool:
        """Whether the table has room only for states that were visited."""
        return isinstance(self.grid, HashGrid)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The declarations of a chunk's arrays."""
        return columns_of(self.grid.members)

    @property
    def chunks(self) -> int | tuple[tuple[int, ...], tuple[int, ...]]:
        """How the table is cut: the number of chunks of a sparse table, else their sizes."""
        return self.grid.chunks

    @property
    def sparse_block(self) -> int:
        """Number of successive states that share a block of a sparse table; else 1."""
        return self.grid.block if isinstance(self.grid, HashGrid) else 1

    @property
    def action_masks(self) -> bool:
        """Whether masks of actions are used; a model without one has none to use."""
        return self.env.masks if isinstance(self.env, PythonEnv) else self.env.valid is not None

    @property
    def on_env_error(self) -> str:
        """What the run does about environments that raise."""
        return self.faults.on_error

    @property
    def env_timeout(self) -> float | None:
        """Seconds that a vector step may take; None if there is no limit."""
        return self.faults.timeout

    @property
    def kind(self) -> str:
        """The exchange, and whether the table is sparse, for people to read."""
        if it := self.federated:
            return f"{it.members} members, merged every {it.local_rounds} rounds ({it.merge})"
        return f"{self.exchange}, sparse" if self.sparse else self.exchange

    @property
    def laid_out(self) -> ChunkGrid:
        """The grid of a table that is not sparse."""
        return cast("ChunkGrid", self.grid)

    @property
    def nbytes(self) -> int:
        """Bytes of the values and the visit counts of a table that is not sparse."""
        return table_nbytes(self.grid.shape, self.dtype, self.grid.members)

    @property
    def at_rest(self) -> ChunkGrid:
        """The grid that a repository's arrays follow."""
        return self.begun or self.laid_out

    def recut(self, grid: Grid) -> Plan:
        """Return the same plan for a table whose chunks were cut anew."""
        return replace(self, grid=grid, begun=None if self.sparse else self.at_rest)

    @property
    def in_place(self) -> bool:
        """Whether rounds may update a table in place, where one process holds it alone.

        A round that writes in place must not fail or hang halfway. That holds when every step has
        been made before the first update, by compiled code, or when a round makes only one step.
        """
        return self.exchange == "gather" or not (self.policy_lag or self.donated or self.federated)

    @property
    def members(self) -> int:
        """Number of tables that learn apart."""
        return self.federated.members if self.federated else 1

    @property
    def local_rounds(self) -> int:
        """Rounds that members make between two merges, which are one round of the run; else 1."""
        return self.federated.local_rounds if self.federated else 1

    @property
    def round_size(self) -> int:
        """Number of transitions in a round of the run."""
        return self.num_envs * self.steps_per_round * self.local_rounds

    def shards_of(self, k: int) -> range:
        """Return the shards of member k."""
        each = self.shards // self.members
        return range(k * each, (k + 1) * each)

    def of_member(self, k: int) -> Plan:
        """Return the plan by which member k learns alone."""
        own = self.shards_of(k)
        first, last = (self.first_envs[w] for w in (own.start, own.stop))
        return replace(
            self,
            num_envs=last - first,
            shards=len(own),
            federated=None,
            first_env=first,
            beside=(self.num_envs - (last - first)) * self.steps_per_round,
        )

    @property
    def steady(self) -> bool:
        """Whether every round makes :attr:`round_size` transitions."""
        restarts = self.donated and self.faults.on_error == "restart"
        return self._one_by_one and not restarts

    def extent(self, c: int | None = None) -> Extent:
        """Return the states and actions of chunk c, or of the table."""
        origin = (0, 0) if c is None or self.sparse else self.laid_out.origin(c)
        return Extent(self.n_actions, ties(self.seed), *origin)

    def decide(self, found: Found, timesteps: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Return what each state is worth to each member, and the set of its greedy actions.

        `timesteps` sets epsilon for rules whose target is the value of the epsilon-greedy policy.
        """
        rule = self.algorithm
        return rule.bootstrap(found, self.epsilon(timesteps), self.n_actions), rule.tied(found)

    @property
    def n_actions(self) -> int:
        """Number of actions of the table."""
        return self.grid.shape[1]

    @cached_property
    def first_envs(self) -> tuple[int, ...]:
        """First environment of each shard, then `num_envs`; multiples of 64 where possible.

        Members have equally many, and begin anywhere.
        """
        members = self.members
        firsts = [k * self.num_envs // members for k in range(members + 1)]
        own = (
            first + w
            for first, last in pairwise(firsts)
            for w in _dealt(last - first, self.shards // members)
        )
        return (*own, self.num_envs)


def _dealt(num_envs: int, shards: int) -> list[int]:
    """Return the first environment of each of some shards."""
    unit = 64 if num_envs >= 64 * shards else 1
    blocks = -(-num_envs // unit)
    return [w * blocks // shards * unit for w in range(shards)]
