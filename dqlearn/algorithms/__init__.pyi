from .double_q import DOUBLE_Q
from .ensemble import ensemble
from .expected_sarsa import EXPECTED_SARSA
from .fields import Best, Extent, Sum
from .q_learning import Q_LEARNING
from .registry import ALGORITHMS, as_algorithm, find_algorithm
from .rule import Algorithm

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
    "ensemble",
    "find_algorithm",
]
