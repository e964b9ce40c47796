r"""Q-learning: the best action of the next state is what it is worth (Watkins and Dayan 1992).

.. math:: Q(s, a) \leftarrow Q(s, a) + \alpha \, [r + \gamma \max_{a'} Q(s', a') - Q(s, a)]
"""

from __future__ import annotations

from typing import Any

from dqlearn.algorithms.fields import Best
from dqlearn.algorithms.rule import Algorithm, largest

__all__ = ["Q_LEARNING", "own"]


def own(q: Any, s: Any, a: Any) -> Any:
    """Return Q(s, a) of the only member."""
    return q[s, 0, a]


Q_LEARNING = Algorithm("q_learning", summary=(Best(own),), target=largest)
