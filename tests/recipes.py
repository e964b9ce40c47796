"""The network environments as tests and benchmarks learn them, and as they are played then.

Settings and budgets are those of the families. The laws of tests/laws/test_networks.py are about
*all* states, also those that episodes of the registered length hardly reach, so episodes may be
shorter here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dqlearn import QLearner, envs
from dqlearn.envs import Family

__all__ = ["RECIPES", "Recipe"]


@dataclass(frozen=True)
class Recipe:
    """A problem, and what is changed of it.

    Attributes
    ----------
    name : str
        Of the family, as in ``dqlearn/<name>-v0``.
    size : str
        Of the problem.
    changes : dict
        What is changed of it while it is learned.
    episodes : int
        Of an evaluation: more where they are short, and differ much.
    played : dict
        What is changed of the registered size also where the policy is solved or played.
    """

    name: str
    size: str
    changes: dict[str, Any] = field(default_factory=dict)
    episodes: int = 1_000
    played: dict[str, Any] = field(default_factory=dict)

    @property
    def timesteps(self) -> int:
        """Transitions."""
        return type(self.problem).recipes[self.size].timesteps

    @property
    def gamma(self) -> float:
        """Discount."""
        return float(type(self.problem).recipes[self.size].settings["gamma"])

    @property
    def problem(self) -> Family:
        """What a policy is solved and played in."""
        found: Family = getattr(envs, self.name).of(self.size, **self.played)
        return found

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """What it is learned in."""
        return {"size": self.size, **self.changes}

    def learner(self, **changes: Any) -> QLearner:
        """Make the learner; of two shards, so that other machines learn the same."""
        own = {"env_kwargs": self.env_kwargs, "seed": 0, "shards": 2}
        return QLearner(f"dqlearn/{self.name}-v0", **(own | changes))


_RECIPES = (
    Recipe("TrafficGrid", "small", {"max_episode_steps": 50}),
    Recipe("TrafficGrid", "medium", {"max_episode_steps": 50}),
    Recipe("ProductionLine", "small", {"max_episode_steps": 10}),
    Recipe("ProductionLine", "medium", {"max_episode_steps": 50}),
    Recipe("NetworkDefence", "small", {"max_episode_steps": 10}),
    Recipe("NetworkDefence", "medium"),
    Recipe("PowerGrid", "small", {"max_episode_steps": 8}),
    Recipe("PowerGrid", "medium", {"reward": "saving"}),
    Recipe("PacketDispatch", "small", {"max_episode_steps": 30}),
    Recipe("PacketDispatch", "medium", {"start": "empty"}, played={"start": "empty"}),
    Recipe("PacketRouting", "small"),
    Recipe("PacketRouting", "medium", episodes=50_000),
)
RECIPES = {f"{recipe.name}-{recipe.size}": recipe for recipe in _RECIPES}
