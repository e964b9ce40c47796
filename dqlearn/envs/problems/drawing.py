"""Drawing: a picture as a figure of matplotlib.

::

    ┌──────────────────────────────────────┐
    │ title                                │    one unit is a point, 1/72 inch
    │      name                  ● key     │
    │      (●)────────►(●)       ─ key     │    a light card, readable on any page
    │          text    name      ▒ key     │
    └──────────────────────────────────────┘

Invariant: the figure's size follows from the nodes' places and the key, not from the state, so that
all frames of an episode are of one size.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch
from matplotlib.patheffects import withStroke

from dqlearn.envs.problems.labels import around, beside, place
from dqlearn.envs.problems.picture import Link, Node, Picture

__all__ = ["draw", "rgb", "svg"]

Floats = npt.NDArray[np.float64]

# Lengths in points.
_CARD, _INK, _FAINT, _DECISION = "#fcfcfa", "#1f2328", "#59636e", "#8250df"
_RADIUS, _DOT, _HALO = 11.0, 4.5, 6.0  # of nodes, of plain ones, and more where one is decided on
_SIDE, _TOP, _FOOT = 76.0, 74.0, 50.0  # free around the nodes, for the title and the labels
_KEY, _ROW, _GAP = 160.0, 19.0, 7.0  # width of the key, height of a row, and before a heading
_LINE = 11.0  # height of a line of text
_LEAST, _MOST = 180.0, 1000.0  # of what the nodes span
_STEP = 4.0  # between the points of a line that labels keep clear of


@dataclass(frozen=True)
class _Line:
    """A line of text: what it says and how it looks."""

    text: str
    fontweight: str = "normal"
    color: str = _INK
    fontsize: float = 8.0


def svg(picture: Picture) -> str:
    """Return a picture as SVG.

    Parameters
    ----------
    picture : Picture
        What to draw.

    Returns
    -------
    str
        A document.
    """
    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "dqlearn", "svg.fonttype": "path"}):
        draw(picture, figure := Figure())
        figure.savefig(out, format="svg", facecolor=_CARD, metadata={"Date": None})
    return out.getvalue()


def rgb(picture: Picture) -> npt.NDArray[np.uint8]:
    """Return a picture as pixels.

    Parameters
    ----------
    picture : Picture
        What to draw.

    Returns
    -------
    uint8 (height, width, 3)
        At 100 dots an inch.
    """
    canvas = FigureCanvasAgg(figure := Figure(dpi=100))
    draw(picture, figure)
    canvas.draw()
    pixels: npt.NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return pixels


def draw(picture: Picture, figure: Figure) -> None:
    """Draw a picture.

    Parameters
    ----------
    picture : Picture
        What to draw.
    figure : matplotlib.figure.Figure
        Where; it is given the picture's size and colour.
    """
    at, size = _layout(picture)
    figure.set_size_inches(*(size / 72))
    figure.set_facecolor(_CARD)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, size[0]), ylim=(0, size[1]))
    axes.set_axis_off()
    pairs = {(link.start, link.end) for link in picture.links}
    lines = []
    for link in picture.links:
        ends, bend = at[[link.start, link.end]], 0.12 * ((link.end, link.start) in pairs)
        radii = [_radius(picture.nodes[i]) for i in (link.start, link.end)]
        _draw_link(axes, link, ends, radii, bend)
        lines.append(_line(ends, bend))
    for node, centre in zip(picture.nodes, at, strict=True):
        _draw_node(axes, node, centre)
    _write_labels(axes, picture, at, lines, size)
    title = textwrap.wrap(picture.title, int(size[0] / 6.6), max_lines=2, placeholder=" …")
    _write(axes, [_Line(row, "bold", fontsize=9.0) for row in title], 12.0, size[1] - 12)
    _draw_key(axes, picture.key, size[0] - _KEY, size[1] - 46)


def _layout(picture: Picture) -> tuple[Floats, Floats]:
    """Return where the nodes are, and the figure's size."""
    places = np.array([node.at for node in picture.nodes] or [(0, 0)], float)
    span = np.ptp(places, axis=0)
    longest = max(float(span.max()), 1e-300)
    apart = np.hypot(*(places[:, None] - places).T)
    least = apart[apart > 1e-6 * longest].min(initial=longest)
    scale = min(72 * picture.spacing / least, _MOST / longest)
    room = np.maximum(span * scale, [_LEAST, _height(picture.key) - _FOOT])
    at = [_SIDE, _FOOT] + (room - span * scale) / 2 + (places - places.min(axis=0)) * scale
    return at[: len(picture.nodes)], room + np.array([2 * _SIDE + _KEY, _TOP + _FOOT])


def _colour(item: Node | Link, least: float) -> Any:
    """Return a blue or, of what is bad, a red; `least` is how dark it is when empty."""
    least = 0.4 if item.alarm else least
    return matplotlib.colormaps["Reds" if item.alarm else "Blues"](
        least + (0.9 - least) * min(max(item.level, 0.0), 1.0)
    )


def _radius(node: Node) -> float:
    return _DOT if node.plain else _RADIUS


def _width(link: Link) -> float:
    return 1.2 + 3.0 * link.level


def _draw_node(axes: Axes, node: Node, centre: Floats, share: float = 1.0) -> None:
    at, radius = (float(centre[0]), float(centre[1])), share * _radius(node)
    if node.decision:
        halo = Circle(at, radius + share * _HALO, color=_DECISION, alpha=0.4, lw=0, zorder=2)
        axes.add_patch(halo)
    face = _FAINT if node.plain else _colour(node, 0.05)
    axes.add_patch(Circle(at, radius, facecolor=face, edgecolor=_INK, lw=1, zorder=3))


def _draw_link(axes: Axes, link: Link, ends: Floats, radii: Sequence[float], bend: float) -> None:
    """Draw a link between the circles of its ends."""
    shape: dict[str, Any] = {"posA": tuple(ends[0]), "posB": tuple(ends[1])}
    shape |= {"shrinkA": radii[0] + 1, "shrinkB": radii[1] + 1}
    shape["connectionstyle"] = f"arc3,rad={bend}"
    if link.decision:
        band: dict[str, Any] = {"color": _DECISION, "alpha": 0.4, "lw": _width(link) + _HALO}
        axes.add_patch(FancyArrowPatch(arrowstyle="-", **band, **shape))
    shape |= {"color": _colour(link, 0.4), "lw": _width(link), "mutation_scale": 11}
    axes.add_patch(FancyArrowPatch(arrowstyle="-|>" if link.directed else "-", **shape))


def _line(ends: Floats, bend: float) -> Floats:
    """Return points along a link, float64 (n, 2): a curve of matplotlib's "arc3"."""
    along = ends[1] - ends[0]
    control = ends.mean(axis=0) + bend * np.array([along[1], -along[0]])
    t = np.linspace(0.0, 1.0, 2 + int(np.hypot(*along) / _STEP))[:, None]
    return np.asarray((1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * control + t**2 * ends[1])


def _write_labels(
    axes: Axes, picture: Picture, at: Floats, lines: Sequence[Floats], size: Floats
) -> None:
    """Write the names and texts beside their nodes and links."""
    blocks, candidates, clear = [], [], []
    points = [np.empty((0, 2)), *lines]
    for node, centre in zip(picture.nodes, at, strict=True):
        blocks.append([_Line(node.name, "bold"), *_lines_of(node)])
        radius = _radius(node) + _HALO * bool(node.decision)
        candidates.append(around(centre, _size(axes, blocks[-1]), radius))
        clear.append(np.vstack(points))
    for i, (link, line) in enumerate(zip(picture.links, lines, strict=True)):
        if block := _lines_of(link):
            blocks.append(block)
            width = _width(link) + _HALO * bool(link.decision)
            candidates.append(beside(line, _size(axes, block), width))
            clear.append(np.vstack(points[: i + 1] + points[i + 2 :]))
    drawn = np.hstack([at - _RADIUS, at + _RADIUS])
    frame = np.array([4, 4, size[0] - _KEY - 4, size[1] - 42])
    boxes = place(candidates, clear, drawn, frame)
    for block, (left, _, right, top) in zip(blocks, boxes, strict=True):
        _write(axes, block, (left + right) / 2, top, ha="center")


def _lines_of(item: Node | Link) -> list[_Line]:
    """Return what is written at a node or link; the decision stands out."""
    parts = [part for part in item.text.split(", ") if part and part != item.decision]
    lines = [_Line(part, fontsize=7.0) for part in parts]
    return lines + [_Line(item.decision, "bold", _DECISION)] * bool(item.decision)


def _draw_key(axes: Axes, key: Sequence[str | Node | Link], left: float, top: float) -> None:
    """Draw what colours, widths and highlights mean, from above."""
    for row in key:
        if isinstance(row, str):
            top -= _GAP
            _write(axes, [_Line(row, "bold")], left, top)
            top -= _LINE + 3
            continue
        middle = np.array([left + 15, top - _ROW / 2])
        if isinstance(row, Node):
            _draw_node(axes, row, middle, share=0.65)
        else:
            _draw_link(axes, row, middle + np.array([[-15, 0], [15, 0]]), (0, 0), bend=0.0)
        _write(axes, [_Line(row.text)], left + 38, top - _ROW / 2 + _LINE / 2)
        top -= _ROW


def _height(key: Sequence[str | Node | Link]) -> float:
    return sum(_GAP + _LINE + 3 if isinstance(row, str) else _ROW for row in key)


def _size(axes: Axes, lines: Sequence[_Line]) -> Floats:
    """Return the width and height of lines, in points."""
    _write(axes, lines, 0.0, 0.0)
    texts = axes.texts[len(axes.texts) - len(lines) :]
    scale = axes.figure.get_dpi() / 72
    width = max(text.get_window_extent().width / scale for text in texts)
    for text in texts:
        text.remove()
    return np.array([width, _LINE * len(lines)])


def _write(axes: Axes, lines: Sequence[_Line], x: float, top: float, ha: str = "left") -> None:
    """Write lines one below another; a seam parts them from what they may lie on."""
    style: dict[str, Any] = {"ha": ha, "va": "center", "family": "DejaVu Sans", "zorder": 5}
    style |= {"parse_math": False, "path_effects": [withStroke(linewidth=2, foreground=_CARD)]}
    for i, line in enumerate(lines):
        style |= {"fontsize": line.fontsize, "fontweight": line.fontweight, "color": line.color}
        axes.text(x, top - _LINE * (i + 0.5), line.text, **style)
