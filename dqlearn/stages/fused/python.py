r"""Fused rounds of Python environments: one task steps and learns round after round.

::

    shards ──► steps of round r, on Q_r ──► one compiled call: Q_{r+1}, and what acts on it ──┐
      ▲                                                                                       │
      └──────────────────────────────── round r + 1 ◄─────────────────────────────────────────┘

The table and the policy are copies, which are learned in place; a round costs its steps and some
ten microseconds. Invariant: the bits are those of rounds made one after another by
:mod:`dqlearn.engine.tasks.learning`. A round whose environments fail is not made, and those before
it are; the next task raises the error.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache, partial
from typing import cast

import numpy as np

from dqlearn.envs.python.gymnasium_env import PythonEnv, PythonShard
from dqlearn.stages.fused.arrays import Arrays
from dqlearn.stages.fused.learner import RoundLearner
from dqlearn.stages.fused.reports import RoundReports
from dqlearn.stages.fused.rounds import Rounds
from dqlearn.stages.plan import Plan
from dqlearn.stages.policy import Policy
from dqlearn.stages.rollout_python import python_rollout
from dqlearn.table.chunk import Chunk
from dqlearn.table.transitions import Transitions

__all__ = ["make_python_rounds"]


def make_python_rounds(
    plan: Plan,
    state: tuple[Sequence[PythonShard], Sequence[Chunk], Policy],
    round_: int,
    n_rounds: int,
    threads: int,
) -> Rounds:
    """Make successive rounds.

    Parameters
    ----------
    plan : Plan
        The plan of the run, in which one memory has everything.
    state : tuple
        The shards, which are stepped in place, the chunks and the policy of round `round_`.
    round_ : int
        The first round.
    n_rounds : int
        Number of rounds, at least 1.
    threads : int
        Threads that may step shards side by side.

    Returns
    -------
    Rounds
        At least one round, and fewer than `n_rounds` if environments fail in the next one.

    Raises
    ------
    EnvironmentFault
        If environments fail in the first round, or failed after the last one of the task before.
    Exception
        If a rule's own function raises; none of the rounds is made then.
    """
    shards, chunks, policy = state
    began, threads = time.monotonic(), min(threads, len(shards))
    table = Arrays(plan, chunks, policy, round_, n_rounds, (False, False))
    learner = RoundLearner(plan, table, np.diff(plan.first_envs) * plan.steps_per_round)
    made = 0
    while made < n_rounds:
        table.schedule(made, made + 1)
        try:
            batches = _steps(plan, table, shards, round_, made, threads)
        except Exception as error:
            if made == 0:
                raise
            for shard in shards:
                shard.failure = error
            break
        learner.learn(made, batches)  # an error leaves a copy half learned, which nobody sees
        made += 1
    table.stamp(made)
    reports = RoundReports(table.reports(made), threads, time.monotonic() - began)
    return Rounds(table.chunks_after(made), shards, table.policy_after(made), reports)


def _steps(
    plan: Plan, table: Arrays, shards: Sequence[PythonShard], first: int, r: int, threads: int
) -> list[Transitions]:
    """Take the steps of all shards in the r-th of the rounds."""
    roll = partial(
        python_rollout,
        cast("PythonEnv", plan.env),
        # Rollouts read the sets, and never the values, which are made at the end.
        policy=replace(table.policy, tied=table.tied, timesteps=int(table.timesteps[r])),
        epsilon=float(table.epsilons[r]),
        seed=plan.seed,
        n_steps=plan.steps_per_round,
        round_=first + r,
    )
    if threads == 1:
        return [roll(shard)[0] for shard in shards]
    others = [_steppers().submit(roll, shard) for shard in shards[1:]]
    try:
        own, _ = roll(shards[0])
    finally:
        results = [it.exception() or it.result()[0] for it in others]
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [own, *cast("list[Transitions]", results)]


@cache
def _steppers() -> ThreadPoolExecutor:
    """Return the threads of this process that step shards beside the one that learns."""
    return ThreadPoolExecutor(thread_name_prefix="dqlearn-stepper")
