"""Rollout and route together, tile by tile, so that transitions do not leave the cache between.

::

    tile of environments ─► rollout ─► (s, a, r, s') ─► owner, offset, target ─► sort by owner
    next tile ...           in an L2 cache              in it too

The same stages as :func:`dqlearn.stages.rollout.rollout` and :func:`dqlearn.stages.route.route`, in
a different order of loops, and in one kernel: between two, threads would wait for the interpreter.
Invariant: every chunk receives the same transitions in the same order as from one after the other.
"""

from __future__ import annotations

from dqlearn.stages.rollout import BLOCK, Walk
from dqlearn.stages.route import TILE, Router
from dqlearn.table.grid import ChunkGrid
from dqlearn.table.transitions import Routed

__all__ = ["walk_and_route"]


def walk_and_route(walk: Walk, gamma: float, grid: ChunkGrid) -> Routed:
    """Take all steps of a walk, and route its transitions.

    Parameters
    ----------
    walk : Walk
        A rollout of which nothing was taken yet.
    gamma : float
        Discount factor.
    grid : ChunkGrid
        Who owns what.

    Returns
    -------
    Routed
        Offsets and targets.
    """
    tile = min(max(1, TILE // (walk.n_steps * BLOCK)) * BLOCK, walk.n_envs)
    n, m = (envs * walk.n_steps for envs in (walk.n_envs, tile))
    router = Router(n, m, walk.policy.value, gamma, grid)
    walk.take(walk.env.kernels.walk_and_route, tile, walk.room(tile), *router.arguments)
    return router.routed(walk.tally())
