"""Faults of models: errors about what their functions returned.

::

    a kernel ──► (environment, state, action, next_state, reward) ──► the error that names it
                    BEGINNING, NO_ACTION ┘  └ IMPOSSIBLE

Invariant: kernels only notice that something is wrong; the message is made here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dqlearn.envs.model import Model
from dqlearn.errors import ActionMaskError, ProbabilityError, RewardError, StateRangeError
from dqlearn.kernels.codes import BEGINNING, IMPOSSIBLE, NO_ACTION

__all__ = [
    "check_events",
    "check_initial",
    "check_mask",
    "check_outcome",
    "check_transition",
]


def check_initial(state: int, n_states: int, who: str = "") -> None:
    """Raise if an initial state is outside the model's range.

    Parameters
    ----------
    state : int
        What ``initial`` returned.
    n_states : int
        Number of states of the model.
    who : str, optional
        The environment that begins there, for the message.

    Raises
    ------
    StateRangeError
        If the state is out of range.
    """
    if not 0 <= state < n_states:
        whose = f" for {who}" if who else ""
        raise StateRangeError(
            f"initial() must return a state in 0 .. {n_states - 1}, got {state}{whose}"
        )


def check_events(env: Model, state: int, action: int) -> None:
    """Raise if a probability of the events of a pair is outside 0 .. 1.

    Parameters
    ----------
    env : Model
        The model.
    state, action : int
        The pair.

    Raises
    ------
    ProbabilityError
        If a probability is outside 0 .. 1.
    """
    for k, p in enumerate(env.kernels.events(state, action, env.params)):
        if not 0.0 <= p <= 1.0:
            raise ProbabilityError(
                f"a probability must be in 0 .. 1, got {p} of event {k} in state {state}, "
                f"action {action}: check events"
            )


def check_transition(
    env: Model, who: str, state: int, action: int, next_state: int, reward: float
) -> None:
    """Raise the error that names what is wrong with a transition, if anything is.

    Parameters
    ----------
    env : Model
        The model.
    who : str
        The environment that made the transition, for the message.
    state, action, next_state : int
        The pair and the next state.
    reward : float
        The reward.

    Raises
    ------
    ActionMaskError
        If the state has no valid action, or another was chosen.
    ProbabilityError
        If a probability of the pair's events is outside 0 .. 1.
    RewardError
        If the reward is NaN or infinite.
    StateRangeError
        If a state is outside the model's range.
    """
    if action == BEGINNING:
        check_initial(next_state, env.n_states, who)
        return
    if action == NO_ACTION:
        check_mask(env, who, state)
    where = f"{who} in state {state}, action {action}"
    if next_state == IMPOSSIBLE and env.events is not None:
        check_events(env, state, action)
    if not np.isfinite(reward):
        raise RewardError(f"a reward must be finite, got {reward} from {where}")
    if not 0 <= next_state < env.n_states:
        raise StateRangeError(
            f"a state must be in 0 .. {env.n_states - 1}, got {next_state} after {where}: "
            "check n_states, or the transition"
        )


def check_outcome(
    state: int,
    action: int,
    outcome: tuple[float, int, float, bool] | tuple[Any, ...],
    n_states: int,
) -> None:
    """Raise the error that names what is wrong with an outcome, if anything is.

    Parameters
    ----------
    state, action : int
        The pair that has the outcome.
    outcome : tuple
        (probability, next_state, reward, terminated).
    n_states : int
        Number of states of the model.

    Raises
    ------
    ProbabilityError
        If the probability is outside 0 .. 1.
    RewardError
        If the reward is NaN or infinite.
    StateRangeError
        If the state is outside the model's range.
    """
    p, next_state, reward, _ = outcome
    where = f"in state {state}, action {action}"
    if not 0.0 <= p <= 1.0:
        raise ProbabilityError(f"a probability must be in 0 .. 1, got an outcome of {p} {where}")
    if not 0 <= next_state < n_states:
        raise StateRangeError(f"a state must be in 0 .. {n_states - 1}, got {next_state} {where}")
    if not np.isfinite(reward):
        raise RewardError(f"a reward must be finite, got {reward} {where}")


def check_mask(env: Model, who: str, state: int) -> None:
    """Raise the error of a state in which no valid action was chosen, or can be.

    Parameters
    ----------
    env : Model
        The model.
    who : str
        The environment that is in the state, or the pair that leads there, for the message.
    state : int
        The state.

    Raises
    ------
    ActionMaskError
        Always.
    """
    mask = np.empty((1, env.n_actions), np.bool_)
    env.kernels.find_valid(np.array([state]), env.n_actions, env.params, mask)
    valid = np.flatnonzero(mask[0]).tolist()
    if valid:
        raise ActionMaskError(
            f"an action must be valid, got another than {valid} from the policy of {who} in state "
            f"{state}"
        )
    raise ActionMaskError(
        f"a state in which an episode goes on must have a valid action, got none in state {state}, "
        f"which {who} comes to: check valid(), or let the transition there terminate"
    )
