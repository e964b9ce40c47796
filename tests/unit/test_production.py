"""ProductionLine: one slot against plain Python, conservation of parts, baselines, pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqlearn.envs.problems.production import ProductionLine
from dqlearn.envs.problems.production import baselines as rules
from dqlearn.envs.problems.production.decisions import Decisions
from dqlearn.envs.problems.production.layout import places_of, tree_of
from dqlearn.errors import ConfigurationError

IDLE, RUN, MAINTAIN = "idle", "run", "maintain"
DOWN, WORN, GOOD = range(3)


@dataclass
class Slot:
    """What one slot leaves, and what passed the line's borders in it."""

    stock: list[int]
    health: list[int]
    reward: float
    begun: list[int]
    scrapped: list[int]
    sold: int


def slot(line: ProductionLine, stock: list[int], health: list[int], modes: Any, hit: Any) -> Slot:
    """Make one slot as the docstring says; ``hit(i)``: machine i's event, ``hit(-1)``: an order."""
    n, reward = line.machines, 0.0
    opened, stock, health, before = list(stock), list(stock), list(health), list(health)
    takes = {i: [a for a, b in line.edges if b == i] for i in range(n)}
    begun, scrapped = [0] * n, [0] * n
    for i in reversed(range(n)):
        fed = all(opened[j] > 0 for j in takes[i])
        if modes[i] == RUN and before[i] != DOWN and fed and stock[i] < line.buffer:
            begun[i] = 1
            for j in takes[i]:
                stock[j] -= 1
            if hit(i) and before[i] == WORN:
                health[i], scrapped[i] = DOWN, 1
            else:
                stock[i] += 1
                health[i] = WORN if hit(i) else before[i]
        if modes[i] == MAINTAIN:
            reward -= line.repair_cost[i] if before[i] == DOWN else line.service_cost[i]
            health[i] = GOOD if hit(i) else before[i]
    sold = int(hit(-1) and stock[-1] > 0)
    stock[-1] -= sold
    reward += line.price * sold - line.lost * (hit(-1) and not sold)
    reward -= sum(cost * parts for cost, parts in zip(line.holding, stock, strict=True))
    return Slot(stock, health, reward, begun, scrapped, sold)


@st.composite
def lines(draw: st.DrawFn) -> ProductionLine:
    n = draw(st.sampled_from([1, 2, 3, 4, 5, 8]))
    chance = st.floats(0.0, 1.0)
    cost = st.floats(0.0, 100.0)
    per_machine = {
        name: draw(st.lists(kind, min_size=1, max_size=n))
        for kind, names in (
            (chance, ("wear", "fail", "service", "repair")),
            (cost, ("holding", "service_cost", "repair_cost")),
        )
        for name in names
    }
    tree = [(i, draw(st.integers(i + 1, n - 1))) for i in range(n - 1)]
    return ProductionLine(
        machines=n,
        edges=draw(st.sampled_from([None, tree])),
        buffer=draw(st.integers(1, 4)),
        demand=draw(chance),
        price=draw(cost),
        lost=draw(cost),
        crews=draw(st.integers(0, n)),
        idlers=draw(st.sampled_from(["any", "first"])),
        **per_machine,
    )


@st.composite
def moments(draw: st.DrawFn) -> tuple[ProductionLine, int, int, int]:
    """Return a line, a state, an action and which events happen."""
    line = draw(lines())
    model = line.model()
    return (
        line,
        draw(st.integers(0, model.n_states - 1)),
        draw(st.integers(0, model.n_actions - 1)),
        draw(st.integers(0, 2**model.n_events - 1)),
    )


def plain(line: ProductionLine, state: int, action: int, happened: int) -> Slot:
    """Make the slot from the state's and the action's labels."""
    model = line.model()
    factors = np.unravel_index(state, [factor.size for factor in model.factors])
    stock, health = [int(x) for x in factors[::2]], [int(h) for h in factors[1::2]]
    modes = (model.action_labels or ())[action].split("-")
    return slot(line, stock, health, modes, lambda i: bool(happened >> (i + 1) & 1))


@given(moments())
def test_a_slot_is_what_the_docstring_says(moment: tuple[ProductionLine, int, int, int]) -> None:
    line, state, action, happened = moment
    model, expected = line.model(), plain(line, state, action, happened)
    after, reward, terminated = model.transition(state, action, happened, model.params)
    stock, health = line.parts_of(after)
    assert stock.tolist() == expected.stock
    assert health.tolist() == expected.health
    assert reward == pytest.approx(expected.reward, abs=1e-9)
    assert not terminated


@given(moments())
def test_parts_are_neither_made_nor_lost(moment: tuple[ProductionLine, int, int, int]) -> None:
    """Raw parts in = parts stored, sold and scrapped, each counted by the raw parts in it."""
    line, state, action, happened = moment
    flow = plain(line, state, action, happened)
    weight = [0] * line.machines
    for i in range(line.machines):
        before = line.inputs(i)
        weight[i] = sum(weight[j] for j in before) if before else 1
    entered = sum(flow.begun[i] for i in range(line.machines) if not line.inputs(i))
    after = line.model().transition(state, action, happened, line.model().params)[0]
    stored = (line.parts_of(after)[0] - line.parts_of(state)[0]) @ weight
    gone = np.dot(flow.scrapped, weight) + flow.sold * weight[-1]
    assert entered == stored + gone


@given(moments())
def test_chances_are_those_of_health_and_mode(moment: tuple[ProductionLine, int, int, int]) -> None:
    line, state, action, _ = moment
    model = line.model()
    order, *machines = model.events(state, action, model.params)
    assert order == line.demand
    modes = (model.action_labels or ())[action].split("-")
    table = {
        (RUN, GOOD): line.wear,
        (RUN, WORN): line.fail,
        (MAINTAIN, WORN): line.service,
        (MAINTAIN, DOWN): line.repair,
    }
    for i, (mode, health) in enumerate(zip(modes, line.parts_of(state)[1].tolist(), strict=True)):
        assert machines[i] == table.get((mode, health), [0.0] * line.machines)[i]


@pytest.mark.parametrize("edges", [None, [(0, 2), (1, 2)]])
def test_compiled_outcomes_are_those_of_plain_python(edges: Any) -> None:
    line = ProductionLine.of("small", edges=edges)
    model, draw = line.model(), np.random.default_rng(0)
    for _ in range(50):
        state, action = int(draw.integers(model.n_states)), int(draw.integers(model.n_actions))
        chances = model.events(state, action, model.params)
        expected: dict[tuple[int, float], float] = {}
        for happened in range(2**model.n_events):
            flow = plain(line, state, action, happened)
            p = np.prod([q if happened >> k & 1 else 1 - q for k, q in enumerate(chances)])
            key = at(line, flow.stock, flow.health), round(flow.reward, 9)
            expected[key] = expected.get(key, 0.0) + float(p)
        got: dict[tuple[int, float], float] = {}
        for p, after, reward, _ in model.outcomes(state, action):
            key = after, round(reward, 9)
            got[key] = got.get(key, 0.0) + p
        assert got == pytest.approx({key: p for key, p in expected.items() if p > 0.0})


def test_the_longest_line_fits_into_a_word() -> None:
    """Eight machines fill all bytes; compiled integers wrap where Python's do not."""
    model, draw = (
        ProductionLine(machines=8, crews=1, idlers="first").model(),
        np.random.default_rng(0),
    )
    for _ in range(300):
        state, action = int(draw.integers(model.n_states)), int(draw.integers(model.n_actions))
        happened = int(draw.integers(2**model.n_events))
        assert model.kernels.transition(state, action, happened, model.params) == (
            pytest.approx(model.transition(state, action, happened, model.params))
        )


def test_one_slot_by_hand() -> None:
    """Three machines: the first is blocked, the second fails at work, the last sells."""
    line = ProductionLine.of("small", price=10.0, holding=0.5)
    model = line.model()
    labels = list(model.action_labels or ())
    state = at(line, [4, 0, 1], [GOOD, WORN, GOOD])
    run = labels.index("run-run-run")
    # The second takes the part that blocked the first, fails and makes scrap; the last is starved.
    after, reward, _ = model.transition(state, run, 0b0101, model.params)
    assert after == at(line, [4, 0, 0], [GOOD, DOWN, GOOD])
    assert reward == 10.0 - 0.5 * 4
    # Nobody orders; the first wears, the last is serviced in vain.
    vain = labels.index("run-run-maintain")
    after, reward, _ = model.transition(state, vain, 0b0010, model.params)
    assert after == at(line, [4, 1, 1], [WORN, WORN, GOOD])
    assert reward == -0.5 * 6 - line.service_cost[2]


def at(line: ProductionLine, stock: list[int], health: list[int]) -> int:
    """Return the state of given stocks and healths."""
    digits = [value for pair in zip(stock, health, strict=True) for value in pair]
    return int(np.ravel_multi_index(digits, [factor.size for factor in line.model().factors]))


def test_parts_wait_for_their_partners() -> None:
    """Assembly of one part each of two stores: with one of them empty nothing is made."""
    line = ProductionLine(machines=3, edges=[(0, 2), (1, 2)], holding=0.0)
    model = line.model()
    run = list(model.action_labels or ()).index("idle-idle-run")
    for stock, after in (([1, 0, 0], [1, 0, 0]), ([2, 1, 0], [1, 0, 1])):
        state = at(line, stock, [GOOD] * 3)
        assert model.transition(state, run, 0, model.params)[0] == at(line, after, [GOOD] * 3)


@pytest.mark.parametrize(
    ("size", "n_states", "n_actions"),
    [("small", 15**3, 27), ("medium", 15**5, 11), ("large", 15**7, 15)],
)
def test_sizes(size: str, n_states: int, n_actions: int) -> None:
    model = ProductionLine.make(size)
    assert (model.n_states, model.n_actions) == (n_states, n_actions)


@given(st.integers(1, 5), st.integers(0, 5), st.sets(st.integers(0, 4)))
def test_limits_of_decisions(machines: int, crews: int, idlers: set[int]) -> None:
    """Exactly the decisions within the limits, each once, in order."""
    every = tuple(range(machines))
    free = [label.split("-") for label in Decisions(machines, machines, every).labels()]
    assert len(free) == 3**machines
    within = [
        modes
        for modes in free
        if modes.count(MAINTAIN) <= crews
        and all(i in idlers for i, mode in enumerate(modes) if mode == IDLE)
    ]
    labels = Decisions(machines, crews, tuple(idlers)).labels()
    assert labels == ["-".join(modes) for modes in within]


def test_a_wish_beyond_the_limits() -> None:
    """The crew goes to what is urgent, then nearest to the customer; who may not idle runs."""
    decisions = Decisions(4, crews=1, idlers=(0, 1))
    labels = decisions.labels()

    def fitted(wanted: list[int], urgent: list[int]) -> str:
        return labels[decisions.fit(np.array([wanted]), np.array([urgent], bool))[0]]

    assert fitted([2, 2, 1, 2], [0, 0, 0, 0]) == "run-run-run-maintain"
    assert fitted([2, 2, 1, 2], [1, 1, 0, 0]) == "run-maintain-run-run"
    assert fitted([0, 0, 0, 1], [0, 0, 0, 0]) == "idle-idle-run-run"
    assert fitted([0, 2, 0, 1], [0, 1, 0, 0]) == "idle-maintain-run-run"


def test_state_and_action_are_labelled() -> None:
    model = ProductionLine.make("small")
    names = {factor.name: factor.labels or factor.size for factor in model.factors}
    assert list(names) == ["stock_1", "health_1", "stock_2", "health_2", "stock_3", "health_3"]
    assert names["health_2"] == ("down", "worn", "good")
    assert names["stock_2"] == 5
    assert len(set(model.action_labels or ())) == model.n_actions


def test_where_episodes_begin() -> None:
    """Empty and good; or anywhere, each digit evenly."""
    line = ProductionLine.of("small", start="empty")
    params = line.model().params
    assert line.model().initial(np.uint64(5), params) == at(line, [0, 0, 0], [GOOD] * 3)
    model = ProductionLine.make("small")
    began = [model.initial(np.uint64(key), model.params) for key in range(2000)]
    stock, health = line.parts_of(np.array(began))
    assert min(began) >= 0
    assert max(began) < model.n_states
    np.testing.assert_allclose(stock.mean(axis=0), 2.0, atol=4 * np.sqrt(2.0 / 2000))
    np.testing.assert_allclose(health.mean(axis=0), 1.0, atol=4 * np.sqrt(2.0 / 3.0 / 2000))


@pytest.mark.parametrize(
    "changes",
    [
        {"machines": 0},
        {"machines": 9},
        {"machines": 2.5},
        {"buffer": 5},
        {"crews": -1},
        {"wear": 1.5},
        {"wear": float("nan")},
        {"wear": (0.1,) * 4},
        {"wear": "often"},
        {"wear": ()},
        {"demand": (0.1, 0.2)},
        {"lost": -1.0},
        {"start": "anywhere"},
        {"idlers": "last"},
        {"max_episode_steps": 0},
        {"edges": [(0, 1)]},
        {"edges": [(0, 2), (0, 1)]},
        {"edges": [(1, 0), (0, 2)]},
        {"edges": [(0, 3), (1, 2)]},
    ],
)
def test_values_that_cannot_work(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        ProductionLine.of("small", **changes)


def test_one_number_or_a_list_that_repeats() -> None:
    line = ProductionLine(machines=3, wear=0.2, fail=[0.1, 0.3])  # type: ignore[arg-type]
    assert line.wear == (0.2, 0.2, 0.2)
    assert line.fail == (0.1, 0.3, 0.1)
    assert line == ProductionLine(machines=3, wear=[0.2], fail=(0.1, 0.3, 0.1))  # type: ignore[arg-type]
    assert hash(line) == hash(ProductionLine(machines=3, wear=0.2, fail=(0.1, 0.3)))


def test_a_tree_is_drawn_from_left_to_right() -> None:
    networkx = pytest.importorskip("networkx")
    graph = networkx.DiGraph([(0, 2), (1, 2), (2, 4), (3, 4)])
    edges = tree_of(graph, 5)
    assert edges == ((0, 2), (1, 2), (2, 4), (3, 4))
    places = places_of(edges, 5)
    assert len(set(places)) == 5
    assert all(places[end][0] == places[start][0] + 1 for start, end in edges)


# Searches of parameters in short episodes.
LINE = ProductionLine.of("small", max_episode_steps=20)


def decided(rule: Any, stock: list[int], health: list[int], t: int = 0, **values: Any) -> str:
    """Return what a rule decides on the small line."""
    action = rule(LINE, np.array([at(LINE, stock, health)]), t, **values)[0]
    return (LINE.model().action_labels or ())[action]


def test_repair_on_failure() -> None:
    assert decided(rules.run_to_failure, [0, 4, 2], [DOWN, WORN, GOOD]) == "maintain-run-run"


def test_service_by_the_clock() -> None:
    """Period 6 on three machines: they take turns, two slots apart, each once a period."""
    good = [GOOD] * 3
    due = {t: decided(rules.by_clock, [1, 1, 1], good, t, period=6) for t in range(12)}
    busy = {t: label for t, label in due.items() if MAINTAIN in label}
    assert busy == {
        1: "run-run-maintain",
        3: "run-maintain-run",
        5: "maintain-run-run",
        7: "run-run-maintain",
        9: "run-maintain-run",
        11: "maintain-run-run",
    }
    assert decided(rules.by_clock, [1, 1, 1], [DOWN, GOOD, GOOD], 0, period=6) == "maintain-run-run"


def test_what_is_never_serviced_runs_to_failure() -> None:
    states = np.arange(0, 15**3, 7)
    never = rules.by_clock(LINE, states, 3, period=None)
    np.testing.assert_array_equal(never, rules.run_to_failure(LINE, states, 3))


def test_the_clock_is_not_followed_where_it_does_not_help() -> None:
    """Machines that never wear: every service costs, so there are none."""
    line = ProductionLine.of("small", wear=0.0, start="empty", max_episode_steps=40)
    found = line.baselines()["by the clock"]
    assert found.keywords == {"period": None}  # type: ignore[attr-defined]


def test_time_since_a_service_says_nothing() -> None:
    """Of machines that are still good, as many become worn in the 30th slot as in the first."""
    line = ProductionLine(machines=1, holding=0.0, demand=1.0, wear=0.1)
    assert line.fail == (0.1,)
    model, state, share = line.model(), {at(line, [0], [GOOD]): 1.0}, []
    run = list(model.action_labels or ()).index("run")
    for _ in range(30):
        after: dict[int, float] = {}
        for s, weight in state.items():
            for p, s_next, _, _ in model.outcomes(s, run):
                after[s_next] = after.get(s_next, 0.0) + weight * p
        good = {s: p for s, p in after.items() if line.parts_of(s)[1][0] == GOOD}
        share.append(1.0 - sum(good.values()))
        state = {s: p / sum(good.values()) for s, p in good.items()}
    assert share == pytest.approx([0.1] * 30)


def test_service_by_health() -> None:
    """service / repair is 5/3 of the first and third machine, 2 of the second."""
    worn = [WORN] * 3
    assert decided(rules.by_health, [1, 1, 1], worn, ratio=0.0) == "maintain-maintain-maintain"
    assert decided(rules.by_health, [1, 1, 1], worn, ratio=1.9) == "run-maintain-run"
    assert decided(rules.by_health, [1, 1, 1], worn, ratio=np.inf) == "run-run-run"
    assert decided(rules.by_health, [4, 4, 4], [GOOD] * 3, ratio=0.0) == "run-run-run"


def test_kanban_cards() -> None:
    """A store with two parts has no free card of two; with all cards, full stores decide."""
    good = [GOOD] * 3
    assert decided(rules.kanban, [2, 1, 3], good, cards=2, ratio=0.0) == "idle-run-idle"
    assert decided(rules.kanban, [4, 4, 4], good, cards=4, ratio=0.0) == "run-run-run"
    assert decided(rules.kanban, [2, 2, 2], [GOOD, WORN, DOWN], cards=2, ratio=0.0) == (
        "idle-maintain-maintain"
    )


def test_constant_work_in_process() -> None:
    """At the level, or above, nothing enters; the machines behind go on."""
    good = [GOOD] * 3
    assert decided(rules.conwip, [1, 2, 2], good, level=5, ratio=0.0) == "idle-run-run"
    assert decided(rules.conwip, [0, 2, 2], good, level=5, ratio=0.0) == "run-run-run"


def test_a_search_finds_the_better_period() -> None:
    """Machines that never wear: every service costs, so the longest period is best."""
    line = ProductionLine.of("small", wear=0.0, start="empty", max_episode_steps=40)
    found = rules.best_of(line, rules.by_clock, period=(2, 10, 60))
    assert found.keywords == {"period": 60}  # type: ignore[attr-defined]


def test_baselines_are_decisions() -> None:
    states = np.arange(0, 15**3, 7)
    for name, policy in LINE.baselines().items():
        for t in (0, 3):
            actions = policy(states, t)
            assert actions.shape == states.shape, name
            assert ((actions >= 0) & (actions < 27)).all(), name


def test_pictures() -> None:
    """Machines, stores between them, and the decision; as text and as pixels."""
    state = at(LINE, [4, 0, 1], [GOOD, DOWN, WORN])
    picture = LINE.picture(state, list(LINE.decisions.labels()).index("idle-maintain-run"))
    assert picture.title == "idle-maintain-run"
    assert [node.level for node in picture.nodes] == [0.0, 1.0, 0.5, 0.0]
    assert [link.level for link in picture.links] == [1.0, 0.0, 0.25]
    lines = picture.text().splitlines()
    assert lines[2] == "M2           [##########] down, maintain"
    assert lines[-1] == "M3 > orders  [##        ] 1 of 4"
    assert picture.rgb().std() > 0
    assert "maintain" not in LINE.picture(state, None).text()
