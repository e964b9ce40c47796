"""A decision, and the version of the table that it is of.

::

    policy.decide(observation) ──► Decision(action, known, version)

Invariant: both are values; a decision never changes, whatever happens to the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Decision", "TableVersion"]


@dataclass(frozen=True)
class TableVersion:
    """The version of a stored table.

    Parameters
    ----------
    name : str
        Path of the saved table, or name of the run.
    round, timesteps : int
        Rounds and transitions that the table was learned from.
    checkpoint : int, optional
        Number of the checkpoint, counted from 0; None of a saved table.
    snapshot : str, optional
        The store's id of the checkpoint, which no other has; None of a saved table.
    """

    name: str
    round: int
    timesteps: int
    checkpoint: int | None = None
    snapshot: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """An action, and what is known about it.

    Parameters
    ----------
    action : object
        An element of the action space, in the form that ``step`` expects.
    known : bool
        Whether any action of the state was ever updated. Of other states the table knows nothing:
        the action is that of the fallback, or, without one, what a hash draws.
    version : TableVersion
        The version of the table.
    """

    action: Any
    known: bool
    version: TableVersion
