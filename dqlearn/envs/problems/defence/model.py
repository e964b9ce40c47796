r"""NetworkDefence: an intruder spreads over a network of hosts, and one host a slot can be cleaned.

::

    outside ~~~> user_1 ─── enterprise_1
                   │      /      │
    outside ~~~> user_2 ─┘       │
                                 │
                 user_3 ─── enterprise_2 ─── operational        ~~~> exposed

A host h has a level x_h: 0 clean, 1 scanned (the attacker knows its services), 2 user (he has an
account), 3 root. It is *compromised* from 2 on. Its sources are the compromised hosts that it is
linked with, and the outside if it is exposed:

.. math:: n_h = [h \text{ exposed}]
                + \#\{g : x_g \ge 2,\ \{g, h\} \text{ a link that is not isolated}\}

A slot, in this order:

1. One decision is taken: monitor (nothing), restore a host, remove the intruder from a host, or
   isolate a link for this slot.
2. The attack: on every host at once and independently, from the levels at the slot's beginning,
   x_h rises by one with probability

   ====================  ==================================  =========================
   clean to scanned      :math:`1 - (1 - scan)^{n_h}`        each source tries
   scanned to user       :math:`1 - (1 - exploit)^{n_h}`     each source tries
   user to root          :math:`escalate`                    on the host itself
   ====================  ==================================  =========================

   so that a clean host without sources stays clean.
3. The decision takes effect: a restored host is clean, for certain; a removal puts a host that is
   now at user back to scanned with probability `removal`, and does nothing at any other level.
4. The slot is paid for: with w = (0, 0, `user_share`, 1),

   .. math:: r = -\sum_h value_h \, w(x_h) - price(decision)

The attack comes first because its chances must be known when the slot begins: the K = N + 1 events
(an attack a host, and the removal) are independent. Size: 4^N states and 1 + 2 N + L decisions, L
being the links that can be isolated (none by default); N = 6, 10 and 15 give 4.1e3, 1.0e6 and
1.1e9 states.

Sources: levels, decisions (but isolation) and costs are those of CAGE Challenge 2 (TTCP CAGE
Working Group 2022, "TTCP CAGE Challenge 2", AAAI-22 Workshop on Artificial Intelligence for Cyber
Security; Kiely, Bowman, Standen and Moir 2023, "On autonomous agents in a cyber defence
environment", arXiv:2309.07388): a slot of root access costs 0.1 on a user or operational host and
1 on an enterprise or operational server, an operational server whose service is stopped 10 more,
and a restore 1; an intruder with root cannot be removed. Otherwise it is simpler than CAGE-2: the
defender sees the levels, the attacker acts everywhere at once, and there are no decoys. Numbers
that the challenge does not give are illustrative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from dqlearn.envs.problems.defence import baselines, checks
from dqlearn.envs.problems.defence.kernels import events, initial, transition
from dqlearn.envs.problems.defence.tables import params_of
from dqlearn.envs.problems.family import Baseline, Family
from dqlearn.envs.problems.picture import Link, Node, Picture, graded
from dqlearn.envs.problems.recipe import Recipe
from dqlearn.envs.tabular import TabularEnv
from dqlearn.schedules import VisitCount

__all__ = ["LEVELS", "NetworkDefence"]

LEVELS = ("clean", "scanned", "user", "root")
USER, ROOT = 2, 3

_USER, _SERVER, _CRITICAL = 0.1, 1.0, 11.0  # CAGE-2: cost of a slot of root access


@dataclass(frozen=True)
class NetworkDefence(Family):
    """Defence of a network of hosts against an intruder who spreads.

    Rewards are minus costs, in the unit of CAGE-2: a restore costs 1. Probabilities are per slot.

    Parameters
    ----------
    hosts : sequence of str
        Names of the N hosts, 2 .. 15; what stands before the last "_" is the subnet.
    values : sequence of float
        Cost of a slot in which the attacker has root, of each host (CAGE-2: 0.1, 1 or 11).
    edges : networkx.Graph, or iterable of pairs of int
        Links over which the attacker spreads, either way.
    exposed : sequence of int
        Hosts that can be attacked from outside.
    isolable : iterable of pairs of int
        Links that the defender may isolate for a slot, each a decision more; none in `sizes`.
    scan : float
        Probability that a source finds a clean host's services (illustrative).
    exploit : float
        Probability that a source gets an account on a scanned host (illustrative).
    escalate : float
        Probability that a user becomes root (illustrative).
    removal : float
        Probability that a removal succeeds (illustrative).
    user_share : float
        Cost of a user, as a share of root's (illustrative; CAGE-2: 0).
    restore_cost : float
        Price of a restore (CAGE-2: 1).
    removal_cost : float
        Price of a removal (illustrative; CAGE-2: 0).
    isolation_cost : float
        Price of isolating a link for a slot (illustrative).
    start : {"uniform", "clean"}
        First state: any, equally likely ("exploring starts", Sutton and Barto 2018, section 5.3),
        or all hosts clean.
    max_episode_steps : int, optional
        Slots until an episode is truncated (CAGE-2: 30, 50 or 100); it never terminates.

    Raises
    ------
    ConfigurationError
        If a value is out of range, or they do not fit each other.

    Examples
    --------
    >>> from dqlearn.envs.problems.defence import NetworkDefence
    >>> problem = NetworkDefence.of("small")
    >>> problem.labels[:3], problem.model().n_states
    (('monitor', 'restore user_1', 'restore user_2'), 4096)
    """

    hosts: Sequence[str]
    values: Sequence[float]
    edges: Any
    exposed: Sequence[int]
    isolable: Any = ()
    scan: float = 0.2
    exploit: float = 0.2
    escalate: float = 0.3
    removal: float = 0.6
    user_share: float = 0.1
    restore_cost: float = 1.0
    removal_cost: float = 0.1
    isolation_cost: float = 0.1
    start: str = "uniform"
    max_episode_steps: int | None = 100

    sizes: ClassVar = {
        "small": {
            "hosts": ("user_1", "user_2", "user_3", "enterprise_1", "enterprise_2", "operational"),
            "values": (_USER,) * 3 + (_SERVER,) * 2 + (_CRITICAL,),
            "edges": ((0, 1), (0, 3), (1, 3), (2, 4), (3, 4), (4, 5)),
            "exposed": (0, 1),
        },
        "medium": {
            "hosts": (
                *(f"user_{i}" for i in range(1, 5)),
                *(f"enterprise_{i}" for i in range(1, 4)),
                *("operational_1", "operational_2", "operational_server"),
            ),
            "values": (_USER,) * 4 + (_SERVER,) * 3 + (_USER,) * 2 + (_CRITICAL,),
            "edges": (
                *((0, 1), (2, 3), (0, 4), (1, 4), (2, 5), (3, 5)),
                *((4, 6), (5, 6), (6, 7), (6, 8), (7, 9), (8, 9)),
            ),
            "exposed": (0, 1, 2),
        },
        "large": {
            "hosts": (
                *(f"user_{i}" for i in range(1, 7)),
                *(f"enterprise_{i}" for i in range(1, 5)),
                *(f"operational_{i}" for i in range(1, 5)),
                "operational_server",
            ),
            "values": (_USER,) * 6 + (_SERVER,) * 4 + (_USER,) * 4 + (_CRITICAL,),
            "edges": (
                *((0, 1), (1, 2), (3, 4), (4, 5), (0, 6), (2, 6), (2, 7), (3, 7), (5, 8)),
                *((6, 9), (7, 9), (8, 9), (9, 10), (9, 11), (10, 12), (11, 13)),
                *((12, 14), (13, 14)),
            ),
            "exposed": (0, 2, 4),
        },
    }
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "small": Recipe(
            20_000_000,
            {
                "gamma": 0.95,
                "learning_rate": VisitCount(scale=20.0, offset=20.0),
                "epsilon": 0.3,
                "initial_value": -8.0,
            },
        ),
        "medium": Recipe(
            200_000_000,
            {
                "gamma": 0.95,
                "learning_rate": VisitCount(scale=20.0, offset=20.0),
                "epsilon": 0.3,
                "initial_value": -18.0,
            },
        ),
    }

    def __post_init__(self) -> None:
        """Turn what JSON can hold into tuples, and check it."""
        hosts = checks.names(self.hosts)
        edges = checks.links_of(self.edges, len(hosts))
        given: dict[str, Any] = {
            "hosts": hosts,
            "values": checks.costs(self.values, len(hosts)),
            "edges": edges,
            "exposed": checks.exposed_of(self.exposed, len(hosts)),
            "isolable": checks.isolable_of(self.isolable, edges),
        }
        for name in ("scan", "exploit", "escalate", "removal", "user_share"):
            given[name] = checks.number(name, getattr(self, name), most=1.0)
        for name in ("restore_cost", "removal_cost", "isolation_cost"):
            given[name] = checks.number(name, getattr(self, name))
        for name, value in given.items():
            object.__setattr__(self, name, value)
        checks.episode(self.start, self.max_episode_steps)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the decisions."""
        links = [f"isolate {self.hosts[a]} - {self.hosts[b]}" for a, b in self.isolable]
        restores = [f"restore {host}" for host in self.hosts]
        removals = [f"remove from {host}" for host in self.hosts]
        return ("monitor", *restores, *removals, *links)

    def levels(self, states: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Take states apart.

        Parameters
        ----------
        states : int (...)
            Indices of states.

        Returns
        -------
        int64 (..., N)
            Level of each host, 0 .. 3.

        Examples
        --------
        >>> from dqlearn.envs.problems.defence import NetworkDefence
        >>> NetworkDefence.of("small").levels([0, 7])
        array([[0, 0, 0, 0, 0, 0],
               [0, 0, 0, 0, 1, 3]])
        """
        places = np.arange(len(self.hosts))[::-1]
        return (np.asarray(states, np.int64)[..., np.newaxis] >> (2 * places)) & 3

    def losses(self, states: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return what each host costs in a slot that ends in given states.

        Parameters
        ----------
        states : int (...)
            Indices of states.

        Returns
        -------
        float64 (..., N)
            Costs, in units of minus the reward.
        """
        share = np.array([0.0, 0.0, self.user_share, 1.0])
        costs: npt.NDArray[np.float64] = np.asarray(self.values) * share[self.levels(states)]
        return costs

    def model(self) -> TabularEnv:  # noqa: D102  (inherited)
        n = len(self.hosts)
        return TabularEnv(
            4**n,
            len(self.labels),
            initial,
            transition,
            events,
            n_events=n + 1,
            params=params_of(self),
            max_episode_steps=self.max_episode_steps,
            state_dims=dict.fromkeys(self.hosts, LEVELS),
            action_labels=self.labels,
            picture=self.picture,
            name=type(self).__name__,
        )

    def picture(self, state: int, action: int | None) -> Picture:  # noqa: D102  (inherited)
        levels = self.levels(state).tolist()
        decision = "monitor" if action is None else self.labels[action]
        hosts = [
            Node(name, at, level / ROOT, LEVELS[level], level >= USER, self._order(name, action))
            for name, at, level in zip(self.hosts, self._places(), levels, strict=True)
        ]
        outside = Node("outside", (-1.6, 0.0), 1.0, plain=True)
        links = [self._link(a, b, levels, action) for a, b in self.edges]
        links += [Link(len(hosts), host, 1.0) for host in self.exposed]
        cost = float(self.losses(state).sum())
        title = f"{decision}; compromised hosts cost {cost:.2f} a slot"
        return Picture(title, (*hosts, outside), tuple(links), _key(), spacing=1.0)

    def _order(self, host: str, action: int | None) -> str:
        """Return what is decided for a host."""
        label = "" if action is None else self.labels[action]
        orders = {f"restore {host}": "restore", f"remove from {host}": "remove"}
        return orders.get(label, "")

    def _link(self, a: int, b: int, levels: list[int], action: int | None) -> Link:
        """Return a link; it is heavy where an attack can come over it."""
        heavy = float(max(levels[a], levels[b]) >= USER)
        first = 1 + 2 * len(self.hosts)
        cut = action is not None and action >= first and self.isolable[action - first] == (a, b)
        return Link(a, b, heavy, "isolated" * cut, directed=False, decision="isolated" * cut)

    def _places(self) -> list[tuple[float, float]]:
        """Return places for drawing: a column for each subnet, in the order of the hosts."""
        subnets = [host.rpartition("_")[0] or host for host in self.hosts]
        columns = list(dict.fromkeys(subnets))
        rows = [subnets[:i].count(subnet) for i, subnet in enumerate(subnets)]
        # Every other host stands aside, or a link would run through the one between its ends.
        return [
            (2.2 * columns.index(subnet) + 0.7 * (row % 2), (subnets.count(subnet) - 1) / 2 - row)
            for subnet, row in zip(subnets, rows, strict=True)
        ]

    def baselines(self) -> dict[str, Baseline]:  # noqa: D102  (inherited)
        period = baselines.searched_period(self)
        return {
            "react to the worst host": partial(baselines.react, self),
            f"restore in turn, period {period}": partial(
                baselines.periodic_restore, self, period=period
            ),
            "do nothing": partial(baselines.do_nothing, self),
        }


def _key() -> tuple[str | Node | Link, ...]:
    host, link = Node("", (0.0, 0.0)), Link(0, 0, directed=False)
    heading, clean, scanned, user, root = graded("host", host, LEVELS)
    return (
        heading,
        clean,
        scanned,
        replace(user, text="user: compromised", alarm=True),
        replace(root, text="root: compromised", alarm=True),
        "link",
        replace(link, level=1.0, text="can be attacked over"),
        replace(link, text="cannot, now"),
        "decision",
        replace(host, text="restore, remove, isolate", decision="restore"),
    )
