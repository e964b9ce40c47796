"""Draw the README's picture: ``python docs/pictures/draw.py docs/pictures/taxi.svg``.

::

    Taxi-v4 ─► learn, evaluate, learn, ... ─► what greedy drivers return │ one drive on the map
"""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dqlearn import QLearner

SIDE = 5
POINTS = np.linspace(50_000, 1_000_000, 20).astype(int)
INK, GREY, BLUE, ORANGE = "#6e7781", "#8b949e", "#2f81f7", "#db6d28"  # on white and on black


def curve(axes: Axes, learner: QLearner) -> None:
    """Learn, and draw what greedy episodes return meanwhile."""
    means = [learner.learn(int(n)).evaluate(500, max_steps=200).mean for n in POINTS]
    axes.plot(POINTS / 1e3, means, color=BLUE, marker="o", markersize=3)
    axes.set(xlabel="transitions / 10³", ylabel="mean return of greedy episodes", ylim=(-220, 30))
    axes.annotate(
        f"{means[-1]:.1f}", (POINTS[-1] / 1e3, means[-1]), (0, 6), textcoords="offset points",
        ha="right", color=INK,
    )  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)


def drive(learner: QLearner, seed: int) -> tuple[list[Any], Any]:
    """Return where a greedy drive leads, as (row, column, passenger, destination)."""
    env: Any = learner.make_env()
    observation, _ = env.reset(seed=seed)
    stops, over = [tuple(env.unwrapped.decode(observation))], False
    while not over:
        observation, _, terminated, truncated, _ = env.step(learner.predict(observation)[0])
        stops.append(tuple(env.unwrapped.decode(observation)))
        over = terminated or truncated
    return stops, env.unwrapped


def map_of(axes: Axes, taxi: Any) -> None:
    """Draw cells, walls and corners."""
    for row in range(SIDE):
        for column in range(SIDE - 1):
            if taxi.desc[1 + row, 2 * column + 2] == b"|":
                axes.plot([column + 0.5] * 2, [row - 0.5, row + 0.5], color=INK, linewidth=4)
    for (row, column), name in zip(taxi.locs, "RGYB", strict=True):
        axes.text(column, row + 0.36, name, color=GREY, ha="center", va="center", fontsize=9)
    axes.set(xlim=(-0.5, SIDE - 0.5), ylim=(SIDE - 0.5, -0.5), xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_color(INK)
    axes.hlines(np.arange(SIDE - 1) + 0.5, -0.5, SIDE - 0.5, color=GREY, alpha=0.3, linewidth=0.8)
    axes.vlines(np.arange(SIDE - 1) + 0.5, -0.5, SIDE - 0.5, color=GREY, alpha=0.3, linewidth=0.8)


def route(axes: Axes, stops: list[Any]) -> None:
    """Draw the way to the passenger, and the way with the passenger, beside each other."""
    for before, after in pairwise(stops):
        carried = before[2] == 4
        aside = 0.08 if carried else -0.08
        start, end = ((c + aside, r + aside) for r, c in (before[:2], after[:2]))
        if start != end:
            style = {"arrowstyle": "-|>", "color": ORANGE if carried else BLUE, "linewidth": 2}
            axes.annotate("", end, start, arrowprops=style | {"shrinkA": 0, "shrinkB": 0})
    (row, column), (last_row, last_column) = stops[0][:2], stops[-1][:2]
    axes.plot(column - 0.08, row - 0.08, "o", color=BLUE, markersize=8, label="to the passenger")
    axes.plot(
        last_column + 0.08, last_row + 0.08, "s", color=ORANGE, markersize=8, label="to the goal"
    )
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=2, frameon=False, labelcolor=INK
    )


def main(path: str) -> None:
    """Write the picture."""
    figure = Figure(figsize=(8.0, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.4, 1.0))
    learner = QLearner("Taxi-v4", shards=2, seed=0)
    curve(left, learner)
    stops, taxi = drive(learner, seed=0)
    map_of(right, taxi)
    route(right, stops)
    for axes in (left, right):
        axes.tick_params(colors=INK)
        axes.xaxis.label.set_color(INK)
        axes.yaxis.label.set_color(INK)
        for spine in axes.spines.values():
            spine.set_color(INK)
    figure.savefig(path, transparent=True, metadata={"Date": None})


if __name__ == "__main__":
    main(sys.argv[1])
