r"""Double Q-learning: each of two tables chooses the action that the other values.

.. math::

    Q_A(s, a) \leftarrow Q_A(s, a) + \alpha \, [r + \gamma Q_B(s', \arg\max_{a'} Q_A(s', a'))
    - Q_A(s, a)]

and the same with A and B exchanged; each transition teaches one of them, which a fair coin chooses
(van Hasselt 2010, "Double Q-learning", NeurIPS 23). Actions are greedy on their mean. The maximum
of noisy values is too large on average; what is chosen by one table and valued by the other, which
learned from other transitions, is not.
"""

from __future__ import annotations

from typing import Any

from dqlearn.algorithms.fields import Best
from dqlearn.algorithms.rule import Algorithm
from dqlearn.algorithms.scores import mean

__all__ = ["DOUBLE_Q"]


def _a(q: Any, s: Any, a: Any) -> Any:
    return q[s, 0, a]


def _b(q: Any, s: Any, a: Any) -> Any:
    return q[s, 1, a]


def _crossed(values: Any, epsilon: Any, n_actions: Any, member: Any) -> Any:
    """Return what A chose and B values, for A, and the other way round, for B."""
    return values[member]


DOUBLE_Q = Algorithm(
    "double_q",
    members=2,
    summary=(Best(_a, value=_b), Best(_b, value=_a), Best(mean)),
    target=_crossed,
    behaviour=2,
)
