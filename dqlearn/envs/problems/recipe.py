"""What is known of how an environment is best learned: settings, and how many transitions it takes.

::

    family ──► sizes     parameters of a problem
          └──► recipes   settings of a learner, where nobody says others

Invariant: a recipe changes how a problem is learned, never the problem.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """Settings and a budget.

    Attributes
    ----------
    timesteps : int
        Transitions after which the policy is better than the best baseline, and well beyond.
    settings : mapping of str to object
        Arguments of :class:`dqlearn.QLearner`, for those that are not given.
    """

    timesteps: int
    settings: Mapping[str, Any] = field(default_factory=dict)
