r"""TrafficGrid: traffic signals that decide, slot by slot, which street goes.

::

            cross 1     cross 2     cross 3
               │           │           │            ●  an intersection: two queues, one phase
               ▼           ▼           ▼            ─► a link: departures join the next queue
    main 1 ──► ● ────────► ● ────────► ● ──►
               ▼           ▼           ▼            the default: an arterial of N intersections

Intersection i has the queues :math:`q_{i,m}, q_{i,c} \in \{0, .., B\}` of its main and its cross
stream, and the phase :math:`\phi_i \in \{m, c\}`, the stream whose light is green. The decision
:math:`u_i \in \{m, c\}` is the wanted phase of every intersection. In a slot, in this order:

1. *Switch.* Where :math:`u_i \ne \phi_i`, the slot is lost to yellow and all-red: nobody is served,
   and :math:`\phi_i` becomes :math:`u_i` for the next slot.
2. *Serve.* Where :math:`u_i = \phi_i`, the green queue k sends the platoon
   :math:`d_k = \min(q_k, s, B - q_l - \text{those that joined } l \text{ before})` to the next
   queue l, or :math:`d_k = \min(q_k, s)` out of the network. All q are those at the slot's
   beginning: a full link blocks (spill-back), and a place that becomes free is taken a slot later.
   Links that enter one queue are served in the order of the queues that they leave; of several
   that leave one, the slot's platoon takes one, all equally likely.
3. *Arrive.* At every queue that no link enters, one vehicle comes with probability
   :math:`\lambda_m` or :math:`\lambda_c`, independently. If the queue is full, it turns away: lost.

The reward is minus the vehicles that wait in the queues at the end of the slot, minus `lost_cost`
for each that was lost, in vehicle-slots. Nothing ends an episode but its length. Vehicles are
conserved: in = out + change of the queues + lost.

There are :math:`(2 (B + 1)^2)^N` states and :math:`2^N` decisions (N + 1 if one intersection is
switched a step): with B = 6, 9,604 states for N = 2, 941,192 for N = 3, 92 million for N = 4 and
9 thousand million for N = 5.

This is a store-and-forward model of signal control (Papageorgiou et al. 2003, "Review of road
traffic control strategies", Proc. IEEE 91(12)) with finite queues and integer vehicles; its control
by local pressure is in Varaiya (2013), "Max pressure control of a network of signalized
intersections", Transportation Research Part C 36.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np

from dqlearn.checks import check_choice, check_number, check_probability, check_whole
from dqlearn.envs.problems.digits import bases_of
from dqlearn.envs.problems.family import Baseline, Family
from dqlearn.envs.problems.picture import Picture
from dqlearn.envs.problems.recipe import Recipe
from dqlearn.envs.problems.traffic.baselines import longest_queue_first, max_pressure
from dqlearn.envs.problems.traffic.drawing import draw
from dqlearn.envs.problems.traffic.fixed import fixed_time
from dqlearn.envs.problems.traffic.kernels import events, initial, transition
from dqlearn.envs.problems.traffic.network import STREAMS, Link, Roads, links_of, roads_of
from dqlearn.envs.tabular import MAX_EVENTS, TabularEnv
from dqlearn.errors import ConfigurationError
from dqlearn.schedules import VisitCount

__all__ = ["TrafficGrid"]

MAX_INTERSECTIONS = 8
MAX_CAPACITY = 14
CONTROLS = ("all", "one")
STARTS = ("uniform", "empty")


@dataclass(frozen=True)
class TrafficGrid(Family):
    """Signals of a network of intersections.

    A slot is about 4 s: the yellow and all-red time of one change, and the time in which a lane
    with the usual saturation flow of 1800 vehicles an hour lets two vehicles go.

    Parameters
    ----------
    n_intersections : int, default 2
        The N above, 1 .. 8.
    network : "arterial", "grid", networkx.DiGraph or iterable of links, default "arterial"
        "arterial": one main street; "grid": main streets and cross streets, in as square a
        rectangle as N has. Else links (i, j) or (i, j, stream) between intersections 0 .. N - 1,
        or a graph whose edges may have the attribute "stream"; stream is "main" (default) or
        "cross".
    capacity : int, default 6
        Vehicles that a queue holds, 1 .. 14, the B above. Illustrative: a block of some 40 m.
    saturation : int, default 2
        Most vehicles that leave a queue in a slot, 1 .. B, the s above; the 1800 an hour of signal
        timing manuals are 2 in 4 s.
    arrival_main, arrival_cross : float, default 0.5 and 0.25
        Vehicles a slot at each entry of a main or a cross stream, 0 .. 1: the probability that one
        comes. Illustrative; 0.5 is 450 an hour.
    lost_cost : float, default 0.0
        Vehicle-slots for a vehicle that finds its queue full, at least 0. Illustrative: it waits
        for this slot somewhere else, and is forgotten.
    control : {"all", "one"}, default "all"
        "all": a decision is the wanted phase of every intersection, the first the most significant
        bit. "one": it is 0, to keep all phases, or i, to switch intersection i; for large N.
    start : {"uniform", "empty"}, default "uniform"
        First state of an episode: drawn from all (exploring starts, Sutton and Barto 2018, section
        5.3), or empty queues and main everywhere.
    max_episode_steps : int, optional, default 200
        Slots of an episode; it is truncated then. None: it never ends.

    Raises
    ------
    ConfigurationError
        If a value is out of range, or the network is none.

    Examples
    --------
    An intersection with 3 and 1 vehicles that switches loses the slot:

    >>> from dqlearn.envs.problems.traffic import TrafficGrid
    >>> one = TrafficGrid(n_intersections=1, arrival_main=0.0, arrival_cross=0.0)
    >>> one.model().outcomes(one.index([(3, 1)], ["main"]), 1)
    [(1.0, 45, -4.0, False)]
    >>> one.queues(45), one.phases(45)
    (((3, 1),), ('cross',))
    """

    n_intersections: int = 2
    network: Any = "arterial"
    capacity: int = 6
    saturation: int = 2
    arrival_main: float = 0.5
    arrival_cross: float = 0.25
    lost_cost: float = 0.0
    control: str = "all"
    start: str = "uniform"
    max_episode_steps: int | None = 200

    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "small": {"n_intersections": 2},
        "medium": {"n_intersections": 3},
        "large": {"n_intersections": 4, "network": "grid"},
    }
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "small": Recipe(
            20_000_000,
            {
                "gamma": 0.95,
                "learning_rate": VisitCount(scale=20.0, offset=20.0),
                "epsilon": 0.5,
                "initial_value": -90.0,
            },
        ),
        "medium": Recipe(
            200_000_000,
            {
                "gamma": 0.95,
                "learning_rate": VisitCount(scale=20.0, offset=20.0),
                "epsilon": 0.3,
                "initial_value": -110.0,
            },
        ),
    }

    def __post_init__(self) -> None:
        """Check the values, and make the network plain."""
        check_whole("n_intersections", self.n_intersections, 1, MAX_INTERSECTIONS)
        check_whole("capacity", self.capacity, 1, MAX_CAPACITY)
        check_whole("saturation", self.saturation, 1, self.capacity)
        if self.max_episode_steps is not None:
            check_whole("max_episode_steps", self.max_episode_steps, 1, 2**62)
        for name in ("arrival_main", "arrival_cross"):
            check_probability(name, getattr(self, name))
        check_number("lost_cost", self.lost_cost, 0)
        for name, choices in (("control", CONTROLS), ("start", STARTS)):
            check_choice(name, getattr(self, name), choices)
        links = links_of(self.network, self.n_intersections)
        if not isinstance(self.network, str):
            object.__setattr__(self, "network", links)
        if (n := len(self.roads.entries) + len(self.roads.coins)) > MAX_EVENTS:
            raise ConfigurationError(
                f"a slot may have at most {MAX_EVENTS} random events, got {n}: "
                f"{len(self.roads.entries)} entries, {len(self.roads.coins)} ways to choose; "
                "take fewer intersections, or join more of them"
            )

    @cached_property
    def links(self) -> tuple[Link, ...]:
        """Links between intersections: (from, to, stream)."""
        return links_of(self.network, self.n_intersections)

    @cached_property
    def roads(self) -> Roads:
        """The network as queues; queue 2 i is the main one of intersection i, 2 i + 1 its other."""
        return roads_of(self.links, self.n_intersections)

    @property
    def chances(self) -> tuple[float, ...]:
        """Probabilities of the events: an arrival at each entry, then the coins of platoons."""
        arrivals = (float(self.arrival_main), float(self.arrival_cross))
        return (*(arrivals[queue % 2] for queue in self.roads.entries), *self.roads.coins)

    def model(self) -> TabularEnv:
        """Return the compiled model.

        Returns
        -------
        TabularEnv
            Factors queue_main_1, queue_cross_1, .., phase_1, ..
        """
        n, queues = self.n_intersections, self.capacity + 1
        labels = self.action_labels
        dims: dict[str, int | tuple[str, ...]] = {
            f"queue_{stream}_{i}": queues for i in range(1, n + 1) for stream in STREAMS
        }
        dims |= {f"phase_{i}": STREAMS for i in range(1, n + 1)}
        return TabularEnv(
            (2 * queues**2) ** n,
            len(labels),
            initial,
            transition,
            events,
            n_events=len(self.chances),
            params=self._params(),
            max_episode_steps=self.max_episode_steps,
            state_dims=dims,
            action_labels=labels,
            picture=self.picture,
            name=type(self).__name__,
        )

    def _params(self) -> tuple[Any, ...]:
        n, network = self.n_intersections, self.roads
        roads = [
            (4 * r.source, 4 * r.target, _light(r.source, n), r.mask, r.value)
            for r in network.roads
        ]
        exits = [(4 * queue, _light(queue, n)) for queue in network.exits]
        one, empty = self.control == "one", self.start == "empty"
        return (
            bases_of((self.capacity + 1,) * (2 * n)),
            self.chances,
            (n, int(self.capacity), int(self.saturation), int(one), int(empty)),
            float(self.lost_cost),
            np.array(roads, np.int64).reshape(-1, 5),
            np.array(exits, np.int64).reshape(-1, 2),
            4 * np.array(network.entries, np.int64),
        )

    @property
    def action_labels(self) -> tuple[str, ...]:
        """Names of the decisions, such as "main cross": the wanted phases in order."""
        n = self.n_intersections
        if self.control == "one":
            return ("keep", *(f"switch {i}" for i in range(1, n + 1)))
        return tuple(
            " ".join(STREAMS[action >> (n - 1 - i) & 1] for i in range(n))
            for action in range(1 << n)
        )

    def index(self, queues: Any, phases: Any) -> int:
        """Return the state of given queues and phases.

        Parameters
        ----------
        queues : sequence of (int, int)
            Vehicles in the main and the cross queue of each intersection.
        phases : sequence of {"main", "cross"}
            The phase of each intersection.

        Returns
        -------
        int
            Index of the state.

        Raises
        ------
        ConfigurationError
            If there is no such state.
        """
        flat = [int(vehicles) for pair in queues for vehicles in pair]
        inside = len(flat) == 2 * self.n_intersections == 2 * len(phases)
        if not inside or not all(0 <= vehicles <= self.capacity for vehicles in flat):
            raise ConfigurationError(
                f"expected two queues of 0 .. {self.capacity} vehicles and a phase for each of "
                f"{self.n_intersections} intersections, got {queues=} and {phases=}"
            )
        state = 0
        for vehicles in flat:
            state = state * (self.capacity + 1) + vehicles
        for phase in phases:
            state = 2 * state + STREAMS.index(phase)
        return state

    def queues(self, state: int) -> tuple[tuple[int, int], ...]:
        """Return the queues of a state.

        Parameters
        ----------
        state : int
            Its index.

        Returns
        -------
        tuple of (int, int)
            Vehicles in the main and the cross queue of each intersection.
        """
        rest, found = int(state) >> self.n_intersections, []
        for _ in range(2 * self.n_intersections):
            rest, vehicles = divmod(rest, self.capacity + 1)
            found.append(vehicles)
        found.reverse()
        return tuple(zip(found[::2], found[1::2], strict=True))

    def phases(self, state: int) -> tuple[str, ...]:
        """Return the phases of a state.

        Parameters
        ----------
        state : int
            Its index.

        Returns
        -------
        tuple of str
            "main" or "cross" for each intersection.
        """
        n = self.n_intersections
        return tuple(STREAMS[int(state) >> (n - 1 - i) & 1] for i in range(n))

    def picture(self, state: int, action: int | None) -> Picture:
        """Return the network in a state.

        Parameters
        ----------
        state : int
            Index of the state.
        action : int, optional
            The decision that led there.

        Returns
        -------
        Picture
            Every queue at the link that leads to it; small nodes are entries.
        """
        return draw(self, state, action)

    def baselines(self) -> dict[str, Baseline]:
        """Return the policies that a learned one is compared with.

        Returns
        -------
        dict of str to callable
            "fixed time" (searches for its cycle when first asked), "longest queue first" and "max
            pressure".
        """
        return {
            "fixed time": partial(fixed_time, self),
            "longest queue first": partial(longest_queue_first, self),
            "max pressure": partial(max_pressure, self),
        }


def _light(queue: int, n_intersections: int) -> int:
    """Return the bit of the queue's light; see the kernels."""
    intersection, stream = divmod(queue, 2)
    return (1 + stream) * n_intersections - 1 - intersection
