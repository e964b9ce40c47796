"""Coupling: how far the storages of a small PowerGrid are one problem, in exact numbers.

::

    Q*(hour, demand, x_1, x_2, a_1, a_2)     folded
      where does the best a_1 depend on x_2?             contingent
      how much of V* is no sum f(x_1) + g(x_2)?          interaction
      what does it cost to run each by its own plan?     apart

Without losses and limits all three are 0: the storages are two problems.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dqlearn import exact
from dqlearn.envs import PowerGrid

__all__ = ["GAMMA", "apart", "contingent", "folded", "interaction", "on_their_own"]

GAMMA = 0.95


def on_their_own(problem: PowerGrid) -> list[exact.Solution]:
    """Solve each storage of a problem with its own demand, on a line of its own."""
    parts = [
        PowerGrid(n_storages=1, demand=demand, resistance=0.0, limit=None)
        for demand in problem.demand
    ]
    return [exact.solve(part.model(), GAMMA, tolerance=1e-8) for part in parts]


def folded(solution: exact.Solution) -> npt.NDArray[np.float64]:
    """Return Q by (hour, demand, storage 1, storage 2, order 1, order 2)."""
    return solution.q.reshape(24, 5, 11, 11, 3, 3)


def contingent(q: npt.NDArray[np.float64]) -> float:
    """Share of (hour, demand, storage 1) where the best order 1 depends on storage 2.

    That is where no order is best, to 1e-6, at all levels of storage 2.
    """
    first = q.max(axis=-1)
    best = first >= first.max(axis=-1, keepdims=True) - 1e-6
    return float(1.0 - best.all(axis=3).any(axis=-1).mean())


def interaction(q: npt.NDArray[np.float64]) -> float:
    """Share of the values' spread over the storages that no sum of single functions makes."""
    value = q.max(axis=(-2, -1))
    value = value - value.mean(axis=(2, 3), keepdims=True)
    rest = value - value.mean(axis=2, keepdims=True) - value.mean(axis=3, keepdims=True)
    return float(rest.std() / value.std())


def apart(problem: PowerGrid, solution: exact.Solution) -> float:
    """Return by which share the cost is above the optimum if each storage runs by its own plan."""
    one, two = (part.policy.reshape(24, 5, 11) for part in on_their_own(problem))
    orders = (3 * one[:, :, :, None] + two[:, :, None, :]).ravel()
    value = exact.policy_value(problem.model(), orders, GAMMA, tolerance=1e-6)
    return float(value.mean() / solution.value.mean() - 1.0)
