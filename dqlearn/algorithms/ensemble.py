r"""Ensembles: N tables, each taught by environments of its own, which act on what they agree on.

.. math::

    a(s) = \arg\max_a G(Q^1(s, a), .., Q^N(s, a)), \qquad
    Q^i(s, a) \leftarrow Q^i(s, a) + \alpha \, [r + \gamma \, v^i(s') - Q^i(s, a)]

Environment e teaches member ``e % N``. With G the sum this is the master that adds the tables of N
workers; with G the minimum a state is worth what the least of its members says (Lan, Pan, Fyshe and
White 2020, "Maxmin Q-learning", ICLR). A pair that a member has never tried counts with its initial
value. Invariant: members are added, or compared, in their order, so that any chunks have the bits.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from dqlearn.algorithms.fields import Best, BestOfAll
from dqlearn.algorithms.rule import Algorithm
from dqlearn.algorithms.scores import AGGREGATES, Members, parse_ensemble
from dqlearn.checks import check_choice, check_whole
from dqlearn.errors import ConfigurationError

__all__ = ["TARGETS", "ensemble", "find_ensemble"]

TARGETS = ("own", "shared", "mean", "aggregate")
"""What a member takes a state to be worth; see :func:`ensemble`."""

_MOST = 64  # each member is a field, whose loop is unrolled


def ensemble(n: int, aggregate: str = "sum", target: str = "own") -> Algorithm:
    """Return the rule of N tables that are taught by different environments.

    Parameters
    ----------
    n : int
        Number of members, 1 .. 64.
    aggregate : str
        What is maximised when acting: ``"sum"``, ``"max"`` or ``"min"`` of the members' values, or
        the number of members that would take the action, ``"vote"``.
    target : str
        What member i takes a next state to be worth: ``"own"``, its own greatest value, so that the
        members learn alone; ``"shared"``, its value of the action that all of them would take;
        ``"mean"``, the greatest mean of all members; ``"aggregate"``, the greatest aggregate, which
        with the minimum is Maxmin Q-learning.

    Returns
    -------
    Algorithm
        Its name, ``"ensemble:n:aggregate:target"``, stands for it wherever an algorithm is named.

    Raises
    ------
    ConfigurationError
        If there is no such ensemble.

    Examples
    --------
    >>> maxmin = ensemble(4, "min", "aggregate")
    >>> maxmin.name, maxmin.members, maxmin.by_env
    ('ensemble:4:min:aggregate', 4, True)
    """
    n = check_whole("n", n, 1, _MOST)
    check_choice("aggregate", aggregate, AGGREGATES)
    check_choice("target", target, TARGETS)
    if (aggregate, target) == ("vote", "aggregate"):
        raise ConfigurationError(
            "target='aggregate' bootstraps from the aggregate, which must be a return, and votes "
            "are none: pass target='own', 'shared' or 'mean'"
        )
    return _ensemble(n, aggregate, target)


def find_ensemble(name: str) -> Algorithm | None:
    """Return the ensemble of a name; None if it is no name of one."""
    parts = parse_ensemble(name)
    if parts is None or parts[2] not in TARGETS or not 1 <= parts[0] <= _MOST:
        return None
    if parts[1:] == ("vote", "aggregate"):
        return None
    return _ensemble(*parts)


@cache
def _ensemble(n: int, aggregate: str, target: str) -> Algorithm:
    members, best = Members(n), BestOfAll if aggregate == "vote" else Best
    acting: tuple[Best, ...] = (best(members.score(aggregate)),)
    worth: Any = _of_acting
    if target == "own":
        acting += tuple(Best(members.value(i)) for i in range(n))
        worth = _of_member
    elif target == "shared":
        # A function for each field: Numba takes two inlined copies of one for each other.
        acting = tuple(best(members.score(aggregate), value=members.value(i)) for i in range(n))
        worth = _of_choice
    elif target == "mean" and aggregate != "sum":
        acting += (Best(members.score("sum")),)
        worth = _of_mean
    name = f"ensemble:{n}:{aggregate}:{target}"
    return Algorithm(name, acting, worth, members=n, by_env=True)


def _of_acting(values: Any, epsilon: Any, n_actions: Any, member: Any) -> Any:
    return values[0]


def _of_member(values: Any, epsilon: Any, n_actions: Any, member: Any) -> Any:
    return values[1 + member]


def _of_choice(values: Any, epsilon: Any, n_actions: Any, member: Any) -> Any:
    return values[member]


def _of_mean(values: Any, epsilon: Any, n_actions: Any, member: Any) -> Any:
    return values[1]
