"""A generic random decision process that stores nothing: its successors and rewards are hashes.

::

    (state, action) ──► one of 4 successors, equally likely: the hash of (state, action, successor)
                        one reward, uniform on [0, 1): the hash of (state, action)         no end

A Garnet in all but its arrays, which for 10^9 pairs would be larger than the table. Invariant: a
transition is arithmetic alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dqlearn import TabularEnv
from dqlearn.random import integers, uniform


def hashed(n_states: int) -> TabularEnv:
    """Return the process of so many states, 8 actions and 4 successors of each pair."""
    return TabularEnv(
        n_states, 8, _initial, _transition, _events, n_events=2, params=(np.int64(n_states),)
    )


def _initial(key: Any, params: tuple[Any, ...]) -> Any:
    return integers(key, 0, params[0])


def _events(state: Any, action: Any, params: tuple[Any, ...]) -> tuple[float, float]:
    return 0.5, 0.5


def _transition(
    state: Any, action: Any, happened: Any, params: tuple[Any, ...]
) -> tuple[Any, Any, bool]:
    pair = np.uint64(state) * np.uint64(8) + np.uint64(action)
    outcome = pair * np.uint64(4) + np.uint64(happened)
    return integers(outcome, 0, params[0]), uniform(pair, 1), False
