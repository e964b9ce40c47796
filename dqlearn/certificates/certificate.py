r"""A certificate: what is proved of a table, as numbers and as one interval a state.

::

    policy_lower(s) <= V^pi(s) <= V*(s) <= upper(s)          lower(s) <= V*(s)
    policy_loss = max_s  upper(s) - policy_lower(s)          q_error: no entry of Q is farther off

Invariant: a certificate is a fact about one table and one model, and holds no part of either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from dqlearn.spaces import Factor
from dqlearn.table.views.axes import factors_to_json
from dqlearn.text import html_table

__all__ = ["Certificate"]

_VARIABLES = {
    "lower": "optimal value, bound from below",
    "upper": "optimal value, bound from above",
    "policy_lower": "value of the greedy policy, bound from below",
}


@dataclass(frozen=True, eq=False, repr=False)
class Certificate:
    """Proved bounds of a table's distance from the optimum, rounding included.

    Made by :func:`dqlearn.certify`.

    Parameters
    ----------
    env : str
        Name of the model.
    gamma : float
        Discount factor that the bounds are for.
    residual : float
        Bound of ``max |TQ - Q|`` over all pairs, in units of reward.
    rounding : float
        The part of rounding errors in it, at most, in units of reward.
    q_error : float
        Bound of ``max |Q - Q*|`` over all pairs, in units of reward; infinite where there is none.
    policy_loss : float
        Bound of what the greedy policy is worth less than the best one, in the state where that is
        most, in units of reward. However ties are broken.
    lower, upper : float64 (n_states,)
        Bounds of the optimal value of each state, in units of reward.
    policy_lower : float64 (n_states,)
        Bound from below of what the greedy policy is worth in each state, in units of reward.
    factors : tuple of Factor
        Factors of a state, for :meth:`to_xarray`.

    Examples
    --------
    >>> zeros = np.zeros(2)
    >>> Certificate("walk", 0.5, 1.0, 1e-16, 2.0, 2.5, zeros, zeros + 2.0, zeros - 0.5)
    Certificate('walk': 2 states, gamma 0.5, residual 1, |Q - Q*| <= 2, policy loss <= 2.5)
    """

    env: str
    gamma: float
    residual: float
    rounding: float
    q_error: float
    policy_loss: float
    lower: npt.NDArray[np.float64]
    upper: npt.NDArray[np.float64]
    policy_lower: npt.NDArray[np.float64]
    factors: tuple[Factor, ...] = ()

    @property
    def n_states(self) -> int:
        """Number of states."""
        return len(self.lower)

    @property
    def width(self) -> float:
        """Width of the widest interval of an optimal value, in units of reward."""
        return float((self.upper - self.lower).max())

    def to_xarray(self) -> xr.Dataset:
        """Return the bounds as a Dataset.

        Returns
        -------
        xarray.Dataset
            ``lower``, ``upper`` and ``policy_lower`` over state, in units of reward; the numbers as
            attributes. :func:`dqlearn.unfold` gives it one dimension per factor of the state.
        """
        variables = {
            name: ("state", getattr(self, name), {"long_name": told, "units": "reward"})
            for name, told in _VARIABLES.items()
        }
        factors = self.factors or (Factor("state", self.n_states, None),)
        numbers = ("gamma", "residual", "rounding", "q_error", "policy_loss")
        attrs = {name: getattr(self, name) for name in numbers}
        attrs |= {"model": self.env, "state_factors": factors_to_json(factors)}
        return xr.Dataset(variables, attrs=attrs)

    def __repr__(self) -> str:
        """Return the size and the three numbers on one line."""
        return (
            f"Certificate({self.env!r}: {self.n_states} states, gamma {self.gamma:g}, "
            f"residual {self.residual:.3g}, |Q - Q*| <= {self.q_error:.3g}, "
            f"policy loss <= {self.policy_loss:.3g})"
        )

    def _repr_html_(self) -> str:
        """Return a table of the numbers and of the range of the bounds."""
        return html_table(
            "dqlearn.Certificate",
            {
                "model": f"{self.env}, {self.n_states:,} states",
                "gamma": f"{self.gamma:g}",
                "residual": f"{self.residual:.6g}, of which rounding {self.rounding:.3g}",
                "|Q - Q*|": f"at most {self.q_error:.6g}",
                "policy loses": f"at most {self.policy_loss:.6g}",
                "optimal values": f"{self.lower.min():.6g} .. {self.upper.max():.6g}",
                "widest interval": f"{self.width:.6g}",
            },
        )
