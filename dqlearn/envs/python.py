"""Python environments: a shard is a Gymnasium ``VectorEnv``, stepped in place.

::

    id or factory ──► VectorEnv of a shard's environments ──► step, step, ... ──► Transitions
                      (Sync, or what the factory makes)        autoreset undone

Copying Python environments every round is too dear, so their shard is *donated*: the rollout of
round r steps it in place and hands it on. A shard carries its round, and a rollout that finds it in
another one raises StaleShardError instead of going on with wrong numbers; the run then goes back to
its last cut, where shards were copied.

Invariant: rows that an autoreset makes up are no transitions, a truncated episode bootstraps from
the state it was cut off in, and returns and lengths are counted from transitions only.
"""

from __future__ import annotations

import inspect
import uuid
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import cloudpickle
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import iterate
from numba import njit

from dqlearn.errors import (
    ConfigurationError,
    EnvironmentFault,
    RewardError,
    SpaceError,
    StaleShardError,
    StateRangeError,
)
from dqlearn.maxima import action_dtype
from dqlearn.policy import Policy
from dqlearn.random import SEEDS, STEPS, choose, exploration_threshold, step_key, streams
from dqlearn.rollout import BLOCK, state_dtype
from dqlearn.spaces import SpaceIndex
from dqlearn.transitions import NO_BOOTSTRAP, Tally, Transitions

__all__ = [
    "Parked",
    "PythonEnv",
    "PythonShard",
    "freeze",
    "open_python_shard",
    "python_rollout",
    "takes_num_envs",
    "thaw",
]


@dataclass(frozen=True)
class PythonEnv:
    """How to make an environment, and how its spaces are numbered.

    Attributes
    ----------
    make : callable
        ``make() -> gymnasium.Env``, or ``make(num_envs=n) -> gymnasium.vector.VectorEnv``.
    states, actions : SpaceIndex
        Its observation and action space.
    """

    make: Callable[..., Any]
    states: SpaceIndex
    actions: SpaceIndex

    @cached_property
    def vectorised(self) -> bool:
        """Whether `make` makes a vector environment."""
        return takes_num_envs(self.make)

    def vector(self, n_envs: int) -> VectorEnv[Any, Any, Any]:
        """Make the environments of a shard."""
        if self.vectorised:
            made = self.make(num_envs=n_envs)
            if not isinstance(made, VectorEnv) or made.num_envs != n_envs:
                raise ConfigurationError(
                    f"a factory that takes num_envs must return a VectorEnv of {n_envs} "
                    f"environments, got {made!r}"
                )
            return made
        return SyncVectorEnv([self.make] * n_envs, autoreset_mode=AutoresetMode.SAME_STEP)


def takes_num_envs(make: Callable[..., Any]) -> bool:
    """Whether a factory makes vector environments: it has a parameter ``num_envs``."""
    try:
        return "num_envs" in inspect.signature(make).parameters
    except (TypeError, ValueError):
        return False


@dataclass
class PythonShard:
    """Successive Python environments, where they are, and which round they are in.

    Attributes
    ----------
    first_env : int
        Index of the first of them.
    envs : VectorEnv
        The environments themselves.
    state : int64 (n,)
        Where they are.
    elapsed, returns : int64 (n,), float64 (n,)
        Transitions and rewards since their episodes began.
    resetting : bool (n,)
        NEXT_STEP autoreset: the next step of these only resets them.
    round : int
        The round whose rollout comes next.
    steps : int
        Vector steps made.
    """

    first_env: int
    envs: VectorEnv[Any, Any, Any]
    state: npt.NDArray[np.int64]
    elapsed: npt.NDArray[np.int64] = field(init=False)
    returns: npt.NDArray[np.float64] = field(init=False)
    resetting: npt.NDArray[np.bool_] = field(init=False)
    round: int = 0
    steps: int = 0

    def __post_init__(self) -> None:
        """Begin every episode."""
        n = len(self.state)
        self.elapsed, self.returns = np.zeros(n, np.int64), np.zeros(n)
        self.resetting = np.zeros(n, np.bool_)
        self.close_at_end()

    def close_at_end(self) -> None:
        """Have the environments closed when nothing refers to the shard any more."""
        weakref.finalize(self, _close, self.envs).atexit = False

    @property
    def autoreset(self) -> AutoresetMode:
        """When the environments reset; Gymnasium's default where they do not say."""
        mode = self.envs.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        return AutoresetMode(mode)


def open_python_shard(
    env: PythonEnv,
    first_env: int,
    n_envs: int,
    seed: int,
    round_: int = 0,
    steps: int = 0,
    attempt: int = 0,
) -> PythonShard:
    """Make and reset `n_envs` successive environments, each from a seed of its own.

    Parameters
    ----------
    env : PythonEnv
        How to make them.
    first_env, n_envs : int
        Which environments of the run they are.
    seed : int
        Seed of the run.
    round_ : int
        The round whose rollout comes next.
    steps : int
        Where in their streams of random numbers they begin.
    attempt : int
        Makes other seeds, for environments that are built anew in mid-run.

    Raises
    ------
    EnvironmentFault
        If the environments cannot be made or reset.
    """
    own_seeds = streams(np.uint64(seed), SEEDS, first_env + (attempt << 32), n_envs)
    seeds: Any = [int(own >> np.uint64(33)) for own in own_seeds]
    try:
        envs = env.vector(n_envs)
        own = isinstance(envs.unwrapped, SyncVectorEnv | AsyncVectorEnv)
        observation, _ = envs.reset(seed=seeds if own else seeds[0])
        state = _encode(env, envs, first_env, observation)
    except EnvironmentFault:
        raise
    except Exception as error:
        raise EnvironmentFault(
            f"environments {first_env} .. {first_env + n_envs - 1} could not be made or reset: "
            f"{error!r}"
        ) from error
    return PythonShard(first_env, envs, state, round_, steps)


def _encode(
    env: PythonEnv, envs: VectorEnv[Any, Any, Any], first_env: int, observation: Any
) -> npt.NDArray[np.int64]:
    """Return the states of a batch of observations."""
    try:
        return env.states.encode(observation)
    except SpaceError:
        for e, one in enumerate(iterate(envs.observation_space, observation)):
            _encode_one(env, envs, first_env + e, one)
        raise


def _encode_one(
    env: PythonEnv, envs: VectorEnv[Any, Any, Any], environment: int, observation: Any
) -> int:
    """Return the state of one environment's observation."""
    try:
        return env.states.encode_one(observation)
    except SpaceError as error:
        raise StateRangeError(
            f"environment {environment} returned the observation {observation!r}, expected an "
            f"element of {envs.single_observation_space}: declare a larger space, or correct the "
            "environment"
        ) from error


def _close(envs: VectorEnv[Any, Any, Any]) -> None:
    """Close environments that nobody will miss; what they hold may be broken."""
    with suppress(Exception):
        envs.close()


@dataclass(frozen=True)
class Parked:
    """In place of a copy: the ticket of a live shard, which waits in its process."""

    ticket: str


_parked: dict[str, PythonShard] = {}


def freeze(shard: PythonShard, stay: bool = False) -> bytes | Parked | None:
    """Copy a shard, as bytes that stay in memory.

    Live environments have no copy: None, or, if the run will `stay` where it is, a ticket.
    """
    try:
        copy: bytes = cloudpickle.dumps(shard)
        return copy
    except Exception:
        if not stay:
            return None
    parked = Parked(uuid.uuid4().hex)
    _parked[parked.ticket] = shard
    return parked


def thaw(copy: bytes | Parked | None) -> PythonShard | None:
    """Make a shard of its copy, or hand out the parked one, once; None if there is neither."""
    if not isinstance(copy, bytes):
        return _parked.pop(copy.ticket, None) if copy else None
    shard: PythonShard = cloudpickle.loads(copy)
    shard.close_at_end()
    return shard


def python_rollout(
    env: PythonEnv,
    shard: PythonShard,
    policy: Policy,
    epsilon: float,
    seed: int,
    n_steps: int,
    round_: int,
) -> tuple[Transitions, PythonShard]:
    """Take `n_steps` vector steps in a shard, in place.

    Parameters
    ----------
    env : PythonEnv
        How its spaces are numbered.
    shard : PythonShard
        Donated: stepped in place, and returned.
    policy : Policy
        What the environments act on.
    epsilon : float
        Probability of a uniformly drawn action instead.
    seed : int
        Seed of the run.
    n_steps : int
        Vector steps.
    round_ : int
        The round; the shard must be in it.

    Returns
    -------
    Transitions
        At most ``n_envs * n_steps``: a NEXT_STEP autoreset costs a row.
    PythonShard
        The same object, one round on.

    Raises
    ------
    StaleShardError
        If the shard has left the round: its result was lost, and asked for again.
    EnvironmentFault
        If an environment raises, leaves its spaces, or returns a reward that is not finite.
    """
    if shard.round != round_:
        raise StaleShardError(
            f"the shard of environment {shard.first_env} is in round {shard.round}, expected "
            f"{round_}: the run goes back to its last cut"
        )
    shard.round = -1  # a rollout that fails leaves a shard that no round can use
    n, n_states = len(shard.state), env.states.n
    keys = streams(np.uint64(seed), STEPS, shard.first_env, n)
    threshold = exploration_threshold(epsilon)
    rows = _Rows(n_steps, n, n_states, env.actions.n, policy.value.dtype)
    for k in range(n_steps):
        action = np.empty(n, np.int64)
        _choose(keys, shard.steps, shard.state, policy.action, threshold, env.actions.n, action)
        rows.record(k, shard, action, *_step(env, shard, action))
    shard.round = round_ + 1
    return rows.transitions(policy.timesteps, epsilon), shard


def _step(
    env: PythonEnv, shard: PythonShard, action: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[Any], ...]:
    """Step once; return rewards, terminated, truncated, final states, and states to go on from."""
    try:
        observation, reward, terminated, truncated, info = shard.envs.step(
            env.actions.decode(action)
        )
        done = terminated | truncated
        after = _encode(env, shard.envs, shard.first_env, observation)
        final = after
        if done.any():
            final, after = _ends(env, shard, done, after, info)
    except EnvironmentFault:
        raise
    except Exception as error:
        last = shard.first_env + len(shard.state) - 1
        raise EnvironmentFault(
            f"environments {shard.first_env} .. {last} failed at step {shard.steps}: {error!r}"
        ) from error
    shard.steps += 1
    return np.asarray(reward, np.float64), terminated, truncated, final, after


def _ends(
    env: PythonEnv,
    shard: PythonShard,
    done: npt.NDArray[np.bool_],
    after: npt.NDArray[np.int64],
    info: Mapping[str, Any],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the final states of episodes that ended, and where their environments go on."""
    if shard.autoreset is AutoresetMode.SAME_STEP:
        final = after.copy()
        for e in np.flatnonzero(done):
            last = _element(info["final_obs"], int(e))
            final[e] = _encode_one(env, shard.envs, shard.first_env + int(e), last)
        return final, after
    if shard.autoreset is AutoresetMode.DISABLED:
        observation, _ = shard.envs.reset(options={"reset_mask": done.copy()})
        fresh = _encode(env, shard.envs, shard.first_env, observation)
        return after, np.where(done, fresh, after)
    return after, after


def _element(batch: Any, e: int) -> Any:
    """Take one environment's element; Gymnasium merges infos that are dicts, key by key."""
    if isinstance(batch, Mapping):
        return {k: _element(v, e) for k, v in batch.items() if not str(k).startswith("_")}
    return batch[e]


class _Rows:
    """The steps of a round as they come, (step, environment), and the episodes that end in them."""

    def __init__(
        self, n_steps: int, n: int, n_states: int, n_actions: int, dtype: np.dtype[Any]
    ) -> None:
        shape, place = (n_steps, n), state_dtype(n_states)
        self.n_states = n_states
        self.state, self.next_state = np.empty(shape, place), np.empty(shape, place)
        self.action = np.empty(shape, action_dtype(n_actions))
        self.reward, self.real = np.empty(shape, dtype), np.empty(shape, np.bool_)
        self.returns: list[float] = []
        self.lengths: list[int] = []

    def record(
        self,
        k: int,
        shard: PythonShard,
        action: npt.NDArray[np.int64],
        reward: npt.NDArray[np.float64],
        terminated: npt.NDArray[np.bool_],
        truncated: npt.NDArray[np.bool_],
        final: npt.NDArray[np.int64],
        after: npt.NDArray[np.int64],
    ) -> None:
        """Write step k, and move the shard's episodes on."""
        real = ~shard.resetting
        with np.errstate(over="ignore"):
            self.reward[k] = reward
        for e in np.flatnonzero(real & ~np.isfinite(self.reward[k]))[:1]:
            raise RewardError(
                f"a reward must be finite in {self.reward.dtype}, got {reward[e]} from environment "
                f"{shard.first_env + int(e)} in state {shard.state[e]}, action {action[e]}"
            )
        self.state[k], self.action[k], self.real[k] = shard.state, action, real
        self.next_state[k] = np.where(terminated, NO_BOOTSTRAP, final)
        shard.returns += np.where(real, reward, 0.0)
        shard.elapsed += real
        done = (terminated | truncated) & real
        if done.any():
            self.returns += shard.returns[done].tolist()
            self.lengths += shard.elapsed[done].tolist()
            shard.returns[done], shard.elapsed[done] = 0.0, 0
        if shard.autoreset is AutoresetMode.NEXT_STEP:
            shard.resetting = done
        shard.state = after

    def transitions(self, timesteps: int, epsilon: float) -> Transitions:
        """Return the true transitions in the order of a batch (see :mod:`dqlearn.rollout`)."""
        real = _by_block(self.real)
        tally = Tally(
            timesteps,
            epsilon,
            int(real.sum()),
            len(self.returns),
            float(sum(self.returns)),
            float(sum(r * r for r in self.returns)),
            int(sum(self.lengths)),
            min(self.returns, default=float("inf")),
            max(self.returns, default=float("-inf")),
        )
        state, action, reward, next_state = (
            _by_block(column)[real]
            for column in (self.state, self.action, self.reward, self.next_state)
        )
        return Transitions(state, action, reward, next_state, tally)


def _by_block(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Flatten (step, environment) to the order (block, step, environment)."""
    blocks = range(0, rows.shape[1], BLOCK)
    return np.concatenate([rows[:, b : b + BLOCK].ravel() for b in blocks])


@njit(nogil=True, cache=True)
def _choose(keys, step, state, greedy, threshold, n_actions, action):
    for e in range(len(keys)):
        key = step_key(keys[e], np.uint64(step))
        action[e] = choose(key, np.int64(greedy[state[e]]), threshold, np.uint64(n_actions))
