"""Certifying: all outcomes of all pairs, added up with a bound of the rounding.

::

    chunk, V ──► outcomes of pair after pair ──► bounds of TV, extremes of TV - V ──► certificate

A task holds one chunk, V, and the outcomes of one pair: there is no transition matrix. Invariant:
a state's bounds come from its own row and V alone, so the bits depend neither on the chunks nor on
the scheduler.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import numpy.typing as npt

from dqlearn.certificates.bounds import Extremes, add_down, add_up, rounding_unit
from dqlearn.certificates.certificate import Certificate
from dqlearn.certificates.subject import Subject
from dqlearn.certificates.sweep import About, swept
from dqlearn.envs.faces.gym_view import view_kernels
from dqlearn.envs.model_faults import check_mask
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import EnvironmentFault

__all__ = ["certify"]

Floats = npt.NDArray[np.float64]


class Part(NamedTuple):
    """Bounds of TV of some states, float64 (3, n), and their extremes, float64 (7,)."""

    bounds: Floats
    extremes: Floats


def certify(
    table: Any,
    env: str | TabularEnv | gymnasium.Env[Any, Any] | None = None,
    gamma: float | None = None,
) -> Certificate:
    """Prove how far a table is from the optimum at most.

    One sweep of Bellman's operator over all pairs, on the active ``distributed.Client`` if there is
    one, else on Dask's threads. Every outcome of every pair is enumerated; nothing is sampled.

    Parameters
    ----------
    table : QLearner, Table, xarray.Dataset or array
        The table: of a learner, as ``learner.table`` or :func:`dqlearn.open_table` gives it, or
        values of shape (n_states, n_actions).
    env : str, TabularEnv or gymnasium.Env, optional
        The environment: a model in events form, an id or an environment that stands for one, or
        one that follows its table ``P``. By default that of the learner.
    gamma : float, optional
        Discount factor, 0 .. 1. By default that of the table.

    Returns
    -------
    Certificate
        Bounds of the residual, of the distance to Q*, of the optimal value of each state and of the
        loss of the greedy policy, with the rounding of all computations in them.

    Raises
    ------
    NotEnumerableError
        If the environment can only be sampled: a model in key form, for which there is
        :func:`dqlearn.estimate_residual`, or a Python environment.
    IncompatibleTableError
        If the table has another shape than the model, is sparse, or has values that are not finite.
    ConfigurationError
        If `env` or `gamma` is missing or out of range.
    EnvironmentFault
        If the model leaves its states, or a reward is not finite.

    Notes
    -----
    A time limit is left out: it cuts episodes off, and changes no optimal value. With gamma = 1 the
    residual is all that is bounded, unless every pair may end the episode. Of an algorithm with
    several members the mean is certified, with the policy that acts on it.

    References
    ----------
    MacQueen (1966), "A modified dynamic programming method for Markovian decision problems",
    J. Math. Anal. Appl. 14. Puterman (1994), "Markov decision processes", section 6.6.

    Examples
    --------
    >>> import dqlearn
    >>> learner = dqlearn.QLearner("FrozenLake-v1", gamma=0.9, seed=0)
    >>> certificate = dqlearn.certify(learner.learn(200_000))
    >>> best = dqlearn.exact.solve(learner.model, gamma=0.9).value
    >>> bool((certificate.lower <= best).all() and (best <= certificate.upper).all())
    True
    """
    subject = Subject.of(table, env, gamma)
    parts = swept(subject, _bounded)
    return _concluded(subject, parts)


def _bounded(
    about: About,
    value: npt.NDArray[Any],
    first: int,
    q: npt.NDArray[Any],
    policy: npt.NDArray[Any] | None,
) -> Part:
    """Bound the backups of one chunk."""
    model, gamma = about
    n, n_events = 1 << model.n_events, model.n_events
    drawn = np.empty(n), np.empty(n, np.int64), np.empty(n), np.empty(n, np.bool_)
    part, discount = Part(np.empty((3, len(q))), np.empty(7)), (gamma, rounding_unit(n_events))
    chosen = None if policy is None else policy.astype(np.int64)
    state, action = view_kernels(model).bound_backups(
        *(first, n_events, discount, model.params, value, chosen),
        *(np.ascontiguousarray(q), drawn, tuple(part)),
    )
    if state >= 0:
        # This raises the error that names what is wrong.
        for _, after, _, ends in model.outcomes(state, action):
            if not ends and not model.masks([after]).any():
                check_mask(model, f"state {state}, action {action}", after)
        raise EnvironmentFault(
            f"expected outcomes of state {state}, action {action} with probabilities in 0 .. 1, "
            f"states in 0 .. {model.n_states - 1} and finite rewards: check the transition"
        )
    return part


def _concluded(subject: Subject, parts: list[Part]) -> Certificate:
    """Add to the bounds of TV what all states together say."""
    gamma = subject.gamma
    extremes = Extremes.of([part.extremes for part in parts])
    lower, upper, policy_lower = np.concatenate([part.bounds for part in parts], axis=1)
    parts.clear()  # as large as what they became
    add_down(lower, extremes.lower(gamma))
    add_up(upper, extremes.upper(gamma))
    add_down(policy_lower, extremes.lower_of_policy(gamma))
    return Certificate(
        subject.name,
        gamma,
        extremes.residual,
        extremes.rounding,
        q_error=extremes.error(gamma),
        policy_loss=math.nextafter(float((upper - policy_lower).max()), math.inf),
        lower=lower,
        upper=upper,
        policy_lower=policy_lower,
        factors=subject.model.factors,
    )
