"""Drawing: a PowerGrid in a state, as a picture.

::

    0 ──► 1 ──► 2      nodes from left to right by how many lines away from node 0 they are

Invariant: a storage's bar is its level, a line's its load as a share of its limit (without limits:
of the heaviest loaded line).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dqlearn.envs.picture import Link, Node, Picture
from dqlearn.envs.power.flow import layers

if TYPE_CHECKING:
    from dqlearn.envs.power.model import PowerGrid

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
    nodes = [Node("grid", places[0], 0.0, f"{problem.tariff[hour]:g} euro/kWh")]
    for i, load in enumerate(problem.loads[hour, demand]):
        text = f"{problem.unit * storage[i]:g} kWh, takes {load:.1f} kW"
        nodes.append(Node(str(i + 1), places[i + 1], storage[i] / problem.capacity, text))
    return Picture(title, tuple(nodes), _links(problem, problem.flows(state, action)))


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
        links.append(Link(*ends, min(float(share), 1.0), text))
    return tuple(links)
