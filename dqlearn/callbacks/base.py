"""What a callback is, and how several are told of one event."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TypeAlias, assert_never

from dqlearn.checks import check_count
from dqlearn.errors import ConfigurationError
from dqlearn.events import Checkpoint, Evaluation, Event, RoundEnd, Stop, TrainingEnd, TrainingStart

__all__ = ["Callback", "CallbackLike", "CallbackList", "Stop", "as_callbacks"]


class Callback:
    """Base of all callbacks: override the methods for the events you want.

    Each method returns None, to go on, or a `Stop`. What `on_training_end` returns changes nothing.

    Attributes
    ----------
    every_rounds : int or None, default 1
        Call `on_round_end` after each so many rounds, counted from the run's beginning: with 10,
        after rounds 9, 19, ... The learner waits for these, and pipelines the others. None: never.
    ends_tasks : bool, default True
        Whether a task that makes many rounds ends where this callback is called. If not, it is
        called when so many rounds or more have ended, at the end of whatever task there is.

    Examples
    --------
    >>> class PrintReturn(Callback):
    ...     every_rounds = 10
    ...
    ...     def on_round_end(self, event):
    ...         print(event.report.timesteps, event.report.mean_return)
    """

    every_rounds: int | None = 1
    ends_tasks: bool = True

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
        self._next_rounds = dict.fromkeys(map(id, self.callbacks), 0)
        for callback in self.callbacks:
            if callback.every_rounds is not None:
                check_count(f"every_rounds of {callback}", callback.every_rounds)

    def due(self, round: int) -> bool:
        """Whether any callback asks for the end of `round`: the learner then waits for it.

        Parameters
        ----------
        round : int

        Returns
        -------
        bool
        """
        return any(self._due(callback, round) for callback in self.callbacks)

    def until_due(self, round: int) -> int:
        """Return how many rounds may be made, from `round` on, until one is due.

        Parameters
        ----------
        round : int

        Returns
        -------
        int
            At least 1; without an end if no callback is told of rounds.
        """
        every = [it.every_rounds for it in self.callbacks if it.every_rounds and it.ends_tasks]
        return min((n - round % n for n in every), default=sys.maxsize)

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
        stops = [stop for callback in self.callbacks if (stop := self._tell(callback, event))]
        return stops[0] if stops else None

    def _tell(self, callback: Callback, event: Event) -> Stop | None:
        """Tell one callback; of a round once, also where that is made again after a loss."""
        if not isinstance(event, RoundEnd):
            return _deliver(callback, event)
        if not self._due(callback, event.report.round):
            return None
        stop = _deliver(callback, event)
        self._next_rounds[id(callback)] = event.report.round + 1
        return stop

    def _due(self, callback: Callback, round: int) -> bool:
        every, following = callback.every_rounds, self._next_rounds[id(callback)]
        if every is None:
            return False
        if not callback.ends_tasks:
            return round + 1 >= following + every
        return (round + 1) % every == 0 and round >= following


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
    >>> from dqlearn.callbacks import StopTrainingOnMaxTime
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
