"""What is wrong with a transition, said where and how.

Invariant: kernels and shards only notice that something is wrong; the message is made here.
"""

from __future__ import annotations

import numpy as np

from dqlearn.errors import RewardError, StateRangeError

__all__ = ["check_transition"]


def check_transition(
    environment: int, state: int, action: int, next_state: int, reward: float, n_states: int
) -> None:
    """Raise the error that names what is wrong with a transition."""
    where = f"environment {environment} in state {state}, action {action}"
    if not np.isfinite(reward):
        raise RewardError(f"a reward must be finite, got {reward} from {where}")
    if not 0 <= next_state < n_states:
        raise StateRangeError(
            f"a state must be in 0 .. {n_states - 1}, got {next_state} after {where}: "
            "check n_states, or the transition"
        )
