r"""Scores: the number of each action by which a rule of dqlearn's own calls one of them greedy.

.. math:: \pi(s) = \arg\max_a \text{score}(Q, s, a)

A score is written once, for numbers and for arrays alike: Numba compiles it into the kernels of a
round, and NumPy evaluates it for all states at once where a stored table is only read, which needs
no Numba. Invariant: both give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["SCORES", "mean", "own"]

_TWO = np.int64(2)  # halves of float32 are float64 then, to NumPy as to Numba


def own(q: Any, s: Any, a: Any) -> Any:
    """Return Q(s, a) of the only member."""
    return q[s, 0, a]


def mean(q: Any, s: Any, a: Any) -> Any:
    """Return the mean of Q(s, a) over two members."""
    return (q[s, 0, a] + q[s, 1, a]) / _TWO


SCORES: dict[str, tuple[int, Callable[[Any, Any, Any], Any]]] = {
    "q_learning": (1, own),
    "expected_sarsa": (1, own),
    "double_q": (2, mean),
}
"""The number of members and the score of each rule of dqlearn's own, by the rule's name."""
