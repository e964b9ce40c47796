"""Callbacks: what is done while one learns, between rounds.

::

                     ┌──────────── Evaluation, Checkpoint ─────────────┐
                     ▼                                                 │
    learner ── event ──► CallbackList ──► each Callback ── learner.emit(event)
       ▲                                       │
       └──────────── None | Stop(reason) ◄─────┘

A callback gets an event (see `dqlearn.events`) and answers None, to go on, or `Stop(reason)`.

Waiting. Rounds are pipelined: the learner submits a round before the one before it has come back.
Only when some callback is due does it wait for that round's result, so that `event.learner` is as
the event says. So let a callback ask seldom: `every_rounds = 10` waits a tenth as often as 1, and
`every_rounds = None`, for a callback that only listens to evaluations or checkpoints, never.

Invariant: within one call of `learn`, `on_round_end` is called at most once for each round, in
order, even when a worker is lost and the run goes back to a cut: rounds made again are not
announced again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Integral
from typing import TypeAlias, assert_never

from dqlearn.errors import ConfigurationError
from dqlearn.events import Checkpoint, Evaluation, Event, RoundEnd, TrainingEnd, TrainingStart

__all__ = [
    "Callback",
    "CallbackLike",
    "CallbackList",
    "CheckpointCallback",
    "EvalCallback",
    "Stop",
    "StopTrainingOnMaxEpisodes",
    "StopTrainingOnMaxTime",
    "StopTrainingOnNoModelImprovement",
    "StopTrainingOnRewardThreshold",
    "as_callbacks",
]


@dataclass(frozen=True)
class Stop:
    """A callback's answer: end learning after this round.

    Parameters
    ----------
    reason : str
        What `TrainingEnd` will say.
    """

    reason: str


class Callback:
    """Base of all callbacks: override the methods for the events you want.

    Each method returns None, to go on, or a `Stop`. What `on_training_end` returns changes nothing.

    Attributes
    ----------
    every_rounds : int or None, default 1
        Call `on_round_end` after each so many rounds, counted from the run's beginning: with 10,
        after rounds 9, 19, ... The learner waits for these, and pipelines the others. None: never.

    Examples
    --------
    >>> class PrintReturn(Callback):
    ...     every_rounds = 10
    ...
    ...     def on_round_end(self, event):
    ...         print(event.report.timesteps, event.report.mean_return)
    """

    every_rounds: int | None = 1

    def on_training_start(self, event: TrainingStart) -> Stop | None:
        """React to the start of `learn`.

        Parameters
        ----------
        event : TrainingStart

        Returns
        -------
        Stop or None
        """
        return None

    def on_round_end(self, event: RoundEnd) -> Stop | None:
        """React to the end of a round that is due; see `every_rounds`.

        Parameters
        ----------
        event : RoundEnd

        Returns
        -------
        Stop or None
        """
        return None

    def on_evaluation(self, event: Evaluation) -> Stop | None:
        """React to an evaluation, by whichever callback.

        Parameters
        ----------
        event : Evaluation

        Returns
        -------
        Stop or None
        """
        return None

    def on_checkpoint(self, event: Checkpoint) -> Stop | None:
        """React to a table having been written.

        Parameters
        ----------
        event : Checkpoint

        Returns
        -------
        Stop or None
        """
        return None

    def on_training_end(self, event: TrainingEnd) -> Stop | None:
        """React to the end of `learn`.

        Parameters
        ----------
        event : TrainingEnd

        Returns
        -------
        Stop or None
        """
        return None


CallbackLike: TypeAlias = Callback | Callable[[RoundEnd], Stop | None]


class CallbackList:
    """Callbacks in order, for one call of `learn`.

    Parameters
    ----------
    callbacks : iterable of Callback

    Raises
    ------
    ConfigurationError
        When an `every_rounds` is neither None nor a positive int.
    """

    def __init__(self, callbacks: Iterable[Callback] = ()) -> None:
        self.callbacks = tuple(callbacks)
        self._next_round = 0
        for callback in self.callbacks:
            if callback.every_rounds is not None:
                _positive(f"every_rounds of {callback}", callback.every_rounds)

    def due(self, round: int) -> bool:
        """Whether any callback asks for the end of `round`: the learner then waits for it.

        Parameters
        ----------
        round : int

        Returns
        -------
        bool
        """
        return round >= self._next_round and any(_due(c, round) for c in self.callbacks)

    def dispatch(self, event: Event) -> Stop | None:
        """Give `event` to every callback, a `RoundEnd` to those that are due.

        Parameters
        ----------
        event : Event

        Returns
        -------
        Stop or None
            The first `Stop`, in the order of the callbacks; those after it get the event too.

        Raises
        ------
        ConfigurationError
            When a callback answers anything but None or a `Stop`.
        """
        listeners = self._listeners(event)
        stops = [stop for callback in listeners if (stop := _deliver(callback, event)) is not None]
        return stops[0] if stops else None

    def _listeners(self, event: Event) -> tuple[Callback, ...]:
        if not isinstance(event, RoundEnd):
            return self.callbacks
        round = event.report.round
        if round < self._next_round:
            return ()
        self._next_round = round + 1
        return tuple(callback for callback in self.callbacks if _due(callback, round))


def _due(callback: Callback, round: int) -> bool:
    return callback.every_rounds is not None and (round + 1) % callback.every_rounds == 0


def _deliver(callback: Callback, event: Event) -> Stop | None:
    stop = _call(callback, event)
    if stop is not None and not isinstance(stop, Stop):
        raise ConfigurationError(
            f"a callback must return None, to go on, or dqlearn.callbacks.Stop(reason), to end; "
            f"got {stop!r} from {callback} for {type(event).__name__}"
        )
    return stop


def _call(callback: Callback, event: Event) -> Stop | None:
    match event:
        case TrainingStart():
            return callback.on_training_start(event)
        case RoundEnd():
            return callback.on_round_end(event)
        case Evaluation():
            return callback.on_evaluation(event)
        case Checkpoint():
            return callback.on_checkpoint(event)
        case TrainingEnd():
            return callback.on_training_end(event)
        case _:
            assert_never(event)


class _FunctionCallback(Callback):
    def __init__(self, function: Callable[[RoundEnd], Stop | None]) -> None:
        self.function = function

    def __repr__(self) -> str:
        return repr(self.function)

    def on_round_end(self, event: RoundEnd) -> Stop | None:
        return self.function(event)


def as_callbacks(
    callback: CallbackLike | CallbackList | Iterable[CallbackLike | CallbackList] | None,
) -> CallbackList:
    """Return one new `CallbackList` of whatever the user gave.

    Parameters
    ----------
    callback : None, Callback, callable, CallbackList, or iterable of these
        A plain callable gets the `RoundEnd` of every round.

    Returns
    -------
    CallbackList

    Raises
    ------
    ConfigurationError
        When there is something else in it, a callback's class for instance.

    Examples
    --------
    >>> callbacks = as_callbacks([StopTrainingOnMaxTime(60), lambda event: print(event)])
    >>> len(callbacks.callbacks), callbacks.due(0)
    (2, True)
    """
    return CallbackList(_flatten(callback))


def _flatten(callback: object) -> Iterable[Callback]:
    if callback is None:
        return
    if isinstance(callback, Callback):
        yield callback
    elif isinstance(callback, CallbackList):
        yield from callback.callbacks
    elif isinstance(callback, Iterable) and not isinstance(callback, str):
        for item in callback:
            yield from _flatten(item)
    elif callable(callback) and not isinstance(callback, type):
        yield _FunctionCallback(callback)
    else:
        raise ConfigurationError(
            "expected a Callback, a function of a RoundEnd, or a sequence of these, got "
            f"{callback=}: of a class, pass an instance"
        )


class EvalCallback(Callback):
    """Evaluate the greedy policy every so often, and tell all callbacks by an `Evaluation`.

    Parameters
    ----------
    every_rounds : int
        Rounds from one evaluation to the next.
    n_eval_episodes : int, default 100
        Episodes of an evaluation.
    seed : int, optional
        For `QLearner.evaluate`. With a seed, all evaluations draw the same numbers, so that their
        differences come from the policy.

    Attributes
    ----------
    results : list of Evaluation
        All evaluations so far, in order.
    """

    def __init__(
        self, every_rounds: int, n_eval_episodes: int = 100, seed: int | None = None
    ) -> None:
        self.every_rounds = _positive("every_rounds", every_rounds)
        self.n_eval_episodes = _positive("n_eval_episodes", n_eval_episodes)
        self.seed = seed
        self.results: list[Evaluation] = []

    @property
    def best(self) -> Evaluation | None:
        """The evaluation with the greatest mean, the earliest of equals; None before the first."""
        return max(self.results, key=lambda evaluation: evaluation.result.mean, default=None)

    def on_round_end(self, event: RoundEnd) -> Stop | None:  # noqa: D102  (inherited)
        result = event.learner.evaluate(n_episodes=self.n_eval_episodes, seed=self.seed)
        report = event.report
        evaluation = Evaluation(event.learner, report.round + 1, report.timesteps, result)
        self.results.append(evaluation)
        return event.learner.emit(evaluation)


class CheckpointCallback(Callback):
    """Save the table every so often, and tell all callbacks by a `Checkpoint`.

    Each is a Zarr group of its own, `save_path/round-00000100.zarr` for Q_100, that `dqlearn.load`
    and `xarray.open_zarr` can open. To be able to resume a run, give `learn` a `store` instead.

    Parameters
    ----------
    every_rounds : int
        Rounds from one table to the next.
    save_path : str or path-like
        The folder, or the address of one.
    """

    def __init__(self, every_rounds: int, save_path: str | os.PathLike[str]) -> None:
        self.every_rounds = _positive("every_rounds", every_rounds)
        self.save_path = os.fspath(save_path)

    def on_round_end(self, event: RoundEnd) -> Stop | None:  # noqa: D102  (inherited)
        round = event.report.round + 1
        # Not pathlib: it would turn s3://bucket into s3:/bucket.
        path = f"{self.save_path.rstrip('/')}/round-{round:08d}.zarr"
        event.learner.save(path)
        return event.learner.emit(Checkpoint(event.learner, round, event.report.timesteps, path))


class StopTrainingOnRewardThreshold(Callback):
    """Stop when an evaluation's mean return reaches `reward_threshold`; needs an `EvalCallback`.

    Parameters
    ----------
    reward_threshold : float
        In units of reward.
    """

    every_rounds = None

    def __init__(self, reward_threshold: float) -> None:
        self.reward_threshold = reward_threshold

    def on_evaluation(self, event: Evaluation) -> Stop | None:  # noqa: D102  (inherited)
        mean = event.result.mean
        if mean >= self.reward_threshold:
            return Stop(f"mean return {mean:g} reached the threshold {self.reward_threshold:g}")
        return None


class StopTrainingOnNoModelImprovement(Callback):
    """Stop after too many evaluations in a row without a new best; needs an `EvalCallback`.

    Parameters
    ----------
    max_no_improvement_evals : int
        Evaluations in a row that may bring no improvement; the next one stops.
    min_evals : int, default 0
        Evaluations at the beginning that are not counted.
    min_delta : float, default 0.0
        A mean return is an improvement when it is more than the best one plus this.
    """

    every_rounds = None

    def __init__(
        self, max_no_improvement_evals: int, min_evals: int = 0, min_delta: float = 0.0
    ) -> None:
        self.max_no_improvement_evals = max_no_improvement_evals
        self.min_evals = min_evals
        self.min_delta = min_delta
        self.best_mean = -float("inf")
        self.n_evals = 0
        self.no_improvement_evals = 0

    def on_evaluation(self, event: Evaluation) -> Stop | None:  # noqa: D102  (inherited)
        self.n_evals += 1
        if event.result.mean > self.best_mean + self.min_delta:
            self.best_mean = event.result.mean
            self.no_improvement_evals = 0
        elif self.n_evals > self.min_evals:
            self.no_improvement_evals += 1
        if self.no_improvement_evals > self.max_no_improvement_evals:
            return Stop(
                f"{self.no_improvement_evals} evaluations no better than {self.best_mean:g}"
            )
        return None


class StopTrainingOnMaxTime(Callback):
    """Stop at the end of the first round that is asked for after `seconds` of training.

    Parameters
    ----------
    seconds : float
        Counted from the start of this call of `learn`.
    every_rounds : int, default 1
        Look at the clock after each so many rounds: the learner waits for these.
    """

    def __init__(self, seconds: float, every_rounds: int = 1) -> None:
        self.seconds = seconds
        self.every_rounds = _positive("every_rounds", every_rounds)

    def on_round_end(self, event: RoundEnd) -> Stop | None:  # noqa: D102  (inherited)
        if event.report.wall_time >= self.seconds:
            return Stop(f"{event.report.wall_time:.1f} s reached the limit of {self.seconds:g} s")
        return None


class StopTrainingOnMaxEpisodes(Callback):
    """Stop when so many episodes have ended, as counted by `learner.n_episodes`.

    Parameters
    ----------
    max_episodes : int
        Episodes of all environments together.
    every_rounds : int, default 1
        Look at the count after each so many rounds: the learner waits for these.
    """

    def __init__(self, max_episodes: int, every_rounds: int = 1) -> None:
        self.max_episodes = max_episodes
        self.every_rounds = _positive("every_rounds", every_rounds)

    def on_round_end(self, event: RoundEnd) -> Stop | None:  # noqa: D102  (inherited)
        n_episodes = event.learner.n_episodes
        if n_episodes >= self.max_episodes:
            return Stop(f"{n_episodes} episodes reached the limit of {self.max_episodes}")
        return None


def _positive(name: str, value: int) -> int:
    if not isinstance(value, Integral) or value < 1:
        raise ConfigurationError(f"{name} must be an int >= 1, got {value!r}")
    return int(value)
