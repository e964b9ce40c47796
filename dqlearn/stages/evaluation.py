"""Evaluation: whole greedy episodes on fresh seeds.

Episode i draws from a stream of its own, and every episode that is begun is counted, so that short
ones are not favoured (as they are where the first n to end are taken). Invariant: the returns do
not depend on how the episodes are divided over tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import gymnasium
import numpy as np
import numpy.typing as npt

from dqlearn.checks import check_count, check_whole
from dqlearn.envs.play import Played
from dqlearn.envs.python.faults import RAISED
from dqlearn.envs.python.gymnasium_env import PythonEnv
from dqlearn.envs.python.masks import KEY, mask_of, masks_of
from dqlearn.envs.python.returned import flag, reset_pair, reward, step_five
from dqlearn.errors import EnvironmentFault
from dqlearn.random import EVALUATION, streams
from dqlearn.stages.policy import KnownPolicy, Policy
from dqlearn.text import html_table

__all__ = ["EpisodePlan", "EvaluationResult", "play_python"]


@dataclass(frozen=True)
class EpisodePlan:
    """How many episodes, from which seed, and after how many steps one is cut off."""

    n_episodes: int
    seed: int
    max_steps: int

    def __post_init__(self) -> None:
        """Check that there is something to play."""
        check_count("n_episodes", self.n_episodes)
        check_count("max_steps", self.max_steps)
        check_whole("seed", self.seed, 0, 2**64 - 1)

    def streams(self, first: int, last: int) -> npt.NDArray[np.uint64]:
        """Return the streams of random numbers of some episodes."""
        keys: npt.NDArray[np.uint64] = streams(
            np.uint64(self.seed), EVALUATION, first, last - first
        )
        return keys


@dataclass(frozen=True)
class EvaluationResult:
    """The returns and lengths of greedy episodes.

    Parameters
    ----------
    returns : float64 (n_episodes,)
        Undiscounted return of every episode, in units of reward.
    lengths : int64 (n_episodes,)
        Length of every episode, in transitions.
    n_truncated : int
        Number of episodes that did not end within the evaluation's ``max_steps``.

    Examples
    --------
    >>> result = EvaluationResult(np.array([1.0, 3.0]), np.array([5, 7]), 0)
    >>> result
    EvaluationResult(mean=2 +- 1, n_episodes=2, mean_length=6)
    >>> result.quantile(0.5)
    2.0
    """

    returns: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]
    n_truncated: int

    @classmethod
    def of(cls, parts: Sequence[Played]) -> EvaluationResult:
        """Join the parts that tasks have played."""
        return cls(
            np.concatenate([part.returns for part in parts]),
            np.concatenate([part.lengths for part in parts]),
            sum(part.n_truncated for part in parts),
        )

    @property
    def n_episodes(self) -> int:
        """Number of episodes."""
        return len(self.returns)

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def standard_error(self) -> float:
        """Standard error of the mean return; NaN for a single episode."""
        if self.n_episodes < 2:
            return float("nan")
        return float(self.returns.std(ddof=1) / np.sqrt(self.n_episodes))

    @property
    def mean_length(self) -> float:
        """Mean length, in transitions."""
        return float(self.lengths.mean())

    def quantile(self, q: float) -> float:
        """Return a quantile of the returns.

        Parameters
        ----------
        q : float
            Which quantile, 0 .. 1; 0.5 is the median.

        Returns
        -------
        float
            The quantile, in units of reward.
        """
        return float(np.quantile(self.returns, q))

    def __repr__(self) -> str:
        """Return the mean, its standard error and the number of episodes on one line."""
        cut = f", n_truncated={self.n_truncated}" if self.n_truncated else ""
        return (
            f"EvaluationResult(mean={self.mean:.6g} +- {self.standard_error:.3g}, "
            f"n_episodes={self.n_episodes}, mean_length={self.mean_length:.6g}{cut})"
        )

    def _repr_html_(self) -> str:
        """Return a table of the returns and the lengths."""
        low, median, high = np.quantile(self.returns, [0.05, 0.5, 0.95])
        return html_table(
            "dqlearn.EvaluationResult",
            {
                "mean return": f"{self.mean:.6g} ± {self.standard_error:.3g}",
                "median return": f"{median:.6g}",
                "5 % .. 95 % of returns": f"{low:.6g} .. {high:.6g}",
                "episodes": f"{self.n_episodes:,}",
                "mean length": f"{self.mean_length:.6g} transitions",
                "cut off": f"{self.n_truncated:,}",
            },
        )


def play_python(
    env: PythonEnv, policy: Policy | KnownPolicy, episodes: EpisodePlan, first: int, last: int
) -> Played:
    """Play the episodes ``first .. last - 1`` in Python environments, one after another."""
    returns, lengths, cut = np.empty(last - first), np.empty(last - first, np.int64), 0
    one = None
    try:
        one = _One(env)
        for i, key in enumerate(episodes.streams(first, last)):
            state, total, t, ended = one.reset(int(key >> np.uint64(33))), 0.0, 0, False
            while not ended and t < episodes.max_steps:
                state, reward, ended = one.step(one.greedy(policy, state))
                total, t = total + reward, t + 1
            returns[i], lengths[i], cut = total, t, cut + (not ended)
    except RAISED as error:
        kind = type(error) if isinstance(error, EnvironmentFault) else EnvironmentFault
        raise kind(f"an environment failed in an evaluation: {error!r}") from error
    finally:
        if one:
            one.close()
    return Played(returns, lengths, cut)


class _One:
    """A single environment, in indices; a vector of one where the factory makes vectors."""

    def __init__(self, env: PythonEnv) -> None:
        self.env = env
        self.made = env.vector(1) if env.vectorised else env.single()
        self._valid: npt.NDArray[np.bool_] | None = None

    def reset(self, seed: int) -> int:
        """Begin an episode."""
        observation, info = reset_pair(self.made.reset(seed=seed))
        self._note(info)
        return self._state(observation)

    def greedy(self, policy: Policy | KnownPolicy, state: int) -> int:
        """Return the greedy action, of the valid ones if it says which."""
        if self._valid is None:
            return policy.choose_one(state)
        return policy.choose_valid(state, self._valid)

    def _note(self, info: Mapping[str, Any]) -> None:
        """Note which actions are valid."""
        if not self.env.masks:
            return
        if not self.env.vectorised:
            said = mask_of(cast("gymnasium.Env[Any, Any]", self.made), info)
            info = {} if said is None else {KEY: [said]}
        valid = masks_of(info, self.env.actions, np.ones(1, np.bool_))
        self._valid = None if valid is None else valid[0]

    def step(self, action: int) -> tuple[int, float, bool]:
        """Step; return state, reward and whether the episode ended."""
        actions = self.env.actions
        chosen = actions.decode([action]) if self.env.vectorised else actions.decode_one(action)
        observation, paid, terminated, truncated, info = step_five(self.made.step(chosen))
        self._note(info)
        return self._state(observation), reward(paid), flag(terminated) or flag(truncated)

    def close(self) -> None:
        """Close the environment."""
        self.made.close()

    def _state(self, observation: Any) -> int:
        if self.env.vectorised:
            return int(self.env.states.encode(observation)[0])
        return self.env.states.encode_one(observation)
