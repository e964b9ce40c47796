r"""Q-learning: the best action of the next state is what it is worth (Watkins and Dayan 1992).

.. math:: Q(s, a) \leftarrow Q(s, a) + \alpha \, [r + \gamma \max_{a'} Q(s', a') - Q(s, a)]
"""

from __future__ import annotations

from dqlearn.algorithms.fields import Best
from dqlearn.algorithms.rule import Algorithm, largest
from dqlearn.algorithms.scores import own

__all__ = ["Q_LEARNING", "own"]


Q_LEARNING = Algorithm("q_learning", summary=(Best(own),), target=largest)
