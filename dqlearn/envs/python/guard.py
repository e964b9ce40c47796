"""Guards, which stand between a shard and Python code that may raise or never return.

::

    task ──► timed ──► VectorEnv.step ──► Guard 0 ──► environment 0
               │                     └──► Guard 1 ──► environment 1   raises: named, or built anew
               │ waits                        │
               ▼                              │ "I am in environment 1"
             Watch  ◄─────────────────────────┘                       never returns: given up

An environment that is built anew makes no transition in that step: its row is *lost*, and so are
the return and the length of its episode. Its new seed is a function of (seed of the run,
environment, step), so that whoever runs the task again draws it again. When a step ends an episode
and only the reset after it raises, the step itself is a transition like any other.

A thread that never returns cannot be ended, so it is left behind, with the environments it holds.
The waiting thread must be able to run: C code that never releases the GIL cannot be timed from
inside its process.

Restarts are reported to the logger ``dqlearn``. They are not Python warnings, because nobody could
filter or catch those in the threads of workers. Without any set-up, log records go to stderr, also
those of workers; ``Client.forward_logging("dqlearn")`` brings them to the client.

Invariant: while no environment raises, a guard costs one attribute assignment per step, and no
thread is made without a timeout.
"""

from __future__ import annotations

import contextvars
import logging
import pickle
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar, cast

import cloudpickle
import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import concatenate, iterate

from dqlearn.envs.python.faults import CLOSING, OPENING, RAISED, Watch
from dqlearn.envs.python.masks import KEY, mask_of, says_masks
from dqlearn.envs.python.returned import flag, keeper, reset_pair, reward, step_five
from dqlearn.errors import EnvironmentFault
from dqlearn.random import SEEDS, streams

__all__ = ["Guard", "close_all", "guarded", "tell_of_masks", "timed"]

_IN_A_ROW = 5  # restarts of one environment without a transition between them

_log = logging.getLogger("dqlearn")

T = TypeVar("T")


class Guard(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A wrapper that names its environment in an error when it raises, or builds it anew.

    What the environment returns is checked and copied, see :mod:`dqlearn.envs.python.returned`.
    Infos are dropped, but for a mask of the actions: merging them costs microseconds per step.

    Parameters
    ----------
    make : callable
        A function that makes the environment.
    watch : Watch
        The watch of the environment's shard.
    environment : int
        Index of the environment in the run.
    masks : bool
        Whether to keep the masks of the actions.
    """

    def __init__(
        self, make: Callable[[], Any], watch: Watch, environment: int, masks: bool = False
    ) -> None:
        self.make, self.watch, self.environment = make, watch, environment
        self.masks, self.mask = masks, cast("Any", None)
        self.lost_at, self.in_a_row = -2, 0
        watch.enter(environment)
        try:
            super().__init__(make())
            self.keep = keeper(self.env.observation_space)
        except RAISED as error:
            raise watch.fault(error, environment) from error

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step, and return an empty info; a restart begins a new episode."""
        self.watch.environment = self.environment
        try:
            observation, paid, terminated, truncated, info = step_five(self.env.step(action))
            if self.masks:
                self.mask = mask_of(self.env, info)
            return self.keep(observation), reward(paid), flag(terminated), flag(truncated), {}
        except RAISED as error:
            return self._lost(error)

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Reset, and return an empty info."""
        if self.watch.step == OPENING:
            self.watch.enter(self.environment)
        try:
            return self._begun(**kwargs), {}
        except RAISED as error:
            return self._anew(error), {}

    def close(self) -> None:
        """Close the environment; errors are ignored, so that the others are closed too."""
        self.watch.environment, self.watch.beat = self.environment, time.monotonic()
        with suppress(*RAISED):
            self.env.close()

    def _begun(self, **kwargs: Any) -> Any:
        """Reset; return a copy of the observation."""
        observation, info = reset_pair(self.env.reset(**kwargs))
        if self.masks:
            self.mask = mask_of(self.env, info)
        elif self.environment == 0 and self.watch.step == OPENING:
            tell_of_masks(self.env, info)
        return self.keep(observation)

    def _lost(self, error: BaseException) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Return the result of a step that failed; raise after too many restarts in a row."""
        watch = self.watch
        self.in_a_row = self.in_a_row + 1 if watch.step == self.lost_at + 1 else 1
        self.lost_at = watch.step
        if self.in_a_row > _IN_A_ROW:
            raise EnvironmentFault(
                f"{watch.who(self.environment)} was built anew {_IN_A_ROW} times and made no step: "
                f"{error!r} at step {watch.step}; correct it"
            ) from error
        observation = self._anew(error)
        watch.lost.append(self.environment - watch.first_env)
        return observation, 0.0, False, False, {}

    def _anew(self, error: BaseException) -> Any:
        """Close the environment, build it anew and return its first observation."""
        watch, broken = self.watch, isinstance(error, EnvironmentFault)
        if broken or watch.step == OPENING or watch.faults.on_error == "raise":
            raise watch.fault(error, self.environment) from error
        story = f"failed at step {watch.step}: {error!r}"
        self.close()
        try:
            watch.enter(self.environment)
            self.env = self.make()
            watch.enter(self.environment)
            observation = self._begun(seed=self._fresh_seed())
            watch.enter(self.environment)
        except RAISED as another:
            raise EnvironmentFault(
                f"{watch.who(self.environment)} {story}; it could not be built anew: {another!r}"
            ) from another
        watch.restarts.append(f"{watch.who(self.environment)} was built anew: it {story}")
        return observation

    def _fresh_seed(self) -> int:
        """Return a seed for a restart in this step."""
        own = streams(np.uint64(self.watch.seed), SEEDS, self.environment, 1)[0]
        return int(streams(own, SEEDS, self.watch.step, 1)[0]) >> 33


def guarded(make: Callable[[], Any], watch: Watch, masks: bool = False) -> SyncVectorEnv:
    """Make the environments of a shard, each behind a guard, with SAME_STEP autoreset.

    Parameters
    ----------
    make : callable
        A function that makes one environment.
    watch : Watch
        The watch of the shard.
    masks : bool
        Whether to tell the masks of the actions.

    Returns
    -------
    SyncVectorEnv
        A vector environment of :class:`Guard` objects.

    Raises
    ------
    EnvironmentFault
        If an environment cannot be made; those already made are closed.
    """
    guards: list[Guard] = []
    try:
        for environment in range(watch.first_env, watch.first_env + watch.n_envs):
            guards.append(Guard(make, watch, environment, masks))
        made = [partial(_itself, guard) for guard in guards]
        return _Guarded(made, autoreset_mode=AutoresetMode.SAME_STEP)
    except BaseException:
        for guard in guards:
            guard.close()
        raise


class _Guarded(SyncVectorEnv):
    """Guards that step together; a step costs less, as they return plain values and hardly an info.

    The observations of a step are overwritten by the next.
    """

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Reset all guards."""
        observations, info = super().reset(**kwargs)
        return observations, info | self._masks()

    def _masks(self) -> dict[str, Any]:
        """Return the masks of the guards as an info, if they have some."""
        masks = [cast("Guard", guard).mask for guard in self.envs]
        return {} if all(mask is None for mask in masks) else {KEY: masks}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all guards; reset those whose episodes end, whose last observations are kept."""
        observations, rewards, over, cut = [], [], [], []
        last, info = np.empty(self.num_envs, object), {}
        for i, (guard, action) in enumerate(
            zip(self.envs, iterate(self.action_space, actions), strict=True)
        ):
            observation, paid, terminated, truncated, _ = guard.step(action)
            if terminated or truncated:
                last[i], info["final_obs"] = observation, last
                observation, _ = guard.reset()
            observations.append(observation)
            rewards.append(paid)
            over.append(terminated)
            cut.append(truncated)
        batch = concatenate(self.single_observation_space, observations, self._observations)
        info |= self._masks()
        return batch, np.array(rewards), np.array(over), np.array(cut), info


def _itself(guard: Guard) -> Guard:
    return guard


def tell_of_masks(env: Any, info: Mapping[str, Any]) -> None:
    """Warn, if an environment has masks of its actions, that they are not used."""
    if KEY in info or says_masks(env):
        name = env.spec.id if env.spec else type(env.unwrapped).__name__
        _log.warning(
            "%s says which actions are valid (action_mask), which is not used with "
            "action_masks=False: all its actions are tried and learned, and must be possible in "
            "every state",
            name,
        )


def close_all(envs: VectorEnv[Any, Any, Any], watch: Watch) -> None:
    """Close environments that are not needed any more; a fault in closing them is only logged.

    Parameters
    ----------
    envs : VectorEnv
        The environments of a shard.
    watch : Watch
        The watch of the shard.
    """
    watch.step, watch.given_up = CLOSING, False  # a thread that was given up is over: it held them
    try:
        timed(envs.close, watch)
    except EnvironmentFault as fault:
        _log.warning("%s", fault)
    watch.mark.remove()


def timed(work: Callable[[], T], watch: Watch) -> T:
    """Do work that may hang; if there is a timeout, in a thread of its own that can be left behind.

    Parameters
    ----------
    work : callable
        A function that enters the watch (:meth:`Watch.enter`) whenever a piece of work begins.
    watch : Watch
        The record of the piece of work under way, and of how long a piece may take.

    Returns
    -------
    object
        What `work` returns.

    Raises
    ------
    EnvironmentFault
        If the work raises, or a piece does not end within the timeout; its thread then goes on
        until its next piece begins.
    """
    try:
        return _waited_for(work, watch)
    except EnvironmentFault as error:
        fault, cause = error, error.__cause__
    except RAISED as error:
        fault, cause = watch.fault(error), error
    fault.__context__ = None  # at most the cause again
    try:
        if cause is None or _travels(cause):
            raise fault from cause
        fault.add_note("".join(traceback.format_exception(cause)))
        raise fault from None
    finally:
        del fault, cause  # the traceback holds this frame: no cycle, so environments are closed


def _travels(error: BaseException | None) -> bool:
    """Whether a worker can send an error to the client, with its whole chain of causes."""
    if error is None:
        return True
    try:
        pickle.loads(cloudpickle.dumps(error))
    except Exception:
        return False
    return _travels(error.__cause__) and _travels(error.__context__)


def _waited_for(work: Callable[[], T], watch: Watch) -> T:
    """Do work here, or, with a timeout, in another thread while this one waits."""
    timeout, result = watch.faults.timeout, Future[T]()
    if timeout is None:
        return work()
    watch.enter()
    run = contextvars.copy_context().run
    thread = threading.Thread(
        target=run, args=(_into, result, work), name=f"dqlearn-{watch.shard}", daemon=True
    )
    try:
        thread.start()
    except RuntimeError:  # an interpreter that is ending starts no threads
        return work()
    try:
        while not result.done():
            left = watch.beat + float(timeout) - time.monotonic()
            if left <= 0:
                raise watch.hang()
            wait([result], left)
        return result.result()
    except BaseException:
        watch.given_up = True
        raise
    finally:
        del result


def _into(result: Future[T], work: Callable[[], T]) -> None:
    """Do work, and put its result or its error into a future."""
    try:
        result.set_result(work())
    except BaseException as error:
        result.set_exception(error)
    finally:
        del result, work
