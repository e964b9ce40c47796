"""Algorithms: what one tabular rule learns, and in what it differs from another, as declarations.

::

    rule             what a declaration has        fields       what a chunk says of its states
    q_learning       Q-learning, the default       registry     rules by their names
    double_q         two tables, one values what the other chooses
    expected_sarsa   the value of the policy that explores
    ensemble         many tables, and what they agree on
    multi_step       targets of several rewards           returns      how they are made
    scores           what is greedy, for whoever only reads a table

Names are imported when they are first asked for, since scores need no Numba. Invariant: a rule is
one file; besides it only the registry and its score name it.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
