"""Layout: which machine's parts go where.

::

    edges (0, 2), (1, 2) ──► followers (2, 2, None)     parts of 0 and of 1 go to 2
                         ──► inputs   ((), (), (0, 1))   2 takes one of each

Invariant: parts go from a lower to a higher number, each store has one machine behind it, and the
last machine sells: a tree, of which a line is a case.
"""

from __future__ import annotations

from typing import Any

from dqlearn.envs.problems.topology import Edges, edges_of
from dqlearn.errors import ConfigurationError

__all__ = ["inputs_of", "places_of", "tree_of"]


def tree_of(edges: Any, machines: int) -> Edges:
    """Return the edges of an assembly tree, checked and in the order of their starts.

    Parameters
    ----------
    edges : networkx.Graph, iterable of pairs of int, or None
        From each machine to the one that takes its parts; None is a line.
    machines : int
        How many.

    Returns
    -------
    tuple of (int, int)
        One edge from each machine but the last.

    Raises
    ------
    ConfigurationError
        If they are no such tree.
    """
    if edges is None:
        return tuple((i, i + 1) for i in range(machines - 1))
    tree = tuple(sorted(edges_of(edges, machines)))
    if [start for start, _ in tree] != list(range(machines - 1)) or any(a > b for a, b in tree):
        raise ConfigurationError(
            f"edges must be an assembly tree: one edge from each machine 0 .. {machines - 2} to a "
            f"higher number, the last machine sells; got {tree}: number machines as parts flow"
        )
    return tree


def inputs_of(edges: Edges, machine: int) -> tuple[int, ...]:
    """Return the machines whose stores a machine takes from.

    Parameters
    ----------
    edges : tuple of (int, int)
        As :func:`tree_of` returns them.
    machine : int
        Which.

    Returns
    -------
    tuple of int
        Empty if it takes raw parts.
    """
    return tuple(start for start, end in edges if end == machine)


def places_of(edges: Edges, machines: int) -> list[tuple[float, float]]:
    """Return where to draw the machines: the last on the right, branches above each other.

    Parameters
    ----------
    edges : tuple of (int, int)
        As :func:`tree_of` returns them.
    machines : int
        How many.

    Returns
    -------
    list of (float, float)
        One unit apart.
    """
    depth, row = [0] * machines, [0.0] * machines
    rows = 0
    for i in sorted(range(machines), key=lambda i: -i):
        depth[i] = next((depth[end] + 1 for start, end in edges if start == i), 0)
    for i in range(machines):
        before = inputs_of(edges, i)
        row[i] = sum(row[j] for j in before) / len(before) if before else float(rows)
        rows += not before
    return [(float(-d), -r) for d, r in zip(depth, row, strict=True)]
