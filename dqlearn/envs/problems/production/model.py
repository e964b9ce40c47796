r"""ProductionLine: machines that wear, the stores between them, and a customer at the end.

::

    parts ──► M1 ─[■■□□]─► M2 ─[■□□□]─┐
                                      ├─► M5 ─[■■■□]─► orders
    parts ──► M3 ─[□□□□]─► M4 ─[■■□□]─┘   takes one part of each store before it

State, N machines: the stock :math:`x_i = 0 .. B` of the store behind machine i, and its health
:math:`h_i`: down, worn or good. :math:`(3 (B+1))^N` states: 15^3 = 3,375 (small), 15^5 = 759,375
(medium), 15^7 = 170,859,375 (large). Decision: a mode for every machine: idle, run or maintain.

In a slot, in this order:

1. *Work*, from the last machine to the first. Machine i works if its mode is run, it is not down,
   every store before it held a part when the slot began, and its own store has room, the machines
   after it having taken theirs. It takes one part of each store before it (the first machines take
   raw parts, of which there are always some) and puts one into its own: :math:`x_j` falls by 1,
   :math:`x_i` rises by 1.
2. *Wear*. A machine that works and is good becomes worn with probability `wear`; one that works
   and is worn goes down with probability `fail`, and what it was working on is scrap: it never
   reaches the store. A machine that stands still does not wear (*operation-dependent* failures).
3. *Maintenance*. A machine that is maintained does not work. If down it is good again with
   probability `repair`, if worn with probability `service`: the times are geometric.
4. *Demand*. With probability `demand` an order comes for one part of the last store. It is served
   at once, or lost.
5. *Reward*. `price` for a sale, minus `lost` for a lost order, minus `holding` for every part in
   store, minus `service_cost` or `repair_cost` for every machine that is maintained.

Parts are neither made nor lost: what enters leaves, is stored or is scrap.

Sources: two machines and more in series with finite stores, unreliable, failing only while they
work: Buzacott and Shanthikumar (1993), "Stochastic Models of Manufacturing Systems", Prentice Hall;
Gershwin (1994), "Manufacturing Systems Engineering", Prentice Hall; assembly trees: Gershwin
(1991), "Assembly/disassembly systems", IIE Transactions 23. Wear in stages and preventive
maintenance: Barlow and Proschan (1965), "Mathematical Theory of Reliability", Wiley. Numbers of
the parameters: illustrative.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from dqlearn.checks import check_choice, check_number, check_whole
from dqlearn.envs.problems.family import Baseline, Family
from dqlearn.envs.problems.picture import Link, Node, Picture, counts, graded
from dqlearn.envs.problems.production import baselines as rules
from dqlearn.envs.problems.production.decisions import Decisions
from dqlearn.envs.problems.production.kernels import (
    NOBODY,
    ONES,
    LineParams,
    events,
    initial,
    transition,
)
from dqlearn.envs.problems.production.layout import inputs_of, places_of, tree_of
from dqlearn.envs.problems.recipe import Recipe
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import ConfigurationError
from dqlearn.schedules import VisitCount

__all__ = ["ProductionLine"]

HEALTH = ("down", "worn", "good")
MAX_MACHINES = 8
PERIODS = (None, 5, 10, 15, 20, 30, 40, 60, 80, 120)

PerMachine = float | tuple[float, ...]


@dataclass(frozen=True)
class ProductionLine(Family):
    """A line, or an assembly tree, of machines with finite stores.

    Parameters
    ----------
    machines : int
        N, 1 .. 8.
    edges : networkx.DiGraph or iterable of pairs of int, optional
        From each machine, 0 .. N - 1, to the one that takes its parts. The last one sells. A line
        by default.
    buffer : int
        B, places of every store, 1 .. 4.
    wear : float or sequence of float
        Probability, a slot of work, that a good machine becomes worn.
    fail : float or sequence of float
        Probability, a slot of work, that a worn machine goes down and makes scrap.
    service : float or sequence of float
        Probability, a slot of maintenance, that a worn machine is good again.
    repair : float or sequence of float
        Probability, a slot of maintenance, that a machine that is down is good again.
    demand : float
        Probability of an order, a slot.
    price : float
        Reward of a sale; the unit of money.
    lost : float
        Cost of an order that is lost.
    holding : float or sequence of float
        Cost of a part in the machine's store, a slot.
    service_cost : float or sequence of float
        Cost of a slot of maintenance of a machine that is not down.
    repair_cost : float or sequence of float
        Cost of a slot of maintenance of a machine that is down.
    crews : int
        Machines that may be maintained at once, 0 .. 8; all by default.
    idlers : {"any", "first"}
        Machines that may be idle: any, or only those that take raw parts.
    start : {"uniform", "empty"}
        Where episodes begin: anywhere (exploring starts; Sutton and Barto 2018, section 5.3), or
        with all stores empty and all machines good.
    max_episode_steps : int, optional
        Slots of an episode; it is truncated then, never terminated. None: it never ends.

    Raises
    ------
    ConfigurationError
        If a value does not fit.

    Notes
    -----
    The reward of a slot is in units of money, about ``price * demand`` at best. All numbers are
    illustrative.

    Examples
    --------
    >>> model = ProductionLine.make("small")
    >>> model.n_states, model.n_actions
    (3375, 27)
    >>> ProductionLine.make("small", crews=1).n_actions
    20
    """

    machines: int = 3
    edges: Any = None
    buffer: int = 4
    wear: PerMachine = (0.15, 0.1)
    fail: PerMachine = (0.1, 0.3)
    service: PerMachine = (0.5, 0.8)
    repair: PerMachine = (0.3, 0.4)
    demand: float = 0.75
    price: float = 10.0
    lost: float = 2.0
    holding: PerMachine = 0.3
    service_cost: PerMachine = 1.0
    repair_cost: PerMachine = 2.0
    crews: int = MAX_MACHINES
    idlers: str = "any"
    start: str = "uniform"
    max_episode_steps: int | None = 200

    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "small": {"machines": 3},
        "medium": {"machines": 5, "crews": 1, "idlers": "first"},
        "large": {"machines": 7, "crews": 1, "idlers": "first"},
    }
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "small": Recipe(
            80_000_000,
            {
                "gamma": 0.95,
                "learning_rate": VisitCount(scale=10.0, offset=10.0),
                "epsilon": 0.5,
                "initial_value": 65.0,
            },
        ),
        "medium": Recipe(
            200_000_000,
            {
                "gamma": 0.95,
                "learning_rate": VisitCount(scale=10.0, offset=10.0),
                "epsilon": 0.2,
                "initial_value": 20.0,
            },
        ),
    }

    def __post_init__(self) -> None:
        """Check the parameters, and make plain tuples of what is one a machine."""
        self._check_whole("machines", 1, MAX_MACHINES)
        self._check_whole("crews", 0, MAX_MACHINES)
        self._check_whole("buffer", 1, 4)
        if self.max_episode_steps is not None:
            self._check_whole("max_episode_steps", 1, 2**31)
        for name in ("wear", "fail", "service", "repair", "demand"):
            self._check_numbers(name, 0.0, 1.0)
        for name in ("price", "lost", "holding", "service_cost", "repair_cost"):
            self._check_numbers(name, 0.0, 1e9)
        for name, values in (("idlers", ("any", "first")), ("start", ("uniform", "empty"))):
            check_choice(name, getattr(self, name), values)
        object.__setattr__(self, "edges", tree_of(self.edges, self.machines))

    def _check_whole(self, name: str, least: int, most: int) -> None:
        object.__setattr__(self, name, check_whole(name, getattr(self, name), least, most))

    def _check_numbers(self, name: str, least: float, most: float) -> None:
        value = getattr(self, name)
        single = name in ("demand", "price", "lost")
        try:
            numbers = np.asarray(value, float)
        except (TypeError, ValueError):
            numbers = np.empty((0, 0))
        count = max(self.machines, 2)  # the defaults are of two kinds, also of one machine
        if numbers.ndim > (not single) or not 1 <= numbers.size <= count:
            kind = "a number" if single else f"a number, or 1 .. {count} of them"
            raise ConfigurationError(f"{name} must be {kind}, got {value!r}")
        for number in numbers.ravel().tolist():
            check_number(name, number, least, most)
        plain = float(numbers) if single else tuple(np.resize(numbers, self.machines).tolist())
        object.__setattr__(self, name, plain)

    @property
    def decisions(self) -> Decisions:
        """What may be decided, a slot."""
        n, any_of_them = self.machines, self.idlers == "any"
        idlers = tuple(i for i in range(n) if any_of_them or not self.inputs(i))
        return Decisions(n, self.crews, idlers)

    def inputs(self, machine: int) -> tuple[int, ...]:
        """Return the machines whose parts a machine takes.

        Parameters
        ----------
        machine : int
            Which.

        Returns
        -------
        tuple of int
            Empty if it takes raw parts.
        """
        return inputs_of(self.edges, machine)

    def parts_of(self, states: Any) -> tuple[Any, Any]:
        """Take states apart.

        Parameters
        ----------
        states : int or int64 (n,)
            Indices.

        Returns
        -------
        int64 (n, machines), twice
            Stock; health: 0 down, 1 worn, 2 good.
        """
        size = 3 * (self.buffer + 1)
        weights = size ** np.arange(self.machines)[::-1]
        digits = np.asarray(states)[..., None] // weights % size
        return digits // 3, digits % 3

    def service_ratios(self) -> npt.NDArray[np.float64]:
        """Return how much quicker a service is than a repair.

        Returns
        -------
        float64 (machines,)
            Ratios of `service` to `repair`.
        """
        # What is never repaired is as good as repaired very slowly.
        return np.asarray(self.service) / np.maximum(self.repair, 1e-9)

    def model(self) -> TabularEnv:  # noqa: D102  (inherited)
        dims: dict[str, int | tuple[str, ...]] = {}
        for i in range(1, self.machines + 1):
            dims |= {f"stock_{i}": self.buffer + 1, f"health_{i}": HEALTH}
        params, labels = self._params(), self.decisions.labels()
        return TabularEnv(
            params.size**self.machines,
            len(labels),
            initial,
            transition,
            events,
            n_events=self.machines + 1,
            params=params,
            max_episode_steps=self.max_episode_steps,
            state_dims=dims,
            action_labels=labels,
            picture=self.picture,
            name=type(self).__name__,
        )

    def _params(self) -> LineParams:
        n, size, never = self.machines, 3 * (self.buffer + 1), np.zeros(self.machines)
        run, maintain = [never, self.fail, self.wear, never], [self.repair, self.service]
        flags = [sum(1 << 8 * j for j in self.inputs(i)) for i in range(n)]
        after = [8 * end for _, end in self.edges] + [NOBODY]
        return LineParams(
            size,
            1.0 / size ** np.arange(n)[::-1],
            self.decisions.words(),
            (0.0,) * n + (self.demand,),
            np.column_stack([never] * 4 + run + maintain + [never] * 2),
            np.column_stack([flags, after]),
            self._costs(),
            (128 - self.buffer) * ONES,
            (self.price, self.lost),
            self.start == "empty",
        )

    def _costs(self) -> npt.NDArray[np.float64]:
        """Return what a machine costs in a slot, as the kernels look it up."""
        stock, down, maintained = np.arange(32) & 7, np.arange(32) >> 3 & 1, np.arange(32) >> 4
        holding = np.multiply.outer(self.holding, stock)
        repair, service = np.asarray([self.repair_cost, self.service_cost])[..., None]
        upkeep = np.where(down, repair, service)
        costs: npt.NDArray[np.float64] = holding + maintained * upkeep
        return costs

    def picture(self, state: int, action: int | None) -> Picture:  # noqa: D102  (inherited)
        n, (stock, health) = self.machines, self.parts_of(state)
        title = "-".join(["?"] * n) if action is None else self.decisions.labels()[action]
        nodes = [
            Node(
                f"M{i + 1}",
                place,
                1.0 - health[i] / 2.0,
                f"{HEALTH[health[i]]}, {mode}",
                alarm=bool(health[i] == 0),
                decision=mode if mode == "maintain" else "",
            )
            for i, (place, mode) in enumerate(
                zip(places_of(self.edges, n), title.split("-"), strict=True)
            )
        ]
        out = nodes[-1].at
        links = [
            Link(i, j, stock[i] / self.buffer, f"{stock[i]} of {self.buffer}")
            for i, j in (*self.edges, (n - 1, n))
        ]
        orders = Node("orders", (out[0] + 1.0, out[1]), plain=True)
        return Picture(title, (*nodes, orders), tuple(links), self._key())

    def _key(self) -> tuple[str | Node | Link, ...]:
        machine = Node("", (0.0, 0.0))
        good, worn, down = graded("machine", machine, HEALTH[::-1])[1:]
        return (
            "machine",
            good,
            worn,
            replace(down, alarm=True),
            *graded("store, parts", Link(0, 0), counts(self.buffer)),
            "decision",
            replace(machine, text="maintain", decision="maintain"),
        )

    def baselines(self) -> dict[str, Baseline]:  # noqa: D102  (inherited)
        cards, levels = range(1, self.buffer + 1), range(1, self.buffer * self.machines + 1)
        ratio = sorted({*self.service_ratios().tolist(), 0.0, math.inf})
        return {
            "run to failure": partial(rules.run_to_failure, self),
            "by the clock": rules.best_of(self, rules.by_clock, period=PERIODS),
            "by health": rules.best_of(self, rules.by_health, ratio=ratio),
            "kanban": rules.best_of(self, rules.kanban, cards=cards, ratio=ratio),
            "conwip": rules.best_of(self, rules.conwip, level=levels, ratio=ratio),
        }
