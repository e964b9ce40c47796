"""Every error dqlearn raises on purpose, one class a cause.

::

    DQLearnError
    ├── ConfigurationError   a parameter that can never work      (also ValueError)
    │   ├── SpaceError       a space, or an element of one
    │   ├── GridError        a chunk grid
    │   └── ScheduleError    a schedule
    ├── TableTooLargeError   more bytes than there is room for    (also MemoryError)
    ├── IncompatibleTableError  a stored table that does not fit  (also ValueError)
    ├── EnvironmentFault     the environment broke its contract   (also RuntimeError)
    │   ├── RewardError      NaN or infinite reward
    │   └── StateRangeError  a state outside the declared range
    └── ClusterError         the cluster cannot be used           (also RuntimeError)
        ├── VersionMismatchError
        ├── ClusterLostError
        └── StaleShardError  internal: a donated shard was asked for a round it has left

Every message says what was expected, what was got, and what to do.
"""

from __future__ import annotations

__all__ = [
    "ClusterError",
    "ClusterLostError",
    "ConfigurationError",
    "DQLearnError",
    "EnvironmentFault",
    "GridError",
    "IncompatibleTableError",
    "RewardError",
    "ScheduleError",
    "SpaceError",
    "StaleShardError",
    "StateRangeError",
    "TableTooLargeError",
    "VersionMismatchError",
]


class DQLearnError(Exception):
    """Base of every error that dqlearn raises on purpose."""


class ConfigurationError(DQLearnError, ValueError):
    """A parameter has a value that can never work."""


class SpaceError(ConfigurationError):
    """A space has no finite index, or a value is no element of its space."""


class GridError(ConfigurationError):
    """A chunk grid does not cover its table."""


class ScheduleError(ConfigurationError):
    """A schedule leaves its range, or its points are out of order."""


class TableTooLargeError(DQLearnError, MemoryError):
    """A table needs more memory or disk than there is."""


class IncompatibleTableError(DQLearnError, ValueError):
    """A stored table does not fit the reader, or is no table at all."""


class EnvironmentFault(DQLearnError, RuntimeError):
    """An environment broke its contract, or raised."""


class RewardError(EnvironmentFault):
    """An environment returned a reward that is NaN or infinite."""


class StateRangeError(EnvironmentFault):
    """An environment entered a state outside its declared range."""


class ClusterError(DQLearnError, RuntimeError):
    """The cluster cannot be used."""


class VersionMismatchError(ClusterError):
    """Client and workers run different versions of a package that must agree."""


class ClusterLostError(ClusterError):
    """The scheduler, or every worker, has gone."""


class StaleShardError(ClusterError):
    """A donated shard was asked for a round it has already left."""
