r"""Exact solution: value iteration over the outcomes of a model, enumerated.

States s, actions a, and outcomes k of a pair with probability p_k, reward r_k, next state s_k, and
t_k = 1 where they terminate. The operator

.. math:: (TQ)(s, a) = \sum_k p_k \, [r_k + \gamma (1 - t_k) \max_{a'} Q(s_k, a')]

is a contraction by gamma in the largest norm, with the fixed point Q*. It is swept in place, state
after state (Gauss-Seidel), forwards and backwards in turn. With v the values before a sweep and v'
after it, the iteration stops when the residual ``max |v' - v|`` has

    gamma / (1 - gamma) * residual <= tolerance        (gamma < 1),

which bounds the error of every value, and of every entry of Q, by `tolerance`; for gamma = 1, where
there is no such bound, when residual <= tolerance. A time limit truncates, and so it does not
change Q*.

::

    block of states ──tabulate──► expected rewards, weighted successors ──sweep──► values ──T──► Q

Memory: :mod:`dqlearn.exact.outcomes` says which blocks are kept; besides them 12 bytes a state, and
Q at the end. Invariant: no sweep depends on where blocks end or whether they are kept, so
`max_bytes` does not change a bit of the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from dqlearn.checks import check_choice, check_count, check_number
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import ConfigurationError
from dqlearn.exact.outcomes import Outcomes, outcomes_of
from dqlearn.exact.policies import Found, iterate_policies, value_of_policy
from dqlearn.kernels.bellman import backup_rows, sweep
from dqlearn.text import html_table

__all__ = ["Solution", "bellman_residual", "policy_value", "solve"]

MAX_BYTES = 2**31
METHODS = ("values", "policies")


@dataclass(frozen=True, repr=False)
class Solution:
    """Optimal values of a model.

    Parameters
    ----------
    q : float64 (n_states, n_actions)
        Action values Q*; minus infinity where an action is not valid.
    value : float64 (n_states,)
        Optimal state values, the maximum of `q` over the actions; 0 where none is valid.
    policy : int64 (n_states,)
        The action with the greatest value; the first where several have it.
    iterations : int
        Number of sweeps made.
    residual : float
        Largest change of a value in the last sweep; with the method "policies" half the range of
        the changes.
    """

    q: npt.NDArray[np.float64]
    value: npt.NDArray[np.float64]
    policy: npt.NDArray[np.int64]
    iterations: int
    residual: float

    def __repr__(self) -> str:
        """Return the size, the number of sweeps and the residual on one line."""
        n_states, n_actions = self.q.shape
        return (
            f"Solution({n_states} states x {n_actions} actions, {self.iterations} sweeps, "
            f"residual {self.residual:.3g})"
        )

    def _repr_html_(self) -> str:
        """Return a table of the size, the values, the number of sweeps and the residual."""
        return html_table(
            "dqlearn.exact.Solution",
            {
                "q": "{:,} states x {:,} actions".format(*self.q.shape),
                "values": f"{self.value.min():.6g} .. {self.value.max():.6g}",
                "mean value": f"{self.value.mean():.6g}",
                "sweeps": f"{self.iterations:,}",
                "residual": f"{self.residual:.3g}",
            },
        )


def solve(
    env: TabularEnv | gymnasium.Env[Any, Any],
    gamma: float,
    tolerance: float = 1e-9,
    max_iterations: int = 100_000,
    max_bytes: int = MAX_BYTES,
    method: str = "values",
) -> Solution:
    """Find the optimal action values.

    Parameters
    ----------
    env : TabularEnv or gymnasium.Env
        A model in events form, an environment made of one, or one that has a table
        ``P[state][action] = [(probability, next_state, reward, terminated), ...]`` as Gymnasium's
        FrozenLake, CliffWalking and Taxi do. Wrappers around it are ignored.
    gamma : float
        Discount factor, 0 .. 1.
    tolerance : float, default 1e-9
        Bound of the error of every value; see the stopping rule in the module's description.
    max_iterations : int, default 100_000
        Number of sweeps after which to give up.
    max_bytes : int, default 2**31
        Memory for outcomes that are kept from one sweep to the next, in bytes.
    method : {"values", "policies"}
        Value iteration, or modified policy iteration, which takes far fewer sweeps where gamma is
        near 1 and episodes do not end; see :mod:`dqlearn.exact.policies`.

    Returns
    -------
    Solution
        The values, within `tolerance`.

    Raises
    ------
    ConfigurationError
        If `env` cannot be enumerated, a parameter is out of range, or `max_iterations` sweeps are
        not enough (with gamma = 1, values may be infinite).
    EnvironmentFault
        If the model leaves its states, or a reward is not finite.

    Examples
    --------
    >>> import gymnasium
    >>> from dqlearn import exact
    >>> solution = exact.solve(gymnasium.make("CliffWalking-v1"), gamma=1.0)
    >>> float(solution.value[36])
    -13.0
    """
    outcomes = outcomes_of(env, max_bytes)
    gamma = _checked(gamma, tolerance, max_iterations)
    if check_choice("method", method, METHODS) == "policies":
        found = iterate_policies(outcomes, gamma, tolerance, max_iterations)
    else:
        found = Found(*_iterate(outcomes, None, gamma, tolerance, max_iterations))
    value, iterations, residual = found
    q = _apply(outcomes, gamma, value)
    return Solution(q, _worth(q), q.argmax(axis=1), iterations, residual)


def policy_value(
    env: TabularEnv | gymnasium.Env[Any, Any],
    policy: npt.ArrayLike,
    gamma: float,
    tolerance: float = 1e-9,
    max_iterations: int = 100_000,
    max_bytes: int = MAX_BYTES,
    method: str = "values",
) -> npt.NDArray[np.float64]:
    """Find the values of a deterministic policy.

    Parameters
    ----------
    env : TabularEnv or gymnasium.Env
        The model or environment, as for `solve`.
    policy : int (n_states,)
        The action of each state.
    gamma : float
        Discount factor, 0 .. 1.
    tolerance : float, default 1e-9
        Bound of the error of every value, as for `solve`.
    max_iterations : int, default 100_000
        Number of sweeps after which to give up.
    max_bytes : int, default 2**31
        Memory for outcomes that are kept from one sweep to the next, in bytes.
    method : {"values", "policies"}
        As for `solve`; of the policy all sweeps are its own.

    Returns
    -------
    float64 (n_states,)
        Expected discounted return from each state, within `tolerance`.

    Raises
    ------
    ConfigurationError
        As for `solve`; also if `policy` does not have one action for each state.
    EnvironmentFault
        If the model leaves its states, or a reward is not finite.

    Examples
    --------
    >>> import gymnasium
    >>> from dqlearn import exact
    >>> env = gymnasium.make("FrozenLake-v1")
    >>> best = exact.solve(env, gamma=0.9)
    >>> bool(abs(exact.policy_value(env, best.policy, gamma=0.9) - best.value).max() < 1e-8)
    True
    """
    outcomes = outcomes_of(env, max_bytes)
    actions = np.asarray(policy)
    inside = actions.shape == (outcomes.n_states,) and actions.dtype.kind in "iu"
    if not inside or ((actions < 0) | (actions >= outcomes.n_actions)).any():
        raise ConfigurationError(
            f"policy must be {outcomes.n_states} integers in 0 .. {outcomes.n_actions - 1}, "
            f"got {policy!r}"
        )
    gamma, actions = _checked(gamma, tolerance, max_iterations), actions.astype(np.int64)
    if check_choice("method", method, METHODS) == "policies":
        return value_of_policy(outcomes, actions, gamma, tolerance, max_iterations)
    return _iterate(outcomes, actions, gamma, tolerance, max_iterations)[0]


def bellman_residual(
    q: npt.ArrayLike,
    env: TabularEnv | gymnasium.Env[Any, Any],
    gamma: float,
) -> float:
    """Measure how far action values are from satisfying Bellman's equation.

    Parameters
    ----------
    q : float (n_states, n_actions)
        Action values.
    env : TabularEnv or gymnasium.Env
        The model or environment, as for `solve`.
    gamma : float
        Discount factor, 0 .. 1.

    Returns
    -------
    float
        ``max |TQ - Q|``; for gamma < 1, Q is within ``1 / (1 - gamma)`` times this of Q*.

    Raises
    ------
    ConfigurationError
        If `q` has another shape, or in the cases of `solve`.
    EnvironmentFault
        If the model leaves its states, or a reward is not finite.

    Examples
    --------
    >>> import gymnasium
    >>> from dqlearn import exact
    >>> exact.bellman_residual(np.zeros((16, 4)), gymnasium.make("FrozenLake-v1"), gamma=0.9)
    0.333...
    """
    outcomes = outcomes_of(env, max_bytes=0)
    try:
        q = np.asarray(q, np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"q must be an array of numbers, got {q!r}") from error
    if q.shape != (outcomes.n_states, outcomes.n_actions):
        raise ConfigurationError(
            f"q must have shape ({outcomes.n_states}, {outcomes.n_actions}), got {q.shape}"
        )
    gamma = check_number("gamma", gamma, 0, 1)
    backed_up = _apply(outcomes, gamma, _worth(q))
    valid = ~np.isneginf(backed_up)
    return float(np.abs(backed_up[valid] - q[valid]).max())


def _worth(q: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the value of each state: its greatest, or 0 where no action is valid."""
    best: npt.NDArray[np.float64] = q.max(axis=1)
    return np.where(np.isneginf(best), 0.0, best)


def _checked(gamma: float, tolerance: float, max_iterations: int) -> float:
    """Check what both methods take; return gamma."""
    check_count("max_iterations", max_iterations)
    check_number("tolerance", tolerance, 0)
    return check_number("gamma", gamma, 0, 1)


def _iterate(
    outcomes: Outcomes,
    policy: npt.NDArray[np.int64] | None,
    gamma: float,
    tolerance: float,
    max_iterations: int,
) -> tuple[npt.NDArray[np.float64], int, float]:
    """Sweep until the stopping rule holds; return the values, the sweeps and the residual."""
    factor = gamma / (1.0 - gamma) if gamma < 1.0 else 1.0
    value = np.zeros(outcomes.n_states)
    residual = np.inf
    for iteration in range(max_iterations):
        backward = iteration % 2 == 1
        changes = [
            sweep(block, first, outcomes.n_actions, policy, gamma, value, backward)
            for first, block in outcomes.blocks(backward)
        ]
        residual = float(np.max(changes))
        if factor * residual <= tolerance:
            return value, iteration + 1, residual
    raise ConfigurationError(
        f"value iteration did not reach {tolerance=} with {gamma=}: the residual is {residual} "
        f"after {max_iterations} sweeps; raise tolerance or max_iterations, lower gamma, or, with "
        "gamma below 1, use method='policies'"
    )


def _apply(
    outcomes: Outcomes, gamma: float, value: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return TQ for a Q whose maxima are `value`."""
    q = np.empty((outcomes.n_states, outcomes.n_actions))
    for first, block in outcomes.blocks():
        backup_rows(block, gamma, value, q[first:].ravel())
    return q
