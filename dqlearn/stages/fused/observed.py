"""A fused round of observed transitions: one compiled call learns what somebody else has done.

Invariant: the bits are those of the same round made by :mod:`dqlearn.engine.tasks.learning`; and a
round of some transitions costs what they cost, however large the table is, where it is in place.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dqlearn.envs.python.gymnasium_env import PythonEnv
from dqlearn.stages.fused.arrays import Arrays
from dqlearn.stages.fused.learner import RoundLearner
from dqlearn.stages.fused.reports import RoundReports
from dqlearn.stages.fused.rounds import Rounds
from dqlearn.stages.plan import Plan
from dqlearn.stages.policy import Policy
from dqlearn.table.chunk import Chunk
from dqlearn.table.transitions import Transitions

__all__ = ["learn_observed"]


def learn_observed(
    plan: Plan,
    pieces: Sequence[Transitions],
    state: tuple[Sequence[Chunk], Policy],
    round_: int,
    in_place: tuple[bool, bool],
) -> Rounds:
    """Learn one round of transitions.

    Parameters
    ----------
    plan : Plan
        The plan of the run, in which one memory has everything.
    pieces : sequence of Transitions
        The transitions; each piece is learned as that of one shard.
    state : tuple
        The chunks and the policy of round `round_`.
    round_ : int
        The round.
    in_place : (bool, bool)
        Whether the arrays of the chunks, and those of the policy, may be written to.

    Returns
    -------
    Rounds
        The round; it has no shards.

    Raises
    ------
    ActionMaskError
        If a transition is of a pair that is not valid; then nothing is written to.
    Exception
        If a rule's own function raises; chunks that are written to in place are torn then.
    """
    began, sizes = time.monotonic(), np.array([len(piece.state) for piece in pieces])
    # As many environments as there are rows, which make one step each.
    whole = replace(plan, num_envs=int(sizes.sum()), shards=len(pieces), steps_per_round=1)
    table = Arrays(whole, *state, round_, 1, in_place)
    table.schedule(0, 1)
    learner = RoundLearner(whole, table, sizes)
    if isinstance(plan.env, PythonEnv) and plan.env.masks:
        for piece in pieces:
            table.check_tried(piece)
    table.stamp(None)
    learner.learn(0, pieces)
    table.stamp(1)
    reports = RoundReports(table.reports(1), 0, time.monotonic() - began)
    return Rounds(table.chunks_after(1), (), table.policy_after(1), reports)
