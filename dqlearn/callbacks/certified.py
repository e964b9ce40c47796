"""Stopping when it is proved that the greedy policy is good enough.

::

    round end, every so many ──► certify ──► policy_loss <= eps ? Stop : go on

Invariant: it stops on a proof alone, so that a run which stops here has a policy within `eps`.
"""

from __future__ import annotations

from typing import Any

import gymnasium

from dqlearn.callbacks.base import Callback, Stop
from dqlearn.certificates import Certificate, certify
from dqlearn.checks import check_count, check_positive
from dqlearn.envs.tabular import TabularEnv
from dqlearn.events import RoundEnd

__all__ = ["StopWhenCertified"]


class StopWhenCertified(Callback):
    """Stop when a certificate proves that the greedy policy loses at most `eps` in any state.

    A certificate takes one sweep over all pairs, and their outcomes: let `every` be so large that
    the rounds between two sweeps take longer than a sweep.

    Parameters
    ----------
    eps : float
        Greatest loss of the greedy policy, in units of reward; see
        :attr:`~dqlearn.Certificate.policy_loss`.
    every : int
        Number of rounds from one certificate to the next.
    env : str, TabularEnv or gymnasium.Env, optional
        The model; by default that of the learner.

    Attributes
    ----------
    certificate : Certificate or None
        The latest; None before the first.
    history : list of (int, float)
        Transitions and `policy_loss` of each certificate, in order.

    Raises
    ------
    ConfigurationError
        If `eps` or `every` is not positive.

    Examples
    --------
    >>> import dqlearn
    >>> proof = dqlearn.callbacks.StopWhenCertified(eps=0.5, every=10)
    >>> learner = dqlearn.QLearner(
    ...     "FrozenLake-v1", gamma=0.5, epsilon=1.0, env_kwargs={"is_slippery": False}, seed=0
    ... )
    >>> proof.certificate is None
    True
    >>> learner = learner.learn(2_000_000, callback=proof)
    >>> proof.certificate.policy_loss <= 0.5
    True
    """

    def __init__(
        self,
        eps: float,
        every: int,
        env: str | TabularEnv | gymnasium.Env[Any, Any] | None = None,
    ) -> None:
        self.eps = check_positive("eps", eps)
        self.every_rounds = check_count("every", every)
        self.env = env
        self.certificate: Certificate | None = None
        self.history: list[tuple[int, float]] = []

    def on_round_end(self, event: RoundEnd) -> Stop | None:  # noqa: D102  (inherited)
        self.certificate = found = certify(event.learner, self.env)
        self.history.append((event.report.timesteps, found.policy_loss))
        if found.policy_loss <= self.eps:
            return Stop(f"the policy loses at most {found.policy_loss:.3g}, within {self.eps:g}")
        return None
