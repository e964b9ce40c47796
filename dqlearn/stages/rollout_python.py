"""Rollout of Python environments: a donated shard is stepped in place, its autoreset undone.

::

    NEXT_STEP   the step after an end only resets: its row is no transition, its action is ignored
    SAME_STEP   the end's true last observation is in ``info["final_obs"]``
    DISABLED    the environments that ended are reset by a mask

Invariant: rows that an autoreset or a restart makes up are no transitions, a truncated episode
bootstraps from the state it was cut off in, and returns and lengths are counted from transitions
only.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode

from dqlearn.envs.python.guard import timed
from dqlearn.envs.python.gymnasium_env import PythonEnv, PythonShard, encode, encode_one
from dqlearn.envs.python.masks import masks_of
from dqlearn.envs.python.returned import flags, reset_pair, rewards, step_five
from dqlearn.errors import ActionMaskError, InterfaceError, RewardError
from dqlearn.kernels.choose import choose_actions, choose_valid_actions
from dqlearn.kernels.codes import NO_BOOTSTRAP
from dqlearn.kernels.members import columns_of_step
from dqlearn.kernels.summary import action_dtype
from dqlearn.kernels.windows.links import BEGINS, ENDS
from dqlearn.random import STEPS, exploration_threshold, streams
from dqlearn.stages.policy import Policy
from dqlearn.stages.rollout import BLOCK, state_dtype
from dqlearn.statistics import RoundStats
from dqlearn.table.transitions import Masks, Transitions

__all__ = ["python_rollout"]

_log = logging.getLogger("dqlearn")

_SUSPICIOUS, _NEVER = 32, -(2**62)
_FINAL = ("final_obs", "final_observation")  # its name before Gymnasium 1.0


def python_rollout(
    env: PythonEnv,
    shard: PythonShard,
    policy: Policy,
    epsilon: float,
    seed: int,
    n_steps: int,
    round_: int,
    *,
    traced: bool = False,
) -> tuple[Transitions, PythonShard]:
    """Take `n_steps` vector steps in a shard, in place.

    Parameters
    ----------
    env : PythonEnv
        How its spaces are numbered.
    shard : PythonShard
        The shard, which is donated: stepped in place, and returned.
    policy : Policy
        The policy that the environments act on.
    epsilon : float
        Probability of a uniformly drawn action in place of the greedy one.
    seed : int
        Seed of the run.
    n_steps : int
        Number of vector steps.
    round_ : int
        The round; the shard must be in it.
    traced : bool
        Whether the transitions say where episodes begin and end.

    Returns
    -------
    Transitions
        At most ``n_envs * n_steps``: a NEXT_STEP autoreset costs a row, and so does a restart.
    PythonShard
        The same object, one round on.

    Raises
    ------
    StaleShardError
        If the shard has left the round: its result was lost, and asked for again.
    EnvironmentFault
        If an environment raises and is not to be built anew, does not come back, leaves its
        spaces, or returns a reward that is not finite.
    """
    shard.check_round(round_)
    shard.round = -1  # if this rollout fails, no round can use the shard
    n, n_states, members = len(shard.state), env.states.n, policy.members
    keys = streams(np.uint64(seed), STEPS, shard.first_env, n)
    threshold = exploration_threshold(epsilon)
    rows = _Rows(n_steps, n, n_states, env.actions.n * members, policy.value.dtype)
    # A call for no environment compiles the kernel here, where no timeout is running.
    none = np.empty(0, np.int64)
    choose = partial(_choose, policy=policy, threshold=threshold, n_actions=env.actions.n)
    choose(keys[:0], shard, none)

    def roll() -> None:
        for k in range(n_steps):
            action = np.empty(n, np.int64)
            choose(keys, shard, action)
            column = action if members == 1 else action.copy()
            if members > 1:
                first = shard.first_env if policy.by_env else -1
                columns_of_step(keys, shard.steps, first, members, env.actions.n, column)
            rows.record(k, shard, column, *_step(env, shard, action))

    with shard.watch.at_work():
        timed(roll, shard.watch)
    shard.round = round_ + 1  # not in roll(): a thread that was given up must not set it
    made = rows.transitions(policy.timesteps, epsilon, shard.watch.tell())
    if shard.valid is not None:
        made = replace(made, masks=Masks(*shard.seen.told(env.actions.n)))
    return replace(made, **rows.edges()) if traced else made, shard


def _choose(
    keys: npt.NDArray[np.uint64],
    shard: PythonShard,
    action: npt.NDArray[np.int64],
    policy: Policy,
    threshold: np.uint64,
    n_actions: int,
) -> None:
    """Write the actions of a step, valid ones where there are masks, which are noted."""
    rows, valid = policy.rows_of(shard.state), shard.valid
    if valid is None:
        choose_actions(keys, shard.steps, rows, policy.tied, threshold, n_actions, action)
        return
    choose_valid_actions(keys, shard.steps, rows, policy.tied, threshold, valid, action)
    if len(keys):
        acting = ~shard.resetting
        shard.seen.note(shard.state[acting], valid[acting], shard.first_env)
        action[~acting & (action < 0)] = 0


def _step(
    env: PythonEnv, shard: PythonShard, action: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[Any], ...]:
    """Step once; return rewards, terminated, truncated, final states, and states to go on from."""
    shard.watch.step = shard.steps
    shard.watch.enter()
    chosen, n = env.actions.decode(action), len(action)
    observation, paid, over, cut, info = step_five(shard.envs.step(chosen))
    reward, terminated, truncated = rewards(paid, n), flags(over, n), flags(cut, n)
    done = terminated | truncated
    if shard.valid is not None:
        shard.valid = _valid(env, shard, info, done)
    final = after = encode(env, shard.envs, shard.first_env, observation)
    if shard.resetting.any():
        _check_resets(shard, done, reward)
    if done.any():
        final, after = _ends(env, shard, done, after, info)
    shard.steps += 1
    return reward, terminated, truncated, final, after


def _valid(
    env: PythonEnv, shard: PythonShard, info: Mapping[str, Any], done: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Return the valid actions of the next step."""
    idle = done if shard.autoreset is not AutoresetMode.SAME_STEP else None
    valid = masks_of(info, env.actions, idle)
    if valid is None:
        raise ActionMaskError(
            "an environment with a mask must have one after each step, got an info without "
            "action_mask: see its step, or pass action_masks=False"
        )
    return valid


def _check_resets(
    shard: PythonShard, done: npt.NDArray[np.bool_], reward: npt.NDArray[np.float64]
) -> None:
    """Refuse a step that should only have reset an environment, but did more."""
    for e in np.flatnonzero(shard.resetting & (done | (reward != 0.0)))[:1]:
        raise InterfaceError(
            f"environment {shard.first_env + int(e)} declares NEXT_STEP autoreset, so the step "
            f"after an episode's end resets it, pays nothing and ends nothing; got the reward "
            f"{reward[e]}{' and another end' if done[e] else ''}: declare the mode that it has"
        )


def _ends(
    env: PythonEnv,
    shard: PythonShard,
    done: npt.NDArray[np.bool_],
    after: npt.NDArray[np.int64],
    info: Mapping[str, Any],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the final states of episodes that ended, and the states to go on from."""
    last = next((info[name] for name in _FINAL if name in info), None)
    if (last is None) == (shard.autoreset is AutoresetMode.SAME_STEP):
        raise InterfaceError(
            f"{type(shard.envs.unwrapped).__name__} declares {shard.autoreset.name} autoreset, but "
            f"the info of an episode's last step has {'no ' if last is None else ''}final_obs, "
            "which is how SAME_STEP returns the last observation: declare the mode that it has"
        )
    if last is not None:
        final = after.copy()
        for e in np.flatnonzero(done).tolist():
            final[e] = encode_one(env, shard.envs, shard.first_env + e, _element(last, e))
        _suspect_views(shard, final[done], after[done])
        return final, after
    if shard.autoreset is AutoresetMode.DISABLED:
        return after, _reset(env, shard, done, after)
    return after, after


def _suspect_views(
    shard: PythonShard, final: npt.NDArray[np.int64], first: npt.NDArray[np.int64]
) -> None:
    """Warn that final observations may be views of memory that a reset has since overwritten.

    Environments in other processes, or in a vector environment of the user's own, reset before
    dqlearn can copy what they returned. The sign is that the last state of every episode equals
    the first state of the next.
    """
    shard.alike = shard.alike + len(final) if (final == first).all() else _NEVER
    if shard.alike >= _SUSPICIOUS:
        shard.alike = _NEVER
        _log.warning(
            "all of the first %d final observations of shard %d are those of the next episode's "
            "beginning: if the environment goes on writing to what it has returned, let it return "
            "copies, or use another autoreset mode than SAME_STEP",
            _SUSPICIOUS,
            shard.watch.shard,
        )


def _reset(
    env: PythonEnv, shard: PythonShard, done: npt.NDArray[np.bool_], after: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Reset the environments whose episodes ended; the others stay where they are."""
    observation, info = reset_pair(shard.envs.reset(options={"reset_mask": done.copy()}))
    fresh = encode(env, shard.envs, shard.first_env, observation)
    if shard.valid is not None and (begun := masks_of(info, env.actions, ~done)) is not None:
        shard.valid[done] = begun[done]
    for e in np.flatnonzero(~done & (fresh != after))[:1]:
        raise InterfaceError(
            f"reset(options={{'reset_mask': ...}}) must leave an environment that is not in the "
            f"mask where it is, got another state of environment {shard.first_env + int(e)}"
        )
    return fresh


def _element(batch: Any, e: int) -> Any:
    """Take one environment's element; Gymnasium merges infos that are dicts, key by key."""
    if isinstance(batch, Mapping):
        return {k: _element(v, e) for k, v in batch.items() if not str(k).startswith("_")}
    return batch[e]


class _Rows:
    """The steps of a round, as arrays (step, environment), and the episodes that end in them."""

    def __init__(
        self, n_steps: int, n: int, n_states: int, n_actions: int, dtype: np.dtype[Any]
    ) -> None:
        shape, place = (n_steps, n), state_dtype(n_states)
        self.n_states = n_states
        self.state, self.next_state = np.empty(shape, place), np.empty(shape, place)
        self.action = np.empty(shape, action_dtype(n_actions))
        self.reward, self.real = np.empty(shape, dtype), np.empty(shape, np.bool_)
        self.begins, self.ends = np.empty(shape, np.bool_), np.empty(shape, np.bool_)
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
        """Write step k, and bring the shard's states and episodes up to date."""
        real, lost = ~shard.resetting, shard.watch.lost
        if lost:
            real[lost] = False
            shard.returns[lost], shard.elapsed[lost] = 0.0, 0
            lost.clear()
        with np.errstate(over="ignore"):
            self.reward[k] = reward
        for e in np.flatnonzero(real & ~np.isfinite(self.reward[k]))[:1]:
            raise RewardError(
                f"a reward must be finite in {self.reward.dtype}, got {reward[e]} from environment "
                f"{shard.first_env + int(e)} in state {shard.state[e]}, action {action[e]}"
            )
        self.state[k], self.action[k], self.real[k] = shard.state, action, real
        self.next_state[k] = np.where(terminated, NO_BOOTSTRAP, final)
        self.begins[k], self.ends[k] = shard.elapsed == 0, terminated | truncated
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

    def transitions(self, timesteps: int, epsilon: float, n_restarts: int) -> Transitions:
        """Return the rows that are transitions, in the order of a batch."""
        real = _by_block(self.real)
        tally = RoundStats(
            timesteps=timesteps,
            epsilon=epsilon,
            n_transitions=int(real.sum()),
            n_episodes=len(self.returns),
            return_sum=float(sum(self.returns)),
            return_sq_sum=float(sum(r * r for r in self.returns)),
            length_sum=int(sum(self.lengths)),
            return_min=min(self.returns, default=math.inf),
            return_max=max(self.returns, default=-math.inf),
            n_restarts=n_restarts,
        )
        some: Any = slice(None) if tally.n_transitions == real.size else real
        state, action, reward, next_state = (
            _by_block(column)[some]
            for column in (self.state, self.action, self.reward, self.next_state)
        )
        return Transitions(state, action, reward, next_state, tally)

    def edges(self) -> dict[str, Any]:
        """Return the lane and the edge of each of the transitions."""
        real = _by_block(self.real)
        lane = np.broadcast_to(np.arange(self.real.shape[1], dtype=np.int32), self.real.shape)
        edge = np.where(self.begins, BEGINS, 0) | np.where(self.ends, ENDS, 0)
        return {"lane": _by_block(lane)[real], "edge": _by_block(edge)[real].astype(np.uint8)}


def _by_block(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Flatten (step, environment) to the order (block, step, environment)."""
    if rows.shape[1] <= BLOCK:
        return rows.ravel()
    blocks = range(0, rows.shape[1], BLOCK)
    return np.concatenate([rows[:, b : b + BLOCK].ravel() for b in blocks])
