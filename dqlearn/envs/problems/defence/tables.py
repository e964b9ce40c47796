"""Tables: a problem's parameters, as the kernels read them.

::

    success    (level, sources) ──► chance of one more level
    neighbours (row, place)     ──► whence a host can be attacked; row 0, or that of a cut link
    effects    (decision)       ──► fields cleared, field a removal is for, row of neighbours
    price      (decision)       ──► cost
    losses     (byte, value)    ──► cost of four hosts

Invariant: places run from the last host to the first, as the fields of a state do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dqlearn.envs.problems.defence.kernels import OUTSIDE

if TYPE_CHECKING:
    from dqlearn.envs.problems.defence.model import NetworkDefence

__all__ = ["params_of"]


def params_of(problem: NetworkDefence) -> tuple[Any, ...]:
    """Return what the kernels take.

    Parameters
    ----------
    problem : NetworkDefence
        The parameters.

    Returns
    -------
    tuple
        First states, chances to be filled in, and the tables above.
    """
    n = len(problem.hosts)
    return (
        4**n if problem.start == "uniform" else 1,
        (0.0,) * n + (problem.removal,),
        _success(problem),
        _neighbours(problem),
        _effects(problem),
        _price(problem),
        _losses(problem),
    )


def _success(problem: NetworkDefence) -> npt.NDArray[np.float64]:
    n = len(problem.hosts)
    # By products: the last bit of NumPy's power is another one on other processors.
    scanned, exploited = (
        1.0 - np.cumprod([1.0] + n * [1.0 - p]) for p in (problem.scan, problem.exploit)
    )
    return np.stack([scanned, exploited, np.full_like(scanned, problem.escalate), 0.0 * scanned])


def _neighbours(problem: NetworkDefence) -> npt.NDArray[np.int64]:
    n = len(problem.hosts)
    rows = np.zeros((1 + len(problem.isolable), n), np.int64)
    rows[:, [n - 1 - host for host in problem.exposed]] = OUTSIDE
    for edge in problem.edges:
        for row, cut in enumerate([None, *problem.isolable]):
            if edge != cut:
                first, second = (n - 1 - host for host in edge)
                rows[row, first] |= 1 << 2 * second
                rows[row, second] |= 1 << 2 * first
    return rows


def _effects(problem: NetworkDefence) -> npt.NDArray[np.int64]:
    n = len(problem.hosts)
    fields = [1 << 2 * (n - 1 - host) for host in range(n)]
    restores = [(3 * field, 0, 0) for field in fields]
    removals = [(0, field, 0) for field in fields]
    cuts = [(0, 0, row) for row in range(1, 1 + len(problem.isolable))]
    return np.array([(0, 0, 0), *restores, *removals, *cuts], np.int64)


def _price(problem: NetworkDefence) -> npt.NDArray[np.float64]:
    n, cuts = len(problem.hosts), len(problem.isolable)
    prices = 0.0, problem.restore_cost, problem.removal_cost, problem.isolation_cost
    return np.repeat(prices, (1, n, n, cuts))


def _losses(problem: NetworkDefence) -> npt.NDArray[np.float64]:
    n = len(problem.hosts)
    table = np.zeros((-(-n // 4), 256))
    for byte in range(len(table)):
        # A state with this byte alone; bits beyond the last host's are never set.
        states = (np.arange(256) << (8 * byte)) & (4**n - 1)
        table[byte] = problem.losses(states).sum(axis=1)
    return table
