"""Picture: a network and its state, as a figure or as text.

::

    Family.picture(state, action) ──► Picture ──► rgb()    matplotlib
                                          └─────► text()   a terminal

Invariant: a picture is values; it knows nothing of the model that it shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dqlearn.errors import ConfigurationError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Link", "Node", "Picture"]

_BAR = 10  # characters


@dataclass(frozen=True)
class Node:
    """Something at a place.

    Parameters
    ----------
    name : str
        What it is called.
    at : (float, float)
        Where; any unit.
    level : float
        How full, loaded or bad it is, 0 .. 1: its colour, from green to red.
    text : str
        What is written at it.
    """

    name: str
    at: tuple[float, float]
    level: float = 0.0
    text: str = ""


@dataclass(frozen=True)
class Link:
    """A line between two nodes, an arrow if directed.

    Parameters
    ----------
    start, end : int
        Numbers of its nodes.
    level : float
        How loaded it is, 0 .. 1: its colour and width.
    text : str
        What is written at it.
    directed : bool
        Whether it has an arrow's head.
    """

    start: int
    end: int
    level: float = 0.0
    text: str = ""
    directed: bool = True


@dataclass(frozen=True)
class Picture:
    """A network in a state.

    Parameters
    ----------
    title : str
        One line: the time, the decision.
    nodes : tuple of Node
        Its nodes.
    links : tuple of Link
        Its links.

    Examples
    --------
    >>> print(Picture("slot 3", (Node("a", (0, 0), 0.5, "5 waiting"),), ()).text())
    slot 3
    a  [#####     ] 5 waiting
    """

    title: str
    nodes: tuple[Node, ...]
    links: tuple[Link, ...] = ()

    def text(self) -> str:
        """Return it in lines: the title, the nodes, the links that have a text.

        Returns
        -------
        str
            For a terminal.
        """
        rows = [(node.name, node.level, node.text) for node in self.nodes]
        rows += [
            (f"{self.nodes[link.start].name} > {self.nodes[link.end].name}", link.level, link.text)
            for link in self.links
            if link.text
        ]
        width = max((len(name) for name, *_ in rows), default=0)
        lines = [
            f"{name:<{width}}  [{'#' * round(_BAR * level):<{_BAR}}] {text}".rstrip()
            for name, level, text in rows
        ]
        return "\n".join([self.title, *lines])

    def rgb(self) -> npt.NDArray[np.uint8]:
        """Return it as pixels.

        Returns
        -------
        uint8 (height, width, 3)
            Of a figure of its own.

        Raises
        ------
        ConfigurationError
            If matplotlib is not installed.
        """
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ConfigurationError(
                "render_mode='rgb_array' needs matplotlib: pip install 'dqlearn[plot]'"
            ) from error
        figure = Figure(figsize=(6.4, 4.8), layout="constrained")
        canvas = FigureCanvasAgg(figure)
        self.draw(figure.subplots())
        canvas.draw()
        pixels: npt.NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())[..., :3].copy()
        return pixels

    def draw(self, axes: Axes) -> None:
        """Draw it.

        Parameters
        ----------
        axes : matplotlib.axes.Axes
            Where.
        """
        axes.set_title(self.title, fontsize=10)
        axes.set_axis_off()
        axes.margins(0.2)
        for link in self.links:
            self._draw_link(axes, link)
        x, y = np.array([node.at for node in self.nodes], float).reshape(-1, 2).T
        levels = [node.level for node in self.nodes]
        axes.scatter(
            x, y, c=levels, s=900, cmap="RdYlGn_r", vmin=0, vmax=1, edgecolors="0.2", zorder=2
        )
        for node in self.nodes:
            axes.annotate(node.name, node.at, ha="center", va="center", fontsize=8, zorder=3)
            _below(axes, node.at, node.text, -24)

    def _draw_link(self, axes: Axes, link: Link) -> None:
        start, end = self.nodes[link.start].at, self.nodes[link.end].at
        style: dict[str, Any] = {
            "arrowstyle": "-|>" if link.directed else "-",
            "connectionstyle": f"arc3,rad={0.1 if link.directed else 0.0}",
            "color": (0.3 + 0.6 * link.level, 0.3, 0.3),
            "linewidth": 1.0 + 3.0 * link.level,
            "shrinkA": 15,
            "shrinkB": 15,
        }
        axes.annotate("", end, start, arrowprops=style, zorder=1)
        middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        _below(axes, middle, link.text, 5)


def _below(axes: Axes, at: tuple[float, float], text: str, points: int) -> None:
    axes.annotate(
        text, at, (0, points), textcoords="offset points", ha="center", va="center", fontsize=7
    )
