r"""Q-learning: the best action of the next state is what it is worth (Watkins and Dayan 1992).

.. math:: Q(s, a) \leftarrow Q(s, a) + \alpha \, [r + \gamma \max_{a'} Q(s', a') - Q(s, a)]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from dqlearn.algorithms.fields import Best
from dqlearn.algorithms.rule import Algorithm
from dqlearn.algorithms.scores import own

__all__ = ["Q_LEARNING", "largest", "own"]


def largest(values: Sequence[npt.NDArray[Any]], epsilon: float, n_actions: int) -> npt.NDArray[Any]:
    """Return the greatest value of each state."""
    return values[0]


Q_LEARNING = Algorithm("q_learning", summary=(Best(own),), target=largest)
