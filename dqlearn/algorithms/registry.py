"""The rules that dqlearn brings, by their names.

Invariant: a name that is stored in a table means the same rule for ever.
"""

from __future__ import annotations

import sys

from dqlearn.algorithms.double_q import DOUBLE_Q
from dqlearn.algorithms.ensemble import find_ensemble
from dqlearn.algorithms.expected_sarsa import EXPECTED_SARSA
from dqlearn.algorithms.multi_step import find_multi_step
from dqlearn.algorithms.q_learning import Q_LEARNING
from dqlearn.algorithms.rule import Algorithm
from dqlearn.errors import ConfigurationError

__all__ = ["ALGORITHMS", "as_algorithm", "find_algorithm", "is_ours"]

ALGORITHMS = {rule.name: rule for rule in (Q_LEARNING, DOUBLE_Q, EXPECTED_SARSA)}
"""All rules of dqlearn, by name, but for those whose names have parameters, which are many."""


def is_ours(rule: Algorithm) -> bool:
    """Whether a rule is one of dqlearn's own."""
    return _find_ours(rule.name) == rule


def _find_ours(name: str) -> Algorithm | None:
    """Return the rule of dqlearn's that a name means, if it means one."""
    return ALGORITHMS.get(name) or find_ensemble(name) or find_multi_step(name)


def as_algorithm(given: str | Algorithm) -> Algorithm:
    """Return the rule that is given itself, or by its name.

    Parameters
    ----------
    given : str or Algorithm
        A name of :data:`ALGORITHMS`, of an ensemble or of a multi-step rule; or a rule.

    Returns
    -------
    Algorithm

    Raises
    ------
    ConfigurationError
        If `given` is neither.

    Examples
    --------
    >>> as_algorithm("double_q").members
    2
    """
    if isinstance(given, Algorithm):
        return given
    named = _find_ours(given) if isinstance(given, str) else None
    if named is None:
        raise ConfigurationError(
            f"algorithm must be one of {', '.join(map(repr, ALGORITHMS))}, 'n_step:N', "
            "'watkins:LAMBDA:N', 'peng:LAMBDA:N', 'tree_backup:N', "
            f"'ensemble:N:AGGREGATE:TARGET', or an Algorithm, got {given!r}"
        )
    return named


def find_algorithm(name: str) -> Algorithm:
    """Return the rule that a stored table names: ours, or one in a module that is imported already.

    Nothing is imported, and none of the module's code is run, because a table says so.

    Parameters
    ----------
    name : str
        A name of :data:`ALGORITHMS`, of an ensemble or of a multi-step rule; or
        ``"module:NAME"``.

    Returns
    -------
    Algorithm

    Raises
    ------
    ValueError
        If there is no such rule here.
    """
    if (ours := _find_ours(name)) is not None:
        return ours
    module, _, attribute = name.partition(":")
    found = vars(sys.modules[module]).get(attribute) if module in sys.modules else None
    if isinstance(found, Algorithm):
        return found
    raise ValueError(
        f"expected an algorithm of dqlearn's, or one in a module that is imported, got {name!r}: "
        "import the module that declares it before"
    )
