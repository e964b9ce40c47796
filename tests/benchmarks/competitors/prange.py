"""All cores: the same Numba loops under ``prange``, on one table that the threads share.

::

    thread 0   walkers 0 ──┐
                           ├──► one table, no locks
    thread 1   walkers 1 ──┘

Two threads that update a pair at once may lose one of the updates; with many pairs that is rare,
and learning does not mind (Recht et al. 2011, "Hogwild!"). It gives up that a run can be repeated.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from kernels import Kernel
from loops import Loop
from numba import njit, prange
from problems import THREADS, Problem

from competitors.one_core import best_batch

N_THREADS = THREADS["num_workers"]


@cache
def on_threads(kernel: Kernel) -> Kernel:
    """Compile the loop that runs a kernel for each row of walkers; it returns their `x`."""

    @njit(parallel=True)
    def run(q, walkers, greedy, steps, x, rates, *model):
        for t in prange(len(walkers)):
            # Copies, so that no two threads write to one cache line.
            where, best = walkers[t].copy(), greedy[t].copy()
            x[t] = kernel(q, where, best, steps, x[t], rates, *model)
            walkers[t], greedy[t] = where, best
        return x

    return run


class Threads(Loop):
    """A table that as many threads advance as dqlearn gets.

    Parameters
    ----------
    problem, way, seed
        As for a loop.
    walkers : int
        Of each thread.
    """

    def __init__(self, problem: Problem, way: str, walkers: int, seed: int = 0) -> None:
        super().__init__(problem, way, N_THREADS * walkers, seed)
        self._kernel = on_threads(self._kernel)
        self._where = self._where.reshape(N_THREADS, walkers)
        self._greedy = self._greedy.reshape(N_THREADS, walkers)
        self._x = np.random.default_rng(seed).integers(2**64, size=N_THREADS, dtype=np.uint64)


class Learner(Threads):
    """Threads at their best batch."""

    def __init__(self, problem: Problem, seed: int, way: str) -> None:
        super().__init__(problem, way, best_batch(problem, way, Threads), seed)
