r"""Fused rounds of environments that step by themselves: one task steps and learns, in turns.

::

    shards ──► steps of round r, on Q_r ──► one compiled call: Q_{r+1}, and what acts on it ──┐
      ▲                                                                                       │
      └──────────────────────────────── round r + 1 ◄─────────────────────────────────────────┘

Those are Python environments, and models whose rule looks several steps ahead. The table and the
policy are copies, which are learned in place; a round costs its steps and some ten microseconds.
Invariant: the bits are those of rounds made one after another by
:mod:`dqlearn.engine.tasks.learning`. A round whose environments fail is not made, and those before
it are; the next task raises the error.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache, partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from dqlearn.envs.python.gymnasium_env import PythonEnv, PythonShard
from dqlearn.stages.fused.arrays import Arrays
from dqlearn.stages.fused.learner import RoundLearner
from dqlearn.stages.fused.reports import RoundReports
from dqlearn.stages.fused.rounds import Rounds
from dqlearn.stages.plan import Plan
from dqlearn.stages.policy import Policy
from dqlearn.stages.returns import joined, returned, traced
from dqlearn.stages.rollout import CompiledShard, rollout
from dqlearn.stages.rollout_python import python_rollout
from dqlearn.table.chunk import Chunk
from dqlearn.table.transitions import Transitions

__all__ = ["make_stepped_rounds"]

Shards = Sequence[CompiledShard | PythonShard]
Made = tuple[Transitions, Any, Transitions | None]
"""What a shard made in a round: what is learned, the shard after it, and what waits."""


def make_stepped_rounds(
    plan: Plan,
    state: tuple[Shards, Sequence[Chunk], Policy, Sequence[Transitions]],
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
        The shards, of which Python environments are stepped in place, the chunks and the policy of
        round `round_`, and the transitions of each shard that wait, if the rule has any wait.
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
    shards, chunks, policy, waiting = state
    began, threads = time.monotonic(), min(threads, len(shards))
    table = Arrays(plan, chunks, policy, round_, n_rounds, (False, False))
    learner = RoundLearner(plan, table, np.diff(plan.first_envs) * plan.most_learned)
    made = 0
    while made < n_rounds:
        table.schedule(made, made + 1)
        try:
            turn = _Turn(plan, table, round_, made)
            results = turn.of_all(shards, waiting, threads)
        except Exception as error:
            if made == 0:
                raise
            for shard in shards if plan.donated else ():
                cast("PythonShard", shard).failure = error
            break
        batches, shards, rest = zip(*results, strict=True)
        waiting = rest if plan.waits else ()
        learner.learn(made, batches)  # an error leaves a copy half learned, which nobody sees
        made += 1
    table.stamp(made)
    reports = RoundReports(table.reports(made), threads, time.monotonic() - began)
    return Rounds(table.chunks_after(made), shards, table.policy_after(made), reports, waiting)


class _Turn:
    """The steps of the r-th of some rounds."""

    def __init__(self, plan: Plan, table: Arrays, first: int, r: int) -> None:
        self._plan, self._table, self._round, self._r = plan, table, first + r, r
        # Rollouts read the sets, and never the values, which are made at the end.
        self._policy = replace(table.policy, tied=table.tied, timesteps=int(table.timesteps[r]))

    def of_all(self, shards: Shards, waiting: Sequence[Transitions], threads: int) -> list[Made]:
        """Take the steps of all shards."""
        rest: Sequence[Transitions | None] = waiting or [None] * len(shards)
        turns = [partial(self._of_one, *each) for each in zip(shards, rest, strict=True)]
        if threads == 1:
            return [turn() for turn in turns]
        others = [_steppers().submit(turn) for turn in turns[1:]]
        try:
            own = turns[0]()
        finally:
            results = [it.exception() or it.result() for it in others]
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [own, *cast("list[Made]", results)]

    def _of_one(self, shard: Any, waiting: Transitions | None) -> Made:
        """Take the steps of a shard; of returns over several steps make those that are whole."""
        made, after = self._rolled_out(shard)
        if waiting is None:
            return made, after, None
        plan, batch = self._plan, joined(waiting, made)
        known = self._worth(batch.next_state), self._table.tied
        settings = plan.gamma, plan.algorithm, plan.n_actions
        learned, rest = returned(batch, len(after.state), known, *settings)
        return learned, after, rest

    def _rolled_out(self, shard: Any) -> tuple[Transitions, Any]:
        plan, n_steps, epsilon = self._plan, self._plan.steps_per_round, self._epsilon
        settings = self._policy, epsilon, plan.seed, n_steps
        if isinstance(plan.env, PythonEnv):
            return python_rollout(plan.env, shard, *settings, self._round, traced=plan.waits)
        made, after = rollout(plan.env, shard, *settings)
        return traced(made, shard.elapsed, n_steps, plan.env.limits[2]), after

    def _worth(self, next_state: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return what next states are worth, found where it is needed."""
        rule, n_actions = self._plan.algorithm, self._plan.n_actions
        numbers = self._table.values[np.maximum(next_state, 0)]
        return rule.worth(numbers, self._epsilon, n_actions).reshape(-1, rule.members)

    @property
    def _epsilon(self) -> float:
        return float(self._table.epsilons[self._r])


@cache
def _steppers() -> ThreadPoolExecutor:
    """Return the threads of this process that step shards beside the one that learns."""
    return ThreadPoolExecutor(thread_name_prefix="dqlearn-stepper")
