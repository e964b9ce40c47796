"""TrafficGrid: one slot against its docstring, conservation of vehicles, networks, labels."""

from __future__ import annotations

import math
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dqlearn import QLearner, TabularEnv, unfold
from dqlearn.envs.problems.traffic import TrafficGrid
from dqlearn.errors import ConfigurationError

STREAMS = ("main", "cross")
Slot = tuple[TrafficGrid, TabularEnv, int, int, int]

# One link enters (2, main) from each of (0, main) and (1, main); two leave (0, main).
FORKED = ((0, 1), (0, 2), (1, 2), (2, 1, "cross"))
RING = ((0, 1), (1, 2), (2, 0), (2, 3), (2, 1))


def state_of(problem: TrafficGrid, queues: Any, phases: str) -> int:
    """Index of a state whose phases are written as "mc"."""
    return problem.index(queues, ["main" if phase == "m" else "cross" for phase in phases])


# one slot, from the docstring


def inlets(problem: TrafficGrid) -> list[tuple[int, str]]:
    queues = [(i, s) for i in range(problem.n_intersections) for s in STREAMS]
    return [(i, s) for i, s in queues if (i, s) not in {(j, t) for _, j, t in problem.links}]


def chosen_ways(problem: TrafficGrid, coins: int) -> dict[tuple[int, str], int | None]:
    """Where each queue's platoon goes: the next intersection, or None, out of the network."""
    ways: dict[tuple[int, str], int | None] = {}
    for i in range(problem.n_intersections):
        for s in STREAMS:
            targets = [j for a, j, t in problem.links if (a, t) == (i, s)]
            ways[i, s] = targets[-1] if targets else None
            heads = [bool(coins >> k & 1) for k in range(len(targets) - 1)]
            if any(heads):
                ways[i, s] = targets[heads.index(True)]
            coins >>= len(heads)
    return ways


def wanted_phases(problem: TrafficGrid, state: int, action: int) -> tuple[str, ...]:
    label = problem.action_labels[action]
    if problem.control == "all":
        return tuple(label.split())
    phases = list(problem.phases(state))
    if label != "keep":
        i = int(label.removeprefix("switch ")) - 1
        phases[i] = "cross" if phases[i] == "main" else "main"
    return tuple(phases)


def reference(problem: TrafficGrid, state: int, action: int, happened: int) -> tuple[int, float]:
    """Make one slot with a dictionary of queues: switch, serve, arrive."""
    before = {
        (i, s): q
        for i, pair in enumerate(problem.queues(state))
        for s, q in zip(STREAMS, pair, strict=True)
    }
    wanted, phases, entries = (
        wanted_phases(problem, state, action),
        problem.phases(state),
        inlets(problem),
    )
    after, joined = dict(before), dict.fromkeys(before, 0)
    for (i, s), way in chosen_ways(problem, happened >> len(entries)).items():
        if phases[i] != s or wanted[i] != s:
            continue
        platoon = min(before[i, s], problem.saturation)
        if way is not None:
            platoon = min(platoon, problem.capacity - before[way, s] - joined[way, s])
            joined[way, s] += platoon
        after[i, s] -= platoon
    lost = 0
    for k, (i, s) in enumerate(entries):
        if happened >> k & 1:
            lost += after[i, s] == problem.capacity
            after[i, s] += after[i, s] < problem.capacity
    for queue, n in joined.items():
        after[queue] += n
    queues = [(after[i, "main"], after[i, "cross"]) for i in range(problem.n_intersections)]
    return problem.index(queues, wanted), -sum(after.values()) - problem.lost_cost * lost


@st.composite
def problems(draw: st.DrawFn) -> TrafficGrid:
    n = draw(st.integers(1, 4))
    names = st.sampled_from(["arterial", "grid"])
    ends = st.tuples(*[st.integers(0, n - 1)] * 2, st.sampled_from(STREAMS))
    links = st.lists(ends.filter(lambda link: link[0] != link[1]), unique=True, max_size=6)
    capacity = draw(st.integers(1, 6))
    try:
        return TrafficGrid(
            n,
            draw(names | links if n > 1 else names),
            capacity,
            draw(st.integers(1, capacity)),
            lost_cost=draw(st.sampled_from([0.0, 0.5, 20.0])),
            control=draw(st.sampled_from(["all", "one"])),
        )
    except ConfigurationError as error:
        assume("a way out" not in str(error))
        raise


@st.composite
def slots(draw: st.DrawFn) -> Slot:
    """A problem, its model, a state, an action and events."""
    problem = draw(problems())
    model = problem.model()
    each = st.sampled_from([0, problem.capacity]) | st.integers(0, problem.capacity)
    n = problem.n_intersections
    queues = draw(st.lists(st.tuples(each, each), min_size=n, max_size=n))
    phases = draw(st.lists(st.sampled_from(STREAMS), min_size=n, max_size=n))
    return (
        problem,
        model,
        problem.index(queues, phases),
        draw(st.integers(0, model.n_actions - 1)),
        draw(st.integers(0, 2**model.n_events - 1)),
    )


@given(slots())
@settings(max_examples=150)
def test_slot_is_what_the_docstring_says(slot: Slot) -> None:
    problem, model, state, action, happened = slot
    after, reward, terminated = model.transition(state, action, happened, model.params)
    assert (after, reward) == reference(problem, state, action, happened)
    assert not terminated


@given(slots())
@settings(max_examples=150)
def test_vehicles_are_conserved(slot: Slot) -> None:
    """In = out + stored + lost; links neither make nor swallow any."""
    problem, model, state, action, happened = slot
    after, reward, _ = model.transition(state, action, happened, model.params)
    stored, left = (sum(map(sum, problem.queues(s))) for s in (state, after))
    came = (happened & ((1 << len(inlets(problem))) - 1)).bit_count()
    linked = {(i, s) for i, _, s in problem.links}
    gone = sum(
        min(problem.queues(state)[i][k], problem.saturation)
        for i in range(problem.n_intersections)
        for k, s in enumerate(STREAMS)
        if problem.phases(state)[i] == problem.phases(after)[i] == s and (i, s) not in linked
    )
    lost = stored + came - gone - left
    assert 0 <= lost <= came
    assert reward == -left - problem.lost_cost * lost


@pytest.mark.parametrize(
    ("n", "network", "control"), [(2, "arterial", "all"), (3, FORKED, "all"), (4, RING, "one")]
)
def test_compiled_outcomes_are_the_reference(n: int, network: Any, control: str) -> None:
    """Machine code agrees with the reference, event by event, and so do the probabilities."""
    problem = TrafficGrid(n, network, capacity=4, saturation=3, lost_cost=2.5, control=control)
    model = problem.model()
    random = np.random.default_rng(0)
    for _ in range(10):
        state, action = random.integers(model.n_states), random.integers(model.n_actions)
        expected = []
        for happened in range(2**model.n_events):
            p = math.prod(
                chance if happened >> k & 1 else 1 - chance
                for k, chance in enumerate(problem.chances)
            )
            expected.append((pytest.approx(p), *reference(problem, state, action, happened), False))
        assert model.outcomes(int(state), int(action)) == expected


# by hand


def after(problem: TrafficGrid, queues: Any, phases: str, label: str) -> tuple[Any, Any]:
    """Queues and phases after a slot in which nobody comes."""
    model, action = problem.model(), problem.action_labels.index(label)
    state, *_ = model.transition(state_of(problem, queues, phases), action, 0, model.params)
    return problem.queues(state), "".join(phase[0] for phase in problem.phases(state))


def test_departures_join_the_next_link() -> None:
    assert after(TrafficGrid.of("small"), [(5, 1), (0, 4)], "mc", "main cross") == (
        ((3, 1), (2, 2)),
        "mc",
    )


def test_switching_loses_the_slot() -> None:
    assert after(TrafficGrid.of("small"), [(5, 1), (0, 4)], "mc", "cross main") == (
        ((5, 1), (0, 4)),
        "cm",
    )


def test_a_full_link_blocks() -> None:
    """One place is free at the beginning; that two leave in the slot helps in the next."""
    assert after(TrafficGrid.of("small"), [(5, 0), (5, 0)], "mm", "main main") == (
        ((4, 0), (4, 0)),
        "mm",
    )
    assert after(TrafficGrid.of("small"), [(5, 0), (6, 0)], "mm", "main main") == (
        ((5, 0), (4, 0)),
        "mm",
    )


def test_merging_streams_share_the_room() -> None:
    """Intersection 1 comes before 2: it takes two of the three places left."""
    problem = TrafficGrid(3, ((0, 2), (1, 2)))
    given_, expected = [(4, 0), (4, 0), (3, 0)], ((2, 0), (3, 0), (6, 0))
    assert after(problem, given_, "mmc", "main main cross") == (expected, "mmc")


def test_a_platoon_takes_each_way_equally_often() -> None:
    problem = TrafficGrid(4, RING, arrival_main=0.0, arrival_cross=0.0)
    state = state_of(problem, [(0, 0), (0, 0), (2, 0), (0, 0)], "mmmm")
    chance: dict[Any, float] = {}
    for p, s, *_ in problem.model().outcomes(state, 0):
        joined = [main for main, _ in problem.queues(s)].index(2)
        chance[joined] = chance.get(joined, 0.0) + p
    assert chance == pytest.approx({0: 1 / 3, 1: 1 / 3, 3: 1 / 3})


def test_one_intersection_a_step() -> None:
    problem = TrafficGrid.of("small", control="one")
    assert problem.action_labels == ("keep", "switch 1", "switch 2")
    assert after(problem, [(5, 1), (0, 4)], "mc", "keep") == (((3, 1), (2, 2)), "mc")
    assert after(problem, [(5, 1), (0, 4)], "mc", "switch 2") == (((3, 1), (2, 4)), "mm")


# networks, sizes, labels


def test_graphs_and_lists_are_networks() -> None:
    path = nx.path_graph(3, create_using=nx.DiGraph)
    assert TrafficGrid(3, path).links == TrafficGrid(3).links == ((0, 1, "main"), (1, 2, "main"))
    graph = nx.DiGraph()
    graph.add_edge(0, 1, stream="cross")
    assert TrafficGrid(2, graph) == TrafficGrid(2, [[0, 1, "cross"]])
    assert TrafficGrid(3, "grid").links == TrafficGrid(3).links
    assert TrafficGrid(6, "grid").roads.entries == (0, 1, 3, 5, 6)


def test_sizes_are_those_of_the_formula() -> None:
    sizes = [TrafficGrid.make(size).n_states for size in ("small", "medium", "large")]
    assert sizes == [(2 * 7**2) ** n for n in (2, 3, 4)] == [9_604, 941_192, 92_236_816]
    five = TrafficGrid(5, control="one").model()
    assert (five.n_states, five.n_actions) == (98**5, 6)


def test_table_is_read_by_labels() -> None:
    problem = TrafficGrid.of("small")
    learner = QLearner(problem.model(), num_envs=64, shards=1, seed=0).learn(10_000)
    q = unfold(learner.table.to_xarray()).q
    assert list(q.dims) == [
        "queue_main_1", "queue_cross_1", "queue_main_2", "queue_cross_2", "phase_1", "phase_2",
        "action",
    ]  # fmt: skip
    here = {"queue_main_1": 3, "queue_cross_1": 0, "queue_main_2": 6, "queue_cross_2": 2}
    found = q.sel(**here, phase_1="main", phase_2="cross", action="cross main")
    state = problem.index([(3, 0), (6, 2)], ["main", "cross"])
    assert float(found) == float(learner.table.q[state, 2].compute())


def test_episodes_begin_anywhere_or_empty() -> None:
    problem = TrafficGrid.of("small", start="empty")
    model = problem.model()
    assert {int(model.initial(key, model.params)) for key in range(50)} == {0}
    assert problem.queues(0) == ((0, 0), (0, 0))
    anywhere = TrafficGrid.of("small").model()
    drawn = [int(anywhere.initial(key, anywhere.params)) for key in range(400)]
    assert min(drawn) < 200
    assert max(drawn) > 9_400
    assert len(set(drawn)) > 380


@pytest.mark.parametrize("size", ["small", "large"])
def test_pictures(size: str) -> None:
    problem = TrafficGrid.of(size)
    n = problem.n_intersections
    state = state_of(problem, [(3, 1)] + [(6, 6)] * (n - 1), "c" + "m" * (n - 1))
    picture = problem.picture(state, 1)
    title, first = picture.text().splitlines()[:2]
    assert title == f"{4 + 12 * (n - 1)} waiting; decision: {problem.action_labels[1]}"
    assert first.split(None, 1) == ["1", "[###       ] cross green"]
    assert "W1 > 1  [#####     ] main 3" in picture.text()
    assert "1 > 2   [##########] main 6" in picture.text()
    pixels = picture.rgb()
    assert pixels.shape[2] == 3
    assert pixels.std() > 0


def test_picture_of_any_network() -> None:
    picture = TrafficGrid(3, FORKED).picture(0, None)
    assert picture.title == "0 waiting"
    assert len(picture.links) == len(FORKED) + len(TrafficGrid(3, FORKED).roads.entries)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_intersections": 9}, "n_intersections must be an integer in 1 .. 8, got 9"),
        ({"capacity": 15}, "capacity must be an integer in 1 .. 14, got 15"),
        ({"saturation": 7}, "saturation must be an integer in 1 .. 6, got 7"),
        ({"arrival_main": 1.5}, "arrival_main must be a probability, 0 .. 1, got 1.5"),
        ({"lost_cost": -1.0}, "lost_cost must be a number of at least 0, got -1.0"),
        ({"control": "some"}, "control must be 'all' or 'one'"),
        ({"start": "full"}, "start must be 'uniform' or 'empty'"),
        ({"max_episode_steps": 0}, "max_episode_steps must be"),
        ({"network": "star"}, "network must be one of"),
        ({"network": 7}, "expected 'arterial', 'grid', a networkx.DiGraph or links"),
        ({"network": [[0, 1, "left"]]}, "a link is"),
        ({"network": [[0, 2]]}, "an edge joins two different nodes in 0 .. 1"),
        ({"network": nx.path_graph(2)}, "links have a direction"),
        ({"network": [[0, 1], [1, 0]]}, "every queue must have a way out"),
        ({"n_intersections": 8, "network": [(i, j) for i in range(7) for j in range(i)]}, "16"),
    ],
)
def test_bad_input(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TrafficGrid.of("small", **changes)


def test_no_such_state() -> None:
    with pytest.raises(ConfigurationError, match=r"expected two queues of 0 \.\. 6 vehicles"):
        TrafficGrid.of("small").index([(3, 7), (0, 0)], ["main", "main"])
