"""Drawing of TrafficGrid: every queue at the link that leads to it.

::

            N1              W, N   entries of a main and a cross stream
             │ cross 1      1 2    intersections, with the street that is green
    W1 ────► 1 ────► 2
      main 3    main 0

Invariant: an intersection is number i + 1 here as in the names of the state's factors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dqlearn.envs.problems.picture import Link, Node, Picture, counts, graded
from dqlearn.envs.problems.traffic.network import STREAMS, places_of

if TYPE_CHECKING:
    from dqlearn.envs.problems.traffic.model import TrafficGrid

__all__ = ["draw"]

_ENTRY = (("W", -1.2, 0.0), ("N", 0.0, 1.2))  # name and place beside the intersection


def draw(problem: TrafficGrid, state: int, action: int | None) -> Picture:
    """Draw a state.

    Parameters
    ----------
    problem : TrafficGrid
        Whose state it is.
    state : int
        Index of the state.
    action : int, optional
        The decision that led there.

    Returns
    -------
    Picture
        Levels are queues, as a share of the capacity; what the decision has made green, or the
        intersections that it has switched, are highlighted.
    """
    n, queues, phases = problem.n_intersections, problem.queues(state), problem.phases(state)
    wanted = _wanted(problem, action)
    places = places_of(problem.network, n)
    full = problem.capacity
    nodes = [
        Node(
            f"{i + 1}",
            places[i],
            sum(queues[i]) / (2 * full),
            f"{phases[i]} green",
            decision="switched" * (wanted[i] == "switched"),
        )
        for i in range(n)
    ]
    ends = [(i, j, STREAMS.index(stream)) for i, j, stream in problem.links]
    for i, stream in (divmod(queue, 2) for queue in problem.roads.entries):
        letter, east, north = _ENTRY[stream]
        ends.append((len(nodes), i, stream))
        at = places[i][0] + east, places[i][1] + north
        nodes.append(Node(f"{letter}{i + 1}", at, plain=True))
    links = tuple(
        Link(
            start,
            i,
            queues[i][stream] / full,
            f"{STREAMS[stream]} {queues[i][stream]}",
            decision="green" * (wanted[i] == STREAMS[stream]),
        )
        for start, i, stream in ends
    )
    waiting = sum(sum(pair) for pair in queues)
    decision = "" if action is None else f"; decision: {problem.action_labels[action]}"
    return Picture(f"{waiting} waiting{decision}", tuple(nodes), links, _key(full), spacing=1.3)


def _wanted(problem: TrafficGrid, action: int | None) -> tuple[str, ...]:
    """Return what is decided for each intersection: a stream, "switched" or nothing."""
    n = problem.n_intersections
    if action is None:
        return ("",) * n
    words = problem.action_labels[action].split()
    if problem.control == "all":
        return tuple(words)
    return tuple("switched" * (words == ["switch", f"{i + 1}"]) for i in range(n))


def _key(full: int) -> tuple[str | Node | Link, ...]:
    return (
        *graded("queue of a stream, vehicles", Link(0, 0), counts(full)),
        *graded("both queues, vehicles", Node("", (0, 0)), counts(2 * full)),
        Node("", (0, 0), text="entry", plain=True),
        "decision",
        Link(0, 0, 0.0, "green, or switched", decision="green"),
    )
