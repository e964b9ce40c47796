"""Python environments: a shard is a Gymnasium ``VectorEnv``, stepped in place.

::

    id or factory ──► VectorEnv of a shard's environments ──► step, step, ... ──► Transitions
                      (guarded, or what the factory makes)     autoreset undone

Copying Python environments every round costs too much, so their shard is *donated*: the rollout of
round r steps it in place and hands it on. A shard carries its round, and a rollout that finds it in
another round raises StaleShardError instead of going on with wrong numbers; the run then goes back
to its last recovery point, where shards were copied.

:mod:`dqlearn.stages.rollout_python` steps shards, and :mod:`dqlearn.envs.python.guard` handles
environments that raise or hang. Invariant: a copy of a shard is bytes in memory, and never written
to disk; a shard that has no copy is found where it is, or built anew.
"""

from __future__ import annotations

import inspect
import uuid
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import cloudpickle
import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import iterate

from dqlearn.envs.python.distinct import check_new
from dqlearn.envs.python.faults import RAISE, RAISED, Faults, Watch
from dqlearn.envs.python.guard import close_all, guarded, tell_of_masks, timed
from dqlearn.envs.python.marks import Mark
from dqlearn.envs.python.masks import Seen, masks_of
from dqlearn.envs.python.returned import keeping, reset_pair
from dqlearn.errors import (
    ConfigurationError,
    InterfaceError,
    SpaceError,
    StaleShardError,
    StateRangeError,
)
from dqlearn.random import SEEDS, streams
from dqlearn.spaces import SpaceIndex

__all__ = [
    "FIRST",
    "Begin",
    "PythonEnv",
    "PythonShard",
    "close_open_shards",
    "encode",
    "encode_one",
    "freeze",
    "open_python_shard",
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
    masks : bool
        Whether the masks of its actions are used.
    masked : bool
        Whether they are, and it is known before it is stepped that it has some.
    run : str
        An identifier of the learner whose environments they are.
    """

    make: Callable[..., Any]
    states: SpaceIndex
    actions: SpaceIndex
    masks: bool = False
    masked: bool = False
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    @cached_property
    def vectorised(self) -> bool:
        """Whether `make` makes a vector environment."""
        return takes_num_envs(self.make)

    def single(self) -> gymnasium.Env[Any, Any]:
        """Make an environment with a factory of single environments."""
        made: gymnasium.Env[Any, Any] = self.make()
        check_new(made)
        return made

    def vector(self, n_envs: int) -> VectorEnv[Any, Any, Any]:
        """Make a vector environment with a factory of vector environments."""
        made = self.make(num_envs=n_envs)
        if not isinstance(made, VectorEnv) or made.num_envs != n_envs:
            raise ConfigurationError(
                f"a factory that takes num_envs must return a VectorEnv of {n_envs} "
                f"environments, got {made!r}"
            )
        check_new(made)
        return keeping(made)


def takes_num_envs(make: Callable[..., Any]) -> bool:
    """Whether a factory makes vector environments: it has a parameter ``num_envs``."""
    try:
        return "num_envs" in inspect.signature(make).parameters
    except (TypeError, ValueError):
        return False


@dataclass(eq=False)
class PythonShard:
    """Successive Python environments, where they are, and which round they are in.

    Attributes
    ----------
    watch : Watch
        A record of what the environments are doing, and of what to do if one fails.
    envs : VectorEnv
        The environments themselves.
    state : int64 (n,)
        Present state of each environment.
    elapsed, returns : int64 (n,), float64 (n,)
        Number of transitions, and sum of rewards, since each environment's episode began.
    resetting : bool (n,)
        With NEXT_STEP autoreset, the environments that the next step only resets.
    round : int
        The round whose rollout comes next.
    steps : int
        Number of vector steps made.
    alike : int
        Number of episodes so far, while the last state of every one was the first of the next;
        a very negative number once that was false for one, or a warning was logged.
    failure : Exception, optional
        The error of a round that was begun in the task before, and could not be made.
    valid : bool (n, n_actions), optional
        The valid actions of each environment; None if all are.
    seen : Seen
        The masks of the states that the environments have acted in.
    """

    watch: Watch
    envs: VectorEnv[Any, Any, Any]
    state: npt.NDArray[np.int64]
    elapsed: npt.NDArray[np.int64] = field(init=False)
    returns: npt.NDArray[np.float64] = field(init=False)
    resetting: npt.NDArray[np.bool_] = field(init=False)
    round: int = 0
    steps: int = 0
    alike: int = 0
    failure: Exception | None = None
    valid: npt.NDArray[np.bool_] | None = None
    seen: Seen = field(default_factory=Seen)

    def __post_init__(self) -> None:
        """Set the counters of the episodes, which all begin now."""
        n = len(self.state)
        self.elapsed, self.returns = np.zeros(n, np.int64), np.zeros(n)
        self.resetting = np.zeros(n, np.bool_)
        self.close_at_end()

    def close_at_end(self) -> None:
        """Arrange that the environments are closed when the shard is freed or the process ends."""
        self._end = weakref.finalize(self, close_all, self.envs, self.watch)
        _open[id(self)] = self

    def close(self) -> None:
        """Close the environments, so that no round can use the shard; again does nothing."""
        self.round = _CLOSED
        self._end()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to this process."""
        return {name: value for name, value in vars(self).items() if name != "_end"}

    @property
    def first_env(self) -> int:
        """Index in the run of the shard's first environment."""
        return self.watch.first_env

    def check_round(self, round_: int) -> None:
        """Refuse to be used for another round than the one the shard is in.

        Raises
        ------
        StaleShardError
            If the shard has left the round: its result was lost, and asked for again.
        EnvironmentFault
            If the shard was left in the middle of this round, by an error that nobody saw yet.
        """
        failure, self.failure = self.failure, None  # an error holds the frames it came through
        if failure is not None:
            self.round = -1
            raise failure
        if self.round != round_:
            raise StaleShardError(
                f"the shard of environment {self.first_env} is in round {self.round}, expected "
                f"{round_}: the run goes back to its last recovery point"
            )

    @property
    def autoreset(self) -> AutoresetMode:
        """The mode in which the environments reset themselves."""
        return autoreset_of(self.envs)


def autoreset_of(envs: VectorEnv[Any, Any, Any]) -> AutoresetMode:
    """Return the autoreset mode of environments.

    Raises
    ------
    InterfaceError
        If they do not declare one: what a step returns at an episode's end looks the same in two
        modes.
    """
    mode = envs.metadata.get("autoreset_mode")
    try:
        return AutoresetMode(mode)
    except ValueError:
        raise InterfaceError(
            f"{type(envs.unwrapped).__name__} must say when it resets its environments, "
            f'metadata = {{"autoreset_mode": AutoresetMode.NEXT_STEP}}, SAME_STEP or DISABLED of '
            f"gymnasium.vector, got {mode!r}"
        ) from None


@dataclass(frozen=True)
class Begin:
    """The point of a run at which a shard begins.

    Attributes
    ----------
    round : int
        The round whose rollout comes next.
    steps : int
        Position in their streams of random numbers at which the environments begin.
    attempt : int
        A number that changes the seeds of environments that are built anew in mid-run.
    """

    round: int = 0
    steps: int = 0
    attempt: int = 0


FIRST = Begin()
"""The beginning of a run."""

_CLOSED = -2  # in place of a round
_open: weakref.WeakValueDictionary[int, PythonShard] = weakref.WeakValueDictionary()


def open_python_shard(
    env: PythonEnv,
    first_env: int,
    n_envs: int,
    seed: int,
    begin: Begin = FIRST,
    shard: int = 0,
    faults: Faults = RAISE,
) -> PythonShard:
    """Make and reset `n_envs` successive environments, each from a seed of its own.

    Parameters
    ----------
    env : PythonEnv
        How to make them.
    first_env, n_envs : int
        Index in the run of the first environment, and the number of environments.
    seed : int
        Seed of the run.
    begin : Begin
        The point of the run at which the shard begins.
    shard : int
        Number of the shard.
    faults : Faults
        What to do about environments that fail, from the first rollout on.

    Returns
    -------
    PythonShard
        The shard; each environment is at the beginning of an episode.

    Raises
    ------
    EnvironmentFault
        If the environments cannot be made or reset, or do not return from that in time.
    """
    own_seeds = streams(np.uint64(seed), SEEDS, first_env + (begin.attempt << 32), n_envs)
    seeds: Any = [int(own >> np.uint64(33)) for own in own_seeds]
    watch = Watch(Mark(env.run, shard), first_env, n_envs, seed, faults)
    with watch.at_work():
        envs, state, valid = timed(partial(_made_and_reset, env, watch, seeds), watch)
    return PythonShard(watch, envs, state, begin.round, begin.steps, valid=valid)


def _made_and_reset(
    env: PythonEnv, watch: Watch, seeds: Any
) -> tuple[VectorEnv[Any, Any, Any], npt.NDArray[np.int64], npt.NDArray[np.bool_] | None]:
    """Make environments; return them with their first states and valid actions."""
    envs = env.vector(watch.n_envs) if env.vectorised else guarded(env.single, watch, env.masks)
    try:
        autoreset_of(envs)
        watch.enter()
        own = isinstance(envs.unwrapped, SyncVectorEnv | AsyncVectorEnv)
        observation, info = reset_pair(envs.reset(seed=seeds if own else seeds[0]))
        if watch.first_env == 0 and env.vectorised and not env.masks:
            tell_of_masks(envs, info)
        valid = masks_of(info, env.actions) if env.masks else None
        return envs, encode(env, envs, watch.first_env, observation), valid
    except BaseException:
        with suppress(*RAISED):
            envs.close()
        raise


def encode(
    env: PythonEnv, envs: VectorEnv[Any, Any, Any], first_env: int, observation: Any
) -> npt.NDArray[np.int64]:
    """Return the states of a batch of observations.

    Raises
    ------
    InterfaceError
        If there is not one observation for each environment.
    StateRangeError
        If an observation is not an element of the space.
    """
    try:
        state = env.states.encode(observation)
    except SpaceError:
        for e, one in enumerate(iterate(envs.observation_space, observation)):
            encode_one(env, envs, first_env + e, one)
        raise
    if len(state) != envs.num_envs:
        raise InterfaceError(
            f"expected the observations of {envs.num_envs} environments, got {len(state)}"
        )
    return state


def encode_one(
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


def freeze(shard: PythonShard) -> bytes | None:
    """Return a copy of a shard, as bytes; None if its environments cannot be copied."""
    try:
        copy: bytes = cloudpickle.dumps(shard)
    except Exception:
        return None
    return copy


def thaw(copy: bytes | None) -> PythonShard | None:
    """Make a shard from its copy; None if there is no copy."""
    if copy is None:
        return None
    shard: PythonShard = cloudpickle.loads(copy)
    shard.close_at_end()
    return shard


def close_open_shards() -> None:
    """Close the environments of all shards in this process, which is about to end."""
    for shard in list(_open.values()):
        shard.close()
