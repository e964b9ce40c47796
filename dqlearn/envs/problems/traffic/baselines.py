"""Policies for signals that see the queues: longest queue first and max-pressure.

::

    states ──► queues, phases ──rule──► gain of every change ──► wanted phases ──► actions

Both look at the present slot alone, and not at what a change costs: where two streams have equal
claims, the phase stays. Invariant: a rule is a function of the states; nothing is remembered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from dqlearn.envs.problems.traffic.model import TrafficGrid

__all__ = ["decide", "longest_queue_first", "max_pressure", "read"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def longest_queue_first(problem: TrafficGrid, states: Ints, t: int) -> Ints:
    """Give green to the longer queue of each intersection.

    Parameters
    ----------
    problem : TrafficGrid
        Whose states they are.
    states : int64 (n,)
        States.
    t : int
        Slots since the episodes began; not used.

    Returns
    -------
    int64 (n,)
        Decisions.
    """
    queues, phases = read(problem, states)
    return _claims(problem, phases, queues.astype(np.float64))


def max_pressure(problem: TrafficGrid, states: Ints, t: int) -> Ints:
    """Give green to the stream of each intersection that has the larger pressure.

    The pressure of a stream is the saturation flow times its queue less the mean of the queues that
    it may join, 0 beyond the network: Varaiya (2013), "Max pressure control of a network of
    signalized intersections", Transportation Research Part C 36.

    Parameters
    ----------
    problem : TrafficGrid
        Whose states they are.
    states : int64 (n,)
        States.
    t : int
        Slots since the episodes began; not used.

    Returns
    -------
    int64 (n,)
        Decisions.
    """
    queues, phases = read(problem, states)
    flat = queues.reshape(len(states), -1)
    pressure = flat.astype(np.float64)
    ways = np.bincount([road.source for road in problem.roads.roads], minlength=flat.shape[1])
    for road in problem.roads.roads:
        pressure[:, road.source] -= flat[:, road.target] / ways[road.source]
    return _claims(problem, phases, problem.saturation * pressure.reshape(queues.shape))


def read(problem: TrafficGrid, states: Ints) -> tuple[Ints, Ints]:
    """Take states apart.

    Parameters
    ----------
    problem : TrafficGrid
        Whose states they are.
    states : int64 (n,)
        States.

    Returns
    -------
    queues : int64 (n, N, 2)
        Vehicles in the main and the cross queue of each intersection.
    phases : int64 (n, N)
        0 main, 1 cross.
    """
    n, values = problem.n_intersections, problem.capacity + 1
    places = values ** np.arange(2 * n - 1, -1, -1)
    queues = (states[:, None] >> n) // places % values
    phases = states[:, None] >> np.arange(n - 1, -1, -1) & 1
    return queues.reshape(-1, n, 2), phases


def decide(problem: TrafficGrid, phases: Ints, wanted: Ints, gain: Floats) -> Ints:
    """Turn wanted phases into decisions.

    Parameters
    ----------
    problem : TrafficGrid
        Says whether one intersection a step is switched, or all.
    phases, wanted : int64 (n, N)
        As they are, and as they should be; 0 main, 1 cross.
    gain : float64 (n, N)
        Where only one can be switched, the largest is, the first of several.

    Returns
    -------
    int64 (n,)
        Decisions.
    """
    if problem.control == "all":
        decisions: Ints = wanted @ (1 << np.arange(problem.n_intersections - 1, -1, -1))
        return decisions
    differs = wanted != phases
    first = np.where(differs, gain, -np.inf).argmax(axis=1)
    return np.where(differs.any(axis=1), first + 1, 0)


def _claims(problem: TrafficGrid, phases: Ints, claim: Floats) -> Ints:
    """Give green to the larger claim (n, N, 2) of each intersection."""
    ahead = claim[..., 1] - claim[..., 0]
    wanted = np.where(ahead == 0.0, phases, ahead > 0.0).astype(np.int64)
    return decide(problem, phases, wanted, np.abs(ahead))
