"""Recipes: how the network environments are learned, in tests and benchmarks.

Each family has one for its small and one for its medium size; the budgets are the smallest round
ones that reach what tests/benchmarks/networks.py prints.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dqlearn import QLearner

__all__ = ["RECIPES", "Recipe"]


@dataclass(frozen=True)
class Recipe:
    """Environment, settings and budget.

    Attributes
    ----------
    name : str
        Of the family, as in ``dqlearn/<name>-v0``.
    timesteps : int
        Transitions.
    gamma : float
        Discount.
    env_kwargs : dict
        The size, and what is changed of it.
    settings : dict
        The other arguments of `QLearner`.
    """

    name: str
    timesteps: int
    gamma: float
    env_kwargs: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)

    def learner(self, **changes: Any) -> QLearner:
        """Make the learner."""
        settings = {"gamma": self.gamma, "seed": 0, "env_kwargs": self.env_kwargs, **self.settings}
        return QLearner(f"dqlearn/{self.name}-v0", **{**settings, **changes})


RECIPES: dict[str, Recipe] = {
    # traffic
    # production
    # defence
    # power
    # routing
}
