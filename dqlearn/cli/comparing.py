"""Baselines for a learned policy: rules that people use, and random actions.

::

    id, arguments ──► the network's baselines ─┐
                                               ├─► the same episodes ──► mean returns
    a compiled model ──► random actions ───────┘

Invariant: whatever is compared plays episodes that begin alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from dqlearn.envs.play import random_valid
from dqlearn.envs.registry import problem
from dqlearn.envs.tabular import TabularEnv
from dqlearn.stages.evaluation import EvaluationResult
from dqlearn.stages.reference_policy import evaluate_policy

__all__ = ["compared", "echo_comparison"]


def compared(
    model: TabularEnv | None, env: str, kwargs: Mapping[str, Any], n_episodes: int
) -> dict[str, EvaluationResult]:
    """Play the best baseline, if there is one, and random actions.

    Parameters
    ----------
    model : TabularEnv, optional
        The environment; without one nothing is played.
    env : str
        The environment's id.
    kwargs : mapping of str to object
        The environment's arguments.
    n_episodes : int
        Number of episodes.

    Returns
    -------
    dict of str to EvaluationResult
        Results by the names of the policies, the best baseline before random actions.
    """
    if model is None:
        return {}
    network = problem(env, kwargs)
    rules = network.baselines() if network else {}
    results = {name: evaluate_policy(model, rule, n_episodes) for name, rule in rules.items()}
    best = max(results, key=lambda name: results[name].mean, default=None)
    played = {f"best baseline ({best})": results[best]} if best else {}
    return played | {"random": evaluate_policy(model, _random(model), n_episodes)}


def _random(model: TabularEnv) -> Any:
    """Return a policy that draws one of the valid actions."""
    rng = np.random.default_rng(0)

    def policy(states: npt.NDArray[np.int64], t: int) -> npt.NDArray[np.int64]:
        if model.valid is None:
            return rng.integers(model.n_actions, size=len(states))
        return random_valid(rng, model.masks(states))

    return policy


def echo_comparison(learned: EvaluationResult, others: Mapping[str, EvaluationResult]) -> None:
    """Print mean returns beside each other."""
    if others:
        parts = {"learned": learned, **others}
        click.echo(" | ".join(f"{name} {result.mean:,.4g}" for name, result in parts.items()))
