"""Network: which streams of which intersections are joined, and where vehicles come in and go out.

::

    queue = 2 * intersection + stream        0 main: west to east, 1 cross: north to south

         c|      c|                 entries  queues that no link enters
        ──●──m──►●──►               exits    queues that no link leaves
          ▼      ▼                  links    the rest of the road: queue ──► queue

Invariant: from every queue there is a way out, so that no vehicle is shut in.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

from dqlearn.envs.problems.topology import circle, edges_of
from dqlearn.errors import ConfigurationError

__all__ = ["STREAMS", "Link", "Road", "Roads", "links_of", "places_of", "roads_of"]

STREAMS = ("main", "cross")
NAMED = ("arterial", "grid")

Link = tuple[int, int, str]
"""(from intersection, to intersection, "main" or "cross"): the stream it leaves and joins."""


@dataclass(frozen=True)
class Road:
    """A link between two queues, and which coins send a platoon along it.

    Attributes
    ----------
    source, target : int
        Queues.
    mask, value : int
        It is open in a slot whose coins, as a bit mask, agree with `value` in the bits of `mask`.
    """

    source: int
    target: int
    mask: int
    value: int


@dataclass(frozen=True)
class Roads:
    """A network as queues.

    Attributes
    ----------
    roads : tuple of Road
        All links.
    entries, exits : tuple of int
        Queues where vehicles come in, and go out.
    coins : tuple of float
        Probabilities of the coins.
    """

    roads: tuple[Road, ...]
    entries: tuple[int, ...]
    exits: tuple[int, ...]
    coins: tuple[float, ...]


def links_of(network: Any, n_intersections: int) -> tuple[Link, ...]:
    """Return the links of a network, checked.

    Parameters
    ----------
    network : "arterial", "grid", networkx.DiGraph, or iterable of links
        A link is (i, j), of the main streams, or (i, j, "main" or "cross"); an edge of a graph has
        the attribute "stream" in place of the third.
    n_intersections : int
        How many.

    Returns
    -------
    tuple of (int, int, str)
        In the order given.

    Raises
    ------
    ConfigurationError
        If it is none of these, or there is a queue without a way out.

    Examples
    --------
    >>> links_of("grid", 4)
    ((0, 1, 'main'), (0, 2, 'cross'), (1, 3, 'cross'), (2, 3, 'main'))
    """
    if isinstance(network, str):
        return _lattice(_columns(network, n_intersections), n_intersections)
    links = _triples(network)
    for stream in STREAMS:
        edges_of([(i, j) for i, j, s in links if s == stream], n_intersections)
    shut = _shut_in(links)
    if shut:
        raise ConfigurationError(
            f"every queue must have a way out, got links that shut in {shut}: leave out a link, or "
            "add one to a queue that has a way out"
        )
    return links


def places_of(network: Any, n_intersections: int) -> list[tuple[float, float]]:
    """Return where intersections are drawn.

    Parameters
    ----------
    network : str or links
        As for `links_of`.
    n_intersections : int
        How many.

    Returns
    -------
    list of (float, float)
        East and north.
    """
    if isinstance(network, str):
        columns = _columns(network, n_intersections)
        return [(2.0 * (i % columns), -2.0 * (i // columns)) for i in range(n_intersections)]
    return [(2.0 * x, 2.0 * y) for x, y in circle(n_intersections)]


def roads_of(links: tuple[Link, ...], n_intersections: int) -> Roads:
    """Return a network as queues, with the coins that divide platoons.

    A queue that d links leave has d - 1 coins. Its platoon takes the first link whose coin shows
    heads, else the last; coin k of these has probability 1 / (d - k), so all are equally likely.

    Parameters
    ----------
    links : tuple of Link
        As `links_of` returns them.
    n_intersections : int
        How many.

    Returns
    -------
    Roads
        Ordered by the queues that they leave; bits 0, 1, .. of their masks are the coins.
    """
    pairs = [(2 * i + STREAMS.index(s), 2 * j + STREAMS.index(s)) for i, j, s in links]
    leaving = Counter(source for source, _ in pairs)
    roads: list[Road] = []
    coins: list[float] = []
    for source, n_ways in sorted(leaving.items()):
        first, before = len(coins), 0
        targets = [target for start, target in pairs if start == source]
        for way, target in enumerate(targets):
            own = 0 if way == n_ways - 1 else 1 << (first + way)
            roads.append(Road(source, target, before | own, own))
            before |= own
        coins += [1.0 / (n_ways - way) for way in range(n_ways - 1)]
    joined = {target for _, target in pairs}
    queues = range(2 * n_intersections)
    return Roads(
        tuple(roads),
        tuple(queue for queue in queues if queue not in joined),
        tuple(queue for queue in queues if queue not in leaving),
        tuple(coins),
    )


def _columns(name: str, n_intersections: int) -> int:
    if name not in NAMED:
        raise ConfigurationError(f"network must be one of {NAMED}, or links, got {name!r}")
    if name == "arterial":
        return n_intersections
    rows = range(math.isqrt(n_intersections), 0, -1)
    return n_intersections // next(row for row in rows if n_intersections % row == 0)


def _lattice(columns: int, n: int) -> tuple[Link, ...]:
    links = []
    for i in range(n):
        if i % columns < columns - 1:
            links.append((i, i + 1, "main"))
        if i + columns < n:
            links.append((i, i + columns, "cross"))
    return tuple(links)


def _triples(network: Any) -> tuple[Link, ...]:
    if not getattr(network, "is_directed", lambda: True)():
        raise ConfigurationError(f"links have a direction: expected a DiGraph, got {network}")
    given = network
    if hasattr(network, "edges"):
        given = network.edges(data="stream", default="main")
    try:
        links = tuple((link[0], link[1], (*link[2:], "main")[0]) for link in map(tuple, given))
        wrong = [link for link in map(tuple, given) if len(link) > 3]
    except (TypeError, IndexError) as error:
        raise ConfigurationError(
            f"expected 'arterial', 'grid', a networkx.DiGraph or links (i, j, stream), "
            f"got {network!r}"
        ) from error
    wrong += [link for link in links if link[2] not in STREAMS]
    if wrong:
        raise ConfigurationError(f"a link is (i, j) or (i, j, stream of {STREAMS}), got {wrong[0]}")
    return links


def _shut_in(links: tuple[Link, ...]) -> list[tuple[int, str]]:
    """Return the (intersection, stream) that no way leads out of."""
    leaving = {(i, stream) for i, _, stream in links}
    open_ = {(j, stream) for _, j, stream in links} - leaving
    while True:
        more = {(i, s) for i, j, s in links if (j, s) in open_} - open_
        if not more:
            return sorted(leaving - open_)
        open_ |= more
