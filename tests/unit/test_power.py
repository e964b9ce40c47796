"""PowerGrid: its slots against a reference with nodal balances, its books, its coupling."""

from __future__ import annotations

import math
from typing import Any

import networkx
import numpy as np
import pytest
from coupling import GAMMA, apart, contingent, folded, interaction, on_their_own
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from dqlearn import exact
from dqlearn.envs.faces.gym_view import TabularGymEnv
from dqlearn.envs.problems.power import PowerGrid
from dqlearn.envs.problems.power.flow import shift_factors
from dqlearn.envs.problems.power.slot import transition
from dqlearn.errors import ConfigurationError

SLOT = njit(transition)
DISCHARGE, IDLE, CHARGE = -1, 0, 1
RING = ((0, 1), (1, 2), (2, 0))


def numbers(least: float, most: float) -> st.SearchStrategy[float]:
    return st.floats(least, most, allow_nan=False, allow_subnormal=False)


@st.composite
def networks(draw: st.DrawFn, n: int) -> list[tuple[int, int]]:
    """Return a tree on 0 .. n, its lines in any direction, and perhaps some more lines."""
    lines = [(draw(st.integers(0, i - 1)), i) for i in range(1, n + 1)]
    every = [(i, j) for i in range(n + 1) for j in range(i)]
    lines = [pair if draw(st.booleans()) else pair[::-1] for pair in lines]
    known = {frozenset(pair) for pair in lines}
    extra = draw(st.lists(st.sampled_from(every), unique=True, max_size=2))
    return lines + [pair for pair in extra if frozenset(pair) not in known]


@st.composite
def problems(draw: st.DrawFn, **fixed: Any) -> PowerGrid:
    n = draw(st.sampled_from([2, 3]))
    topology = draw(networks(n))

    def each(values: st.SearchStrategy[float], count: int) -> st.SearchStrategy[list[float]]:
        return st.lists(values, min_size=count, max_size=count)

    levels = draw(st.lists(st.sampled_from([0.0, 0.5, 0.9, 1.0, 1.7]), min_size=1, unique=True))
    chosen = {
        "n_storages": n,
        "topology": topology,
        "resistance": draw(each(numbers(0.0, 1.0), len(topology))),
        "impedance": draw(each(numbers(0.1, 10.0), len(topology))),
        "limit": draw(st.none() | each(numbers(0.0, 100.0), len(topology))),
        "demand": draw(each(numbers(0.0, 50.0), n)),
        "demand_levels": sorted(levels),
        "volatility": draw(numbers(0.0, 1.0)),
        "feed_in": draw(numbers(0.0, 1.0)),
        "capacity": draw(st.integers(1, 14)),
        "unit": draw(numbers(0.0, 20.0)),
        "charge_rate": draw(st.integers(1, 7)),
        "discharge_rate": draw(st.integers(1, 7)),
        "efficiency": draw(numbers(0.5, 1.0)),
        "penalty": draw(numbers(0.0, 5.0)),
        "max_commands": draw(st.none() | st.integers(1, n)),
    }
    return PowerGrid(**{**chosen, **fixed})


@st.composite
def slots(draw: st.DrawFn, **fixed: Any) -> tuple[PowerGrid, int, int, int]:
    problem = draw(problems(**fixed))
    model = problem.model()
    state, action = (draw(st.integers(0, n - 1)) for n in (model.n_states, model.n_actions))
    return problem, state, action, draw(st.integers(0, 3))


class Slot:
    """One slot, written from the docstring: states by divmod, flows by solving for the angles."""

    def __init__(self, problem: PowerGrid, state: int, action: int) -> None:
        n, size = problem.n_storages, problem.capacity + 1
        self.level = np.empty(n, int)
        for i in reversed(range(n)):
            state, self.level[i] = divmod(state, size)
        self.hour, self.demand = divmod(state, len(problem.demand_levels))
        labels = problem.model().action_labels
        assert labels is not None
        rates = {"discharge": -problem.discharge_rate, "idle": 0, "charge": problem.charge_rate}
        self.move = np.empty(n, int)
        self.taken = np.empty(n)
        for i, order in enumerate(labels[action].split("/")):
            self.move[i] = min(max(rates[order], -self.level[i]), problem.capacity - self.level[i])
            stored = problem.unit * self.move[i]
            charging = self.move[i] >= 0
            self.taken[i] = stored / problem.efficiency if charging else stored * problem.efficiency
        factor = problem.profile[self.hour] * problem.demand_levels[self.demand]
        self.consumed = np.array(problem.demand) * factor
        self.flow = self._flows(problem)
        self.lost = [
            r * (f / problem.voltage) ** 2 / 1000.0
            for r, f in zip(problem.resistance, self.flow, strict=True)
        ]

    def _flows(self, problem: PowerGrid) -> list[float]:
        """Solve the nodal balances for the angles, node 0 at angle zero."""
        n = problem.n_storages
        laplacian, fed = np.zeros((n + 1, n + 1)), np.zeros(n + 1)
        for (i, j), x in zip(problem.topology, problem.impedance, strict=True):
            laplacian[[i, j], [i, j]] += 1.0 / x
            laplacian[i, j] -= 1.0 / x
            laplacian[j, i] -= 1.0 / x
        fed[1:] = -(self.consumed + self.taken)
        angle = np.zeros(n + 1)
        angle[1:] = np.linalg.solve(laplacian[1:, 1:], fed[1:])
        return [
            float(angle[i] - angle[j]) / x
            for (i, j), x in zip(problem.topology, problem.impedance, strict=True)
        ]

    def cost(self, problem: PowerGrid) -> float:
        energy = sum(self.consumed) + sum(self.taken) + sum(self.lost)
        limits = problem.limit or [math.inf] * len(self.flow)
        over = sum(max(abs(f) - limit, 0.0) for f, limit in zip(self.flow, limits, strict=True))
        paid = energy if energy > 0.0 else problem.feed_in * energy
        return float(problem.tariff[self.hour] * paid + problem.penalty * over)

    def onward(self, problem: PowerGrid, happened: int) -> int:
        demand, last = self.demand, len(problem.demand_levels) - 1
        if happened & 1:
            demand = min(demand + 1, last) if happened & 2 else max(demand - 1, 0)
        state = (self.hour + 1) % 24 * (last + 1) + demand
        for level in self.level + self.move:
            state = state * (problem.capacity + 1) + int(level)
        return state


@given(slots())
def test_a_slot_is_that_of_the_reference(case: tuple[PowerGrid, int, int, int]) -> None:
    problem, state, action, happened = case
    after, reward, terminated = SLOT(state, action, happened, problem.model().params)
    slot = Slot(problem, state, action)
    assert after == slot.onward(problem, happened)
    assert reward == pytest.approx(-slot.cost(problem), abs=1e-9, rel=1e-9)
    assert not terminated


@given(slots(tariff=[1.0] * 24, feed_in=1.0, penalty=0.0))
def test_energy_in_is_energy_out(case: tuple[PowerGrid, int, int, int]) -> None:
    """At one euro a kWh the bill is the import: consumed, lost in lines, stored, converted."""
    problem, state, action, happened = case
    after, reward, _ = SLOT(state, action, happened, problem.model().params)
    slot = Slot(problem, state, action)
    stored = problem.unit * (problem.digits(after)[2] - problem.digits(state)[2])
    charged, discharged = np.maximum(stored, 0.0), np.maximum(-stored, 0.0)
    converted = charged * (1.0 / problem.efficiency - 1.0) + discharged * (1.0 - problem.efficiency)
    assert (converted >= 0.0).all()
    out = slot.consumed.sum() + sum(slot.lost) + stored.sum() + converted.sum()
    assert -reward == pytest.approx(out, abs=1e-9, rel=1e-12)


@given(slots(reward="saving"))
def test_a_saving_is_the_cost_of_idle_storages_less_that_of_the_decision(
    case: tuple[PowerGrid, int, int, int],
) -> None:
    problem, state, action, happened = case
    _, reward, _ = SLOT(state, action, happened, problem.model().params)
    idle = next(a for a, row in enumerate(problem.orders) if not row.any())
    expected = Slot(problem, state, idle).cost(problem) - Slot(problem, state, action).cost(problem)
    assert reward == pytest.approx(expected, abs=1e-9, rel=1e-9)


@given(slots())
def test_flows_balance_at_every_node(case: tuple[PowerGrid, int, int, int]) -> None:
    """Kirchhoff: what comes in by lines less what goes out is what the node takes."""
    problem, state, action, _ = case
    slot, net = Slot(problem, state, action), np.zeros(problem.n_storages + 1)
    for (start, end), flow in zip(problem.topology, problem.flows(state, action), strict=True):
        net[start] -= flow
        net[end] += flow
    np.testing.assert_allclose(net[1:], slot.consumed + slot.taken, atol=1e-8)
    np.testing.assert_allclose(problem.flows(state, action), slot.flow, atol=1e-8)


def state_of(problem: PowerGrid, hour: int, demand: int, *storage: int) -> int:
    sizes = (24, len(problem.demand_levels), *[problem.capacity + 1] * problem.n_storages)
    return int(np.ravel_multi_index((hour, demand, *storage), sizes))


def test_a_slot_by_hand() -> None:
    """At 18:00 each node takes 30 kW; storage 1 gives 3 * 5 * 0.95 kW, 2 takes 2 * 5 / 0.95."""
    problem = PowerGrid.of("small")
    model = problem.model()
    action = list(model.action_labels or ()).index("discharge/charge")
    state = state_of(problem, 18, 2, 5, 0)
    second = 30.0 + 10.0 / 0.95
    first = 30.0 - 14.25 + second
    lost = 0.2 / 0.4**2 / 1000.0 * (first**2 + second**2)
    cost = 0.38 * (first + lost) + (first - 50.0) + (second - 27.0)
    chances = {}
    for p, after, reward, terminated in model.outcomes(state, action):
        assert (reward, terminated) == (pytest.approx(-cost), False)
        hour, demand, storage = problem.digits(after)
        assert (hour, *storage) == (19, 2, 2)
        chances[int(demand)] = chances.get(int(demand), 0.0) + p
    assert chances == pytest.approx({1: 0.15, 2: 0.7, 3: 0.15})


def test_midnight_and_the_ends_of_demand() -> None:
    problem = PowerGrid.of("small", volatility=1.0)
    after = problem.model().outcomes(state_of(problem, 23, 4, 0, 10), 4)
    found = {tuple(map(int, np.hstack(problem.digits(state)))) for _, state, *_ in after}
    assert found == {(0, 3, 0, 10), (0, 4, 0, 10)}


@pytest.mark.parametrize(
    ("rates", "levels"),
    [((2, 3), set(range(11))), ((3, 3), {0, 1, 3, 4, 6, 7, 9, 10})],
)
def test_levels_that_an_empty_storage_comes_to(rates: tuple[int, int], levels: set[int]) -> None:
    """The default rates lead to all: no state is there for its number only."""
    problem = PowerGrid(n_storages=1, charge_rate=rates[0], discharge_rate=rates[1])
    found, before = {0}, set[int]()
    while found > before:
        before = set(found)
        found |= {int(x + problem.moves([x], [a])[0]) for x in before for a in (DISCHARGE, CHARGE)}
    assert found == levels


def test_shift_factors_of_a_tree_are_paths() -> None:
    lines = ((0, 1), (2, 1), (1, 3))
    expected = [[1, 1, 1], [0, -1, 0], [0, 0, 1]]
    for impedance in ((1.0, 1.0, 1.0), (0.1, 7.0, 2.0)):
        np.testing.assert_array_equal(shift_factors(lines, impedance, 4), expected)


def test_flows_of_a_ring_divide_by_its_resistances() -> None:
    """As currents do: drops of voltage add to nothing around it, and two ways share 1 to 2."""
    ring = PowerGrid(n_storages=2, topology=RING, resistance=(0.1, 0.1, 0.4), limit=9.0)
    for state, action in ((0, 0), (5000, 8), (14_519, 3)):
        assert ring.flows(state, action) @ (0.1, 0.1, 0.4) == pytest.approx(0.0, abs=1e-9)
    alike = PowerGrid(n_storages=2, topology=RING, limit=9.0)
    np.testing.assert_allclose(alike.shift[:, 1], (1 / 3, 1 / 3, -2 / 3), atol=1e-9)
    other = PowerGrid(n_storages=2, topology=RING, impedance=(1.0, 1.0, 4.0), limit=9.0)
    np.testing.assert_allclose(other.shift, ring.shift, atol=1e-9)


@pytest.mark.parametrize(
    ("size", "n_states", "n_actions"),
    [("small", 120 * 11**2, 9), ("medium", 120 * 11**4, 81), ("large", 120 * 11**6, 73)],
)
def test_sizes(size: str, n_states: int, n_actions: int) -> None:
    model = PowerGrid.make(size)
    assert (model.n_states, model.n_actions) == (n_states, n_actions)
    assert model.digest is not None, "not cached, compiled anew for every model"


# coupling


def test_storages_decouple_without_losses_and_limits() -> None:
    """Q* is the sum of what each storage has on its own, and no order depends on another."""
    problem = PowerGrid.of("small", resistance=0.0, limit=None)
    solution = exact.solve(problem.model(), GAMMA, tolerance=1e-8)
    q = folded(solution)
    one, two = (part.q.reshape(24, 5, 11, 3) for part in on_their_own(problem))
    total = one[:, :, :, None, :, None] + two[:, :, None, :, None, :]
    np.testing.assert_allclose(q, total, atol=1e-6)
    assert apart(problem, solution) == pytest.approx(0.0, abs=1e-6)
    assert contingent(q) == 0.0
    assert interaction(q) < 1e-9


def test_storages_do_not_decouple() -> None:
    """What to do with one depends on the other, and storages run each on its own do worse."""
    problem = PowerGrid.of("small")
    solution = exact.solve(problem.model(), GAMMA, tolerance=1e-6)
    assert contingent(folded(solution)) > 0.25
    assert interaction(folded(solution)) > 0.05
    assert apart(problem, solution) > 0.1


@pytest.mark.parametrize("kept", ["resistance", "limit"])
def test_losses_and_limits_couple_each_alone(kept: str) -> None:
    changes = {"resistance": 0.0, "limit": None}
    del changes[kept]
    q = folded(exact.solve(PowerGrid.make("small", **changes), GAMMA, tolerance=1e-6))
    assert contingent(q) > 0.02
    assert interaction(q) > 0.005


# baselines


def orders_of(problem: PowerGrid, name: str, *state: int) -> tuple[int, ...]:
    action = problem.baselines()[name](np.array([state_of(problem, *state)]), 0)
    return tuple(problem.orders[action[0]].tolist())


@pytest.mark.parametrize(
    ("name", "state", "orders"),
    [
        ("no storage", (18, 4, 10, 10), (IDLE, IDLE)),
        ("tariff rule", (3, 4, 9, 10), (CHARGE, IDLE)),
        ("tariff rule", (12, 4, 5, 5), (IDLE, IDLE)),
        ("tariff rule", (18, 0, 0, 1), (IDLE, DISCHARGE)),
        # 2 * 16.2 kW at 5:00; 10.5 more fit on line 0 (50 kW), but not 21.
        ("tariff rule within limits", (5, 4, 1, 0), (IDLE, CHARGE)),
        ("tariff rule within limits", (0, 0, 0, 0), (CHARGE, CHARGE)),
        ("tariff rule within limits", (18, 4, 4, 4), (DISCHARGE, DISCHARGE)),
        # The mean is 37.4 kW: at 18:00 there are 60 kW, at 16:00 42, at 3:00 21.
        ("greedy peak shaving", (18, 2, 5, 5), (DISCHARGE, DISCHARGE)),
        ("greedy peak shaving", (16, 2, 5, 6), (IDLE, DISCHARGE)),
        ("greedy peak shaving", (3, 2, 5, 4), (IDLE, CHARGE)),
        ("greedy peak shaving", (3, 2, 10, 10), (IDLE, IDLE)),
    ],
)
def test_baselines_by_hand(name: str, state: tuple[int, ...], orders: tuple[int, ...]) -> None:
    assert orders_of(PowerGrid.of("small"), name, *state) == orders


def test_baselines_give_the_fewer_commands_to_those_that_need_them() -> None:
    problem = PowerGrid.of("small", max_commands=1)
    assert problem.model().n_actions == 5
    assert orders_of(problem, "tariff rule", 18, 2, 4, 5) == (IDLE, DISCHARGE)
    assert orders_of(problem, "tariff rule", 3, 2, 4, 5) == (CHARGE, IDLE)


@settings(max_examples=30)
@given(problems(), st.randoms(use_true_random=False))
def test_baselines_order_what_can_be_followed(problem: PowerGrid, random: Any) -> None:
    model = problem.model()
    states = np.array([random.randrange(model.n_states) for _ in range(20)])
    storage = problem.digits(states)[2]
    for name, rule in problem.baselines().items():
        orders = problem.orders[rule(states, 0)]
        assert (np.abs(orders).sum(axis=1) <= problem.most_commands).all(), name
        assert ((orders == 0) == (problem.moves(storage, orders) == 0)).all(), name


# labels, pictures, starts, bad input


def test_labels_name_what_they_number() -> None:
    problem = PowerGrid.of("small")
    model = problem.model()
    assert [(f.name, f.size, f.labels) for f in model.factors] == [
        ("hour", 24, None),
        ("demand", 5, ("80%", "90%", "100%", "110%", "120%")),
        ("storage_1", 11, None),
        ("storage_2", 11, None),
    ]
    names = {-1: "discharge", 0: "idle", 1: "charge"}
    expected = ["/".join(names[order] for order in row) for row in problem.orders.tolist()]
    assert list(model.action_labels or ()) == expected


@pytest.mark.parametrize("action", [None, 0, 40])
def test_pictures_show_levels_and_flows(action: int | None) -> None:
    problem = PowerGrid.of("medium")
    state = state_of(problem, 17, 3, 0, 2, 5, 10)
    picture = problem.picture(state, action)
    assert [node.level for node in picture.nodes] == [0.0, 0.0, 0.2, 0.5, 1.0]
    assert picture.title.startswith("17:00, demand 110%")
    assert (action == 0) == ("discharge" in picture.title)
    for link, pair, flow, limit in zip(
        picture.links, problem.topology, problem.flows(state, action), problem.bounds, strict=True
    ):
        assert (link.start, link.end) == (pair if flow >= 0.0 else pair[::-1])
        assert link.level == pytest.approx(min(abs(flow) / limit, 1.0))
        assert f"{abs(flow):.1f} kW of {limit:g}" in picture.text()


def test_renders_in_both_modes() -> None:
    for mode in ("ansi", "rgb_array"):
        env = TabularGymEnv(PowerGrid.make("small", limit=None), render_mode=mode)
        env.reset(seed=1)
        env.step(1)
        shown = env.render()
        if isinstance(shown, str):
            assert "euro/kWh" in shown
        else:
            assert shown is not None
            assert shown.ndim == 3
            assert shown.shape[2] == 3
            assert shown.std() > 0  # something is drawn


def test_empty_start_is_midnight() -> None:
    problem = PowerGrid.of("small", start="empty")
    env = TabularGymEnv(problem.model())
    assert {int(env.reset(seed=seed)[0]) for seed in range(5)} == {state_of(problem, 0, 2, 0, 0)}


def test_networks_of_networkx_and_of_json_are_the_same() -> None:
    lines = [[0, 1], [1, 2], [0, 2]]
    graph = networkx.Graph(lines)
    given_lists = PowerGrid(n_storages=2, topology=list(map(list, graph.edges)), demand=[30, 30])
    assert PowerGrid(n_storages=2, topology=graph, demand=30) == given_lists


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_storages": 0}, "n_storages must be an integer in 1 .. 9, got 0"),
        ({"n_storages": 9, "capacity": 14}, "lower n_storages or capacity"),
        ({"topology": [(0, 1)]}, r"none leads to \[2\]: add lines"),
        ({"topology": [(0, 1), (1, 3)]}, "two different nodes in 0 .. 2"),
        ({"limit": (55.0,)}, "limit must be one number, or one for each of 2, got 1"),
        ({"limit": (55.0, -1.0)}, r"limit\[1\] must be a number of at least 0, got -1.0"),
        ({"impedance": 0.0}, r"impedance\[0\]"),
        ({"topology": RING, "resistance": (0.2, 0.2, 0.0), "limit": 9.0}, "give impedance="),
        ({"resistance": "thick"}, r"resistance\[0\] must be in .* got 'thick'"),
        ({"profile": (1.0,) * 23}, "one for each of 24, got 23"),
        ({"demand_levels": (1.0, 1.0)}, "demand_levels must be numbers that increase"),
        ({"demand_levels": ()}, "demand_levels must be numbers that increase"),
        ({"demand_levels": "high"}, "got 'high'"),
        ({"volatility": 1.5}, "volatility must be in 0 .. 1, got 1.5"),
        ({"efficiency": 0.0}, "efficiency"),
        ({"feed_in": math.nan}, "feed_in must be in 0 .. 1, got nan"),
        ({"capacity": 15}, "capacity must be an integer in 1 .. 14, got 15"),
        ({"charge_rate": 1.5}, "charge_rate must be an integer in 1 .. 7, got 1.5"),
        ({"max_commands": 3}, "max_commands must be an integer in 1 .. 2, got 3"),
        ({"reward": "profit"}, "reward must be 'cost' or 'saving', got 'profit'"),
        ({"start": "full"}, "start must be 'uniform' or 'empty', got 'full'"),
    ],
)
def test_bad_parameters(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        PowerGrid.of("small", **changes)
