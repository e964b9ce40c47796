"""Traffic: signals of intersections, with finite queues and spill-back."""

from __future__ import annotations

from dqlearn.envs.problems.traffic.model import TrafficGrid

__all__ = ["TrafficGrid"]
