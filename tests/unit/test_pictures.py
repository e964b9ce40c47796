"""Pictures: what is written is legible, what is decided and what is bad stand out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text

from dqlearn.envs import Link, Node, Picture
from dqlearn.envs.problems.defence import NetworkDefence
from dqlearn.envs.problems.family import Family
from dqlearn.envs.problems.labels import around, place
from dqlearn.envs.problems.packets import PacketDispatch, PacketRouting
from dqlearn.envs.problems.picture import graded
from dqlearn.envs.problems.power import PowerGrid
from dqlearn.envs.problems.production import ProductionLine
from dqlearn.envs.problems.traffic import TrafficGrid

FAMILIES = (
    NetworkDefence,
    PacketDispatch,
    PacketRouting,
    PowerGrid,
    ProductionLine,
    TrafficGrid,
)
OTHERS = (
    TrafficGrid(3, [(0, 1, "main"), (0, 2, "main"), (1, 2, "cross")]),
    TrafficGrid.of("large", control="one"),
    ProductionLine(machines=5, edges=[(0, 1), (1, 4), (2, 3), (3, 4)], crews=1),
    PowerGrid.of("medium", limit=None),
    NetworkDefence.of("large", isolable=[(9, 10), (3, 7)]),
)
PROBLEMS = [family.of(size) for family in FAMILIES for size in family.sizes]
NAMES = [f"{family.__name__}-{size}" for family in FAMILIES for size in family.sizes]
NAMES += [f"{type(problem).__name__}-other-{i}" for i, problem in enumerate(OTHERS)]


def drawn(picture: Picture) -> Figure:
    figure = Figure()
    picture.draw(figure)
    return figure


def texts(figure: Figure) -> list[Text]:
    return list(figure.axes[0].texts)


def faults(figure: Figure) -> Iterator[str]:
    """Yield what is written over something else, or outside the figure."""
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
    width, height = figure.get_size_inches() * figure.dpi
    for name, box in boxes:
        if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height:
            yield f"{name} is outside"
    for (name, box), (other, second) in combinations(boxes, 2):
        if box.overlaps(second):
            yield f"{name} is over {other}"


@pytest.mark.parametrize("problem", [*PROBLEMS, *OTHERS], ids=NAMES)
def test_nothing_is_written_over_anything(problem: Family) -> None:
    model, rng = problem.model(), np.random.default_rng(0)
    states = [0, model.n_states - 1, *rng.integers(model.n_states, size=2).tolist()]
    actions = [None, *rng.integers(model.n_actions, size=2).tolist(), model.n_actions - 1]
    shapes = set()
    for state, action in zip(states, actions, strict=True):
        picture = problem.picture(state, action)
        figure = drawn(picture)
        assert list(faults(figure)) == []
        written = {text.get_text() for text in texts(figure)}
        assert {node.name for node in picture.nodes} <= written
        shapes.add(tuple(figure.get_size_inches()))
    assert len(shapes) == 1  # frames of a film


def test_the_legend_says_what_is_shown() -> None:
    written = [text.get_text() for text in texts(drawn(PowerGrid.of("small").picture(0, 0)))]
    for row in ("storage, kWh", "0", "25", "50", "flow, % of the limit", "overloaded", "decision"):
        assert row in written


def test_only_what_is_bad_is_red() -> None:
    full = PowerGrid.of("small", limit=1000.0).picture(14_519, None)
    assert max(node.level for node in full.nodes) == 1.0
    over = PowerGrid.of("small", limit=1.0).picture(0, None)
    assert [item.alarm for item in (*full.nodes, *full.links)] == [False] * 5
    assert [link.alarm for link in over.links] == [True, True]
    line = ProductionLine.of("small")
    _, health = line.parts_of(1234)
    bad = [node.alarm for node in line.picture(1234, None).nodes[:-1]]
    assert bad == (health == 0).tolist()
    hosts = NetworkDefence.of("small").picture(0b11_10_01_00_00_00, None).nodes
    assert [host.alarm for host in hosts] == [True, True, False, False, False, False, False]


def test_reds_are_red_and_blues_are_blue() -> None:
    colours = []
    for alarm in (False, True):
        pixels = Picture("", (Node("", (0, 0), 0.9, alarm=alarm),)).rgb().astype(int)
        red, blue = pixels[..., 0], pixels[..., 2]
        colours.append((int((blue - red > 60).sum()), int((red - blue > 60).sum())))
    (blue, none), (nothing, red) = colours
    assert none == nothing == 0
    assert blue == red > 300


def decided(picture: Picture) -> dict[str, str]:
    rows = [(node.name, node.decision) for node in picture.nodes]
    rows += [
        (f"{picture.nodes[link.start].name} > {picture.nodes[link.end].name}", link.decision)
        for link in picture.links
    ]
    return {name: decision for name, decision in rows if decision}


def test_what_is_decided_is_highlighted() -> None:
    grid = TrafficGrid.of("small")
    assert decided(grid.picture(grid.index([(0, 0)] * 2, ["main", "cross"]), 1)) == {
        "W1 > 1": "green",
        "N2 > 2": "green",
    }
    assert decided(TrafficGrid.of("small", control="one").picture(0, 2)) == {"2": "switched"}
    assert decided(PowerGrid.of("small").picture(0, 1)) == {"1": "discharge"}
    line = ProductionLine.of("small")
    label = list(line.decisions.labels()).index("run-maintain-run")
    assert decided(line.picture(0, label)) == {"M2": "maintain"}
    hosts = NetworkDefence.of("small", isolable=[(4, 5)])
    for name, shown in {
        "monitor": {},
        "restore user_2": {"user_2": "restore"},
        "remove from operational": {"operational": "remove"},
        "isolate enterprise_2 - operational": {"enterprise_2 > operational": "isolated"},
    }.items():
        assert decided(hosts.picture(0, hosts.labels.index(name))) == shown
    assert decided(PacketDispatch.of("small").picture(0, 2)) == {"dispatcher > queue_3": "chosen"}
    for problem in (*PROBLEMS, *OTHERS):
        assert set(decided(problem.picture(0, None)).values()) <= {"packet"}


def test_a_packet_is_shown_with_the_ways_by_which_it_may_have_come() -> None:
    problem = PacketRouting.of("small")
    for action in range(len(problem.ports[0])):
        for node in range(problem.n_nodes):
            state = problem.state(problem.names[node], "r9", [0] * len(problem.core))
            shown = decided(problem.picture(state, action))
            assert shown.pop(f"r{node}") == "packet"
            ways = {i for i in range(problem.n_nodes) if problem.ports[i][action] == node}
            ends = {frozenset(name.split(" > ")) for name in shown}
            assert ends == {frozenset((f"r{i}", f"r{node}")) for i in ways}


def test_a_notebook_shows_svg() -> None:
    picture = TrafficGrid.of("small").picture(5, 1)
    svg = picture._repr_svg_()
    assert ElementTree.fromstring(str(svg)).tag == "{http://www.w3.org/2000/svg}svg"
    assert svg == picture._repr_svg_()
    assert repr(picture) == picture.text()


def run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_matplotlib_is_not_needed_until_something_is_drawn() -> None:
    script = "import sys, dqlearn; print([name for name in sys.modules if 'matplotlib' in name])"
    assert run(script).strip() == "[]"


def test_without_matplotlib_a_picture_is_its_text() -> None:
    script = """
import sys
sys.modules["matplotlib"] = None
from dqlearn.envs import Node, Picture
from dqlearn.errors import ConfigurationError
picture = Picture("slot", (Node("a", (0, 0)),))
print(picture._repr_svg_(), picture)
for draw in (picture.rgb, lambda: picture.draw(None)):
    try:
        draw()
    except ConfigurationError as error:
        print(error)
"""
    lines = run(script).splitlines()
    assert lines[:2] == ["None slot", "a  [          ]"]
    assert ["pip install 'dqlearn[plot]'" in line for line in lines[2:]] == [True, True]


@pytest.mark.parametrize(
    "picture",
    [
        Picture("", ()),
        Picture("one", (Node("alone", (5.0, 5.0)),)),
        Picture("$x$ \\alpha", (Node("$y_", (0, 0), text="50 $"), Node("^{", (1, 0)))),
        Picture("at one place", (Node("a", (0, 0)), Node("b", (0, 0)))),
        Picture("long " * 80, (Node("a", (0, 0)), Node("b", (1e9, 1e-9)))),
        Picture("both ways", (Node("a", (0, 0)), Node("b", (0, 1))), (Link(0, 1), Link(1, 0))),
        Picture("key", (), (), graded("unit", Link(0, 0), [str(i) for i in range(12)])),
    ],
    ids=lambda picture: picture.title[:12] or "empty",
)
def test_any_picture_can_be_drawn(picture: Picture) -> None:
    assert list(faults(drawn(picture))) == []
    assert picture.rgb().shape[2] == 3


places = st.tuples(st.integers(0, 4), st.integers(0, 4)).map(
    lambda at: (float(at[0]), float(at[1]))
)


@settings(max_examples=10, deadline=None)
@given(st.lists(places, unique=True, min_size=1, max_size=12), st.data())
def test_names_of_any_network_are_legible(
    at: list[tuple[float, float]], data: st.DataObject
) -> None:
    n = len(at)
    pairs = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda p: p[0] != p[1])
    links = data.draw(st.lists(pairs, max_size=2 * n)) if n > 1 else []
    nodes = tuple(Node(f"node_{i}", place, text="3 of 4") for i, place in enumerate(at))
    picture = Picture("any", nodes, tuple(Link(*pair) for pair in links))
    assert list(faults(drawn(picture))) == []


def test_labels_keep_clear() -> None:
    """Of what is drawn, of each other and of the frame's outside, where they can."""
    size, drawn = np.array([40.0, 10.0]), np.array([[-100.0, -30.0, 100.0, -6.0]])
    both = [around(np.zeros(2), size, 5.0)] * 2
    lines = [np.empty((0, 2))] * 2
    boxes = place(both, lines, drawn, np.array([-100.0, -40.0, 30.0, 40.0]))
    assert (boxes[:, 1] >= -6.0).all()
    assert (boxes[:, 2] <= 30.0).all()
    assert (boxes[0, 2:] <= boxes[1, :2]).any() or (boxes[1, 2:] <= boxes[0, :2]).any()
    assert place([], [], drawn, drawn[0]).shape == (0, 4)
