"""Certificates: how far a table is from the optimum at most, computed from the table and the model.

::

    table, model ──► one sweep of TQ, block by block ──► extremes of TQ - Q ──► bounds

Invariant: a bound holds for real numbers; the rounding of the sweep is part of it.
"""

from dqlearn.certificates.certificate import Certificate
from dqlearn.certificates.certify import certify

__all__ = ["Certificate", "certify"]
