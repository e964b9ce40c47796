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

from dqlearn.algorithms.returns import parse_returns

__all__ = ["AGGREGATES", "Members", "mean", "own", "parse_ensemble", "score_of"]

Score = Callable[[Any, Any, Any], Any]

_TWO = np.int64(2)  # halves of float32 are float64 then, to NumPy as to Numba


def own(q: Any, s: Any, a: Any) -> Any:
    """Return Q(s, a) of the only member."""
    return q[s, 0, a]


def mean(q: Any, s: Any, a: Any) -> Any:
    """Return the mean of Q(s, a) over two members."""
    return (q[s, 0, a] + q[s, 1, a]) / _TWO


class Members:
    """The scores of the members of an ensemble.

    Parameters
    ----------
    n : int
        Number of members.
    """

    def __init__(self, n: int) -> None:
        self.n = n

    def value(self, i: int) -> Score:
        """Return the function that is the value of member i."""

        def value(q: Any, s: Any, a: Any) -> Any:
            return q[s, i, a]

        return value

    def score(self, aggregate: str) -> Score:
        """Return the aggregate of all members' values, which are taken in their order.

        That of the sum is the mean, which is a return, and orders actions in the same way. That of
        votes is the share of the members that call the action one of their best; it depends on all
        actions of the state.
        """
        n = self.n

        def average(q: Any, s: Any, a: Any) -> Any:
            found = q[s, 0, a]
            for i in range(1, n):
                found = found + q[s, i, a]
            return found / np.int64(n)

        def greatest(q: Any, s: Any, a: Any) -> Any:
            found = q[s, 0, a]
            for i in range(1, n):
                found = np.maximum(found, q[s, i, a])
            return found

        def least(q: Any, s: Any, a: Any) -> Any:
            found = q[s, 0, a]
            for i in range(1, n):
                found = np.minimum(found, q[s, i, a])
            return found

        def votes(q: Any, s: Any, a: Any) -> Any:
            found = 0.0
            for i in range(n):
                best = q[s, i, 0]
                for b in range(1, q.shape[2]):
                    best = np.maximum(best, q[s, i, b])
                found = found + (q[s, i, a] == best) / n
            return found

        return {"sum": average, "max": greatest, "min": least, "vote": votes}[aggregate]


AGGREGATES = ("sum", "max", "min", "vote")
"""What the environments of an ensemble maximise when they act."""

_SCORES: dict[str, tuple[int, Score]] = {
    "q_learning": (1, own),
    "expected_sarsa": (1, own),
    "double_q": (2, mean),
}


def parse_ensemble(name: str) -> tuple[int, str, str] | None:
    """Return the members, the aggregate and the target in the name of an ensemble.

    Examples
    --------
    >>> parse_ensemble("ensemble:4:sum:own")
    (4, 'sum', 'own')
    """
    parts = name.split(":")
    if len(parts) != 4 or parts[0] != "ensemble" or parts[2] not in AGGREGATES:
        return None
    return (int(parts[1]), parts[2], parts[3]) if parts[1].isdecimal() else None


def score_of(name: str) -> tuple[int, Score] | None:
    """Return the number of members and the score of a rule of dqlearn's own, by its name.

    Parameters
    ----------
    name : str
        The name of a rule.

    Returns
    -------
    (int, callable), optional
        None if the rule is the user's own.

    Examples
    --------
    >>> members, score = score_of("double_q")
    >>> members, float(score(np.array([[[1.0], [2.0]]]), 0, 0))
    (2, 1.5)
    """
    if (parts := parse_ensemble(name)) is not None:
        return parts[0], Members(parts[0]).score(parts[1])
    if parse_returns(name) is not None:
        return 1, own
    return _SCORES.get(name)
