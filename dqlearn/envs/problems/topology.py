"""Topology: which nodes of a network are joined.

::

    networkx graph ─┐
    [(0, 1), ..] ───┴──► ((0, 1), ..)     nodes are 0 .. n-1

Invariant: what comes out is plain integers, so that it can be an environment's argument in JSON.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from dqlearn.checks import is_whole
from dqlearn.errors import ConfigurationError

__all__ = ["Edges", "circle", "edges_of"]

Edges = tuple[tuple[int, int], ...]


def edges_of(topology: Any, n_nodes: int) -> Edges:
    """Return the edges of a network, checked.

    Parameters
    ----------
    topology : networkx.Graph, or iterable of pairs of int
        Nodes are 0 .. n_nodes - 1; anything with an iterable `edges` will do.
    n_nodes : int
        How many.

    Returns
    -------
    tuple of (int, int)
        In the order given.

    Raises
    ------
    ConfigurationError
        If an edge is no pair of two different nodes, or occurs twice.

    Examples
    --------
    >>> edges_of([[0, 1], [1, 2]], 3)
    ((0, 1), (1, 2))
    """
    given: Iterable[Any] = getattr(topology, "edges", topology)
    try:
        pairs = [(start, end) for start, end in given]
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"expected a networkx graph or pairs of nodes, got {topology!r}"
        ) from error
    for node in (node for pair in pairs for node in pair):
        if not is_whole(node):
            raise ConfigurationError(
                f"nodes are the integers 0 .. {n_nodes - 1}, got {node!r}: number them, as "
                'networkx.convert_node_labels_to_integers(graph, label_attribute="name") does'
            )
    edges = tuple((int(start), int(end)) for start, end in pairs)
    for start, end in edges:
        if start == end or not (0 <= start < n_nodes and 0 <= end < n_nodes):
            raise ConfigurationError(
                f"an edge joins two different nodes in 0 .. {n_nodes - 1}, got {(start, end)}"
            )
    if len(set(edges)) < len(edges):
        raise ConfigurationError(f"an edge may be given once, got {edges}")
    return edges


def circle(n_nodes: int) -> Sequence[tuple[float, float]]:
    """Return places on a circle, for drawing.

    Parameters
    ----------
    n_nodes : int
        How many.

    Returns
    -------
    list of (float, float)
        From the top, clockwise.
    """
    angles = [math.pi / 2 - 2 * math.pi * i / n_nodes for i in range(n_nodes)]
    return [(math.cos(angle), math.sin(angle)) for angle in angles]
