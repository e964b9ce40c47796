"""The observer: lets a run learn what it is told, one call a round.

::

    Told ─► rounds that the run lacks since a loss are made again
            └─► a batch, by the counters of the sources ─► the journal ─► the loop makes the round

Invariant: after an error the batch is learned whole, or not at all, and the counters say which.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from dqlearn.errors import ConfigurationError
from dqlearn.spaces import SpaceIndex
from dqlearn.stages.observed.batch import Batch, batch_of
from dqlearn.stages.observed.check import Elements
from dqlearn.stages.observed.outcome import Observed
from dqlearn.stages.observed.told import Told, is_frame, told, told_by_frame
from dqlearn.stages.plan import Plan
from dqlearn.training.loop import Loop
from dqlearn.training.pipeline import Pipeline

__all__ = ["Observer"]


class Observer:
    """What one learner needs to observe.

    Parameters
    ----------
    states, actions : SpaceIndex
        The numbers of observations and of actions.

    Attributes
    ----------
    lock : threading.RLock
        Held by the thread that observes; others wait for their turn.
    """

    def __init__(self, states: SpaceIndex, actions: SpaceIndex) -> None:
        self._spaces = Elements(states), Elements(actions)
        self.lock = threading.RLock()

    def told(self, given: Mapping[str, Any]) -> Told:
        """Take the arguments of `observe`: transitions, or a frame of them in place of the first.

        Raises
        ------
        ConfigurationError
            If something is missing, or not laid out in rows.
        """
        states, actions = self._spaces
        if given["action"] is None and is_frame(given["obs"]):
            rest = {name: value for name, value in given.items() if name != "obs"}
            return told_by_frame(given["obs"], rest, states.space)
        return told(states.space, actions.space, given)

    def observe(
        self,
        rows: Told,
        run: Pipeline,
        timesteps: Callable[[], int],
        loop: Callable[[int], AbstractContextManager[Loop]],
        *,
        skip: bool,
    ) -> Observed:
        """Learn rows.

        Parameters
        ----------
        rows : Told
            The rows.
        run : Pipeline
            The run that learns.
        timesteps : callable
            Returns the transitions that the run has learned.
        loop : callable
            Opens the loop over rounds, given how many transitions the next one has.
        skip : bool
            Whether bad rows are skipped.

        Returns
        -------
        Observed
            What became of them.

        Raises
        ------
        BadRowError
            If a row is bad, and they are not skipped.
        ConfigurationError
            If the run cannot learn transitions of somebody else's.
        """
        _check_observes(run.plan)
        if (end := run.journal.end(run.round)) > run.round:
            with loop(0) as rounds:
                rounds.catch_up(end)
        batch = batch_of(rows, self._spaces, run.journal.sources, run.plan, timesteps(), skip)
        if batch.pieces:
            with loop(batch.outcome.learned) as rounds:
                _learn(batch, run, rounds)
        else:
            run.journal.sources.advance(batch.marks)
        return batch.outcome


def _check_observes(plan: Plan) -> None:
    """Refuse to observe where it is not said who learns a transition, or when."""
    if plan.federated:
        raise ConfigurationError(
            "observe() has no member of its own: of federated tables each learns what its "
            "environments do; leave federated= out"
        )
    if plan.algorithm.returns:
        raise ConfigurationError(
            f"observe() learns each transition by itself, and algorithm={plan.algorithm.name!r} "
            "looks at several of one episode in a row; choose a rule of one step"
        )


def _learn(batch: Batch, run: Pipeline, rounds: Loop) -> None:
    """Learn a batch in the next round."""
    round_ = run.round
    run.journal.write(round_, batch)
    try:
        rounds.catch_up(round_ + 1)
    except BaseException:
        if run.round <= round_:
            run.journal.cancel(round_)
        raise
