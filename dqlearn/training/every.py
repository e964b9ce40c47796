"""When a checkpoint is due: every so many transitions, rounds or seconds.

Invariant: by transitions or rounds it is decided by the run's counters alone, so that a run that
was resumed has its checkpoints where the undisturbed one has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from numbers import Real
from typing import TypeAlias

from dqlearn.checks import check_count
from dqlearn.errors import ConfigurationError

__all__ = ["Every", "EveryLike", "as_every"]


@dataclass(frozen=True)
class Every:
    """An interval, in one of three units.

    Parameters
    ----------
    transitions : int, optional
        Transitions, of all environments together; at the end of the round that completes them.
    rounds : int, optional
        Rounds, counted from the run's beginning.
    seconds : float, optional
        Seconds from the beginning of one checkpoint to the next, at the end of a round.

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
        """Check that it is one interval."""
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
        """Whether it is decided by the run's counters, and not by a clock."""
        return self.seconds is None

    def passed(
        self, *, rounds: tuple[int, int], transitions: tuple[int, int], seconds: float
    ) -> bool:
        """Whether a checkpoint is due.

        Parameters
        ----------
        rounds, transitions : (int, int)
            Made before the round, and after it.
        seconds : float
            Since the last checkpoint was begun.

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

    def spec(self) -> dict[str, float]:
        """Return it as JSON.

        Returns
        -------
        dict
            Its unit and the number, as :class:`Every` takes them.
        """
        return {name: value for name, value in vars(self).items() if value is not None}


EveryLike: TypeAlias = Every | int | timedelta


def as_every(given: EveryLike) -> Every:
    """Return the interval that a user gave.

    Parameters
    ----------
    given : Every, int or timedelta
        An int counts transitions.

    Returns
    -------
    Every

    Raises
    ------
    ConfigurationError
        If it is none of these, or not positive.
    """
    if isinstance(given, Every):
        return given
    if isinstance(given, timedelta):
        return Every(seconds=given.total_seconds())
    return Every(transitions=check_count("checkpoint_every", given))
