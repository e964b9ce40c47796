"""Exact solutions of small models: optimal values and gains, values of a policy, residuals.

::

    model ──► outcomes, block by block ──┬─► solution    values of all states, sweep by sweep
                                         ├─► policies    fewer sweeps where gamma is near 1
                                         └─► average     reward a step in the long run

Invariant: the outcomes are those that the simulator draws from, and no transition matrix is made.

>>> from dqlearn import envs, exact
>>> exact.solve(envs.torus(side=4), gamma=0.9).q.shape
(16, 4)
"""

from dqlearn.exact.average import AverageSolution, average_reward
from dqlearn.exact.solution import Solution, bellman_residual, policy_value, solve

__all__ = [
    "AverageSolution",
    "Solution",
    "average_reward",
    "bellman_residual",
    "policy_value",
    "solve",
]
