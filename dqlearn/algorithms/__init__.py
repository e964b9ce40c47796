"""Algorithms: what one tabular rule learns, and in what it differs from another, as declarations.

::

    rule             what a declaration has        fields       what a chunk says of its states
    q_learning       Q-learning, the default       registry     rules by their names
    double_q         two tables, one values what the other chooses
    expected_sarsa   the value of the policy that explores

Invariant: a rule is one file, and nothing else in dqlearn names it.
"""

from __future__ import annotations

from dqlearn.algorithms.double_q import DOUBLE_Q
from dqlearn.algorithms.expected_sarsa import EXPECTED_SARSA
from dqlearn.algorithms.fields import Best, Extent, Sum
from dqlearn.algorithms.q_learning import Q_LEARNING
from dqlearn.algorithms.registry import ALGORITHMS, as_algorithm, find_algorithm
from dqlearn.algorithms.rule import Algorithm

__all__ = [
    "ALGORITHMS",
    "DOUBLE_Q",
    "EXPECTED_SARSA",
    "Q_LEARNING",
    "Algorithm",
    "Best",
    "Extent",
    "Sum",
    "as_algorithm",
    "find_algorithm",
]
