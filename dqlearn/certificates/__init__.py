"""Certificates: how far a table is from the optimum at most, computed from the table and the model.

::

    table, model ──► one sweep of TQ, block by block ──► extremes of TQ - Q ──► bounds
    table, model in key form ──► samples of TQ ──► an estimate with its interval

Invariant: a bound holds for real numbers; the rounding of the sweep is part of it. What is sampled
is called an estimate.
"""

from dqlearn.certificates.certificate import Certificate
from dqlearn.certificates.certify import certify
from dqlearn.certificates.estimate import ResidualEstimate, estimate_residual

__all__ = ["Certificate", "ResidualEstimate", "certify", "estimate_residual"]
