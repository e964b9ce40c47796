"""Exact solutions of small models: optimal values, the values of a policy, Bellman residuals.

>>> from dqlearn import envs, exact
>>> exact.solve(envs.torus(side=4), gamma=0.9).q.shape
(16, 4)
"""

from dqlearn.exact.solution import Solution, bellman_residual, policy_value, solve

__all__ = ["Solution", "bellman_residual", "policy_value", "solve"]
