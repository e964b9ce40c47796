"""Play: whole episodes of a compiled model, by an array of greedy actions or a Python function.

::

    streams ──► initial states ──► play ──► returns, lengths, and how many were cut off
                                    ▲
                     greedy actions of all states: all steps at once
                     policy(states, t): one step after another, all episodes together

Invariant: an episode draws the same numbers whoever plays it, so that two policies are compared
under the same arrivals, failures and attacks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dqlearn.envs.model_faults import check_initial, check_transition
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import SpaceError
from dqlearn.kernels.choose import Lookup
from dqlearn.kernels.summary import action_dtype

__all__ = ["Played", "Rule", "play", "playable", "random_valid"]

Rule = Callable[[npt.NDArray[np.int64], int], npt.ArrayLike]
"""``policy(states, t) -> actions`` for the episodes still running, t steps after they began."""


@dataclass(frozen=True)
class Played:
    """Returns and lengths of some episodes, and how many of them were cut off."""

    returns: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]
    n_truncated: int


def play(
    model: TabularEnv,
    streams: npt.NDArray[np.uint64],
    policy: Lookup | Rule,
    max_steps: int,
    first: int = 0,
) -> Played:
    """Play one episode for each stream of random numbers.

    Parameters
    ----------
    model : TabularEnv
        The environment; its ``max_episode_steps`` ends an episode.
    streams : uint64 (n,)
        The stream of random numbers of each episode.
    policy : Lookup or callable
        The greedy actions of all states; or a function of the states of the episodes still running,
        int64 ``(m,)``, and of the number of steps since they began.
    max_steps : int
        Number of steps after which an episode is cut off.
    first : int, default 0
        The number of the first episode, for error messages.

    Returns
    -------
    Played
        The returns and lengths of the episodes.

    Raises
    ------
    SpaceError
        If a function's actions are not one for each state, in range.
    EnvironmentFault
        If the model leaves its states, or a reward is not finite.
    """
    episodes = _Episodes(model, streams, first)
    if not callable(policy):
        episodes.advance(policy, episodes.state, max_steps)
        return episodes.played()
    n = len(streams)
    action, own = np.zeros(n, action_dtype(model.n_actions)), np.arange(n)
    for t in range(max_steps):
        going = episodes.going
        if not going.any():
            break
        chosen = policy(episodes.state[going], t)
        action[going] = _checked(chosen, int(going.sum()), model.n_actions)
        episodes.advance(action, own, 1)
    return episodes.played()


def playable(model: TabularEnv, states: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return the valid actions of each state; all of one that has none, where episodes are over.

    Parameters
    ----------
    model : TabularEnv
        The environment.
    states : int64 (m,)
        The states.

    Returns
    -------
    bool (m, n_actions)
    """
    masks = model.masks(states)
    return masks | ~masks.any(axis=1, keepdims=True)


def random_valid(
    sampler: np.random.Generator, valid: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Draw one of the valid actions of each state, evenly.

    Parameters
    ----------
    sampler : numpy.random.Generator
        Source of the draws.
    valid : bool (m, n_actions)
        The valid actions.

    Returns
    -------
    int64 (m,)
    """
    drawn = sampler.integers(valid.sum(axis=1))
    actions: npt.NDArray[np.int64] = (np.cumsum(valid, axis=1) > drawn[:, None]).argmax(axis=1)
    return actions


class _Episodes:
    """Episodes under way, one for each stream of random numbers."""

    def __init__(self, model: TabularEnv, streams: npt.NDArray[np.uint64], first: int) -> None:
        n = len(streams)
        self._model, self._streams, self._first = model, streams, first
        self.state, self.going = np.empty(n, np.int64), np.ones(n, np.bool_)
        self._returns, self._lengths = np.zeros(n), np.zeros(n, np.int64)
        model.kernels.begin(streams, 0, model.params, self.state)
        for i in np.flatnonzero((self.state < 0) | (self.state >= model.n_states))[:1].tolist():
            check_initial(int(self.state[i]), model.n_states, self._who(i))

    def advance(self, greedy: Lookup, rows: npt.NDArray[np.int64], n_steps: int) -> None:
        """Take up to `n_steps` steps in each running episode; `rows` indexes `greedy` for each."""
        i, *transition = self._model.kernels.play(
            self._streams,
            n_steps,
            self._model.limits,
            self._model.params,
            greedy,
            rows,
            (self.state, self.going, self._returns, self._lengths),
        )
        if i >= 0:
            check_transition(self._model, self._who(i), *transition)

    def played(self) -> Played:
        """Return the returns and lengths; episodes still running count as cut off."""
        return Played(self._returns, self._lengths, int(self.going.sum()))

    def _who(self, i: int) -> str:
        return f"episode {self._first + i} of an evaluation"


def _checked(actions: npt.ArrayLike, n: int, n_actions: int) -> npt.NDArray[np.integer]:
    given = np.asarray(actions)
    whole = given.shape == (n,) and given.dtype.kind in "iu"
    if not whole or ((given < 0) | (given >= n_actions)).any():
        raise SpaceError(
            f"a policy must return {n} integers in 0 .. {n_actions - 1}, got {given!r}"
        )
    return given
