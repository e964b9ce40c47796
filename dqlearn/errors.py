"""Every error dqlearn raises on purpose, one class a cause.

::

    DQLearnError
    ├── ConfigurationError   a parameter that can never work      (also ValueError)
    │   ├── BadRowError      an observed transition that cannot be learned
    │   ├── SpaceError       a space, or an element of one
    │   ├── GridError        a chunk grid
    │   ├── NotEnumerableError  an environment whose outcomes cannot be listed
    │   └── ScheduleError    a schedule
    ├── CheckError           what a check of dqlearn.testing found  (also AssertionError)
    ├── TableTooLargeError   more bytes than there is room for    (also MemoryError)
    ├── IncompatibleTableError  a stored table that does not fit  (also ValueError)
    ├── EnvironmentFault     the environment broke its contract   (also RuntimeError)
    │   ├── ActionMaskError  no valid action, or a mask that is none
    │   ├── InterfaceError   what it returns is not what Gymnasium's interface says
    │   ├── ProbabilityError a probability outside 0 .. 1     (also ConfigurationError)
    │   ├── RewardError      NaN or infinite reward
    │   ├── SharedEnvironmentError  a factory returned an environment again
    │   └── StateRangeError  a state outside the declared range
    ├── StoreError           a run's repository                   (also RuntimeError)
    │   ├── CheckpointError  a checkpoint that could not be written
    │   ├── DamagedChunkError  stored bytes that are not those that were written
    │   ├── NoCheckpointError  no such checkpoint, or no run at all
    │   └── RunInUseError    another run writes to it, or has done so meanwhile
    └── ClusterError         the cluster cannot be used           (also RuntimeError)
        ├── VersionMismatchError
        ├── ClusterLostError
        └── StaleShardError  internal: a donated shard was asked for a round it has left

Every message says what was expected, what was got, and what to do.
"""

from __future__ import annotations

__all__ = [
    "ActionMaskError",
    "BadRowError",
    "CheckError",
    "CheckpointError",
    "ClusterError",
    "ClusterLostError",
    "ConfigurationError",
    "DQLearnError",
    "DamagedChunkError",
    "EnvironmentFault",
    "GridError",
    "IncompatibleTableError",
    "InterfaceError",
    "NoCheckpointError",
    "NotEnumerableError",
    "ProbabilityError",
    "RewardError",
    "RunInUseError",
    "ScheduleError",
    "SharedEnvironmentError",
    "SpaceError",
    "StaleShardError",
    "StateRangeError",
    "StoreError",
    "TableTooLargeError",
    "VersionMismatchError",
]


class DQLearnError(Exception):
    """Base of every error that dqlearn raises on purpose."""


class CheckError(DQLearnError, AssertionError):
    """Something does not do what it says: see :mod:`dqlearn.testing`."""


class ConfigurationError(DQLearnError, ValueError):
    """A parameter has a value that can never work."""


class BadRowError(ConfigurationError):
    """A row of observed transitions cannot be learned; none of its batch is.

    Parameters
    ----------
    message : str
        What is wrong.
    row : int
        Position of the row in its batch.
    """

    def __init__(self, message: str, row: int = -1) -> None:
        super().__init__(message)
        self.row = row


class SpaceError(ConfigurationError):
    """A space has no finite index, or a value is no element of its space."""


class GridError(ConfigurationError):
    """A chunk grid does not cover its table."""


class NotEnumerableError(ConfigurationError):
    """The outcomes of an environment are not listed: it can only be sampled."""


class ScheduleError(ConfigurationError):
    """A schedule leaves its range, or its points are out of order."""


class TableTooLargeError(DQLearnError, MemoryError):
    """A table needs more memory or disk than there is."""


class IncompatibleTableError(DQLearnError, ValueError):
    """A stored table does not fit the reader, or is no table at all."""


class EnvironmentFault(DQLearnError, RuntimeError):
    """An environment broke its contract, or raised."""


class ActionMaskError(EnvironmentFault):
    """A state has no valid action, an action is chosen that is not valid, or a mask is none."""


class InterfaceError(EnvironmentFault):
    """An environment returned something else than Gymnasium's interface says."""


class ProbabilityError(EnvironmentFault, ConfigurationError):
    """An environment's probability is NaN or outside 0 .. 1."""


class RewardError(EnvironmentFault):
    """An environment returned a reward that is NaN, infinite, or no number."""


class SharedEnvironmentError(EnvironmentFault):
    """A factory returned an environment that it had returned before."""


class StateRangeError(EnvironmentFault):
    """An environment entered a state outside its declared range."""


class StoreError(DQLearnError, RuntimeError):
    """A run's repository cannot be used."""


class CheckpointError(StoreError):
    """A checkpoint could not be written; those before it are whole."""


class DamagedChunkError(StoreError):
    """What is read from a repository is not what was written to it."""


class NoCheckpointError(StoreError, LookupError):
    """There is no such checkpoint."""


class RunInUseError(StoreError):
    """Another run writes to the repository."""


class ClusterError(DQLearnError, RuntimeError):
    """The cluster cannot be used."""


class VersionMismatchError(ClusterError):
    """Client and workers run different versions of a package that must agree."""


class ClusterLostError(ClusterError):
    """The scheduler, or every worker, has gone."""


class StaleShardError(ClusterError):
    """A donated shard was asked for a round it has already left."""
