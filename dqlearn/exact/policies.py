r"""Modified policy iteration: a sweep over all actions, then some over those of the policy.

::

    V ──improve──► TV, pi, c <= TV - V <= C ──follow, m times──► T_pi^m TV ──► V
                        └─► interval of V*: narrow enough? ──► its middle

With b- and b+ as gamma times the least and the greatest chance of a pair to go on, MacQueen's
bounds are

.. math::

    TV + b k \le V^* \le TV + B K, \qquad k = c / (1 - b), \quad K = C / (1 - B)

with b = b+ where c < 0 and b- elsewhere, B = b+ where C > 0 and b- elsewhere. Where no episode
ends, both are gamma, and what decides is C - c: it falls as fast as the chain of the policy mixes,
not as gamma does. There V is kept near 0, too, as only its differences matter, so that values of
1 / (1 - gamma) do not drown them in rounding (Puterman 1994, "Markov decision processes",
sections 6.5 and 6.6). Convergence from any V is that of optimistic policy iteration.

Invariant: a sweep reads one array and writes another, so that the order of states is of no account.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dqlearn.errors import ConfigurationError
from dqlearn.exact.outcomes import Outcomes
from dqlearn.kernels.bellman import follow, improve, weights

__all__ = ["Found", "Sweeps", "iterate_policies", "value_of_policy"]

Floats = npt.NDArray[np.float64]
Kernel = Callable[..., tuple[float, float]]

_MOST_FOLLOWED = 200
"""Sweeps of one policy at most: a policy that is not the best is not worth more."""

_SHARE = 0.1
"""Share of the range of TV - V at which a policy's own sweeps end."""

_CERTAIN = 1e-12
"""Chances that are nearer to 1 than this are 1: what is off is rounding."""


class Found(NamedTuple):
    """Values within the tolerance, sweeps over all actions, and half the last range of TV - V."""

    value: Floats
    iterations: int
    residual: float


class Sweeps:
    """Sweeps over all blocks of a model, from one array of values to another.

    Parameters
    ----------
    outcomes : Outcomes
        The outcomes of the model.
    gamma : float
        Discount factor.
    """

    def __init__(self, outcomes: Outcomes, gamma: float) -> None:
        self.outcomes, self.gamma = outcomes, gamma
        self.policy = np.zeros(outcomes.n_states, np.int32)
        ranges = [weights(block) for _, block in outcomes.blocks()]
        self.onward = min(low for low, _ in ranges), max(high for _, high in ranges)

    @property
    def endless(self) -> bool:
        """Whether no pair ends an episode."""
        return bool(self.onward[0] >= 1.0 - _CERTAIN)

    def improve(self, value: Floats, after: Floats) -> tuple[float, float]:
        """Write TV and the greedy policy; return the range of TV - V."""
        return self._made(improve, value, after)

    def follow(self, value: Floats, after: Floats) -> tuple[float, float]:
        """Write what the policy makes of values; return the range of the change."""
        return self._made(follow, value, after)

    def _made(self, kernel: Kernel, value: Floats, after: Floats) -> tuple[float, float]:
        n_actions = self.outcomes.n_actions
        ranges = [
            kernel(block, first, n_actions, self.gamma, value, after, self.policy)
            for first, block in self.outcomes.blocks()
        ]
        return float(min(low for low, _ in ranges)), float(max(high for _, high in ranges))

    def shifts(self, low: float, high: float) -> tuple[float, float]:
        """Return what V* is above TV at least and at most, of the range of TV - V."""
        least, most = (self.gamma * chance for chance in self.onward)
        if self.endless:
            least = most = self.gamma
        below, above = (most if low < 0.0 else least), (most if high > 0.0 else least)
        return below * low / (1.0 - below), above * high / (1.0 - above)


def iterate_policies(
    outcomes: Outcomes, gamma: float, tolerance: float, max_iterations: int
) -> Found:
    """Find the optimal values by modified policy iteration.

    Parameters
    ----------
    outcomes : Outcomes
        The outcomes of the model.
    gamma : float
        Discount factor, less than 1.
    tolerance : float
        Bound of the error of every value.
    max_iterations : int
        Number of sweeps over all actions after which to give up.

    Returns
    -------
    Found
        The values, the number of sweeps, and half the last range of TV - V.

    Raises
    ------
    ConfigurationError
        If gamma is 1, or the bounds are not as near to each other after so many sweeps.
    """
    _check_discount(gamma)
    sweeps = Sweeps(outcomes, gamma)
    value, after = np.zeros(outcomes.n_states), np.empty(outcomes.n_states)
    width = np.inf
    for iteration in range(1, max_iterations + 1):
        low, high = sweeps.improve(value, after)
        below, above = sweeps.shifts(low, high)
        width = (above - below) / 2.0
        if width <= tolerance:
            return Found(after + (below + above) / 2.0, iteration, (high - low) / 2.0)
        value, after = _followed(sweeps, after, value, high - low if sweeps.endless else None)
    raise ConfigurationError(
        f"policy iteration did not reach {tolerance=} with {gamma=}: the values are known within "
        f"{width:.3g} after {max_iterations} sweeps; raise tolerance or max_iterations"
    )


def value_of_policy(
    outcomes: Outcomes,
    policy: npt.NDArray[np.int64],
    gamma: float,
    tolerance: float,
    max_iterations: int,
) -> Floats:
    """Find the values of a policy, by the same bounds with its own actions in place of the best.

    Parameters
    ----------
    outcomes : Outcomes
        The outcomes of the model.
    policy : int64 (n_states,)
        The action of each state.
    gamma : float
        Discount factor, less than 1.
    tolerance : float
        Bound of the error of every value.
    max_iterations : int
        Number of sweeps after which to give up.

    Returns
    -------
    float64 (n_states,)

    Raises
    ------
    ConfigurationError
        If gamma is 1, or the bounds are not as near to each other after so many sweeps.
    """
    _check_discount(gamma)
    sweeps = Sweeps(outcomes, gamma)
    sweeps.policy[:] = policy
    value, after = np.zeros(outcomes.n_states), np.empty(outcomes.n_states)
    for _ in range(max_iterations):
        below, above = sweeps.shifts(*sweeps.follow(value, after))
        if (above - below) / 2.0 <= tolerance:
            return after + (below + above) / 2.0
        value, after = after, value
        if sweeps.endless:
            value -= value[0]
    raise ConfigurationError(
        f"the values of the policy are not known within {tolerance=} with {gamma=} after "
        f"{max_iterations} sweeps; raise tolerance or max_iterations"
    )


def _check_discount(gamma: float) -> None:
    if gamma >= 1.0:
        raise ConfigurationError(
            f"method='policies' needs gamma below 1, got {gamma}: use method='values', or "
            "exact.average_reward for a model without ends"
        )


def _followed(
    sweeps: Sweeps, value: Floats, after: Floats, range_: float | None
) -> tuple[Floats, Floats]:
    """Follow the policy until little changes; return the values, and the other array.

    With the range of TV - V, of a model without ends, differences of values count, else values.
    """
    enough = None
    for _ in range(_MOST_FOLLOWED):
        if range_ is not None:
            value -= value[0]
        low, high = sweeps.follow(value, after)
        value, after = after, value
        change = max(abs(low), abs(high)) if range_ is None else high - low
        enough = _SHARE * (change if range_ is None else range_) if enough is None else enough
        if change <= enough:
            break
    return value, after
