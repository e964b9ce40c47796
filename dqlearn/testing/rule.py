"""Check of a rule, to be called from its tests.

::

    check_rule(rule) ─► one small model, learned with many splits ─► the same bits
                     └► exploring less and less ─► the greedy policy is as good as the best there is

The splits are those that a cluster, or a large table, would make: chunks of states and of actions,
shards, both exchanges, a sparse table. Invariant: nothing is judged by chance: the runs are seeded.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from dqlearn.algorithms import Algorithm, as_algorithm
from dqlearn.checks import check_count
from dqlearn.envs.problems.torus import torus
from dqlearn.errors import CheckError
from dqlearn.exact import policy_value, solve
from dqlearn.learner.q_learner import QLearner
from dqlearn.schedules import Linear, VisitCount
from dqlearn.table.views.sparse import SparseTable

__all__ = ["check_rule"]

_SIDE, _GAMMA = 6, 0.95
_TOLERANCE = 0.02  # of the span of the values: what a greedy policy may lose
_BATCHED: dict[str, Any] = {"num_envs": 192, "steps_per_round": 4, "shards": 1}
_STEPPED = _BATCHED | {"steps_per_round": 1, "policy_lag": 1}


def check_rule(
    rule: str | Algorithm, timesteps: int = 200_000, seed: int = 0, *, optimal: bool = True
) -> None:
    """Check that a rule learns the same however a table is split, and that it learns well.

    Parameters
    ----------
    rule : str or Algorithm
        The rule.
    timesteps : int
        Transitions to learn from until the policy is judged.
    seed : int
        Seed of all runs.
    optimal : bool
        Whether its greedy policy must come to be optimal, once nothing is explored any more. False
        for rules that aim at something else.

    Raises
    ------
    CheckError
        If two splits give two results, a value is not finite, or the policy falls short.
    ConfigurationError
        If `rule` is no rule, or `timesteps` no count.

    Examples
    --------
    >>> from dqlearn.testing import check_rule
    >>> check_rule("double_q", timesteps=100_000)
    """
    rule, timesteps = as_algorithm(rule), check_count("timesteps", timesteps)
    _check_cuts(rule, _BATCHED, _cuts(rule), seed)
    exchanges = _EXCHANGES if rule.returns is None else {}  # returns are learned by broadcast alone
    _check_cuts(rule, _STEPPED, {**_cuts(rule), **exchanges}, seed)
    if optimal:
        _check_policy(rule, timesteps, seed)


_EXCHANGES: dict[str, dict[str, Any]] = {
    "exchange='gather'": {"exchange": "gather"},
    "sparse=True": {"exchange": "gather", "sparse": True, "chunks": 3},
}


def _cuts(rule: Algorithm) -> dict[str, dict[str, Any]]:
    """Return settings that must not change a bit, by descriptions of them."""
    cuts: dict[str, dict[str, Any]] = {
        "chunks of states": {"chunks": (7, -1)},
        "three shards": {"shards": 3},
    }
    if rule.splits_actions:
        cuts["chunks of states and actions"] = {"chunks": ((20, 16), (1, 3))}
    return cuts


def _check_cuts(
    rule: Algorithm, settings: dict[str, Any], cuts: dict[str, dict[str, Any]], seed: int
) -> None:
    common = {**settings, "gamma": _GAMMA, "algorithm": rule, "seed": seed}
    whole = _learned(common | {"exchange": "broadcast", "chunks": -1})
    for what, change in cuts.items():
        if _learned(common | change) != whole:
            raise CheckError(
                f"{rule.name!r}: expected the same bits with {what} as with a table in one piece, "
                "got others: a score or a term looks at more than the state and the action that "
                "it is asked about, or a field cannot be merged"
            )


def _learned(settings: dict[str, Any]) -> str:
    """Return the hash of what is learned in some rounds."""
    learner = QLearner(torus(_SIDE), **settings).learn(20 * 192)
    table = learner.table
    states = table.states if isinstance(table, SparseTable) else np.arange(_SIDE**2)
    q, visits = table.q.compute(), table.visits.compute()
    if not np.isfinite(q).all():
        raise CheckError(f"expected finite values, got {q[~np.isfinite(q)][:3]} with {settings}")
    seen = visits.reshape(len(states), -1).any(axis=1)
    parts = (states[seen], q[seen], visits[seen])
    return hashlib.sha256(b"".join(np.ascontiguousarray(it).tobytes() for it in parts)).hexdigest()


def _check_policy(rule: Algorithm, timesteps: int, seed: int) -> None:
    """Compare the greedy policy with the best one, exactly."""
    model = torus(_SIDE)
    exploration = Linear(1.0, 0.0, over=timesteps)
    settings: dict[str, Any] = {"num_envs": 64, "steps_per_round": 4, "gamma": _GAMMA}
    settings |= {"epsilon": exploration, "learning_rate": VisitCount(0.7)}
    learner = QLearner(model, **settings, algorithm=rule, seed=seed).learn(timesteps)
    best, policy = solve(model, _GAMMA).value, learner.table.policy.compute()
    loss = float(np.subtract(best, policy_value(model, policy, _GAMMA)).max())
    most = _TOLERANCE * float(np.ptp(best))
    if loss > most:
        raise CheckError(
            f"{rule.name!r}: expected a greedy policy that loses at most {most:.3g} in any state "
            f"of a walk on a torus after {timesteps} transitions, got one that loses {loss:.3g}: "
            "pass more timesteps if it learns slowly, or optimal=False if it aims elsewhere"
        )
