"""When a checkpoint is due: every so many transitions, rounds or seconds; and how it is made.

Invariant: an interval in transitions or rounds depends on the run's counters alone, so that a run
that was resumed has its checkpoints where the undisturbed one has them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from numbers import Real
from typing import Any, TypeAlias

import numpy as np

from dqlearn.checks import check_count
from dqlearn.errors import ConfigurationError
from dqlearn.stages.settings import whole_number
from dqlearn.storage.attributes import understood

__all__ = ["Every", "EveryLike", "Saving", "as_every"]


@dataclass(frozen=True)
class Every:
    """An interval, in one of three units.

    Parameters
    ----------
    transitions : int, optional
        Number of transitions of all environments; due at the end of the round that completes them.
    rounds : int, optional
        Number of rounds, counted from the run's beginning.
    seconds : float, optional
        Seconds from the beginning of one checkpoint to the next; due at the end of a round.

    Raises
    ------
    ConfigurationError
        If not exactly one of them is given, or it is not positive.

    Examples
    --------
    >>> Every(rounds=10).passed(rounds=(19, 20), transitions=(1900, 2000), seconds=0.0)
    True
    >>> Every(transitions=3_000).passed(rounds=(19, 20), transitions=(1900, 2000), seconds=0.0)
    False
    """

    transitions: int | None = None
    rounds: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        """Check that exactly one interval is given."""
        given = [name for name, value in vars(self).items() if value is not None]
        if len(given) != 1:
            raise ConfigurationError(
                f"expected one of transitions=, rounds= and seconds=, got {given}"
            )
        if self.seconds is None:
            check_count(given[0], getattr(self, given[0]))
        elif not isinstance(self.seconds, Real) or not self.seconds > 0:
            raise ConfigurationError(f"seconds must be positive, got {self.seconds!r}")

    @property
    def counted(self) -> bool:
        """Whether the run's counters decide what is due, and not a clock."""
        return self.seconds is None

    def passed(
        self, *, rounds: tuple[int, int], transitions: tuple[int, int], seconds: float
    ) -> bool:
        """Whether a checkpoint is due.

        Parameters
        ----------
        rounds, transitions : (int, int)
            Numbers made before the round, and after it.
        seconds : float
            Seconds since the last checkpoint was begun.

        Returns
        -------
        bool
        """
        if self.seconds is not None:
            return seconds >= self.seconds
        unit, (before, after) = (
            (self.rounds, rounds) if self.rounds else (self.transitions, transitions)
        )
        return bool(unit) and after // int(unit or 1) > before // int(unit or 1)

    def until(self, round_: int, made: int, per_round: int) -> int:
        """Return how many rounds may be made until a checkpoint is due, by the run's counters.

        Parameters
        ----------
        round_ : int
            Number of rounds made.
        made : int
            Number of transitions made.
        per_round : int
            Number of transitions in each round.

        Returns
        -------
        int
            At least 1; without an end where a clock decides.
        """
        if self.rounds:
            return int(self.rounds - round_ % self.rounds)
        if self.transitions:
            return int(-(-(self.transitions - made % self.transitions) // per_round))
        return sys.maxsize

    def spec(self) -> dict[str, float]:
        """Return the interval as JSON.

        Returns
        -------
        dict
            The unit and the number, as :class:`Every` accepts them.
        """
        return {name: value for name, value in vars(self).items() if value is not None}


EveryLike: TypeAlias = Every | int | timedelta


def as_every(given: EveryLike) -> Every:
    """Return the interval that a user gave.

    Parameters
    ----------
    given : Every, int or timedelta
        The interval; an int counts transitions.

    Returns
    -------
    Every

    Raises
    ------
    If the interval is none of these, or not positive.
        If it is none of these, or not positive.
    """
    if isinstance(given, Every):
        return given
    if isinstance(given, timedelta):
        return Every(seconds=given.total_seconds())
    return Every(transitions=check_count("checkpoint_every", given))


_MINUTE = Every(seconds=60)


@dataclass(frozen=True)
class Saving:
    """How checkpoints are made.

    Attributes
    ----------
    checkpoint_every : Every
        The interval between checkpoints.
    keep_checkpoints : int, optional
        The number of checkpoints that stay; None keeps all.
    restart_envs : bool
        Whether Python environments begin new episodes at each checkpoint.
    """

    checkpoint_every: Every = _MINUTE
    keep_checkpoints: int | None = None
    restart_envs: bool = False

    def changed(self, changes: Mapping[str, Any]) -> Saving:
        """Return a copy with the changes that are not None."""
        return replace(self, **{name: new for name, new in changes.items() if new is not None})

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of a store about checkpoints; without a number of checkpoints all are kept."""
        # The numbers may be NumPy's, which are no JSON.
        every = json.dumps(self.checkpoint_every.spec(), default=np.generic.item)
        keep = {"keep_checkpoints": int(self.keep_checkpoints)} if self.keep_checkpoints else {}
        return {"checkpoint_every": every, "restart_envs": int(self.restart_envs), **keep}

    @classmethod
    def from_attributes(cls, attrs: Mapping[str, Any], where: str) -> Saving:
        """Read the attributes of the store that is named `where`.

        Raises
        ------
        IncompatibleTableError
            If the attributes lack it, or are malformed.
        """
        with understood(where):
            every = Every(**json.loads(attrs["checkpoint_every"]))
            kept = attrs.get("keep_checkpoints")
            return cls(every, kept and whole_number(kept), bool(attrs["restart_envs"]))

    def __post_init__(self) -> None:
        """Check that what must be equal after a resume can be equal."""
        if self.keep_checkpoints is not None:
            check_count("keep_checkpoints", self.keep_checkpoints)
        if self.restart_envs and not self.checkpoint_every.counted:
            raise ConfigurationError(
                "restart_envs makes a resumed run equal to the undisturbed one, which needs "
                "checkpoints at the same rounds: pass checkpoint_every in transitions or rounds, "
                f"got {self.checkpoint_every}"
            )
