"""PacketRouting: a slot, light and heavy load, the rules, the network, pictures."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import networkx
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dqlearn import TabularEnv, exact
from dqlearn.envs.problems.packets import PacketRouting
from dqlearn.envs.problems.packets.graph import distances, ports_of, steady, waits
from dqlearn.errors import ConfigurationError

DIAMOND = [[0, 1], [1, 3], [0, 2], [2, 4], [4, 3]]  # 0 to 3: two hops by 1, three by 2 and 4


def diamond(**changes: Any) -> PacketRouting:
    given = {"edges": DIAMOND, "core": (1, 2), "destinations": (3,), **changes}
    return PacketRouting.of("small", **given)


def state_of(model: TabularEnv, *parts: int) -> int:
    return int(np.ravel_multi_index(parts, [factor.size for factor in model.factors]))


def parts_of(model: TabularEnv, state: int) -> list[int]:
    shape = [factor.size for factor in model.factors]
    return [int(part) for part in np.unravel_index(state, shape)]


def slot_of(model: TabularEnv, state: int, action: int, mask: int) -> tuple[int, float, bool]:
    return model.transition(state, action, mask, model.params)


@st.composite
def networks(draw: st.DrawFn) -> PacketRouting:
    """Any connected network of up to seven routers, with any core and destinations."""
    n = draw(st.integers(2, 7))
    edges = {(draw(st.integers(0, node - 1)), node) for node in range(1, n)}
    others = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda e: e[0] < e[1])
    edges |= draw(st.sets(others, max_size=4))
    some = st.lists(st.integers(0, n - 1), min_size=1, unique=True)
    burst = draw(st.integers(1, 5))
    load = draw(st.floats(0, burst))
    return PacketRouting(
        tuple(edges), draw(some), draw(some), load, draw(st.integers(1, 14)), burst, "empty"
    )


def routing_slot(
    problem: PacketRouting, parts: list[int], action: int, bursts: list[bool], sent: bool
) -> tuple[list[int], bool, list[int], list[int]]:
    """One slot as the docstring tells it: parts, whether delivered, packets out and lost."""
    node, goal = parts[:2]
    queues = dict(zip(problem.core, parts[2:], strict=True))
    neighbours = sorted({a + b - node for a, b in problem.edges if node in (a, b)})
    out, lost = [], []
    for router in problem.core:
        sends = queues[router] > 0 and not (sent and router == node)
        out.append(int(sends))
        queues[router] -= out[-1]
    for router, came in zip(problem.core, bursts, strict=True):
        total = queues[router] + problem.burst * came
        queues[router] = min(total, problem.capacity)
        lost.append(total - queues[router])
    if sent:
        node = neighbours[action % len(neighbours)]
    delivered = node == problem.destinations[goal]
    return [node, goal, *queues.values()], delivered, out, lost


@given(networks(), st.data())
def test_routing_slot(problem: PacketRouting, data: st.DataObject) -> None:
    """The kernel's slot is the docstring's; no packet comes from nowhere or is forgotten."""
    model = problem.model()
    parts = [data.draw(st.integers(0, factor.size - 1)) for factor in model.factors]
    bursts = data.draw(st.lists(st.booleans(), min_size=len(problem.core), max_size=99))
    bursts = bursts[: len(problem.core)]
    sent, action = data.draw(st.booleans()), data.draw(st.integers(0, model.n_actions - 1))
    mask = sum(happened << k for k, happened in enumerate([*bursts, sent]))
    before = state_of(model, *parts)
    state, reward, terminated = slot_of(model, before, action, mask)
    if parts[0] == problem.destinations[parts[1]]:
        assert (state, reward, terminated) == (before, 0.0, True)
        return
    after, delivered, out, lost = routing_slot(problem, parts, action, bursts, sent)
    assert (parts_of(model, state), reward, terminated) == (after, -1.0, delivered)
    assert problem.parts(state) == (after[0], problem.destinations[after[1]], *after[2:])
    came = [problem.burst * burst for burst in bursts]
    stored = [b - a for a, b in zip(parts[2:], parts_of(model, state)[2:], strict=True)]
    assert came == [o + s + x for o, s, x in zip(out, stored, lost, strict=True)]
    chance = model.events(before, action, model.params)
    queue = dict(zip(problem.core, parts[2:], strict=True)).get(parts[0], 0)
    assert chance[:-1] == pytest.approx([problem.load / problem.burst] * len(problem.core))
    assert chance[-1] == pytest.approx(1 / (1 + queue))


def test_routing_outcomes_by_hand() -> None:
    """At router 1 of the diamond with two others, to 3, load 0: sent in one slot of three."""
    model = diamond(load=0.0).model()
    state, to_3 = state_of(model, 1, 0, 2, 0), 1
    p_sent, p_kept = 1 / 3, 2 / 3
    outcomes = sorted(model.outcomes(state, to_3))
    assert [p for p, *_ in outcomes] == pytest.approx([p_sent, p_kept])
    assert outcomes[0][1:] == (state_of(model, 3, 0, 2, 0), -1.0, True)
    assert outcomes[1][1:] == (state_of(model, 1, 0, 1, 0), -1.0, False)


def test_empty_network_takes_its_hops() -> None:
    """Without other traffic the optimal delay is the number of hops, as networkx counts them."""
    problem = PacketRouting.of("small", load=0.0, start="empty", capacity=1)
    model, graph = problem.model(), networkx.Graph(problem.edges)
    value = exact.solve(model, gamma=1.0).value
    for node, (goal, target) in product(graph, enumerate(problem.destinations)):
        hops = networkx.shortest_path_length(graph, node, target)
        assert value[state_of(model, node, goal, 0, 0, 0)] == pytest.approx(-hops)


def weights(problem: PacketRouting) -> npt.NDArray[np.float64]:
    """Probability of each state at the start of an episode, queues as in the long run."""
    n, goals = problem.n_nodes, len(problem.destinations)
    first = np.ones((n, goals))
    first[list(problem.destinations), range(goals)] = 0.0
    queues = [problem.levels] * len(problem.core)
    joint = math.prod(np.ix_(first.ravel() / first.sum(), *queues))
    return np.asarray(joint).ravel()


def worth(problem: PacketRouting) -> dict[str, float]:
    """Exact mean return of the optimum and of each rule."""
    model, start = problem.model(), weights(problem)
    values = {"optimal": exact.solve(model, 0.99, 1e-5).value}
    for name, rule in problem.baselines().items():
        policy = rule(np.arange(model.n_states), 0)
        values[name] = exact.policy_value(model, policy, 0.99, 1e-5)
    return {name: float(start @ value) for name, value in values.items()}


def test_light_load_ties_and_heavy_load_does_not() -> None:
    """Shortest paths are best within 1 % under light load, and 15 % off under heavy load."""
    light, heavy = (worth(PacketRouting.of("small", load=load, capacity=5)) for load in (0.05, 1.0))
    assert light["optimal"] * 1.01 < light["shortest_path"] <= light["optimal"] + 1e-4
    assert heavy["shortest_path"] < 1.15 * heavy["optimal"]
    for table in (light, heavy):
        assert max(table.values()) == table["optimal"]
        assert min(table.values()) == table["random"]
    assert heavy["shortest_path"] < min(heavy["static_delay"], heavy["live_delay"])


def test_routing_rules_by_hand() -> None:
    problem = diamond(load=0.9)
    model, rules = problem.model(), problem.baselines()
    parts = [(0, 0, 0, 0), (0, 0, 7, 0), (0, 0, 7, 7), (1, 0, 7, 0), (2, 0, 0, 0), (4, 0, 0, 7)]
    states = np.array([state_of(model, *part) for part in parts])
    # ports of 0: 1, 2; of 1: 0, 3; of 2: 0, 4; of 4: 2, 3
    assert rules["shortest_path"](states, 0).tolist() == [0, 0, 0, 1, 1, 1]
    assert rules["live_delay"](states, 0).tolist() == [0, 1, 0, 1, 1, 1]
    only_1 = diamond(load=0.9, core=(1,))
    states = np.array([state_of(only_1.model(), 0, 0, queue) for queue in (0, 7)])
    assert only_1.baselines()["static_delay"](states, 0).tolist() == [1, 1]
    idle = diamond(load=0.1, core=(1,))
    assert idle.baselines()["static_delay"](states, 0).tolist() == [0, 0]


@given(networks())
@settings(max_examples=25)
def test_distances_and_ports(problem: PacketRouting) -> None:
    """As networkx has them, for random delays too."""
    graph, ports = networkx.Graph(problem.edges), problem.ports
    assert [sorted(set(row)) for row in ports] == [
        sorted(graph[node]) for node in range(problem.n_nodes)
    ]
    delays = np.random.default_rng(0).random(problem.n_nodes)
    directed = networkx.DiGraph()
    directed.add_weighted_edges_from((a, b, delays[a]) for a, b in graph.to_directed().edges)
    expected = dict(networkx.all_pairs_dijkstra_path_length(directed))
    least = distances(ports, delays)
    for a, b in product(graph, graph):
        assert least[a, b] == pytest.approx(expected[a][b])


def test_networkx_graph_is_an_edge_list() -> None:
    graph = networkx.Graph(DIAMOND)
    assert diamond(edges=graph) == diamond() == diamond(core=[1, 2])
    assert diamond(edges=graph.to_directed()) == diamond()
    assert diamond().edges == ((0, 1), (0, 2), (1, 3), (2, 4), (3, 4))


@given(st.floats(0, 1), st.integers(1, 5), st.integers(1, 9))
def test_steady_queues_stay(chance: float, burst: int, capacity: int) -> None:
    """Another slot does not change the distribution."""
    levels = steady(chance, burst, capacity)
    after = np.zeros_like(levels)
    for level, p in enumerate(levels):
        left = max(level - 1, 0)
        after[left] += p * (1 - chance)
        after[min(left + burst, capacity)] += p * chance
    assert after == pytest.approx(levels, abs=1e-9)
    assert levels.sum() == pytest.approx(1.0)


@given(st.floats(0, 1), st.integers(1, 5), st.sampled_from([1, 6]))
@settings(max_examples=25)
def test_waits_are_the_values_of_one_router(chance: float, burst: int, capacity: int) -> None:
    """A packet at the only busy router: what the model says that it takes, whatever comes."""
    problem = PacketRouting(((0, 1),), (0,), (1,), chance * burst, capacity, burst)
    model = problem.model()
    value = exact.solve(model, gamma=1.0, tolerance=1e-9).value
    states = [state_of(model, 0, 0, queue) for queue in range(capacity + 1)]
    assert waits(chance, burst, capacity) == pytest.approx(-value[states], abs=1e-6)
    assert problem.waits == pytest.approx(waits(chance, burst, capacity))


def test_waits_by_hand() -> None:
    """Nobody comes: 1 + q/2 slots, in random order. A packet in every slot: it never gets less."""
    assert waits(0.0, 2, 4) == pytest.approx([1.0, 1.5, 2.0, 2.5, 3.0])
    assert waits(1.0, 1, 4) == pytest.approx([1.0, 2.0, 3.0, 4.0, 5.0])
    problem = PacketRouting.of("small")
    assert problem.levels @ problem.waits == pytest.approx(4.08, abs=0.005)


@pytest.mark.parametrize("start", ["uniform", "steady", "empty"])
def test_routing_starts(start: str) -> None:
    """Never at the destination; queues as they are said to be, within 4 standard deviations."""
    problem = diamond(start=start, capacity=3, destinations=(3, 0))
    model, n = problem.model(), 4000
    state = np.empty(n, np.int64)
    model.kernels.begin(np.arange(n, dtype=np.uint64) * 7919, 0, model.params, state)
    node, goal, *queues = np.unravel_index(state, [factor.size for factor in model.factors])
    target = np.array(problem.destinations)[goal]
    assert (node != target).all()
    counts = np.bincount(((node - target) % 5) + 5 * goal, minlength=10).reshape(2, 5)
    assert abs(counts[:, 1:] / n - 1 / 8).max() < 4 * np.sqrt(1 / 8 * 7 / 8 / n)
    expected = {"uniform": np.full(4, 0.25), "steady": problem.levels, "empty": np.eye(4)[0]}
    for queue in queues:
        share = np.bincount(queue, minlength=4) / n
        assert abs(share - expected[start]).max() < 4 * np.sqrt(0.25 / n)


def test_compiled_is_the_same() -> None:
    """The compiled model enumerates what the functions give in plain Python."""
    model = PacketRouting.of("small").model()
    pairs = np.random.default_rng(0).integers((model.n_states, model.n_actions), size=(50, 2))
    for state, action in pairs.tolist():
        plain = []
        chances = model.events(state, action, model.params)
        for mask in range(1 << model.n_events):
            happened = [mask >> k & 1 for k in range(model.n_events)]
            p = math.prod(c if h else 1 - c for c, h in zip(chances, happened, strict=True))
            plain += [(p, *slot_of(model, state, action, mask))] if p > 0.0 else []
        assert np.array(model.outcomes(state, action)) == pytest.approx(np.array(plain))


def test_sizes() -> None:
    """Small can be solved, medium has about a million states, large a hundred million or more."""
    models = [PacketRouting.of(size).model() for size in PacketRouting.sizes]
    small, medium, large = (model.n_states for model in models)
    assert small <= 16_000
    assert 0.9e6 <= medium <= 1.1e6
    assert 1e8 <= large <= 1e9
    for size in PacketRouting.sizes:
        assert (
            PacketRouting.of(size).model().digest is not None
        )  # so that machine code is kept on disk


def test_rules_give_valid_actions() -> None:
    for size in PacketRouting.sizes:
        problem = PacketRouting.of(size)
        model = problem.model()
        states = np.random.default_rng(0).integers(model.n_states, size=200)
        for rule in problem.baselines().values():
            actions = rule(states, 3)
            assert actions.shape == states.shape
            assert actions.dtype == np.int64
            assert ((actions >= 0) & (actions < model.n_actions)).all()
            assert np.array_equal(actions, rule(states, 3))


def test_labels() -> None:
    model = diamond().model()
    assert [factor.name for factor in model.factors] == [
        "node", "destination", "queue_r1", "queue_r2",
    ]  # fmt: skip
    assert model.factors[0].labels == ("r0", "r1", "r2", "r3", "r4")
    assert model.factors[1].labels == ("r3",)
    assert model.action_labels == ("port_0", "port_1")


def test_routing_picture() -> None:
    problem = diamond()
    picture = problem.picture(state_of(problem.model(), 1, 0, 7, 0), 0)
    assert picture.title == "packet at r1, for r3; chosen: port_0"
    assert "r1  [##########] 7 waiting, packet" in picture.text()
    assert "r3  [          ] goal" in picture.text()
    assert len({node.at for node in picture.nodes}) == 5
    assert picture.rgb().shape[2] == 3
    assert "no port yet" in problem.picture(0, None).title


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edges": []}, "at least one edge"),
        ({"edges": [(0, 1), (2, 3)]}, r"no way from 0 to \[2, 3\]"),
        ({"edges": [(0, 0)]}, "two different nodes"),
        ({"edges": [(0, 15)]}, "in 0 .. 14"),
        ({"core": ()}, "core must be 1 .. 13 different routers"),
        ({"core": (1, 1)}, "core must be 1 .. 13 different routers"),
        ({"destinations": (9,)}, "destinations must be 1 .. 15 different routers in 0 .. 4"),
        ({"destinations": 3}, "destinations must be a sequence of routers, got 3"),
        ({"load": 5.0}, "load must be in 0 .."),
        ({"burst": 0}, "burst must be an integer of at least 1"),
        ({"capacity": 0}, "capacity must be an integer in 1 .. 14"),
        ({"start": "full"}, "start must be 'uniform', 'steady' or 'empty'"),
    ],
)
def test_bad_routing(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        diamond(**changes)


def test_ports_begin_anew() -> None:
    assert ports_of(((0, 1), (1, 2), (1, 3)), 4)[2] == (1, 1, 1)
