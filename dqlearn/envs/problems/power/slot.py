r"""Slot: one hour of a PowerGrid, as scalar kernels.

::

    state = (hour * D + demand) * (C + 1)^N + storages        storages: mixed radix, 4 bits each
            └─── load ───┘                                    once taken apart

`load` has 24 D > 15 values and so does not fit a digit: it is taken off by arithmetic, and all that
depends on hour and demand alone, the lines' flows without storages too, is a table by it. A slot is
then N clamps and N * n_lines products::

    table    (24 D, 3 + n_lines)     demand, tariff, cost taken off, flows if all are idle
    lines    (n_lines, 2 + N)        loss, limit, shift factors

Invariant: nothing is allocated, and nothing branches on what was drawn.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from numba.cpython.unsafe import tuple as tuples  # a module: a bare intrinsic has no fingerprint

from dqlearn.envs.problems.digits import bases_of, digit, pack, unpack
from dqlearn.envs.problems.power.checks import HOURS
from dqlearn.jit.compiled import njit
from dqlearn.random import integers

if TYPE_CHECKING:
    from dqlearn.envs.problems.power.model import PowerGrid

__all__ = ["events", "initial", "params_of", "transition", "words"]

_U = np.uint64  # a signed index is first tested for counting from the end


def params_of(problem: PowerGrid) -> tuple[Any, ...]:
    """Return what the kernels take.

    Parameters
    ----------
    problem : PowerGrid
        Whose.

    Returns
    -------
    tuple
        The range of first states; how storages are taken off a state, and demand off a load;
        limits of a storage; the tables above; prices; probabilities; room for N powers.
    """
    levels, n = len(problem.demand_levels), problem.n_storages
    together, loads = (problem.capacity + 1) ** n, HOURS * levels
    wanted = words(problem.orders, problem.charge_rate, problem.discharge_rate)
    return (
        (0, loads, together) if problem.start == "uniform" else (levels // 2, 1, 1),
        (together, 1.0 / together, bases_of([problem.capacity + 1] * n)),
        (levels, 1.0 / levels, loads),
        (problem.capacity, problem.discharge_rate),
        (problem.power, wanted, *_tables(problem)),
        ((1.0 + problem.feed_in) / 2.0, (1.0 - problem.feed_in) / 2.0, problem.penalty),
        (problem.volatility, 0.5),
        (0.0,) * n,
    )


def _tables(problem: PowerGrid) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return what depends on the load alone, and what depends on the line alone."""
    loads = problem.loads.reshape(-1, problem.n_storages)
    tariff = np.repeat(problem.tariff, len(problem.demand_levels))
    loss = np.array(problem.resistance) / problem.voltage**2 / 1000.0
    bounds = np.minimum(problem.bounds, 1e18)  # infinity less infinity is no number
    total = _summed(loads.T)
    flows = np.column_stack([_summed(loads.T * row[:, None]) for row in problem.shift])
    over = _summed(np.maximum(np.abs(flows) - bounds, 0.0).T)
    lost = _summed(flows.T**2 * loss[:, None])
    idle = tariff * (total + lost) + problem.penalty * over
    known = idle if problem.reward == "saving" else np.zeros(len(loads))
    table = np.column_stack([total, tariff, known, flows])
    return table, np.column_stack([loss, bounds, problem.shift])


def _summed(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Sum in this order: the last bit of a matrix product is another one on other processors."""
    return reduce(np.add, rows)


def words(
    orders: npt.NDArray[np.int64], charge_rate: int, discharge_rate: int
) -> npt.NDArray[np.int64]:
    """Pack what is wanted of the storages into words, as :mod:`dqlearn.envs.problems.digits` does.

    Parameters
    ----------
    orders : int64 (n_actions, N)
        -1, 0 or 1.
    charge_rate, discharge_rate : int
        Levels that 1 and -1 stand for.

    Returns
    -------
    int64 (n_actions,)
        Four bits a storage: the levels wanted, counted from -discharge_rate.

    Examples
    --------
    >>> words(np.array([[0, 1]]), charge_rate=2, discharge_rate=3) == 3 + 5 * 16
    array([ True])
    """
    wanted = np.array([0, discharge_rate, discharge_rate + charge_rate])[orders + 1]
    packed: npt.NDArray[np.int64] = (wanted << (4 * np.arange(orders.shape[1]))).sum(axis=1)
    return packed


def initial(key: Any, params: tuple[Any, ...]) -> Any:
    """Draw a load and the storages, each from the range that `start` says."""
    first, loads, storages = params[0]
    together = params[1][0]
    return (first + integers(key, 0, loads)) * together + integers(key, 1, storages)


def events(state: Any, action: Any, params: tuple[Any, ...]) -> Any:
    """Return the probabilities that the demand moves, and that it would go up."""
    return params[6]


def transition(
    state: Any, action: Any, happened: Any, params: tuple[Any, ...]
) -> tuple[Any, Any, bool]:
    """Make the slot that the module of the model describes."""
    _, (together, inverse, bases), days, (capacity, lowest), arrays, prices, _, powers = params
    power, actions, table, lines = arrays
    # Exact: the half keeps the product away from integers by more than it can err.
    load = np.int64((state + 0.5) * inverse)
    levels, wanted = unpack(state - load * together, bases), actions[_U(action)]
    energy, after = table[_U(load), _U(0)], levels
    for i in range(len(powers)):
        level = digit(levels, i)
        move = min(max(digit(wanted, i) - lowest, -level), capacity - level)
        taken = power[_U(move + lowest)]
        powers = tuples.tuple_setitem(powers, i, taken)  # type: ignore[call-arg]
        energy += taken
        after += move << (4 * i)
    over = 0.0
    for k in range(len(lines)):
        flow = table[_U(load), _U(k + 3)]
        for i in range(len(powers)):
            flow += lines[_U(k), _U(i + 2)] * powers[i]
        energy += lines[_U(k), _U(0)] * flow * flow
        beyond = abs(flow) - lines[_U(k), _U(1)]
        over += beyond + abs(beyond)  # twice what is positive of it, without a branch
    imported, turned, penalty = prices
    paid = imported * energy + turned * abs(energy)
    cost = table[_U(load), _U(1)] * paid + 0.5 * penalty * over - table[_U(load), _U(2)]
    return onward(load, happened, days) * together + pack(after, bases), -cost, False


@njit(cache=True)
def onward(load: Any, happened: Any, days: tuple[Any, ...]) -> Any:
    """Return the next hour's load: the demand may have moved by one level."""
    levels, inverse, loads = days
    demand = load - levels * np.int64((load + 0.5) * inverse)
    step = (happened & 1) * ((happened & 2) - 1)
    later = load + levels + min(max(demand + step, 0), levels - 1) - demand
    return later - loads if later >= loads else later
