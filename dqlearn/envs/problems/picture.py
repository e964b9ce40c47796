"""Picture: a network and its state, as a figure or as text.

::

    Family.picture(state, action) ──► Picture ──► draw(), rgb(), a notebook    drawing.py
                                          └─────► text()                       a terminal

Invariant: a picture is values; it knows nothing of the model that it shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dqlearn.errors import ConfigurationError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Link", "Node", "Picture", "counts", "graded"]

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
        How full, loaded or bad it is, 0 .. 1: how dark it is.
    text : str
        What is written at it; in a figure each part between ", " has a line.
    alarm : bool
        Whether it is bad: a red, in place of a blue.
    decision : str
        What is decided for it, which is highlighted; empty if nothing is.
    plain : bool
        Whether it has no level: a dot.
    """

    name: str
    at: tuple[float, float]
    level: float = 0.0
    text: str = ""
    alarm: bool = False
    decision: str = ""
    plain: bool = False


@dataclass(frozen=True)
class Link:
    """A line between two nodes, an arrow if directed.

    Parameters
    ----------
    start, end : int
        Numbers of its nodes.
    level : float
        How loaded it is, 0 .. 1: how dark and wide it is.
    text : str
        What is written at it, as at a node.
    directed : bool
        Whether it has an arrow's head.
    alarm : bool
        Whether it is bad, as of a node.
    decision : str
        What is decided for it, as of a node.
    """

    start: int
    end: int
    level: float = 0.0
    text: str = ""
    directed: bool = True
    alarm: bool = False
    decision: str = ""


def graded(heading: str, example: Node | Link, texts: Sequence[str]) -> tuple[Any, ...]:
    """Return the rows of a legend that say what levels mean.

    Parameters
    ----------
    heading : str
        The quantity, and its unit.
    example : Node or Link
        What has the levels.
    texts : sequence of str
        Values of the levels 0 .. 1, evenly spaced; empty ones are left out.

    Returns
    -------
    tuple
        The heading, and the example with each level, for the `key` of a `Picture`.

    Examples
    --------
    >>> _, empty, full = graded("stock, parts", Link(0, 0), ["0", "", "4"])
    >>> empty.level, empty.text, full.level, full.text
    (0.0, '0', 1.0, '4')
    """
    levels = np.linspace(0.0, 1.0, len(texts)).tolist()
    marks = [
        replace(example, level=level, text=text)
        for level, text in zip(levels, texts, strict=True)
        if text
    ]
    return (heading, *marks)


def counts(most: int) -> list[str]:
    """Return the texts for `graded` of what is counted: the least, a middle and the most.

    Parameters
    ----------
    most : int
        The count of level 1.

    Returns
    -------
    list of str
        One a count, most of them empty.

    Examples
    --------
    >>> counts(4)
    ['0', '', '2', '', '4']
    """
    return [str(k) if k in (0, most // 2, most) else "" for k in range(most + 1)]


@dataclass(frozen=True, repr=False)
class Picture:
    """A network in a state.

    It draws itself in a notebook, if matplotlib is installed; else it is its text.

    Parameters
    ----------
    title : str
        One line: the time, the decision.
    nodes : tuple of Node
        Its nodes.
    links : tuple of Link
        Its links.
    key : tuple of str, Node or Link
        The legend of a figure, from above: headings, and nodes and links that are examples of what
        their `text` says.
    spacing : float
        Inches between the two nodes of a figure that are closest.

    Examples
    --------
    >>> Picture("slot 3", (Node("a", (0, 0), 0.5, "5 waiting"),), ())
    slot 3
    a  [#####     ] 5 waiting
    """

    title: str
    nodes: tuple[Node, ...]
    links: tuple[Link, ...] = ()
    key: tuple[str | Node | Link, ...] = ()
    spacing: float = 1.4

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
            The pixels of a figure of its own, at 100 dots an inch.

        Raises
        ------
        ConfigurationError
            If matplotlib is not installed.
        """
        pixels: npt.NDArray[np.uint8] = _drawing("render_mode='rgb_array'").rgb(self)
        return pixels

    def draw(self, figure: Figure) -> None:
        """Draw it.

        Parameters
        ----------
        figure : matplotlib.figure.Figure
            Where; an empty one, which is given the picture's size and colour.

        Raises
        ------
        ConfigurationError
            If matplotlib is not installed.
        """
        _drawing("a figure").draw(self, figure)

    def __repr__(self) -> str:
        """Return its text."""
        return self.text()

    def _repr_svg_(self) -> str | None:
        """Return what a notebook shows; None, for which it shows the text, without matplotlib."""
        try:
            svg: str = _drawing("a figure").svg(self)
        except ConfigurationError:
            return None
        return svg


def _drawing(what: str) -> Any:
    """Return the module that draws; it needs an optional package."""
    try:
        from dqlearn.envs.problems import drawing
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"{what} needs matplotlib: pip install 'dqlearn[plot]'") from error
    return drawing
