"""What a callback is told: one frozen record for each thing that happens while one learns.

::

    TrainingStart ─► ( RoundEnd [─► Evaluation] [─► Checkpoint] )* ─► TrainingEnd

Rounds are counted from 0: round r takes the table Q_r to Q_{r+1}. `RoundReport.round` is r, the
round that ended; `Evaluation.round` and `Checkpoint.round` name the table, so after that round they
say r + 1. Timesteps are transitions, counted from the run's beginning.

Invariant: an event is a fact, and stays one: it holds no array that a later round writes to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from dqlearn.statistics import RoundReport

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
        The reason that `TrainingEnd` gives.
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
        The result, with `mean`, `standard_error` and `n_episodes`.
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
        Path or URL of the table.
    number : int, optional
        Number of the checkpoint in a run's repository; None for a table that was saved alone.
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
        The reason: all timesteps are made, or the one that a callback gave for its stop.
    seconds : float
        Duration of the call, in seconds.
    """

    learner: Learner
    reason: str
    seconds: float


Event: TypeAlias = TrainingStart | RoundEnd | Evaluation | Checkpoint | TrainingEnd
