"""Baselines: rules of an operator, to be beaten.

::

    rule(problem, states, t) ──► decisions           all episodes at once

Invariant: a rule sees what the learner sees, the states, and the time.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dqlearn.envs.play import play
from dqlearn.random import EVALUATION, streams

if TYPE_CHECKING:
    from dqlearn.envs.problems.defence.model import NetworkDefence

__all__ = ["do_nothing", "periodic_restore", "react", "searched_period"]

MONITOR = 0
PERIODS = tuple(range(1, 21))
EPISODES, MAX_SLOTS, SEED = 256, 100, 161_803  # of the search; no evaluation's own


def do_nothing(
    problem: NetworkDefence, states: npt.NDArray[np.int64], t: int
) -> npt.NDArray[np.int64]:
    """Monitor, whatever happens.

    Parameters
    ----------
    problem : NetworkDefence
        The network.
    states : int64 (n,)
        One state an episode.
    t : int
        Slots since the episodes began; not looked at.

    Returns
    -------
    int64 (n,)
        Decisions.
    """
    return np.full(len(states), MONITOR)


def react(problem: NetworkDefence, states: npt.NDArray[np.int64], t: int) -> npt.NDArray[np.int64]:
    """Clean the host that costs most: restore it from root, remove a user from it.

    The first of several that cost the same; monitor while no host is compromised.

    Parameters
    ----------
    problem : NetworkDefence
        The network.
    states : int64 (n,)
        One state an episode.
    t : int
        Slots since the episodes began; not looked at.

    Returns
    -------
    int64 (n,)
        Decisions.
    """
    levels = problem.levels(states)
    compromised = levels >= 2
    # A compromised host comes before others also where neither costs anything.
    worst = np.where(compromised, problem.losses(states), -1.0).argmax(axis=1)
    level = np.take_along_axis(levels, worst[:, np.newaxis], axis=1)[:, 0]
    cleaning = np.where(level == 3, 1 + worst, 1 + len(problem.hosts) + worst)
    return np.where(compromised.any(axis=1), cleaning, MONITOR)


def periodic_restore(
    problem: NetworkDefence, states: npt.NDArray[np.int64], t: int, period: int
) -> npt.NDArray[np.int64]:
    """Restore one host after the other, in turn, one every `period` slots.

    Parameters
    ----------
    problem : NetworkDefence
        The network.
    states : int64 (n,)
        One state an episode; not looked at.
    t : int
        Slots since the episodes began.
    period : int
        Slots from one restore to the next, at least 1.

    Returns
    -------
    int64 (n,)
        Decisions.
    """
    turn, rest = divmod(t, period)
    decision = MONITOR if rest else 1 + turn % len(problem.hosts)
    return np.full(len(states), decision)


@lru_cache
def searched_period(problem: NetworkDefence) -> int:
    """Find the best period for :func:`periodic_restore`, of 1 .. 20 slots.

    Parameters
    ----------
    problem : NetworkDefence
        The network.

    Returns
    -------
    int
        That of the largest mean return of some hundred episodes, the same for all periods.
    """
    return max(PERIODS, key=lambda period: _mean_return(problem, period))


def _mean_return(problem: NetworkDefence, period: int) -> float:
    keys = streams(np.uint64(SEED), EVALUATION, 0, EPISODES)
    policy = partial(periodic_restore, problem, period=period)
    return float(play(problem.model(), keys, policy, MAX_SLOTS).returns.mean())
