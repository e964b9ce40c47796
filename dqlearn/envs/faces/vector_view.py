"""A compiled model as a Gymnasium vector environment, stepped in one compiled loop.

::

    environment   0          1          2     ...
    stream        of seed    seed + 1   seed + 2          SyncVectorEnv's convention

Environment i goes through the same transitions as a single
:class:`~dqlearn.envs.faces.gym_view.TabularGymEnv` that is reset with its seed. Invariant: every
call returns, to the bit, what a `SyncVectorEnv` of single environments returns, in each autoreset
mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from dqlearn.checks import check_count
from dqlearn.envs.faces.gym_view import check_is_model, view_kernels, view_stream
from dqlearn.envs.model_faults import check_initial, check_mask, check_transition
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import ConfigurationError, SpaceError

__all__ = ["TabularVectorEnv"]


class TabularVectorEnv(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """Environments of one model as a `gymnasium.vector.VectorEnv`, stepped in one compiled loop.

    Parameters
    ----------
    model : TabularEnv
        The model; its states are the observations, and its `max_episode_steps` truncates episodes.
    num_envs : int
        Number of environments.
    autoreset_mode : AutoresetMode or str
        When environments whose episode has ended are reset, as Gymnasium defines it.

    Attributes
    ----------
    model : TabularEnv
        The model given.

    Raises
    ------
    ConfigurationError
        If `num_envs` is not positive, or there is no such `autoreset_mode`.

    Examples
    --------
    >>> from dqlearn.envs.faces.vector_view import TabularVectorEnv
    >>> from dqlearn.envs.problems.torus import torus
    >>> envs = TabularVectorEnv(torus(side=8), num_envs=3)
    >>> states, infos = envs.reset(seed=0)
    >>> states, rewards, terminated, truncated, infos = envs.step(np.array([0, 1, 2]))
    >>> states.shape, rewards
    ((3,), array([-0.01, -0.01, -0.01]))
    """

    def __init__(
        self,
        model: TabularEnv,
        num_envs: int,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        check_is_model(model)
        num_envs = check_count("num_envs", num_envs)
        try:
            self._mode = AutoresetMode(autoreset_mode)
        except ValueError as error:
            modes = ", ".join(repr(mode.value) for mode in AutoresetMode)
            raise ConfigurationError(
                f"autoreset_mode must be one of {modes}, got {autoreset_mode!r}"
            ) from error
        self.model, self.num_envs = model, num_envs
        self.metadata = {"autoreset_mode": self._mode}
        self.single_observation_space = Discrete(model.n_states)
        self.single_action_space = Discrete(model.n_actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._streams: npt.NDArray[np.uint64] | None = None
        self._calls = np.zeros(num_envs, np.int64)
        self._elapsed = np.zeros(num_envs, np.int64)
        self._ended = np.zeros(num_envs, np.bool_)
        self._state = np.full(num_envs, -1)  # -1 is no state: the first reset is still to come

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[npt.NDArray[np.int64], dict[str, Any]]:
        """Begin episodes.

        Parameters
        ----------
        seed : int or sequence, optional
            The seed of environment i is ``seed + i``, or ``seed[i]`` of a sequence. Where that is
            None, or without `seed`, the environment's present stream of random numbers goes on.
        options : dict, optional
            ``{"reset_mask": mask}``, bool ``(num_envs,)``: reset these environments only.

        Returns
        -------
        states : int64 (num_envs,)
            The state of each environment.
        infos : dict
            ``"action_mask"``, int8 (num_envs, n_actions), if the model says which actions are
            valid.

        Raises
        ------
        ConfigurationError
            If `seed` or the mask has another shape than the environments.
        StateRangeError
            If the model's ``initial`` leaves its range.
        """
        which = self._mask(options)
        self._seed(seed, which)
        self._begin(which)
        self._ended[which] = False
        return self._state.copy(), self._infos()

    def _infos(self) -> dict[str, Any]:
        """Return the masks of the actions, of a model that has one."""
        if self.model.valid is None:
            return {}
        said = np.ones(self.num_envs, np.bool_)
        return {"action_mask": self.model.masks(self._state).astype(np.int8), "_action_mask": said}

    def step(
        self, actions: npt.ArrayLike
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], Any, Any, dict[str, Any]]:
        """Make one transition in each environment, or reset it as `autoreset_mode` says.

        Parameters
        ----------
        actions : int (num_envs,)
            The action of each environment, in ``range(n_actions)``.

        Returns
        -------
        states : int64 (num_envs,)
            The next states; where SAME_STEP has reset an environment, its new initial state.
        rewards : float64 (num_envs,)
            The rewards of the transitions; 0 where NEXT_STEP has reset.
        terminated, truncated : bool (num_envs,)
            Which episodes have ended, in the model or by its time limit.
        infos : dict
            With SAME_STEP, the last states of ended episodes, as ``final_obs``; masks, as those of
            `reset`.

        Raises
        ------
        gymnasium.error.ResetNeeded
            Before the first `reset`; with DISABLED also where an episode that ended was not reset.
        SpaceError
            If the actions have another shape, or one is out of range.
        ActionMaskError
            If the model says that one is not valid.
        EnvironmentFault
            If the model returns a state out of range or a reward that is not finite.
        """
        reset = self._ended if self._mode is AutoresetMode.NEXT_STEP else np.zeros_like(self._ended)
        rewards, terminated = self._move(self._checked(actions), ~reset)
        self._elapsed += 1
        truncated = ~reset & (self._elapsed >= self.model.limits[2])
        if reset.any():
            self._begin(reset)
        self._ended = terminated | truncated
        infos = self._finish() if self._mode is AutoresetMode.SAME_STEP else {}
        return self._state.copy(), rewards, terminated, truncated, infos | self._infos()

    def _mask(self, options: dict[str, Any] | None) -> npt.NDArray[np.bool_]:
        mask = (options or {}).get("reset_mask")
        if mask is None:
            return np.ones(self.num_envs, np.bool_)
        mask = np.asarray(mask)
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
            raise ConfigurationError(
                f"options['reset_mask'] must be a bool array of shape ({self.num_envs},) with at "
                f"least one True, got {mask!r}"
            )
        return mask

    def _seed(self, seed: int | Sequence[int | None] | None, which: npt.NDArray[np.bool_]) -> None:
        """Begin new streams for environments that are given a seed, or that never had one."""
        seeds: Sequence[int | None]
        if isinstance(seed, int | np.integer):
            super().reset(seed=int(seed))
            seeds = range(int(seed), int(seed) + self.num_envs)
        else:
            seeds = [None] * self.num_envs if seed is None else seed
        if len(seeds) != self.num_envs:
            raise ConfigurationError(
                f"expected one seed for each of {self.num_envs} environments, got {len(seeds)}"
            )
        if self._streams is None:
            base = self.np_random_seed or 0
            self._streams = np.array([view_stream(base + e) for e in range(self.num_envs)])
        for e in np.flatnonzero(which).tolist():
            own = seeds[e]
            if own is not None:
                self._streams[e], self._calls[e] = view_stream(int(own)), 0

    def _begin(self, which: npt.NDArray[np.bool_]) -> None:
        """Draw initial states where `which`."""
        kernels = view_kernels(self.model)
        kernels.reset_many(self._streams, self._calls, which, self.model.params, self._state)
        self._elapsed[which] = 0
        for state in self._state[which & self._outside()][:1].tolist():
            check_initial(state, self.model.n_states)

    def _move(
        self, action: npt.NDArray[np.int64], which: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Make transitions where `which`; return rewards and who terminated."""
        before = self._state.copy()
        if self.model.valid is not None:
            valid = np.take_along_axis(self.model.masks(before), action[:, None], axis=1)[:, 0]
            for e in np.flatnonzero(which & ~valid)[:1].tolist():
                check_mask(self.model, f"environment {e}", int(before[e]))
        reward, terminated = np.empty(self.num_envs), np.empty(self.num_envs, np.bool_)
        view_kernels(self.model).step_many(
            self._streams,
            self._calls,
            which,
            self.model.params,
            action,
            self._state,
            reward,
            terminated,
        )
        for e in np.flatnonzero(self._outside() | ~np.isfinite(reward)).tolist():
            values = before[e], action[e], self._state[e], reward[e]
            check_transition(self.model, f"environment {e}", *values)
        return reward, terminated

    def _outside(self) -> npt.NDArray[np.bool_]:
        """Return which environments are in a state outside the model's range."""
        return (self._state < 0) | (self._state >= self.model.n_states)

    def _finish(self) -> dict[str, Any]:
        """Return the last states of ended episodes as infos, and begin new episodes (SAME_STEP)."""
        ended = self._ended
        if not ended.any():
            return {}
        final = np.full(self.num_envs, None, object)
        final[ended] = list(self._state[ended])
        self._begin(ended)
        return {
            "final_obs": final,
            "_final_obs": ended.copy(),
            "final_info": {},
            "_final_info": ended.copy(),
        }

    def _checked(self, actions: npt.ArrayLike) -> npt.NDArray[np.int64]:
        left = self._mode is AutoresetMode.DISABLED and self._ended.any()
        if left or self._outside().any():
            raise ResetNeeded(
                "call reset() before step(); with autoreset disabled, also "
                "reset(options={'reset_mask': terminated | truncated}) when episodes have ended"
            )
        action = np.asarray(actions)
        n = self.model.n_actions
        if action.shape != (self.num_envs,) or action.dtype.kind not in "iu":
            raise SpaceError(f"expected {self.num_envs} integer actions, got {actions!r}")
        if ((action < 0) | (action >= n)).any():
            raise SpaceError(f"an action must be in 0 .. {n - 1}, got {actions!r}")
        return action.astype(np.int64)
