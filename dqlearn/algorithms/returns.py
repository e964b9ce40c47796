r"""Returns: how far ahead of a transition its target looks, as a declaration.

.. math::

    G_t = r_{t+1} + \gamma \, [(1 - l_{t+1}) \, v_{t+1} + l_{t+1} \, G_{t+1}]

over a window of at most n transitions of one environment, whose last :math:`l` is 0. What a state
is worth, v, is the target of the rule; the trace l says how much of what follows is believed:

========  =====================================  ============================================
trace     l                                      rule
========  =====================================  ============================================
every     lambda                                 n-step (lambda 1), Peng's Q(lambda)
greedy    lambda where the action is greedy      Watkins's Q(lambda)
shared    the same, over the number of ties      tree backup of the policy that is learned
========  =====================================  ============================================

Invariant: a name that is stored in a table means the same returns for ever.
"""

from __future__ import annotations

from dataclasses import dataclass

from dqlearn.checks import check_choice, check_number, check_whole
from dqlearn.errors import ConfigurationError

__all__ = ["MOST_STEPS", "TRACES", "Returns", "parse_returns"]

TRACES = ("every", "greedy", "shared")
"""What the next actions of a window must be, so that what follows them counts."""

MOST_STEPS = 1024
"""Longest window: each environment keeps so many transitions."""


@dataclass(frozen=True)
class Returns:
    """The returns that a rule learns from.

    Parameters
    ----------
    n_steps : int
        Longest window, in transitions, 1 .. 1024.
    lambda_ : float
        Weight of what follows the next action, 0 .. 1; 1 is all of it.
    trace : str
        Whether it counts after any next action, ``"every"``; only after those that are greedy by
        value, ``"greedy"``, tied ones included; or, ``"shared"``, after these with the chance that
        a policy has that draws one of the tied actions.

    Raises
    ------
    ConfigurationError
        If a parameter is out of range.

    Examples
    --------
    >>> Returns(4)
    Returns(n_steps=4, lambda_=1.0, trace='every')
    """

    n_steps: int
    lambda_: float = 1.0
    trace: str = "every"

    def __post_init__(self) -> None:
        """Check the parameters."""
        check_whole("n_steps", self.n_steps, 1, MOST_STEPS)
        check_number("lambda_", self.lambda_, 0.0, 1.0)
        check_choice("trace", self.trace, TRACES)

    @property
    def name(self) -> str:
        """The name of the rule that is Q-learning but for these returns."""
        if self.trace == "shared":
            return f"tree_backup:{self.n_steps}"
        if self.trace == "every" and self.lambda_ == 1.0:
            return f"n_step:{self.n_steps}"
        who = "peng" if self.trace == "every" else "watkins"
        return f"{who}:{self.lambda_!r}:{self.n_steps}"


def parse_returns(name: str) -> Returns | None:
    """Return the returns in the name of a rule; None if it has none.

    Parameters
    ----------
    name : str
        A name such as ``"n_step:4"``, ``"watkins:0.9:16"``, ``"peng:0.9:16"`` or
        ``"tree_backup:4"``.

    Returns
    -------
    Returns, optional

    Examples
    --------
    >>> parse_returns("watkins:0.9:16")
    Returns(n_steps=16, lambda_=0.9, trace='greedy')
    """
    kind, *numbers = name.split(":")
    try:
        if kind in ("n_step", "tree_backup"):
            (n,) = numbers
            return Returns(int(n), trace="every" if kind == "n_step" else "shared")
        if kind in ("watkins", "peng"):
            lambda_, n = numbers
            return Returns(int(n), float(lambda_), "greedy" if kind == "watkins" else "every")
    except (ValueError, ConfigurationError):
        return None
    return None
