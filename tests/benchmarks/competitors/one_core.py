"""One core: the hand-written Numba loop of :mod:`loops`, at its best batch of walkers.

The fastest that one core does without shards, chunks or checks, and the usual answer to "why not
simply write a loop?".
"""

from __future__ import annotations

from functools import cache

from loops import Loop, fastest
from problems import Problem

MOST = 2**21  # transitions of a sample of the search
BIG_BATCH = 1024  # where there is no room for a table of each batch


@cache
def best_batch(problem: Problem, way: str, kind: type[Loop] = Loop) -> int:
    """Search the batch that makes most transitions a second."""
    if problem.name == "big":
        return BIG_BATCH
    return fastest(problem, way, min(MOST, 16 * problem.env.n_states), kind=kind)


class Learner(Loop):
    """A loop, plain or tuned."""

    def __init__(self, problem: Problem, seed: int, way: str) -> None:
        super().__init__(problem, way, best_batch(problem, way), seed)
