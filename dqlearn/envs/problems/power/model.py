r"""PowerGrid: storages on a network whose lines have losses and limits.

::

    grid ══ 0 ──line 0── 1 ──line 1── 2        0: the grid's connection, metered
                         │            │        i: a demand D_i and a storage x_i
                        [x_1]        [x_2]

State (h, d, x_1, .., x_N): hour of day, level of demand, levels of the storages, which number
``24 D (C + 1)^N``: 120 * 11^N for D = 5 levels of demand and C = 10. Decision a_i for each storage:
-1 discharge, 0 idle, 1 charge. In a slot of one hour, in this order:

1. Each storage moves by w_i levels of u kWh, where w_i is -discharge_rate, 0 or charge_rate, as far
   as it is not empty or full, and takes p_i from the network (less than nothing to discharge):

   .. math:: m_i = \min(\max(w_i, -x_i), C - x_i), \qquad
             p_i = u m_i / \eta \ (m_i \ge 0), \quad u m_i \eta \ (m_i < 0)

2. Lines carry f = H (D + p), with the demands D_i = demand_i * profile_h * demand_levels_d and the
   shift factors H of :mod:`dqlearn.envs.problems.power.flow`. Line l loses r_l f_l^2, r =
   resistance / voltage^2 / 1000: three conductors of that resistance, with f / (sqrt(3) voltage) in
   each.
3. The meter at node 0 reads E = sum_i (D_i + p_i) + sum_l r_l f_l^2. The slot costs

   .. math:: tariff_h \, (E^+ - feed\_in \, E^-) + penalty \sum_l (|f_l| - limit_l)^+

4. With probability `volatility` the demand moves by one level, up or down evenly, but stays between
   the ends; the hour goes on by one; x_i becomes x_i + m_i.

Without losses and limits, and with feed_in = 1, the cost is a sum over storages and so is Q*: each
could be run on its own. What couples them is that a line's loss is the square of what all together
do to it, and that its limit is for all together.

The loss formula is that of Baran and Wu (1989), "Network reconfiguration in distribution systems
for loss reduction and load balancing", IEEE Trans. Power Delivery 4, with voltages at their nominal
value; stochastic dynamic programming for a storage: Xi, Sioshansi and Marano (2014), "A stochastic
dynamic programming model for co-optimization of distributed energy storage", Energy Systems 5. The
numbers are illustrative: a low-voltage feeder with an evening peak, whose lines of 0.2 ohm are some
300 m of aluminium cable of 50 mm2 (0.641 ohm/km by IEC 60228).

Rates without a common divisor (2 and 3) lead from each level to all; with 3 and 3, storages that
were once empty or full would never again be at 2, 5 or 8 of 10, and the states would be fewer.

Invariant: energy in = consumed + lost in lines + stored + lost in conversion, in every slot.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from dqlearn.envs.problems.family import Baseline, Family
from dqlearn.envs.problems.picture import Picture
from dqlearn.envs.problems.power.baselines import RULES
from dqlearn.envs.problems.power.checks import HOURS, checked
from dqlearn.envs.problems.power.drawing import draw, labels
from dqlearn.envs.problems.power.flow import shift_factors
from dqlearn.envs.problems.power.slot import events, initial, params_of, transition
from dqlearn.envs.problems.recipe import Recipe
from dqlearn.envs.tabular import TabularEnv
from dqlearn.schedules import VisitCount

__all__ = ["PowerGrid"]

# Shares of the day's peak, and euro/kWh, from midnight on.
PROFILE: tuple[float, ...] = (
    0.40,
    0.35,
    0.35,
    0.35,
    0.40,
    0.45,
    0.60,
    0.70,
    0.65,
    0.60,
    0.60,
    0.60,
)
PROFILE += (0.65, 0.60, 0.60, 0.60, 0.70, 0.90, 1.00, 1.00, 0.95, 0.80, 0.60, 0.50)
TARIFF = (0.12,) * 6 + (0.30,) * 4 + (0.20,) * 6 + (0.38,) * 6 + (0.12,) * 2


@dataclass(frozen=True)
class PowerGrid(Family):
    """Storages on a network; the operator pays for import, losses and overload.

    Rewards are in euros. Numbers without a source are illustrative.

    Parameters
    ----------
    n_storages : int
        Nodes 1 .. n_storages have a storage and a demand each; node 0 is the grid's connection.
    topology : networkx.Graph or iterable of pairs, optional
        Lines between nodes 0 .. n_storages; without it a feeder, 0-1-2-...
    resistance : float or sequence of float
        Ohm of a conductor, of all lines or of each.
    impedance : float or sequence of float, optional
        Flows divide in meshes in the inverse ratio of these, in any unit; None: of the resistances,
        which is right where all lines have resistance and reactance in one ratio.
    limit : float or sequence of float, optional
        What a line carries without penalty, in kW; None: there are no limits.
    voltage : float
        Between the phases, in kV.
    demand : float or sequence of float
        At the day's peak and the level 1 of the demand, in kW, of all nodes or of each.
    profile : sequence of 24 float
        Share of that in each hour.
    demand_levels : sequence of float
        Factors that the demand moves between, increasing.
    volatility : float
        Probability a slot that it moves.
    tariff : sequence of 24 float
        Euro per kWh of import in each hour: time of use.
    feed_in : float
        Share of the tariff that is paid for what flows back, 0 .. 1; 1 is net metering.
    capacity : int
        Levels of a full storage, 1 .. 14.
    unit : float
        Energy of a level, in kWh.
    charge_rate, discharge_rate : int
        Levels that a storage moves up or down in a slot, 1 .. 7.
    efficiency : float
        Of charging, and again of discharging, above 0 and at most 1.
    penalty : float
        Euro per kWh above a line's limit.
    max_commands : int, optional
        Storages that may be other than idle in one slot; by default all of them.
    reward : {"cost", "saving"}
        Minus the slot's cost, or what the slot saves against all storages idle. The difference is
        the same whatever is decided, so the best decisions are the same, but the noise of demand is
        mostly gone: it is an exogenous reward (Dietterich, Trimponias and Chen 2018, "Discovering
        and removing exogenous state variables and rewards for reinforcement learning", ICML).
    start : {"uniform", "empty"}
        Episodes begin in any state, drawn uniformly ("exploring starts": Sutton and Barto 2018,
        "Reinforcement Learning", section 5.3), or at midnight with empty storages at the middle
        level of demand.
    max_episode_steps : int, optional
        Slots before an episode is truncated.

    Attributes
    ----------
    sizes : mapping
        "small" is a feeder, "medium" a ring main, "large" a ring main with a cross-connection, and
        two commands a slot: 73 decisions in place of 729.

    Raises
    ------
    ConfigurationError
        If a parameter is out of range, or there are too few or too many of one.

    Examples
    --------
    >>> from dqlearn.envs.problems.power import PowerGrid
    >>> model = PowerGrid.of("small").model()
    >>> model.n_states, model.action_labels[:3]
    (14520, ('discharge/discharge', 'discharge/idle', 'discharge/charge'))
    """

    n_storages: int = 2
    topology: Any = None
    resistance: Any = 0.2
    impedance: Any = None
    limit: Any = None
    voltage: float = 0.4
    demand: Any = 30.0
    profile: Any = PROFILE
    demand_levels: Any = (0.8, 0.9, 1.0, 1.1, 1.2)
    volatility: float = 0.3
    tariff: Any = TARIFF
    feed_in: float = 1.0
    capacity: int = 10
    unit: float = 5.0
    charge_rate: int = 2
    discharge_rate: int = 3
    efficiency: float = 0.95
    penalty: float = 1.0
    max_commands: int | None = None
    reward: str = "cost"
    start: str = "uniform"
    max_episode_steps: int | None = 168

    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "small": {"n_storages": 2, "limit": (50.0, 27.0)},
            "medium": {
                "n_storages": 4,
                "topology": ((0, 1), (1, 2), (2, 3), (3, 4), (4, 0)),
                "demand": (20.0, 40.0, 25.0, 35.0),
                "limit": (50.0, 27.0, 15.0, 27.0, 50.0),
            },
            "large": {
                "n_storages": 6,
                "topology": ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 0), (2, 5)),
                "resistance": (0.1, 0.2, 0.2, 0.2, 0.2, 0.2, 0.1, 0.2),
                "demand": (20.0, 40.0, 25.0, 35.0, 20.0, 40.0),
                "limit": (75.0, 55.0, 27.0, 15.0, 27.0, 55.0, 75.0, 15.0),
                "max_commands": 2,
            },
        }
    )
    recipes: ClassVar[Mapping[str, Recipe]] = MappingProxyType(
        {
            "small": Recipe(
                100_000_000,
                {
                    "gamma": 0.95,
                    "learning_rate": VisitCount(scale=10.0, offset=10.0),
                    "epsilon": 0.5,
                    "initial_value": -250.0,
                },
            ),
            "medium": Recipe(
                200_000_000,
                {
                    "num_envs": 65_536,
                    "steps_per_round": 32,
                    "gamma": 0.95,
                    "learning_rate": VisitCount(omega=0.6),
                    "epsilon": 0.35,
                },
            ),
        }
    )

    def __post_init__(self) -> None:
        """Check the parameters, and make them plain."""
        for name, value in checked(vars(self)).items():
            object.__setattr__(self, name, value)

    @property
    def loads(self) -> npt.NDArray[np.float64]:
        """Demand in kW of each hour, level of demand and node, shape ``(24, D, N)``."""
        shape = np.multiply.outer(self.profile, self.demand_levels)
        return np.asarray(np.multiply.outer(shape, np.array(self.demand)), np.float64)

    @property
    def shift(self) -> npt.NDArray[np.float64]:
        """Shift factors of the lines, shape ``(n_lines, N)``."""
        meshed = len(self.topology) > self.n_storages
        alike = self.resistance if meshed else (1.0,) * len(self.topology)
        return shift_factors(self.topology, self.impedance or alike, self.n_storages + 1)

    @property
    def bounds(self) -> tuple[float, ...]:
        """What each line carries without penalty in kW; infinite without limits."""
        return self.limit or (math.inf,) * len(self.topology)

    @property
    def power(self) -> npt.NDArray[np.float64]:
        """Power in kW that a storage takes when it moves, from -discharge_rate levels on."""
        moves = self.unit * np.arange(-self.discharge_rate, self.charge_rate + 1)
        lossy = np.where(moves < 0.0, moves * self.efficiency, moves / self.efficiency)
        return np.asarray(lossy, np.float64)

    @property
    def most_commands(self) -> int:
        """How many storages may be other than idle in one slot."""
        return self.n_storages if self.max_commands is None else self.max_commands

    @property
    def orders(self) -> npt.NDArray[np.int64]:
        """What each action orders each storage: -1, 0 or 1, shape ``(n_actions, N)``."""
        every = [
            orders
            for orders in product((-1, 0, 1), repeat=self.n_storages)
            if sum(map(abs, orders)) <= self.most_commands
        ]
        return np.array(every, np.int64)

    def digits(self, states: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], ...]:
        """Take states apart.

        Parameters
        ----------
        states : int or int (n,)
            Indices.

        Returns
        -------
        hour, demand : int64, of the shape of `states`
            Hour of day, and level of demand.
        storage : int64, of the shape of `states` and a last axis of N
            Level of each storage.
        """
        sizes = (HOURS, len(self.demand_levels), *[self.capacity + 1] * self.n_storages)
        hour, demand, *storage = np.unravel_index(np.asarray(states, np.int64), sizes)
        return hour, demand, np.stack(storage, axis=-1)

    def moves(self, storage: npt.ArrayLike, orders: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return by how many levels storages move.

        Parameters
        ----------
        storage : int (.., N)
            Their levels.
        orders : int (.., N)
            -1, 0 or 1 for each.

        Returns
        -------
        int64 (.., N)
            By their rates, as far as they are not empty or full.
        """
        level = np.asarray(storage)
        wanted = np.array([-self.discharge_rate, 0, self.charge_rate])[np.asarray(orders) + 1]
        moved: npt.NDArray[np.int64] = np.clip(wanted, -level, self.capacity - level)
        return moved

    def flows(self, state: int, action: int | None = None) -> npt.NDArray[np.float64]:
        """Return what the lines carry.

        Parameters
        ----------
        state : int
            At the slot's beginning.
        action : int, optional
            The decision; without one all are idle.

        Returns
        -------
        float64 (n_lines,)
            In kW, positive from a line's first node to its second.
        """
        hour, demand, storage = self.digits(state)
        orders = np.zeros(self.n_storages, int) if action is None else self.orders[action]
        taken = self.power[self.moves(storage, orders) + self.discharge_rate]
        carried: npt.NDArray[np.float64] = self.shift @ (self.loads[hour, demand] + taken)
        return carried

    def model(self) -> TabularEnv:  # noqa: D102  (inherited)
        return TabularEnv(
            HOURS * len(self.demand_levels) * (self.capacity + 1) ** self.n_storages,
            len(self.orders),
            initial,
            transition,
            events,
            n_events=2,
            params=params_of(self),
            max_episode_steps=self.max_episode_steps,
            state_dims={
                "hour": HOURS,
                "demand": tuple(f"{100 * level:g}%" for level in self.demand_levels),
                **{f"storage_{i + 1}": self.capacity + 1 for i in range(self.n_storages)},
            },
            action_labels=labels(self),
            picture=self.picture,
            name=type(self).__name__,
        )

    def picture(self, state: int, action: int | None) -> Picture:  # noqa: D102  (inherited)
        return draw(self, state, action)

    def baselines(self) -> dict[str, Baseline]:  # noqa: D102  (inherited)
        return {name: partial(rule, self) for name, rule in RULES.items()}
