"""Garnet: a generic random decision process, without structure and so without locality.

::

    (state, action) ──► `branching` successors, drawn uniformly, equally likely
                        one reward, uniform on [0, 1)                     no end

Archibald, McKinnon and Thomas (1995), "On the generation of Markov decision processes", J. Oper.
Res. Soc. 46; the name is from Bhatnagar et al. (2009), "Natural actor-critic algorithms",
Automatica 45.

No cache holds it and nothing is near in it, so a step costs what its reads cost. Invariant: a
transition reads one word of 8 bytes, next_state and reward side by side, hence one cache line,
whatever `branching` is. The reward is repeated for each successor to that end: 8 bytes a successor
in place of 4, and two cache misses made one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dqlearn.checks import check_choice, check_count, check_whole
from dqlearn.envs.tabular import TabularEnv
from dqlearn.random import integers

__all__ = ["garnet"]

BRANCHING = (1, 2, 4, 8, 16)
OUTCOME = np.dtype([("next_state", np.int32), ("reward", np.float32)])


def garnet(
    n_states: int = 131_072,
    n_actions: int = 8,
    branching: int = 4,
    seed: int = 0,
    max_episode_steps: int | None = None,
) -> TabularEnv:
    """Make a model of a random decision process.

    Parameters
    ----------
    n_states, n_actions : int
        Size of the process, at most 2**31 - 1 states.
    branching : {4, 1, 2, 8, 16}
        Successors of each pair, drawn with replacement.
    seed : int, default 0
        It draws the process itself, not what happens in it.
    max_episode_steps : int, optional
        Truncate episodes after so many steps; without it there is but one, endless.

    Returns
    -------
    TabularEnv
        Its `params` begin with the outcomes, shape ``(n_states, n_actions, branching)``, fields
        ``next_state`` (int32) and ``reward`` (float32). Episodes begin in a uniformly drawn state.

    Raises
    ------
    ConfigurationError
        If a size or the seed is out of range.

    Examples
    --------
    >>> from dqlearn.envs.problems.garnet import garnet
    >>> outcomes = garnet(n_states=100, n_actions=2, branching=4).params[0]
    >>> outcomes.shape, outcomes.itemsize
    ((100, 2, 4), 8)
    """
    n_states = check_whole("n_states", n_states, 1, np.iinfo(np.int32).max)
    n_actions = check_count("n_actions", n_actions)
    branching = check_choice("branching", branching, BRANCHING)
    seed = check_whole("seed", seed, 0)
    random = np.random.Generator(np.random.PCG64(seed))
    outcomes = np.empty((n_states, n_actions, branching), OUTCOME)
    outcomes["next_state"] = random.integers(n_states, size=outcomes.shape, dtype=np.int32)
    outcomes["reward"] = random.random((n_states, n_actions, 1), np.float32)
    # A single successor has a coin as well: a model in events form has at least one event.
    coins = (0.5,) * max(1, branching.bit_length() - 1)
    return TabularEnv(
        n_states,
        n_actions,
        _initial,
        _transition,
        _events,
        n_events=len(coins),
        params=(outcomes, coins),
        max_episode_steps=max_episode_steps,
        name="Garnet",
    )


def _initial(key: Any, params: tuple[Any, ...]) -> Any:
    return integers(key, 0, params[0].shape[0])


def _events(state: Any, action: Any, params: tuple[Any, ...]) -> Any:
    return params[1]


def _transition(
    state: Any, action: Any, happened: Any, params: tuple[Any, ...]
) -> tuple[Any, Any, bool]:
    outcomes = params[0]
    successor = happened & (outcomes.shape[2] - 1)
    # Unsigned: a signed index is first tested for counting from the end, which costs a third.
    outcome = outcomes[np.uint64(state), np.uint64(action), np.uint64(successor)]
    return outcome["next_state"], outcome["reward"], False
