"""Drawing: a PowerGrid in a state, as a picture.

::

    0 ──► 1 ──► 2      nodes from left to right by how many lines away from node 0 they are

Invariant: a storage's bar is its level, a line's its load as a share of its limit (without limits:
of the heaviest loaded line).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dqlearn.envs.problems.picture import Link, Node, Picture, graded
from dqlearn.envs.problems.power.flow import layers

if TYPE_CHECKING:
    from dqlearn.envs.problems.power.model import PowerGrid

__all__ = ["ORDERS", "draw"]

ORDERS = ("discharge", "idle", "charge")


def draw(problem: PowerGrid, state: int, action: int | None) -> Picture:
    """Return the network in a state.

    Parameters
    ----------
    problem : PowerGrid
        Whose.
    state : int
        Index of the state.
    action : int, optional
        The decision that led there; the lines show the flows of the slot that begins if it is made
        again. Without one all storages are idle.

    Returns
    -------
    Picture
        Levels of the storages in kWh, demands and flows in kW.
    """
    hour, demand, storage = problem.digits(state)
    decision = "" if action is None else ": " + labels(problem)[action]
    title = f"{hour:02d}:00, demand {100 * problem.demand_levels[demand]:g}%{decision}"
    places = _places(problem)
    nodes = [Node("grid", places[0], 0.0, f"{problem.tariff[hour]:g} euro/kWh", plain=True)]
    orders = [0] * problem.n_storages if action is None else problem.orders[action].tolist()
    for i, load in enumerate(problem.loads[hour, demand]):
        text = f"{problem.unit * storage[i]:g} kWh, takes {load:.1f} kW"
        order = ORDERS[orders[i] + 1] if orders[i] else ""
        level = storage[i] / problem.capacity
        nodes.append(Node(str(i + 1), places[i + 1], level, text, decision=order))
    links = _links(problem, problem.flows(state, action))
    return Picture(title, tuple(nodes), links, _key(problem), spacing=1.7)


def labels(problem: PowerGrid) -> tuple[str, ...]:
    """Return one label an action, as ``discharge/idle``.

    Parameters
    ----------
    problem : PowerGrid
        Whose.

    Returns
    -------
    tuple of str
        The orders to storage 1, 2, ..
    """
    return tuple("/".join(ORDERS[order + 1] for order in row) for row in problem.orders.tolist())


def _places(problem: PowerGrid) -> list[tuple[float, float]]:
    """Return a column a layer, its nodes one above another."""
    rows = layers(problem.topology, problem.n_storages + 1)
    places = {
        node: (float(x), (len(row) - 1) / 2.0 - y)
        for x, row in enumerate(rows)
        for y, node in enumerate(row)
    }
    return [places[node] for node in sorted(places)]


def _links(problem: PowerGrid, flows: npt.NDArray[np.float64]) -> tuple[Link, ...]:
    """Return the lines, each in the direction of its flow."""
    bounds = np.array(problem.bounds)
    full = np.where(np.isfinite(bounds), bounds, max(np.abs(flows).max(), 1e-9))
    loaded = np.abs(flows) / np.maximum(full, 1e-9)
    links = []
    for (start, end), flow, share, bound in zip(
        problem.topology, flows, loaded, bounds, strict=True
    ):
        text = f"{abs(flow):.1f} kW" + (f" of {bound:g}" if np.isfinite(bound) else "")
        ends = (start, end) if flow >= 0.0 else (end, start)
        links.append(Link(*ends, min(float(share), 1.0), text, alarm=bool(abs(flow) > bound)))
    return tuple(links)


def _key(problem: PowerGrid) -> tuple[str | Node | Link, ...]:
    full = problem.unit * problem.capacity
    stored, line = Node("", (0, 0)), Link(0, 0)
    rows = graded("storage, kWh", stored, ("0", f"{full / 2:g}", f"{full:g}"))
    if problem.limit:
        rows += graded("flow, % of the limit", line, ("0", "50", "100"))
        rows += (replace(line, level=1.0, text="overloaded", alarm=True),)
    else:
        rows += graded("flow, % of the largest", line, ("0", "50", "100"))
    return (*rows, "decision", replace(stored, text="charge or discharge", decision="charge"))
