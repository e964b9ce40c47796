r"""An estimate of the residual, where outcomes are drawn and not listed.

Each of N pairs draws n targets y = r + gamma V(s'). With their mean, their standard
deviation sigma, and the width R of the range that targets are in,

.. math:: \bigl|\, |TQ - Q| - |\bar y - Q| \,\bigr| \le \sigma \sqrt{2 L / n} + 3 R L / n, \qquad
    L = \ln \frac{3 N}{1 - p}

holds for all pairs together with the chance p at least (Audibert, Munos and Szepesvári 2007,
"Tuning bandit algorithms in stochastic environments", ALT, for each of N pairs). ::

    chunk, V ──► n targets of each pair ──► interval of |TQ - Q| ──► the largest ends of all pairs

R is gamma times the range of V, which is known, and that of the rewards *drawn*: one that comes
once in a million steps may not be among them. So this proves nothing, and is no certificate.
Invariant: a pair has a stream of its own, so neither chunks nor scheduler change the draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from dqlearn.certificates.subject import Subject
from dqlearn.certificates.sweep import About, swept
from dqlearn.checks import check_probability, check_whole
from dqlearn.envs.faces.gym_view import view_kernels
from dqlearn.envs.model_faults import check_transition
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import ConfigurationError
from dqlearn.text import html_table

__all__ = ["ResidualEstimate", "estimate_residual"]


@dataclass(frozen=True)
class ResidualEstimate:
    """An interval for the largest residual of a table, from samples.

    Parameters
    ----------
    residual_lower, residual_upper : float
        The interval of ``max |TQ - Q|`` over all pairs, in units of reward.
    root_mean_square : float
        Estimate of the root of the mean of ``(TQ - Q)**2`` over all pairs, in units of reward.
    n_samples : int
        Number of targets drawn of each pair.
    confidence : float
        Chance that the interval has in it what it is of, if no reward is outside the range of those
        that were drawn.

    Examples
    --------
    >>> ResidualEstimate(0.1, 0.3, 0.05, 100, 0.95)
    ResidualEstimate(max |TQ - Q| in 0.1 .. 0.3 with confidence 0.95, 100 samples a pair)
    """

    residual_lower: float
    residual_upper: float
    root_mean_square: float
    n_samples: int
    confidence: float

    def __repr__(self) -> str:
        """Return the interval and the confidence on one line."""
        return (
            f"ResidualEstimate(max |TQ - Q| in {self.residual_lower:.3g} .. "
            f"{self.residual_upper:.3g} with confidence {self.confidence:g}, {self.n_samples} "
            "samples a pair)"
        )

    def _repr_html_(self) -> str:
        """Return a table of the interval."""
        return html_table(
            "dqlearn.ResidualEstimate",
            {
                "max |TQ - Q|": f"{self.residual_lower:.6g} .. {self.residual_upper:.6g}",
                "confidence": f"{self.confidence:g}",
                "root of the mean square": f"{self.root_mean_square:.6g}",
                "samples of each pair": f"{self.n_samples:,}",
            },
        )


def estimate_residual(
    table: Any,
    env: str | TabularEnv | gymnasium.Env[Any, Any] | None = None,
    gamma: float | None = None,
    *,
    n_samples: int = 1_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> ResidualEstimate:
    """Estimate how far a table is from satisfying Bellman's equation, by samples of a model.

    Where outcomes are listed, :func:`dqlearn.certify` proves more in less time.

    Parameters
    ----------
    table : QLearner, Table, xarray.Dataset or array
        The table, as for :func:`dqlearn.certify`.
    env : str, TabularEnv or gymnasium.Env, optional
        A compiled model in either form, as for :func:`dqlearn.certify`.
    gamma : float, optional
        Discount factor, 0 .. 1. By default that of the table.
    n_samples : int
        Number of targets to draw of each pair, at least 10.
    confidence : float
        Chance that the interval should have, above 0 and below 1.
    seed : int
        Seed of the draws, 0 .. 2**64 - 1.

    Returns
    -------
    ResidualEstimate

    Raises
    ------
    NotEnumerableError
        If the environment is stepped in Python: it cannot be put into every state.
    IncompatibleTableError
        If the table has another shape than the model, is sparse, or has values that are not finite.
    ConfigurationError
        If a parameter is out of range.
    EnvironmentFault
        If the model leaves its states, or a reward is not finite.

    Examples
    --------
    >>> import dqlearn
    >>> model = dqlearn.envs.torus(side=4)
    >>> values = dqlearn.exact.solve(model, gamma=0.9).q
    >>> estimate = dqlearn.estimate_residual(values, model, gamma=0.9)
    >>> estimate.residual_lower < 1e-6 < estimate.residual_upper
    True
    """
    check_whole("n_samples", n_samples, 10, 2**40)
    check_whole("seed", seed, 0, 2**64 - 1)
    if not 0.0 < check_probability("confidence", confidence) < 1.0:
        raise ConfigurationError(f"confidence must be above 0 and below 1, got {confidence}")
    subject = Subject.of(table, env, gamma, listed=False)
    parts = swept(subject, partial(_sampled, n_samples, seed))
    off, variance = (np.concatenate(column) for column in list(zip(*parts, strict=True))[:2])
    chance = math.log(3.0 * off.size / (1.0 - confidence)) / n_samples
    width = _width(subject.gamma, np.array([ranges for *_, ranges in parts]))
    radius = np.sqrt(2.0 * chance * variance) + 3.0 * chance * width
    square = float((off**2 - variance / n_samples).mean())
    return ResidualEstimate(
        max(0.0, float((np.abs(off) - radius).max())),
        float((np.abs(off) + radius).max()),
        math.sqrt(max(0.0, square)),
        n_samples,
        confidence,
    )


def _width(gamma: float, ranges: npt.NDArray[np.float64]) -> float:
    """Return the width of the range of targets, of chunks' ranges of rewards and of V."""
    low, high = ranges[:, [0, 2]].min(axis=0), ranges[:, [1, 3]].max(axis=0)
    onward = max(0.0, high[1]) - min(0.0, low[1])  # 0 is what follows an end
    return float(high[0] - low[0] + gamma * onward)


def _sampled(
    n_samples: int,
    seed: int,
    about: About,
    value: npt.NDArray[Any],
    first: int,
    q: npt.NDArray[Any],
    policy: npt.NDArray[Any] | None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], list[float]]:
    """Return the means of a chunk's targets less its values, their variances, and ranges."""
    model, gamma = about
    means, variances, rewards = np.empty(q.shape), np.empty(q.shape), np.empty(2)
    n_actions, best = q.shape[1], q.max(axis=1)
    state, action, after, reward = view_kernels(model).sample_backups(
        *(first, gamma, n_samples, np.uint64(seed), model.params, value, n_actions),
        (means, variances, rewards),
    )
    if state >= 0:
        check_transition(model, "a sample", state, action, after, reward)
    off = means - np.where(np.isneginf(q), 0.0, q)  # of pairs that are not valid 0
    best = best[np.isfinite(best)]
    return off, variances, [*rewards, float(best.min(initial=0.0)), float(best.max(initial=0.0))]
