r"""PacketRouting: a packet finds its way hop by hop through a network with queues.

::

    r0 ──── r1 ──── r2 ─────┐        field of sensors
      \   /  \   /           │
       r3      r4           r6       core r3, r4, r5: short, but busy with other traffic
         \    /             │
           r5               r7       side way r6, r7, r8: longer, and idle
            │               │
           r9 ───────────── r8       gateway r9

State (v, d, q_1, .., q_m): the router where the packet is, where it is to go, and the packets of
other traffic at each router of the core, 0 .. capacity. Of n routers, D destinations and m routers
in the core there are n D (capacity + 1)^m states. Action: the port of v that the packet leaves by.
Port i of a router leads to neighbour i, in ascending order; a router with fewer neighbours than
another begins anew: port i is port i modulo their number. A slot, in this order:

1. router v sends one of the 1 + q_v packets it holds, each as likely (q_v = 0 outside the core):
   ours with probability 1 / (1 + q_v), and then it is at the port's other end. The port is chosen
   anew in each slot;
2. every other router of the core sends a packet if it has one, v too where it did not send ours;
   this leaves the core;
3. a burst of `burst` packets comes to each router of the core with probability load / burst; those
   that find no room are lost. (There is always room for ours.)
4. the reward is -1; the episode terminates if our packet has come to d.

With S the event that ours is sent, B_u the bursts, and s_u = 1 but s_v = 1 - S:

.. math:: q_u' = \min(c, \; q_u - s_u [q_u > 0] + burst \cdot B_u)

Invariant: packets in = out + stored + lost, at every router in every slot; ours is in one place.

In the spirit of Boyan and Littman (1994), "Packet routing in dynamically changing networks: a
reinforcement learning approach", NIPS 6: there too the delay is learned at each router, by
neighbour and destination, and beats the shortest path where that is crowded. Here the queues are
in the state, so that it is a decision process that can be solved; service in random order, not in
that of arrival, keeps places in a queue out of it. Networks and numbers are illustrative.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from dqlearn.checks import check_choice, check_count, check_number, check_whole
from dqlearn.envs.problems.digits import bases_of
from dqlearn.envs.problems.family import Baseline, Family
from dqlearn.envs.problems.packets import baselines
from dqlearn.envs.problems.packets.graph import Ports, distances, links_of, ports_of, steady, waits
from dqlearn.envs.problems.packets.hop_kernels import NOWHERE, events, initial, transition, word_of
from dqlearn.envs.problems.picture import Link, Node, Picture, counts, graded
from dqlearn.envs.problems.recipe import Recipe
from dqlearn.envs.problems.topology import Edges
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import ConfigurationError
from dqlearn.schedules import VisitCount

__all__ = ["PacketRouting"]

STARTS = ("uniform", "steady", "empty")
MAX_NODES = 15
FIELD_3 = ((0, 1), (1, 2), (0, 3), (1, 3), (1, 4), (2, 4), (3, 5), (4, 5), (5, 9))
SIDE_3 = ((2, 6), (6, 7), (7, 8), (8, 9))
FIELD_5 = ((0, 1), (1, 2), (2, 3), (3, 4), (0, 5), (1, 5), (2, 6), (3, 7), (4, 7), (5, 8), (6, 8))
SIDE_5 = (
    (6, 9),
    (7, 9),
    (8, 14),
    (9, 14),
    (0, 10),
    (10, 11),
    (4, 13),
    (11, 13),
    (11, 12),
    (12, 14),
)


@dataclass(frozen=True)
class PacketRouting(Family):
    """Hop-by-hop routing in a network with queues.

    Rewards are minus slots: the return of an episode is minus the packet's delay.

    Parameters
    ----------
    edges : networkx.Graph, or iterable of pairs of int
        Links, used in both directions, in any order; routers are 0 .. n - 1, n at
        most 15, all connected.
    core : tuple of int
        Routers that other traffic passes through, 1 .. 13 of them.
    destinations : tuple of int
        Routers that our packet may have to go to, 1 .. 15 of them.
    load : float
        Mean number of other packets that come to each router of the core in a slot, 0 .. `burst`;
        it can send one, so that it is overloaded from 1 on.
    capacity : int
        Other packets that a router of the core holds, 1 .. 14.
    burst : int
        Packets that come together, at least 1; with 1 there are no queues, as a router sends one
        packet in every slot.
    start : {"uniform", "steady", "empty"}
        Queues at the start of an episode: all levels alike ("exploring starts", Sutton and Barto
        2018, section 5.3), as they are in the long run without our packet, or empty. Source and
        destination are drawn uniformly.
    max_episode_steps : int, optional
        Truncate episodes after so many slots.

    Raises
    ------
    ConfigurationError
        If a parameter is out of range, or the network is not connected.

    Examples
    --------
    >>> from dqlearn.envs.problems.packets import PacketRouting
    >>> PacketRouting.of("medium").model().n_states
    983040
    """

    edges: Edges
    core: tuple[int, ...]
    destinations: tuple[int, ...]
    load: float = 0.95
    capacity: int = 7
    burst: int = 2
    start: str = "uniform"
    max_episode_steps: int | None = 200

    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "small": {"edges": FIELD_3 + SIDE_3, "core": (3, 4, 5), "destinations": (9, 0, 2)},
        "medium": {
            "edges": FIELD_5 + SIDE_5,
            "core": (5, 6, 7, 8, 9),
            "destinations": (14, 2),
        },
        "large": {
            "edges": FIELD_5 + SIDE_5,
            "core": (1, 2, 3, 5, 6, 7, 8, 9),
            "destinations": (14, 2),
        },
    }
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "small": Recipe(
            40_000_000,
            {
                "gamma": 0.99,
                "learning_rate": VisitCount(scale=5.0, offset=5.0),
                "epsilon": 0.3,
            },
        ),
        "medium": Recipe(
            800_000_000,
            {
                "gamma": 0.99,
                "learning_rate": VisitCount(scale=5.0, offset=5.0),
                "epsilon": 0.2,
            },
        ),
    }

    def __post_init__(self) -> None:
        """Check the parameters and make them plain values."""
        object.__setattr__(self, "edges", links_of(self.edges, MAX_NODES))
        for name, most in (("core", NOWHERE), ("destinations", MAX_NODES)):
            object.__setattr__(self, name, _nodes(name, getattr(self, name), most, self.n_nodes))
        ports_of(self.edges, self.n_nodes)  # raises if they are not connected
        self._check_numbers()

    def _check_numbers(self) -> None:
        object.__setattr__(self, "burst", check_count("burst", self.burst))
        check_number("load", self.load, 0, self.burst, cure="there is at most one burst a slot")
        object.__setattr__(self, "capacity", check_whole("capacity", self.capacity, 1, 14))
        check_choice("start", self.start, STARTS)

    @property
    def n_nodes(self) -> int:
        """How many routers there are."""
        return 1 + max(max(edge) for edge in self.edges)

    @property
    def names(self) -> tuple[str, ...]:
        """What the routers are called: ``r0 ..``."""
        return tuple(f"r{node}" for node in range(self.n_nodes))

    @property
    def ports(self) -> Ports:
        """Where the ports of each router lead, one row a router, all of one length."""
        return ports_of(self.edges, self.n_nodes)

    @property
    def levels(self) -> npt.NDArray[np.float64]:
        """Long-run distribution of a queue of the core, without our packet, (capacity + 1,)."""
        return steady(self.load / self.burst, self.burst, self.capacity)

    @property
    def waits(self) -> npt.NDArray[np.float64]:
        """Mean slots that our packet is at a router, by the queue it finds, (capacity + 1,)."""
        return waits(self.load / self.burst, self.burst, self.capacity)

    def model(self) -> TabularEnv:
        """Return the compiled model.

        Returns
        -------
        TabularEnv
            With the factors ``node`` and ``destination``, whose labels are the routers' names, and
            ``queue_r3 ..``, one a router of the core; the actions are ``port_0 ..``.
        """
        n, names, width = self.n_nodes, self.names, len(self.ports[0])
        levels = self.capacity + 1
        sizes = (n, len(self.destinations), *[levels] * len(self.core))
        goals = tuple(names[node] for node in self.destinations)
        queues = {f"queue_{names[node]}": levels for node in self.core}
        return TabularEnv(
            math.prod(sizes),
            width,
            initial,
            transition,
            events,
            n_events=len(self.core) + 1,
            params=self._params(sizes),
            max_episode_steps=self.max_episode_steps,
            state_dims={"node": names, "destination": goals, **queues},
            action_labels=tuple(f"port_{i}" for i in range(width)),
            picture=self.picture,
            name=type(self).__name__,
        )

    def _params(self, sizes: tuple[int, ...]) -> tuple[Any, ...]:
        place = [NOWHERE] * self.n_nodes
        for k, router in enumerate(self.core):
            place[router] = k
        # Words of four bits an entry, not arrays: a kernel that reads an array counts references.
        ways = tuple(word_of(column) for column in zip(*self.ports, strict=True))
        bursts = (float(self.load) / self.burst,) * len(self.core)
        levels = tuple(self._start_levels().cumsum().tolist())
        words = ways, word_of(self.destinations), word_of(place)
        return bases_of(sizes), bursts, self.burst, words, levels

    def _start_levels(self) -> npt.NDArray[np.float64]:
        """Distribution of a queue at the start."""
        if self.start == "steady":
            return self.levels
        levels = np.zeros(self.capacity + 1)
        levels[: 1 if self.start == "empty" else None] = 1.0
        return np.asarray(levels / levels.sum())

    def picture(self, state: int, action: int | None) -> Picture:
        """Return the network with its queues.

        Parameters
        ----------
        state : int
            Index of the state.
        action : int, optional
            The port that was chosen last.

        Returns
        -------
        Picture
            Routers and their queues, links by the queues at their ends. The links over which the
            chosen port leads to the packet's router are highlighted.
        """
        node, goal, *levels = self.parts(state)
        queues = dict(zip(self.core, levels, strict=True))
        full = [queues.get(router, 0) / self.capacity for router in range(self.n_nodes)]
        nodes = tuple(
            Node(
                name,
                at,
                full[i],
                _written(i, node, goal, queues),
                decision="packet" * (i == node),
                plain=i not in queues,
            )
            for i, (name, at) in enumerate(zip(self.names, self._places(), strict=True))
        )
        links = tuple(
            Link(
                start,
                end,
                (full[start] + full[end]) / 2,
                directed=False,
                decision=self._came(node, (start, end), action),
            )
            for start, end in self.edges
        )
        chosen = "no port yet" if action is None else f"port_{action}"
        title = f"packet at {self.names[node]}, for {self.names[goal]}; chosen: {chosen}"
        return Picture(title, nodes, links, self._key(), spacing=1.1)

    def _came(self, node: int, edge: tuple[int, int], action: int | None) -> str:
        """Return the port, if the packet may have come to its router over an edge by it."""
        if action is None or node not in edge:
            return ""
        return f"port_{action}" * (self.ports[sum(edge) - node][action] == node)

    def _key(self) -> tuple[str | Node | Link, ...]:
        router = Node("", (0.0, 0.0))
        return (
            *graded("queue, packets", router, counts(self.capacity)),
            replace(router, text="router without one", plain=True),
            "packet, decision",
            replace(router, text="packet is here", decision="packet", plain=True),
            Link(0, 0, 0.0, "came by this port", directed=False, decision="port"),
        )

    def _places(self) -> list[tuple[float, float]]:
        """Rows by hops from the first destination, which is at the bottom."""
        rows = distances(self.ports, np.ones(self.n_nodes))[:, self.destinations[0]]
        places = []
        for node, row in enumerate(rows):
            mates = np.flatnonzero(rows == row).tolist()
            places.append((mates.index(node) - (len(mates) - 1) / 2 + 0.1 * (row % 2), float(row)))
        return places

    def baselines(self) -> dict[str, Baseline]:
        """Return the rules that a learned policy is compared with.

        Returns
        -------
        dict of str to callable
            ``shortest_path``, ``static_delay``, ``live_delay`` and ``random``.
        """
        return {
            "shortest_path": partial(baselines.shortest_path, self),
            "static_delay": partial(baselines.static_delay, self),
            "live_delay": partial(baselines.live_delay, self),
            "random": partial(baselines.random_port, self),
        }

    def parts(self, state: int) -> tuple[int, ...]:
        """Return what a state is made of.

        Parameters
        ----------
        state : int
            Its index.

        Returns
        -------
        tuple of int
            The packet's router, its destination, then the queue of each router of the core.
        """
        levels, m = self.capacity + 1, len(self.core)
        queues = [state // levels**i % levels for i in reversed(range(m))]
        node, goal = divmod(state // levels**m, len(self.destinations))
        return node, self.destinations[goal], *queues

    def state(self, node: str, destination: str, queues: Sequence[int]) -> int:
        """Return the index of a state, the inverse of :meth:`parts`.

        Parameters
        ----------
        node, destination : str
            Names of routers.
        queues : sequence of int
            The queue length of each router of the core.

        Returns
        -------
        int
            Its index.
        """
        goals = [self.names[router] for router in self.destinations]
        index = self.names.index(node) * len(goals) + goals.index(destination)
        for queue in queues:
            index = index * (self.capacity + 1) + queue
        return index


def _nodes(name: str, given: Any, most: int, n_nodes: int) -> tuple[int, ...]:
    try:
        nodes = tuple(int(node) for node in given)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{name} must be a sequence of routers, got {given!r}") from error
    inside = all(0 <= node < n_nodes for node in nodes)
    if not inside or not 1 <= len(nodes) <= most or len(set(nodes)) < len(nodes):
        raise ConfigurationError(
            f"{name} must be 1 .. {most} different routers in 0 .. {n_nodes - 1}, got {given!r}"
        )
    return nodes


def _written(router: int, node: int, goal: int, queues: Mapping[int, int]) -> str:
    """Return what a picture says of a router."""
    parts = [f"{queues[router]} waiting"] if router in queues else []
    parts += ["packet"] if router == node else []
    parts += ["goal"] if router == goal else []
    return ", ".join(parts)
