"""Recipes: how the network environments are learned, in tests and benchmarks.

Each family has one for its small and one for its medium size; the budgets are the smallest round
ones that reach what tests/benchmarks/networks.py prints.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dqlearn import QLearner, envs
from dqlearn.envs import Family
from dqlearn.schedules import VisitCount

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
        The size, and what is changed of it while it is learned.
    settings : dict
        The other arguments of `QLearner`.
    episodes : int
        Of an evaluation: more where they are short, and differ much.
    played : dict
        What is changed of the registered size also where the policy is solved or played.
    """

    name: str
    timesteps: int
    gamma: float
    env_kwargs: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)
    episodes: int = 1_000
    played: dict[str, Any] = field(default_factory=dict)

    @property
    def problem(self) -> Family:
        """What a policy is solved and played in."""
        found: Family = getattr(envs, self.name).of(self.env_kwargs["size"], **self.played)
        return found

    def learner(self, **changes: Any) -> QLearner:
        """Make the learner; of two shards, so that other machines learn the same."""
        own = {"gamma": self.gamma, "env_kwargs": self.env_kwargs, **self.settings}
        return QLearner(f"dqlearn/{self.name}-v0", **{"seed": 0, "shards": 2, **own, **changes})


RECIPES: dict[str, Recipe] = {
    # traffic
    "TrafficGrid-small": Recipe(
        "TrafficGrid",
        20_000_000,
        0.95,
        {"size": "small", "max_episode_steps": 50},
        {
            "learning_rate": VisitCount(scale=20.0, offset=20.0),
            "epsilon": 0.5,
            "initial_value": -90.0,
        },
    ),
    "TrafficGrid-medium": Recipe(
        "TrafficGrid",
        200_000_000,
        0.95,
        {"size": "medium", "max_episode_steps": 50},
        {
            "learning_rate": VisitCount(scale=20.0, offset=20.0),
            "epsilon": 0.3,
            "initial_value": -110.0,
        },
    ),
    # production
    "ProductionLine-small": Recipe(
        "ProductionLine",
        80_000_000,
        0.95,
        {"size": "small", "max_episode_steps": 10},
        {
            "learning_rate": VisitCount(scale=10.0, offset=10.0),
            "epsilon": 0.5,
            "initial_value": 65.0,
        },
    ),
    "ProductionLine-medium": Recipe(
        "ProductionLine",
        200_000_000,
        0.95,
        {"size": "medium", "max_episode_steps": 50},
        {
            "learning_rate": VisitCount(scale=10.0, offset=10.0),
            "epsilon": 0.2,
            "initial_value": 20.0,
            "num_envs": 16384,
            "steps_per_round": 64,
        },
    ),
    # defence
    "NetworkDefence-small": Recipe(
        "NetworkDefence",
        20_000_000,
        0.95,
        {"size": "small", "max_episode_steps": 10},
        {
            "learning_rate": VisitCount(scale=20.0, offset=20.0),
            "epsilon": 0.3,
            "initial_value": -8.0,
        },
    ),
    "NetworkDefence-medium": Recipe(
        "NetworkDefence",
        200_000_000,
        0.95,
        {"size": "medium"},
        {
            "num_envs": 4096,
            "steps_per_round": 512,
            "learning_rate": VisitCount(scale=20.0, offset=20.0),
            "epsilon": 0.3,
            "initial_value": -18.0,
        },
    ),
    # power
    "PowerGrid-small": Recipe(
        "PowerGrid",
        100_000_000,
        0.95,
        {"size": "small", "max_episode_steps": 8},
        {
            "num_envs": 4096,
            "steps_per_round": 16,
            "learning_rate": VisitCount(scale=10.0, offset=10.0),
            "epsilon": 0.5,
            "initial_value": -250.0,
        },
    ),
    "PowerGrid-medium": Recipe(
        "PowerGrid",
        200_000_000,
        0.95,
        {"size": "medium", "reward": "saving"},
        {
            "num_envs": 65_536,
            "steps_per_round": 32,
            "learning_rate": VisitCount(omega=0.6),
            "epsilon": 0.35,
        },
    ),
    # routing
    "PacketDispatch-small": Recipe(
        "PacketDispatch",
        150_000_000,
        0.95,
        {"size": "small", "max_episode_steps": 30},
        {
            "learning_rate": VisitCount(scale=30.0, offset=30.0),
            "epsilon": 0.5,
            "initial_value": -300.0,
        },
    ),
    "PacketDispatch-medium": Recipe(
        "PacketDispatch",
        200_000_000,
        0.95,
        {"size": "medium", "start": "empty"},
        {
            "learning_rate": VisitCount(scale=30.0, offset=30.0),
            "epsilon": 0.3,
            "initial_value": -150.0,
            "steps_per_round": 64,
        },
        played={"start": "empty"},
    ),
    "PacketRouting-small": Recipe(
        "PacketRouting",
        40_000_000,
        0.99,
        {"size": "small"},
        {"learning_rate": VisitCount(scale=5.0, offset=5.0), "epsilon": 0.3},
    ),
    "PacketRouting-medium": Recipe(
        "PacketRouting",
        800_000_000,
        0.99,
        {"size": "medium"},
        {
            "learning_rate": VisitCount(scale=5.0, offset=5.0),
            "epsilon": 0.2,
            "steps_per_round": 128,
        },
        episodes=50_000,
    ),
}
