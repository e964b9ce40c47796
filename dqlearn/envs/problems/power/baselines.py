"""Baselines: rules that run a PowerGrid without learning.

::

    states ──► hour, demand, levels ──► orders (n, N) ──► actions (n,)
                                        -1 discharge, 0 idle, 1 charge

Invariant: a rule orders nothing of a storage that cannot follow, and no more storages than
`max_commands`; the fullest discharge first and the emptiest charge first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from dqlearn.envs.problems.power.model import PowerGrid

__all__ = ["RULES", "no_storage", "peak_shaving", "tariff_rule", "tariff_within_limits"]

Ints = npt.NDArray[np.int64]


def no_storage(problem: PowerGrid, states: Ints, t: int) -> Ints:
    """Leave all storages idle.

    Parameters
    ----------
    problem : PowerGrid
        Whose.
    states : int64 (n,)
        Of many episodes.
    t : int
        Slots since they began; not used.

    Returns
    -------
    int64 (n,)
        Actions.
    """
    return _actions(problem, np.zeros((len(states), problem.n_storages), np.int64))


def tariff_rule(problem: PowerGrid, states: Ints, t: int) -> Ints:
    """Charge at the day's lowest tariff, discharge at its highest; lines do not matter.

    Parameters
    ----------
    problem : PowerGrid
        Whose.
    states : int64 (n,)
        Of many episodes.
    t : int
        Slots since they began; not used.

    Returns
    -------
    int64 (n,)
        Actions.
    """
    hour, _, storage = problem.digits(states)
    wanted = _wanted(problem, hour)
    return _actions(problem, _followed(problem, storage, wanted[:, None]))


def tariff_within_limits(problem: PowerGrid, states: Ints, t: int) -> Ints:
    """Follow the tariff rule, storage after storage, while no line's overload grows by it.

    Parameters
    ----------
    problem : PowerGrid
        Whose.
    states : int64 (n,)
        Of many episodes.
    t : int
        Slots since they began; not used.

    Returns
    -------
    int64 (n,)
        Actions.
    """
    hour, demand, storage = problem.digits(states)
    wanted, taken = _wanted(problem, hour), problem.loads[hour, demand]
    orders, every = np.zeros_like(storage), np.arange(len(storage))
    for turn in _by_turn(storage, wanted):
        tried = orders.copy()
        tried[every, turn] = wanted
        tried = _followed(problem, storage, tried)
        better = _overload(problem, taken, storage, tried) <= _overload(
            problem, taken, storage, orders
        )
        orders = np.where(better[:, None], tried, orders)
    return _actions(problem, orders)


def peak_shaving(problem: PowerGrid, states: Ints, t: int) -> Ints:
    """Hold the total load at its mean over the day, at the present level of demand.

    Above the mean, storages discharge one after another until the load is down at it; below,
    they charge one after another as long as the load stays below.

    Parameters
    ----------
    problem : PowerGrid
        Whose.
    states : int64 (n,)
        Of many episodes.
    t : int
        Slots since they began; not used.

    Returns
    -------
    int64 (n,)
        Actions.
    """
    hour, demand, storage = problem.digits(states)
    total = problem.loads.sum(axis=2)
    load, mean = total[hour, demand], total.mean(axis=0)[demand]
    wanted = np.where(load > mean, -1, 1)
    orders, every = np.zeros_like(storage), np.arange(len(storage))
    for turn in _by_turn(storage, wanted):
        tried = np.zeros_like(storage)
        tried[every, turn] = wanted
        after = load + _taken(problem, storage, tried).sum(axis=1)
        useful = np.where(wanted < 0, load > mean, after <= mean)
        orders[every, turn] = np.where(useful, wanted, 0)
        load = np.where(useful, after, load)
    return _actions(problem, _followed(problem, storage, orders))


RULES = {
    "no storage": no_storage,
    "tariff rule": tariff_rule,
    "tariff rule within limits": tariff_within_limits,
    "greedy peak shaving": peak_shaving,
}


def _wanted(problem: PowerGrid, hour: Ints) -> Ints:
    """Return what the tariff says, for each state."""
    tariff = np.array(problem.tariff)
    low, high = tariff[hour] == tariff.min(), tariff[hour] == tariff.max()
    return np.asarray(low.astype(np.int64) - high.astype(np.int64), np.int64)


def _by_turn(storage: Ints, wanted: Ints) -> Ints:
    """Return whose turn it is, shape ``(N, n)``: the fullest or the emptiest first."""
    key = storage * np.where(wanted < 0, -1, 1)[:, None]
    turns: Ints = np.argsort(key, axis=1, kind="stable").T
    return turns


def _taken(problem: PowerGrid, storage: Ints, orders: Ints) -> npt.NDArray[np.float64]:
    taken: npt.NDArray[np.float64] = problem.power[
        problem.moves(storage, orders) + problem.discharge_rate
    ]
    return taken


def _overload(
    problem: PowerGrid, loads: npt.NDArray[np.float64], storage: Ints, orders: Ints
) -> npt.NDArray[np.float64]:
    """Return kW above the lines' limits, in all."""
    flows = (loads + _taken(problem, storage, orders)) @ problem.shift.T
    over: npt.NDArray[np.float64] = np.maximum(np.abs(flows) - problem.bounds, 0.0).sum(axis=1)
    return over


def _followed(problem: PowerGrid, storage: Ints, wanted: Ints) -> Ints:
    """Return the orders that can be followed, at most `max_commands` of them."""
    orders = np.where(problem.moves(storage, wanted) == 0, 0, wanted)
    urgency = np.where(orders == 0, np.inf, orders * storage)
    rank = np.argsort(np.argsort(urgency, axis=1, kind="stable"), axis=1)
    first: Ints = np.where(rank < problem.most_commands, orders, 0)
    return first


def _actions(problem: PowerGrid, orders: Ints) -> Ints:
    """Return the indices of orders; actions are in lexicographic order."""
    places = 3 ** np.arange(problem.n_storages)[::-1]
    found: Ints = np.searchsorted((problem.orders + 1) @ places, (orders + 1) @ places)
    return found
