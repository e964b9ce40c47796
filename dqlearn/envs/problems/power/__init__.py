"""PowerGrid: storages on a network whose lines have losses and limits."""

from __future__ import annotations

from dqlearn.envs.problems.power.model import PowerGrid

__all__ = ["PowerGrid"]
