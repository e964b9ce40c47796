r"""PacketDispatch: a dispatcher in front of N finite queues with unequal servers.

::

                    ┌──► ▒▒▒▒▒░░░░ ──► server 1, rate mu_1
    packets ──► ( ? )──► ▒▒░░░░░░░ ──► server 2, rate mu_2      q_i in 0 .. capacity, the packet
    probability p   └──► ▒░░░░░░░░ ──► server 3, rate mu_3      in service included

State (q_1, .., q_N), (capacity + 1)^N of them: 10^N with a capacity of 9. Action: the queue that
the next packet joins. A slot, in this order:

1. every server that has a packet finishes it with probability mu_i, and the packet leaves;
2. with probability p a packet arrives and joins the chosen queue; if that is full, it is lost;
3. the reward is minus the packets in the system, and minus `loss_cost` if one was lost.

That is, with D_i and A the events and j the action,

.. math:: q_i' = \min(c, \; q_i - D_i [q_i > 0] + A [i = j]), \qquad
          r = - \sum_i q_i' - loss\_cost \cdot lost

Invariant: packets in = out + stored + lost, slot by slot.

Equal servers: joining the shortest queue is optimal (Winston 1977, "Optimality of the shortest line
discipline", J. Appl. Prob. 14; Weber 1978, "On the optimal assignment of customers to parallel
servers", J. Appl. Prob. 15; with finite buffers Hordijk and Koole 1990, "On the optimality of the
generalized shortest queue policy", Prob. Eng. Inf. Sci. 4), if a loss costs more than it saves. For
unequal servers no simple rule is optimal; the usual one is the shortest expected delay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from dqlearn.checks import check_choice, check_number, check_probability, check_whole
from dqlearn.envs.problems.digits import bases_of, digit, unpack
from dqlearn.envs.problems.family import Baseline, Family
from dqlearn.envs.problems.packets import baselines
from dqlearn.envs.problems.picture import Link, Node, Picture, counts, graded
from dqlearn.envs.problems.recipe import Recipe
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import ConfigurationError
from dqlearn.random import integers
from dqlearn.schedules import VisitCount

__all__ = ["PacketDispatch"]

STARTS = ("uniform", "empty")


@dataclass(frozen=True)
class PacketDispatch(Family):
    """Dispatcher over finite queues with unequal servers.

    Rewards are in packet-slots: minus the packets in the system at the end of the slot, and minus
    `loss_cost` for one that is lost. The model's probabilities and sizes are illustrative.

    Parameters
    ----------
    rates : tuple of float
        Probability that a busy server finishes its packet in a slot, one a server (1 .. 14 of
        them), each in (0, 1].
    arrival : float
        Probability that a packet arrives in a slot, 0 .. 1. The load is ``arrival / sum(rates)``.
    capacity : int
        Packets that a queue holds, the one in service included, 1 .. 14.
    loss_cost : float
        Cost of a lost packet, in packet-slots, not negative. From ``1 / (1 - gamma)`` on, no
        discounted policy gains by losing packets.
    start : {"uniform", "empty"}
        Where episodes begin: all states alike ("exploring starts", Sutton and Barto 2018, section
        5.3), or no packets.
    max_episode_steps : int, optional
        Truncate episodes after so many slots; the problem itself has no end.

    Raises
    ------
    ConfigurationError
        If a parameter is out of range.

    Examples
    --------
    >>> from dqlearn.envs.problems.packets import PacketDispatch
    >>> PacketDispatch.of("medium").model().n_states
    1000000
    """

    rates: tuple[float, ...]
    arrival: float
    capacity: int = 9
    loss_cost: float = 20.0
    start: str = "uniform"
    max_episode_steps: int | None = 200

    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "small": {"rates": (0.5, 0.25, 0.15, 0.1), "arrival": 0.8},
        "medium": {"rates": (0.4, 0.25, 0.15, 0.1, 0.06, 0.04), "arrival": 0.8},
        "large": {"rates": (0.3, 0.2, 0.15, 0.12, 0.09, 0.06, 0.05, 0.03), "arrival": 0.8},
    }
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "small": Recipe(
            150_000_000,
            {
                "gamma": 0.95,
                "learning_rate": VisitCount(scale=30.0, offset=30.0),
                "epsilon": 0.5,
                "initial_value": -300.0,
            },
        ),
        "medium": Recipe(
            200_000_000,
            {
                "gamma": 0.95,
                "learning_rate": VisitCount(scale=30.0, offset=30.0),
                "epsilon": 0.3,
                "initial_value": -150.0,
            },
        ),
    }

    def __post_init__(self) -> None:
        """Check the parameters and make them plain values."""
        rates = _numbers("rates", self.rates)
        if not 1 <= len(rates) <= 14 or not all(0.0 < rate <= 1.0 for rate in rates):
            raise ConfigurationError(
                "rates must be 1 .. 14 probabilities above 0, one a server, got "
                f"rates={self.rates!r}"
            )
        object.__setattr__(self, "rates", rates)
        check_probability(
            "arrival",
            self.arrival,
            cure="at most one packet comes in a slot, so make slots shorter instead (divide "
            "arrival and rates alike)",
        )
        object.__setattr__(self, "capacity", check_whole("capacity", self.capacity, 1, 14))
        check_number("loss_cost", self.loss_cost, 0)
        check_choice("start", self.start, STARTS)

    @property
    def n_servers(self) -> int:
        """How many servers there are."""
        return len(self.rates)

    def model(self) -> TabularEnv:
        """Return the compiled model.

        Returns
        -------
        TabularEnv
            With the factors ``queue_1 .. queue_N``, and actions of the same names.
        """
        names = self._names()
        levels = self.capacity + 1
        bases = bases_of([levels] * self.n_servers)
        chances = (float(self.arrival), *self.rates)
        return TabularEnv(
            levels**self.n_servers,
            self.n_servers,
            _initial,
            _transition,
            _events,
            n_events=len(chances),
            params=(bases, chances, float(self.loss_cost), self.start == "empty"),
            max_episode_steps=self.max_episode_steps,
            state_dims=dict.fromkeys(names, levels),
            action_labels=names,
            picture=self.picture,
            name=type(self).__name__,
        )

    def picture(self, state: int, action: int | None) -> Picture:
        """Return the dispatcher and its queues.

        Parameters
        ----------
        state : int
            Index of the state.
        action : int, optional
            The queue that was chosen last.

        Returns
        -------
        Picture
            The dispatcher on the left, the queues on the right; the chosen link is heavy.
        """
        names, queues = self._names(), self.queues(state)
        top = (self.n_servers - 1) / 2
        nodes = [Node("dispatcher", (0.0, 0.0), plain=True)]
        nodes += [
            Node(name, (4.0, top - i), level / self.capacity, f"{level} of {self.capacity}")
            for i, (name, level) in enumerate(zip(names, queues, strict=True))
        ]
        links = [
            Link(0, 1 + i, float(i == action), f"rate {rate:g}", decision="chosen" * (i == action))
            for i, rate in enumerate(self.rates)
        ]
        chosen = "none yet" if action is None else names[action]
        title = (
            f"{sum(queues)} packets, load {self.arrival / sum(self.rates):.2f}; chosen: {chosen}"
        )
        key = (
            *graded("queue, packets", Node("", (0, 0)), counts(self.capacity)),
            "decision",
            Link(0, 0, 1.0, "packets join this", decision="chosen"),
        )
        return Picture(title, tuple(nodes), tuple(links), key, spacing=0.6)

    def baselines(self) -> dict[str, Baseline]:
        """Return the rules that a learned policy is compared with.

        Returns
        -------
        dict of str to callable
            ``shortest_queue``, ``shortest_delay``, ``never_queue`` and ``random``.
        """
        return {
            "shortest_queue": partial(baselines.shortest_queue, self),
            "shortest_delay": partial(baselines.shortest_delay, self),
            "never_queue": partial(baselines.never_queue, self),
            "random": partial(baselines.random_queue, self),
        }

    def queues(self, state: int) -> tuple[int, ...]:
        """Return what a state is made of.

        Parameters
        ----------
        state : int
            Its index.

        Returns
        -------
        tuple of int
            Packets in each queue.
        """
        levels = self.capacity + 1
        return tuple(state // levels**i % levels for i in reversed(range(self.n_servers)))

    def _names(self) -> tuple[str, ...]:
        return tuple(f"queue_{i + 1}" for i in range(self.n_servers))


def _numbers(name: str, given: Any) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in given)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{name} must be a sequence of numbers, got {given!r}") from error


def _initial(key: Any, params: tuple[Any, ...]) -> Any:
    bases, _, _, empty = params
    state = 0
    for i in range(len(bases[0])):
        state = state * bases[0][i] + integers(key, i, bases[0][i])
    return 0 if empty else state


def _events(state: Any, action: Any, params: tuple[Any, ...]) -> Any:
    return params[1]


def _transition(
    state: Any, action: Any, happened: Any, params: tuple[Any, ...]
) -> tuple[Any, Any, bool]:
    bases, _, loss_cost, _ = params
    word = unpack(state, bases)
    levels = bases[0][0]
    after, stored, lost = 0, 0, 0
    for i in range(len(bases[0])):
        level = digit(word, i)
        level -= (level > 0) & (happened >> (i + 1))
        level += (i == action) & happened
        full = level == levels
        level -= full
        lost += full
        stored += level
        after = after * levels + level
    return after, -stored - loss_cost * lost, False
