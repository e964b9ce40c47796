r"""Expected SARSA: a state is worth what the policy that acts expects of it.

.. math:: y = r + \gamma \sum_{a'} \pi(a' | s') \, Q(s', a')
          = r + \gamma \, [(1 - \epsilon) \max_{a'} Q(s', a')
            + \frac{\epsilon}{|A|} \sum_{a'} Q(s', a')]

for an epsilon-greedy policy, at the epsilon that it acts with (van Seijen, van Hasselt, Whiteson
and Wiering 2009, "A Theoretical and Empirical Analysis of Expected Sarsa", ADPRL). What it learns
is the value of exploring: beside a cliff it keeps its distance.
"""

from __future__ import annotations

from typing import Any

from dqlearn.algorithms.fields import Best, Sum
from dqlearn.algorithms.rule import Algorithm
from dqlearn.algorithms.scores import own

__all__ = ["EXPECTED_SARSA"]


def _expected(values: Any, epsilon: Any, n_actions: Any, member: Any) -> Any:
    """Return the mean over the actions of an epsilon-greedy policy."""
    return (1 - epsilon) * values[0] + (epsilon / n_actions) * values[1]


EXPECTED_SARSA = Algorithm("expected_sarsa", summary=(Best(own), Sum(own)), target=_expected)
