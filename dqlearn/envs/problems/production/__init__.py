"""ProductionLine: machines that wear, finite stores, a customer; see :mod:`.model`."""

from __future__ import annotations

from dqlearn.envs.problems.production.model import ProductionLine

__all__ = ["ProductionLine"]
