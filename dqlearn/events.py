"""What a callback is told: one frozen record for each thing that happens while one learns.

::

    TrainingStart ─► ( RoundEnd [─► Evaluation] [─► Checkpoint] )* ─► TrainingEnd

Rounds are counted from 0: round r takes the table Q_r to Q_{r+1}. `RoundReport.round` is r, the
round that ended; `Evaluation.round` and `Checkpoint.round` name the table, so after that round they
say r + 1. Timesteps are transitions, counted from the run's beginning.

Invariant: what a report says of episodes and errors are sums and extremes, never means: they
combine over shards and over rounds, and "nothing happened" needs no special number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "Checkpoint",
    "Evaluation",
    "Event",
    "RoundEnd",
    "RoundReport",
    "Stop",
    "TrainingEnd",
    "TrainingStart",
]


@dataclass(frozen=True)
class RoundReport:
    """What one round did.

    Parameters
    ----------
    round : int
        The round that ended, counted from 0.
    timesteps : int
        Transitions made from the run's beginning through this round.
    n_transitions : int
        Transitions of this round.
    epsilon : float
        Probability of a random action in this round.
    learning_rate : float
        Learning rate of this round; NaN when each pair has its own.
    n_episodes : int
        Episodes that ended in this round, terminated or truncated.
    return_sum, return_sq_sum : float
        Sum of their undiscounted returns, and of the squares, in units of reward.
    length_sum : int
        Sum of their lengths, in transitions.
    return_min, return_max : float
        Least and greatest of their returns; +inf and -inf when no episode ended.
    td_abs_sum : float
        Sum of abs(y - Q(s, a)) over the round's transitions, in units of reward.
    wall_time : float
        Seconds from the start of training until the report arrived.
    n_restarts : int
        Environments that were restarted in this round, after an error.

    Examples
    --------
    >>> report = RoundReport(
    ...     round=0, timesteps=1000, n_transitions=1000, epsilon=1.0, learning_rate=0.1,
    ...     n_episodes=4, return_sum=6.0, return_sq_sum=10.0, length_sum=80,
    ...     return_min=1.0, return_max=2.0, td_abs_sum=250.0, wall_time=0.5,
    ... )
    >>> report.mean_return, report.mean_length, report.mean_abs_td
    (1.5, 20.0, 0.25)
    """

    round: int
    timesteps: int
    n_transitions: int
    epsilon: float
    learning_rate: float
    n_episodes: int
    return_sum: float
    return_sq_sum: float
    length_sum: int
    return_min: float
    return_max: float
    td_abs_sum: float
    wall_time: float
    n_restarts: int = 0

    @property
    def mean_return(self) -> float:
        """Mean return of the episodes that ended; NaN when none did."""
        return _mean(self.return_sum, self.n_episodes)

    @property
    def mean_length(self) -> float:
        """Mean length of the episodes that ended, in transitions; NaN when none did."""
        return _mean(self.length_sum, self.n_episodes)

    @property
    def mean_abs_td(self) -> float:
        """Mean abs(y - Q(s, a)); NaN when the round made no transition."""
        return _mean(self.td_abs_sum, self.n_transitions)


def _mean(total: float, count: int) -> float:
    return total / count if count else math.nan


class EvaluationResult(Protocol):
    """What an evaluation of the greedy policy gives at least."""

    @property
    def mean(self) -> float:
        """Mean return over the episodes."""

    @property
    def standard_error(self) -> float:
        """Standard error of that mean."""

    @property
    def n_episodes(self) -> int:
        """Number of episodes."""


@dataclass(frozen=True)
class Stop:
    """A callback's answer: end learning after this round.

    Parameters
    ----------
    reason : str
        What `TrainingEnd` will say.
    """

    reason: str


class Learner(Protocol):
    """What a callback may ask of the learner: a :class:`~dqlearn.QLearner`, seen from below."""

    @property
    def table(self) -> Any:
        """The table as it is now."""

    @property
    def history(self) -> xr.Dataset:
        """What every round did."""

    @property
    def num_timesteps(self) -> int:
        """Transitions that the table was learned from."""

    @property
    def n_episodes(self) -> int:
        """Episodes that ended."""

    def evaluate(self, n_episodes: int = 100, seed: int | None = None) -> EvaluationResult:
        """Play greedy episodes."""

    def predict(self, observation: Any) -> tuple[Any, None]:
        """Return the action for an observation."""

    def save(self, path: str) -> None:
        """Write the table."""

    def emit(self, event: Event) -> Stop | None:
        """Tell the callbacks of an event."""


@dataclass(frozen=True)
class TrainingStart:
    """`learn` was called and is about to make its first round.

    Parameters
    ----------
    learner : QLearner
    total_timesteps : int
        Transitions to be made, counted from the run's beginning.
    """

    learner: Learner
    total_timesteps: int


@dataclass(frozen=True)
class RoundEnd:
    """A round's result has arrived, and `learner.table` has it.

    Parameters
    ----------
    learner : QLearner
        Its `history` has this report already.
    report : RoundReport
    """

    learner: Learner
    report: RoundReport


@dataclass(frozen=True)
class Evaluation:
    """The greedy policy of a table was evaluated.

    Parameters
    ----------
    learner : QLearner
    round : int
        The table evaluated is Q_round: `round` rounds have made it.
    timesteps : int
        Transitions that have made it.
    result : EvaluationResult
        Has `mean`, `standard_error` and `n_episodes`.
    """

    learner: Learner
    round: int
    timesteps: int
    result: EvaluationResult


@dataclass(frozen=True)
class Checkpoint:
    """A table was written.

    Parameters
    ----------
    learner : QLearner
    round : int
        The table written is Q_round: `round` rounds have made it.
    timesteps : int
        Transitions that have made it.
    path : str
        Where it is, a path or an address.
    number : int, optional
        Of the checkpoint in a run's repository; None for a table that was saved alone.
    """

    learner: Learner
    round: int
    timesteps: int
    path: str
    number: int | None = None


@dataclass(frozen=True)
class TrainingEnd:
    """`learn` is about to return.

    Parameters
    ----------
    learner : QLearner
    reason : str
        Why: all timesteps made, or the reason of the callback that stopped it.
    seconds : float
        How long it took.
    """

    learner: Learner
    reason: str
    seconds: float


Event: TypeAlias = TrainingStart | RoundEnd | Evaluation | Checkpoint | TrainingEnd
