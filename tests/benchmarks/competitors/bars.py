"""The figures of a comparison as bars: a row a problem, a column a quantity."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Bars = Mapping[str, float]  # by competitor
DECADES = 100.0  # the ratio from which bars are easier to compare on a logarithmic scale


def draw(where: str, panels: Mapping[str, Mapping[str, Bars]]) -> None:
    """Write the plot; `panels` are bars by problem and quantity, of which some may be empty."""
    columns = max(map(len, panels.values()))
    figure = Figure(figsize=(4.2 * columns, 3.0 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), columns, squeeze=False)
    for row, (problem, quantities) in zip(grid, panels.items(), strict=True):
        for axes, (quantity, bars) in zip(row, quantities.items(), strict=True):
            axes.set(title=problem, xlabel=quantity)
            draw_bars(axes, bars)
    with rc_context({"svg.fonttype": "none"}):  # text as text: a tenth of the size
        figure.savefig(where)


def draw_bars(axes: Axes, bars: Bars) -> None:
    """Draw one panel, the first bar, dqlearn, in a colour of its own."""
    if not bars:
        axes.set_axis_off()
        return
    axes.barh(list(bars), list(bars.values()), color=["C1", *["C0"] * (len(bars) - 1)])
    axes.invert_yaxis()
    if max(bars.values()) > DECADES * min(bars.values()):
        axes.set_xscale("log")
