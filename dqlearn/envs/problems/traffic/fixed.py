"""Fixed time: signals that follow a plan, whatever the queues are.

::

    slot t + offset_i   0 1 2 3 4 5 6 7 | 0 1 ..      wanted phase of intersection i
                        m m m m m c c c | m m ..      cycle 8, green_i 5

A plan is a row ``(cycle, green_1, .., green_N, offset_1, .., offset_N)``, in slots. The best is
found by search: all common cycles and greens with offsets that grow evenly along the intersections,
then steps of one slot in single greens and offsets, while they help. All plans of a step are played
at once, over the same episodes. Invariant: the search has seeds of its own, so that a problem has
one best plan, found under other arrivals than those a policy is evaluated with.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dqlearn.envs.play import play
from dqlearn.envs.problems.traffic.baselines import decide, read
from dqlearn.random import EVALUATION, streams

if TYPE_CHECKING:
    from dqlearn.envs.problems.traffic.model import TrafficGrid

__all__ = ["best_plan", "fixed_time"]

Ints = npt.NDArray[np.int64]

CYCLES = range(4, 21, 2)
MIN_GREEN = 2  # slots in which a street is wanted: one of yellow, one of green
MAX_SHIFT = 3
N_EPISODES, MAX_SLOTS, SEED = 48, 200, 2**63
MAX_STEPS = 12


def fixed_time(problem: TrafficGrid, states: Ints, t: int) -> Ints:
    """Follow the best plan there is; see :func:`best_plan`.

    Parameters
    ----------
    problem : TrafficGrid
        Whose states they are.
    states : int64 (n,)
        States; they matter only where one intersection a step is switched.
    t : int
        Slots since the episodes began.

    Returns
    -------
    int64 (n,)
        Decisions.
    """
    plan = np.array(best_plan(problem), np.int64)
    return _follow(problem, np.broadcast_to(plan, (len(states), len(plan))), states, t)


@cache
def best_plan(problem: TrafficGrid) -> tuple[int, ...]:
    """Search for the plan with the best mean return.

    Parameters
    ----------
    problem : TrafficGrid
        Whose signals are to be timed.

    Returns
    -------
    tuple of int
        Cycle, greens of the main streets, offsets, in slots.
    """
    plans = _even_plans(problem.n_intersections)
    returns = _mean_returns(problem, plans)
    best, value = plans[returns.argmax()], returns.max()
    for _ in range(MAX_STEPS):
        plans = _neighbours(best)
        returns = _mean_returns(problem, plans)
        if not returns.max(initial=-np.inf) > value:
            break
        best, value = plans[returns.argmax()], returns.max()
    return tuple(best.tolist())


def _even_plans(n: int) -> Ints:
    """Return plans of one green for all, and offsets that grow evenly, shape (plans, 1 + 2 N)."""
    return np.array(
        [
            [cycle, *[green] * n, *(-shift * i % cycle for i in range(n))]
            for cycle in CYCLES
            for green in range(MIN_GREEN, cycle - MIN_GREEN + 1)
            for shift in range(MAX_SHIFT + 1)
        ],
        np.int64,
    )


def _neighbours(plan: Ints) -> Ints:
    """Return the plans with one green or offset changed by one slot."""
    n, cycle = len(plan) // 2, plan[0]
    steps = np.eye(2 * n + 1, dtype=np.int64)[1:]
    plans = plan + np.concatenate([steps, -steps])
    plans[:, n + 1 :] %= cycle
    greens = plans[:, 1 : n + 1]
    allowed: Ints = plans[((greens >= MIN_GREEN) & (greens <= cycle - MIN_GREEN)).all(axis=1)]
    return allowed


def _follow(problem: TrafficGrid, plans: Ints, states: Ints, t: int) -> Ints:
    """Return decisions, each by its own plan."""
    n = problem.n_intersections
    place = (t + plans[:, n + 1 :]) % plans[:, :1]
    wanted = (place >= plans[:, 1 : n + 1]).astype(np.int64)
    return decide(problem, read(problem, states)[1], wanted, np.zeros(wanted.shape))


def _mean_returns(problem: TrafficGrid, plans: Ints) -> npt.NDArray[np.float64]:
    """Play all plans over the same episodes, none of which ends early; return each mean return."""
    keys = np.tile(streams(np.uint64(SEED), EVALUATION, 0, N_EPISODES), len(plans))
    policy = partial(_follow, problem, np.repeat(plans, N_EPISODES, axis=0))
    returns = play(problem.model(), keys, policy, MAX_SLOTS).returns
    mean: npt.NDArray[np.float64] = returns.reshape(len(plans), N_EPISODES).mean(axis=1)
    return mean
