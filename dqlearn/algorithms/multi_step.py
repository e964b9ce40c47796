r"""Multi-step rules: Q-learning whose targets look at several rewards before they bootstrap.

.. math::

    Q(s_t, a_t) \leftarrow Q(s_t, a_t) + \alpha \, [G_t - Q(s_t, a_t)], \qquad
    G_t = r_{t+1} + \gamma \, [(1 - l_{t+1}) \max_a Q(s_{t+1}, a) + l_{t+1} \, G_{t+1}]

over windows of n transitions; see :mod:`dqlearn.algorithms.returns`. News of a reward travels up to
n states back at once. Watkins (1989, "Learning from Delayed Rewards"), Peng and Williams (1996,
"Incremental Multi-Step Q-Learning", Machine Learning 22), Precup, Sutton and Singh (2000,
"Eligibility Traces for Off-Policy Policy Evaluation", ICML); Sutton and Barto (2018), chapters 7
and 12. Invariant: a window of one transition is Q-learning, to the bit.
"""

from __future__ import annotations

from functools import cache

from dqlearn.algorithms.q_learning import Q_LEARNING
from dqlearn.algorithms.returns import MOST_STEPS, Returns, parse_returns
from dqlearn.algorithms.rule import Algorithm
from dqlearn.checks import check_choice, check_number, check_whole

__all__ = ["find_multi_step", "n_step", "q_lambda", "tree_backup"]


def n_step(n: int) -> Algorithm:
    """Return n-step Q-learning, uncorrected: n rewards, then the best action's value.

    Parameters
    ----------
    n : int
        Rewards in a return, 1 .. 1024.

    Returns
    -------
    Algorithm
        Its name, ``"n_step:n"``, stands for it wherever an algorithm is named.

    Raises
    ------
    ConfigurationError
        If `n` is out of range.

    Examples
    --------
    >>> n_step(4).name
    'n_step:4'
    """
    return _rule(Returns(check_whole("n", n, 1, MOST_STEPS)))


def q_lambda(lambda_: float, n: int, cut: str = "watkins") -> Algorithm:
    """Return Q(lambda): a mean of returns of all lengths, in windows of n transitions.

    Parameters
    ----------
    lambda_ : float
        Weight of the longer returns, 0 .. 1.
    n : int
        Longest return, 1 .. 1024.
    cut : str
        ``"watkins"`` ends a return where an action is not greedy by value, so that nothing of the
        exploring policy is learned; ``"peng"`` goes on, and learns faster something in between.

    Returns
    -------
    Algorithm
        Its name, ``"watkins:lambda:n"`` or ``"peng:lambda:n"``, stands for it wherever an algorithm
        is named.

    Raises
    ------
    ConfigurationError
        If there is no such rule.

    Examples
    --------
    >>> q_lambda(0.9, 16).name
    'watkins:0.9:16'
    """
    lambda_ = float(check_number("lambda_", lambda_, 0.0, 1.0))
    n = check_whole("n", n, 1, MOST_STEPS)
    cut = check_choice("cut", cut, ("watkins", "peng"))
    return _rule(Returns(n, lambda_, "greedy" if cut == "watkins" else "every"))


def tree_backup(n: int) -> Algorithm:
    """Return tree backup of the greedy policy, which draws one of the tied actions.

    Parameters
    ----------
    n : int
        Depth of the tree, 1 .. 1024.

    Returns
    -------
    Algorithm
        Its name, ``"tree_backup:n"``, stands for it wherever an algorithm is named.

    Raises
    ------
    ConfigurationError
        If `n` is out of range.

    Notes
    -----
    A return weighs what follows an action by the chance of that action under the policy that is
    learned, and the other actions by their values. Of a greedy policy these are equal, and the
    equation is that of :mod:`dqlearn.algorithms.returns` with l = 1 / (number of tied actions).

    Examples
    --------
    >>> tree_backup(4).name
    'tree_backup:4'
    """
    return _rule(Returns(check_whole("n", n, 1, MOST_STEPS), trace="shared"))


def find_multi_step(name: str) -> Algorithm | None:
    """Return the multi-step rule of a name; None if it is no name of one."""
    returns = parse_returns(name)
    return None if returns is None else _rule(returns)


@cache
def _rule(returns: Returns) -> Algorithm:
    return Algorithm(returns.name, Q_LEARNING.summary, Q_LEARNING.target, returns=returns)
