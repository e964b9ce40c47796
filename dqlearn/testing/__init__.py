"""Checks of what users write, to be called from their tests.

::

    check_model(model)      a compiled environment: does it do what its outcomes say?
    check_rule(rule)        an algorithm: the same bits however a table is split, a good policy?
    check_store(factory)    a store of checkpoints: is what was committed there, whole, for good?

Invariant: what is right passes; a check that fails raises a `CheckError`, which says what was
expected and what it saw.
"""

from dqlearn.testing.model import check_model
from dqlearn.testing.rule import check_rule
from dqlearn.testing.store import check_store

__all__ = ["check_model", "check_rule", "check_store"]
