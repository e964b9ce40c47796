"""The figures of a comparison as bars: a row a problem, a column a quantity."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

Panels = Mapping[str, Mapping[str, Mapping[str, float]]]  # problem, quantity, competitor


def draw(where: str, panels: Panels) -> None:
    """Write the plot; scales are logarithmic, as competitors are orders of magnitude apart."""
    columns = max(map(len, panels.values()))
    size = 4.2 * columns, 3.0 * len(panels)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(panels), columns, squeeze=False)
    for row, (problem, quantities) in zip(grid, panels.items(), strict=True):
        for axes in row[len(quantities) :]:
            axes.set_axis_off()
        for axes, (quantity, bars) in zip(row, quantities.items(), strict=False):
            colours = ["C1" if name == "dqlearn" else "C0" for name in bars]
            axes.barh(list(bars), list(bars.values()), color=colours)
            axes.invert_yaxis()
            axes.set(title=problem, xlabel=quantity, xscale="log")
    figure.savefig(where)
