r"""Average reward: relative value iteration, with bounds of the gain.

In a model without ends, the gain of a policy is its expected reward a step in the long run. For any
values V, with (TV)(s) = max_a [r(s, a) + sum_s' w(s, a, s') V(s')],

.. math:: \min_s (TV - V)(s) \le g^*(s) \le \max_s (TV - V)(s)

and the greedy policy of V gains at least the left side (Odoni 1969, "On finding the maximal gain
for Markov decision processes", Operations Research 17). The iteration is

::

    V ──improve──► TV, pi, c <= TV - V <= C ──► C - c small enough? ──► gain, bias, policy
    ▲                                            │ no
    └──── V + 1/2 (TV - V), minus V(state 0) ◄───┘

A chain that has a period makes TV - V swing for ever. Half a step, which is the chain that stays
where it is half of the time, has the same gains up to the factor and no period (Schweitzer 1971,
"Iterative solution of the functional equations of undiscounted Markov renewal programming",
J. Math. Anal. Appl. 34); the bounds are those of the model itself. They never meet if states have
different gains: then the error says so. Invariant: the bounds hold after any number of sweeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from dqlearn.checks import check_count, check_number
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import ConfigurationError
from dqlearn.exact.outcomes import outcomes_of
from dqlearn.exact.policies import Sweeps
from dqlearn.text import html_table

__all__ = ["AverageSolution", "average_reward"]

_STEP = 0.5


@dataclass(frozen=True, repr=False)
class AverageSolution:
    """The optimal average reward of a model.

    Parameters
    ----------
    gain_lower, gain_upper : float
        Bounds of the optimal gain of every state, in units of reward a step. The gain of `policy`
        is at least `gain_lower`.
    bias : float64 (n_states,)
        Values relative to state 0, in units of reward.
    policy : int64 (n_states,)
        The greedy action of each state; the first where several are.
    iterations : int
        Number of sweeps made.
    """

    gain_lower: float
    gain_upper: float
    bias: npt.NDArray[np.float64]
    policy: npt.NDArray[np.int64]
    iterations: int

    @property
    def gain(self) -> float:
        """The middle of the bounds, in units of reward a step."""
        return (self.gain_lower + self.gain_upper) / 2.0

    def __repr__(self) -> str:
        """Return the gain, the size and the number of sweeps on one line."""
        return (
            f"AverageSolution(gain {self.gain:.6g} +- {self.gain_upper - self.gain:.3g}, "
            f"{len(self.bias)} states, {self.iterations} sweeps)"
        )

    def _repr_html_(self) -> str:
        """Return a table of the gain, the bias and the number of sweeps."""
        return html_table(
            "dqlearn.exact.AverageSolution",
            {
                "gain": f"{self.gain_lower:.9g} .. {self.gain_upper:.9g}",
                "bias": f"{self.bias.min():.6g} .. {self.bias.max():.6g}",
                "states": f"{len(self.bias):,}",
                "sweeps": f"{self.iterations:,}",
            },
        )


def average_reward(
    env: TabularEnv | gymnasium.Env[Any, Any],
    tolerance: float = 1e-9,
    max_iterations: int = 100_000,
    max_bytes: int = 2**31,
) -> AverageSolution:
    """Find the greatest average reward a step, and a policy that earns it.

    Parameters
    ----------
    env : TabularEnv or gymnasium.Env
        A model without ends, as for :func:`dqlearn.exact.solve`. Its time limit is ignored.
    tolerance : float, default 1e-9
        Greatest distance of the gain's bounds, in units of reward a step.
    max_iterations : int, default 100_000
        Number of sweeps after which to give up.
    max_bytes : int, default 2**31
        Memory for outcomes that are kept from one sweep to the next, in bytes.

    Returns
    -------
    AverageSolution
        The gain, within `tolerance`.

    Raises
    ------
    ConfigurationError
        If `env` cannot be enumerated, ends its episodes, or `max_iterations` sweeps are not enough,
        as where the gain depends on the state that one begins in.
    EnvironmentFault
        If the model leaves its states, or a reward is not finite.

    Examples
    --------
    A machine that earns 1 a step while it works, breaks down with chance 0.1, and is repaired with
    chance 0.4, works 0.4 / 0.5 of the time:

    >>> from dqlearn import TabularEnv, exact
    >>> def initial(key, params):
    ...     return 0
    >>> def events(broken, action, params):
    ...     return (0.4 if broken else 0.1,)
    >>> def transition(broken, action, happened, params):
    ...     return (1 - broken if happened else broken), 1.0 - broken, False
    >>> machine = TabularEnv(2, 1, initial, transition, events, n_events=1)
    >>> round(exact.average_reward(machine).gain, 9)
    0.8
    """
    check_number("tolerance", tolerance, 0)
    check_count("max_iterations", max_iterations)
    sweeps = Sweeps(outcomes_of(env, max_bytes), gamma=1.0)
    if not sweeps.endless:
        raise ConfigurationError(
            f"an average reward needs a model without ends, got {env!r}, in which a pair ends the "
            f"episode with chance {1.0 - sweeps.onward[0]:.3g}: let transition go on at an initial "
            "state, or use solve with gamma"
        )
    value, after = np.zeros(len(sweeps.policy)), np.empty(len(sweeps.policy))
    low = high = np.nan
    for iteration in range(1, max_iterations + 1):
        low, high = sweeps.improve(value, after)
        if high - low <= tolerance:
            return AverageSolution(
                low, high, value - value[0], sweeps.policy.astype(np.int64), iteration
            )
        value += _STEP * (after - value)
        value -= value[0]
    raise ConfigurationError(
        f"relative value iteration did not reach {tolerance=}: the gain is between {low:.9g} and "
        f"{high:.9g} after {max_iterations} sweeps; raise tolerance or max_iterations, or see "
        "whether all states can reach each other: else their gains may differ"
    )
