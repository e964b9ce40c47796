"""Graph: what packet routing derives from the links of a network before anything is compiled.

::

    edges ──ports_of──► neighbours of each router ──distances──► hops, or delay, to every router
    bursts ──steady──► lengths of a queue in the long run
           └─waits───► slots until our packet is sent, by the queue it finds

Invariant: plain values in, plain values out; the order of the edges does not matter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.envs.problems.topology import Edges, edges_of
from dqlearn.errors import ConfigurationError

__all__ = ["Ports", "distances", "links_of", "ports_of", "steady", "waits"]

Ports = tuple[tuple[int, ...], ...]


def links_of(topology: Any, most: int) -> Edges:
    """Return the links of a network, whatever their order and direction.

    Parameters
    ----------
    topology : networkx.Graph, or iterable of pairs of int
        Links; one may be given in both directions.
    most : int
        Routers that there may be.

    Returns
    -------
    tuple of (int, int)
        Sorted, the lower number first.

    Raises
    ------
    ConfigurationError
        If there are none, or one is no pair of different routers.

    Examples
    --------
    >>> links_of([[2, 1], [0, 1], [1, 2]], 3)
    ((0, 1), (1, 2))
    """
    edges = edges_of(topology, most)
    if not edges:
        raise ConfigurationError("a network needs at least one edge, got none")
    return tuple(sorted({(min(edge), max(edge)) for edge in edges}))


def ports_of(edges: Edges, n_nodes: int) -> Ports:
    """Return where the ports of each router lead.

    Parameters
    ----------
    edges : tuple of (int, int)
        Links, used in both directions.
    n_nodes : int
        How many routers there are.

    Returns
    -------
    tuple of tuple of int
        A row a router: its neighbours in ascending order, begun anew up to the most there are.

    Raises
    ------
    ConfigurationError
        If the routers are not all connected.

    Examples
    --------
    >>> ports_of(((0, 1), (1, 2), (1, 3)), 4)
    ((1, 1, 1), (0, 2, 3), (1, 1, 1), (1, 1, 1))
    """
    neighbours: list[set[int]] = [set() for _ in range(n_nodes)]
    for start, end in edges:
        neighbours[start].add(end)
        neighbours[end].add(start)
    reached, new = {0}, {0}
    while new:
        new = set().union(*(neighbours[node] for node in new)) - reached
        reached |= new
    if apart := sorted(set(range(n_nodes)) - reached):
        raise ConfigurationError(
            f"all routers must be connected, got no way from 0 to {apart}: add edges, or number "
            "the routers 0, 1, .. without gaps"
        )
    rows = [sorted(row) for row in neighbours]
    width = max(map(len, rows))
    return tuple(tuple(row[i % len(row)] for i in range(width)) for row in rows)


def distances(ports: Ports, delays: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the least delay between routers, by Bellman and Ford's iteration.

    Parameters
    ----------
    ports : Ports
        Neighbours of each router.
    delays : float (n,)
        How long a packet waits at each router before it is sent.

    Returns
    -------
    float64 (n, n)
        From each router (row), before its delay, to each other (column).
    """
    delay, rows = np.asarray(delays, np.float64), np.array(ports)
    n = len(rows)
    least = np.where(np.eye(n, dtype=bool), 0.0, np.inf)
    for _ in range(n - 1):
        least = np.minimum(least, delay[:, None] + least[rows].min(axis=1))
    return least


def steady(chance: float, burst: int, capacity: int) -> npt.NDArray[np.float64]:
    """Return the long-run distribution of a queue that nothing but its bursts disturbs.

    Parameters
    ----------
    chance : float
        Probability of a burst in a slot.
    burst : int
        Packets that come with it.
    capacity : int
        The longest queue.

    Returns
    -------
    float64 (capacity + 1,)
        Probability of each length, at the end of a slot.

    Examples
    --------
    >>> steady(0.5, burst=2, capacity=2).round(3).tolist()
    [0.25, 0.25, 0.5]
    """
    left = np.maximum(np.arange(capacity + 1) - 1, 0)
    moves = _arrivals(left, chance, burst, capacity)
    balance = np.vstack([moves.T - np.eye(len(moves)), np.ones(len(moves))])
    levels: npt.NDArray[np.float64] = np.linalg.lstsq(balance, np.eye(len(balance))[-1])[0]
    np.maximum(levels, 0.0, out=levels)
    levels /= levels.sum()
    return levels


def waits(chance: float, burst: int, capacity: int) -> npt.NDArray[np.float64]:
    r"""Return how long our packet is at a router, by the queue that it finds there.

    A router with q others sends ours with probability 1 / (1 + q), else one of them, and then a
    burst may come to those that are left. So the mean numbers of slots T solve

    .. math:: T(q) = 1 + \frac{q}{1 + q} \, E \, T(\min(c, q - 1 + burst \cdot B))

    Parameters
    ----------
    chance : float
        Probability of a burst in a slot.
    burst : int
        Packets that come with it.
    capacity : int
        The longest queue.

    Returns
    -------
    float64 (capacity + 1,)
        Mean slots until it is sent, for each length of the queue.

    Examples
    --------
    >>> waits(0.475, burst=2, capacity=7).round(2).tolist()
    [1.0, 1.95, 2.89, 3.8, 4.67, 5.46, 6.11, 6.51]
    """
    queue = np.arange(capacity + 1)
    kept = (queue / (1 + queue))[:, None]
    moves = kept * _arrivals(np.maximum(queue - 1, 0), chance, burst, capacity)
    mean = np.linalg.solve(np.eye(len(moves)) - moves, np.ones(len(moves)))
    return np.asarray(mean, np.float64)


def _arrivals(
    left: npt.NDArray[np.int64], chance: float, burst: int, capacity: int
) -> npt.NDArray[np.float64]:
    """Return the probabilities of each length (column) after a burst may have come, by row."""
    rows, moves = np.arange(len(left)), np.zeros((len(left), capacity + 1))
    moves[rows, left] = 1.0 - chance
    moves[rows, np.minimum(left + burst, capacity)] += chance
    return moves
