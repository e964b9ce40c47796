"""Baselines of the routing family: rules that need no learning.

::

    rule(problem, states, t) ──► actions        int64 (n,) both, one row an episode

Invariant: a rule sees the state and nothing else; `t` only makes the random ones draw anew.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dqlearn.envs.problems.packets.graph import distances

if TYPE_CHECKING:
    from dqlearn.envs.problems.packets.dispatch import PacketDispatch
    from dqlearn.envs.problems.packets.hops import PacketRouting

__all__ = [
    "live_delay",
    "never_queue",
    "random_port",
    "random_queue",
    "shortest_delay",
    "shortest_path",
    "shortest_queue",
    "static_delay",
]

States = npt.NDArray[np.int64]
Actions = npt.NDArray[np.int64]


# dispatch


def shortest_queue(problem: PacketDispatch, states: States, t: int) -> Actions:
    """Join the shortest queue, the fastest server's of several.

    Optimal for equal servers: Winston (1977), J. Appl. Prob. 14.

    Parameters
    ----------
    problem : PacketDispatch
        Its parameters.
    states : int64 (n,)
        The present state of each episode.
    t : int
        Slots since they began.

    Returns
    -------
    int64 (n,)
        A queue each.
    """
    order = np.argsort(-np.array(problem.rates), kind="stable")
    chosen: Actions = order[_queues(problem, states)[:, order].argmin(axis=1)]
    return chosen


def shortest_delay(problem: PacketDispatch, states: States, t: int) -> Actions:
    """Join the queue with the shortest expected delay: least (packets + 1) / rate; not a full one.

    Parameters
    ----------
    problem : PacketDispatch
        Its parameters.
    states : int64 (n,)
        The present state of each episode.
    t : int
        Slots since they began.

    Returns
    -------
    int64 (n,)
        A queue each, the first of several.
    """
    queues = _queues(problem, states)
    delays = np.where(queues < problem.capacity, (queues + 1) / np.array(problem.rates), np.inf)
    chosen: Actions = delays.argmin(axis=1)
    return chosen


def never_queue(problem: PacketDispatch, states: States, t: int) -> Actions:
    """Join the fastest idle server; where none is idle, the shortest expected delay.

    Shenker and Weinrib (1989), "The optimal control of heterogeneous queueing systems: a paradigm
    for load-sharing and routing", IEEE Trans. Computers 38.

    Parameters
    ----------
    problem : PacketDispatch
        Its parameters.
    states : int64 (n,)
        The present state of each episode.
    t : int
        Slots since they began.

    Returns
    -------
    int64 (n,)
        A queue each.
    """
    idle = _queues(problem, states) == 0
    fastest = np.where(idle, np.array(problem.rates), 0.0).argmax(axis=1)
    return np.where(idle.any(axis=1), fastest, shortest_delay(problem, states, t))


def random_queue(problem: PacketDispatch, states: States, t: int) -> Actions:
    """Join any queue, each as likely.

    Parameters
    ----------
    problem : PacketDispatch
        Its parameters.
    states : int64 (n,)
        The present state of each episode.
    t : int
        Slots since they began.

    Returns
    -------
    int64 (n,)
        A queue each.
    """
    return _random(states, t, problem.n_servers)


def _queues(problem: PacketDispatch, states: States) -> npt.NDArray[np.int64]:
    levels = problem.capacity + 1
    return np.stack(np.unravel_index(states, (levels,) * problem.n_servers), axis=1)


# routing


def shortest_path(problem: PacketRouting, states: States, t: int) -> Actions:
    """Go the way of fewest hops, by the first port of several.

    Parameters
    ----------
    problem : PacketRouting
        Its parameters.
    states : int64 (n,)
        The present state of each episode.
    t : int
        Slots since they began.

    Returns
    -------
    int64 (n,)
        A port each.
    """
    node, goal, _ = _parts(problem, states)
    return _routes(problem, False)[node, goal]


def static_delay(problem: PacketRouting, states: States, t: int) -> Actions:
    """Go the way of least delay, the routers' delays being their means in the long run.

    Parameters
    ----------
    problem : PacketRouting
        Its parameters.
    states : int64 (n,)
        The present state of each episode.
    t : int
        Slots since they began.

    Returns
    -------
    int64 (n,)
        A port each.
    """
    node, goal, _ = _parts(problem, states)
    return _routes(problem, True)[node, goal]


def live_delay(problem: PacketRouting, states: States, t: int) -> Actions:
    """Go the way of least delay, the routers' delays being what their present queues make them.

    As the ARPANET once did: McQuillan, Richer and Rosen (1980), "The new routing algorithm for the
    ARPANET", IEEE Trans. Comm. 28.

    Parameters
    ----------
    problem : PacketRouting
        Its parameters.
    states : int64 (n,)
        The present state of each episode.
    t : int
        Slots since they began.

    Returns
    -------
    int64 (n,)
        A port each.
    """
    node, goal, queues = _parts(problem, states)
    ports, delay = np.array(problem.ports), _waits(problem)[queues]
    least = np.where(np.arange(problem.n_nodes) == goal[:, None], 0.0, np.inf)
    for _ in range(problem.n_nodes - 1):
        least = np.minimum(least, delay + least[:, ports].min(axis=-1))
    return _first_least(least[np.arange(len(states))[:, None], ports[node]])


def random_port(problem: PacketRouting, states: States, t: int) -> Actions:
    """Go anywhere, each port as likely.

    Parameters
    ----------
    problem : PacketRouting
        Its parameters.
    states : int64 (n,)
        The present state of each episode.
    t : int
        Slots since they began.

    Returns
    -------
    int64 (n,)
        A port each.
    """
    return _random(states, t, len(problem.ports[0]))


@lru_cache(maxsize=64)
def _routes(problem: PacketRouting, loaded: bool) -> npt.NDArray[np.int64]:
    """Ports of the shortest ways (node, goal): by hops, or by the delays of the long run."""
    delays = np.ones(problem.n_nodes)
    if loaded:
        delays[list(problem.core)] = problem.levels @ _waits(problem)
    onward = distances(problem.ports, delays)[np.array(problem.ports)]
    return _first_least(np.moveaxis(onward, 1, -1))


@lru_cache(maxsize=64)
def _waits(problem: PacketRouting) -> npt.NDArray[np.float64]:
    """Mean slots at a router, by its queue, if the packet comes now; 1 outside the core."""
    return problem.waits


def _parts(problem: PacketRouting, states: States) -> tuple[States, States, States]:
    """Node, goal, and the queues of all routers, shape (n, routers)."""
    sizes = (problem.n_nodes, len(problem.destinations))
    node, goal, *levels = np.unravel_index(
        states, (*sizes, *[problem.capacity + 1] * len(problem.core))
    )
    queues = np.zeros((len(states), problem.n_nodes), np.int64)
    queues[:, problem.core] = np.stack(levels, axis=1)
    return node, np.array(problem.destinations)[goal], queues


# both


def _first_least(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Place of the least along the last axis, the first of those that differ by rounding."""
    least: Actions = (values <= values.min(axis=-1, keepdims=True) + 1e-9).argmax(axis=-1)
    return least


def _random(states: States, t: int, n: int) -> npt.NDArray[np.int64]:
    """Scrambled state and time: the same rule draws the same again."""
    seed = int(np.bitwise_xor.reduce(states)) + 1_000_003 * t
    return np.random.default_rng([seed, len(states)]).integers(n, size=len(states))
