r"""Expected SARSA: a state is worth what the policy that acts expects of it.

.. math:: y = r + \gamma \sum_{a'} \pi(a' | s') \, Q(s', a')
          = r + \gamma \, [(1 - \epsilon) \max_{a'} Q(s', a')
            + \frac{\epsilon}{|A|} \sum_{a'} Q(s', a')]

for an epsilon-greedy policy over the valid actions A, at the epsilon that it acts with (van Seijen,
van Hasselt, Whiteson and Wiering 2009, "A Theoretical and Empirical Analysis of Expected Sarsa",
ADPRL). What it learns is the value of exploring: beside a cliff it keeps its distance.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dqlearn.algorithms.fields import Best, Sum
from dqlearn.algorithms.rule import Algorithm
from dqlearn.algorithms.scores import own

__all__ = ["EXPECTED_SARSA"]


def _expected(values: Any, epsilon: Any, n_actions: Any, member: Any) -> Any:
    """Return the mean over the valid actions of an epsilon-greedy policy."""
    return (1 - epsilon) * values[0] + (epsilon / max(values[2], 1.0)) * values[1]


def _of_valid(q: Any, s: Any, a: Any) -> Any:
    return q[s, 0, a] if q[s, 0, a] > -np.inf else 0.0


def _is_valid(q: Any, s: Any, a: Any) -> Any:
    return 1.0 if q[s, 0, a] > -np.inf else 0.0


EXPECTED_SARSA = Algorithm(
    "expected_sarsa", summary=(Best(own), Sum(_of_valid), Sum(_is_valid)), target=_expected
)
