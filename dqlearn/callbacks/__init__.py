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
order, even when a worker is lost and the run goes back: rounds made again are not
announced again.
"""

from __future__ import annotations

from dqlearn.callbacks.base import Callback, CallbackLike, CallbackList, Stop, as_callbacks
from dqlearn.callbacks.certified import StopWhenCertified
from dqlearn.callbacks.library import (
    CheckpointCallback,
    EvalCallback,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnMaxTime,
    StopTrainingOnNoModelImprovement,
    StopTrainingOnRewardThreshold,
)

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
    "StopWhenCertified",
    "as_callbacks",
]
