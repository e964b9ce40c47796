from .double_q import DOUBLE_Q
from .ensemble import ensemble
from .expected_sarsa import EXPECTED_SARSA
from .fields import Best, Extent, Sum
from .multi_step import n_step, q_lambda, tree_backup
from .q_learning import Q_LEARNING
from .registry import ALGORITHMS, as_algorithm, find_algorithm
from .returns import Returns
from .rule import Algorithm

__all__ = [
    "ALGORITHMS",
    "DOUBLE_Q",
    "EXPECTED_SARSA",
    "Q_LEARNING",
    "Algorithm",
    "Best",
    "Extent",
    "Returns",
    "Sum",
    "as_algorithm",
    "ensemble",
    "find_algorithm",
    "n_step",
    "q_lambda",
    "tree_backup",
]
