"""Rollout and route together, tile by tile, so that transitions do not leave the cache between.

::

    tile of environments ─► rollout ─► (s, a, r, s'), L2 ─► locate ─► owner, offset, target
    next tile ...                                                         └─ all: sort by owner

The same stages as :func:`dqlearn.rollout.rollout` and :func:`dqlearn.routing.route`, in a different
order of loops. Invariant: the same result as one after the other.
"""

from __future__ import annotations

from dqlearn.grid import ChunkGrid
from dqlearn.rollout import BLOCK, Walk
from dqlearn.routing import Located
from dqlearn.transitions import Routed

__all__ = ["walk_and_route"]

_TILE = 32_768  # transitions: some hundred KiB, which an L2 cache holds


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
        Offsets and targets, sorted by chunk.
    """
    located = Located(walk.n_envs * walk.n_steps, walk.policy.value, gamma, grid)
    tile = min(max(1, _TILE // (walk.n_steps * BLOCK)) * BLOCK, walk.n_envs)
    out = walk.room(tile)
    for first in range(0, walk.n_envs, tile):
        last = min(first + tile, walk.n_envs)
        walk.take(first, last, out)
        n = (last - first) * walk.n_steps
        located.add(*(column[:n] for column in out))
    return located.sorted(walk.tally())
