"""A compiled model as an ordinary Gymnasium environment.

::

    reset(seed) ──► stream ──► key of call t, a reset or a step ──► kernels.first, kernels.step

Invariant: t counts calls and restarts only with a new seed, so no random number is drawn twice.
"""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Discrete

from dqlearn.checks import check_whole
from dqlearn.envs.model_faults import check_initial, check_mask, check_transition
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import ConfigurationError, SpaceError
from dqlearn.random import VIEW, stream

__all__ = ["TabularGymEnv"]

_TEMPLATE = Path(__file__).parents[2] / "kernels" / "templates" / "view_template.py"


def view_kernels(model: TabularEnv) -> types.ModuleType:
    """Return the model's kernels that are made from ``kernels/templates/view_template.py``."""
    names = ("first", "step", "may", "alive", "enumerate_outcomes")
    return model.specialised(_TEMPLATE, {name: getattr(model.kernels, name) for name in names})


def check_is_model(model: Any) -> None:
    """Raise ConfigurationError unless the argument is a TabularEnv."""
    if not isinstance(model, TabularEnv):
        raise ConfigurationError(f"expected a TabularEnv, got {model!r}")


def view_stream(seed: int) -> np.uint64:
    """Return the stream of the environment that is reset with `seed`."""
    return np.uint64(stream(np.uint64(seed % 2**64), VIEW, np.uint64(0)))


class TabularGymEnv(gymnasium.Env[np.int64, np.int64]):
    """A model as a `gymnasium.Env`.

    Parameters
    ----------
    model : TabularEnv
        The model; its states are the observations, and its `max_episode_steps` truncates episodes.
    render_mode : {None, "ansi", "rgb_array"}
        With "ansi", `render` returns the state as text; with "rgb_array" as pixels, if the model
        has pictures.

    Attributes
    ----------
    model : TabularEnv
        The model given.

    Raises
    ------
    ConfigurationError
        If `model` is not a TabularEnv, or `render_mode` is none of these.

    Examples
    --------
    >>> from dqlearn.envs.faces.gym_view import TabularGymEnv
    >>> from dqlearn.envs.problems.torus import torus
    >>> env = TabularGymEnv(torus(side=8, slip=0.0), render_mode="ansi")
    >>> state, info = env.reset(seed=0)
    >>> before = env.render()
    >>> _ = env.step(1)
    >>> before, env.render()
    ('row=0 column=7', 'row=1 column=7')
    """

    def __init__(self, model: TabularEnv, render_mode: str | None = None) -> None:
        check_is_model(model)
        modes = ["ansi", "rgb_array"] if model.picture else ["ansi"]
        if render_mode not in (None, *modes):
            known = " or ".join(map(repr, [None, *modes]))
            raise ConfigurationError(f"render_mode must be {known}, got {render_mode!r}")
        self.model = model
        self.metadata = {"render_modes": modes, "render_fps": 4}
        self.render_mode = render_mode
        self.observation_space = Discrete(model.n_states)
        self.action_space = Discrete(model.n_actions)
        self._stream: np.uint64 | None = None
        self._calls = self._elapsed = 0
        self._state, self._action = -1, None  # type: int, int | None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.int64, dict[str, Any]]:
        """Begin an episode.

        Parameters
        ----------
        seed : int, optional
            Seed of a new stream of random numbers; without it, the present stream goes on.
        options : dict, optional
            Ignored: a model has no options.

        Returns
        -------
        state : int64
            The initial state.
        info : dict
            ``"action_mask"``, int8 (n_actions,), if the model says which actions are valid.

        Raises
        ------
        StateRangeError
            If the model's ``initial`` leaves its range.
        """
        super().reset(seed=seed)
        if seed is not None or self._stream is None:
            self._stream, self._calls = view_stream(self.np_random_seed), 0
        kernels = view_kernels(self.model)
        state = kernels.first_at(self._stream, self._calls, self.model.params)
        check_initial(state, self.model.n_states)
        self._state, self._action, self._elapsed = state, None, 0
        self._calls += 1
        return np.int64(state), self._info()

    def _info(self) -> dict[str, Any]:
        """Return the mask of the actions, as Gymnasium's Taxi does, of a model that has one."""
        if self.model.valid is None:
            return {}
        return {"action_mask": self.model.masks([self._state])[0].astype(np.int8)}

    def step(self, action: np.int64 | int) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        """Make one transition.

        Parameters
        ----------
        action : int
            The action, in ``range(n_actions)``.

        Returns
        -------
        state : int64
            The next state.
        reward : float
            The reward of the transition.
        terminated : bool
            Whether the model has ended the episode.
        truncated : bool
            Whether the episode has reached the time limit.
        info : dict
            As that of `reset`.

        Raises
        ------
        gymnasium.error.ResetNeeded
            Before the first `reset`.
        SpaceError
            If the action is out of range.
        ActionMaskError
            If the model says that it is not valid.
        EnvironmentFault
            If the model returns a state out of range or a reward that is not finite.
        """
        model, state = self.model, self._state
        if self._stream is None:
            raise ResetNeeded("call reset() before step()")
        action = check_whole("an action", action, 0, model.n_actions - 1, error=SpaceError)
        if model.valid is not None and not model.masks([state])[0, action]:
            check_mask(model, "environment 0", state)
        after, reward, terminated = view_kernels(model).step_at(
            self._stream, self._calls, state, action, model.params
        )
        check_transition(model, "environment 0", state, action, after, reward)
        self._state, self._action = after, action
        self._calls += 1
        self._elapsed += 1
        truncated = self._elapsed >= model.limits[2]
        return np.int64(after), reward, terminated, truncated, self._info()

    def render(self) -> str | npt.NDArray[np.uint8] | None:
        """Show the state, and the action that led there.

        Returns
        -------
        str, uint8 (height, width, 3) or None
            Text such as ``row=0 column=7`` for "ansi", pixels for "rgb_array", None without a
            `render_mode`.
        """
        model = self.model
        if self.render_mode is None:
            return None
        if model.picture is not None:
            picture = model.picture(int(self._state), self._action)
            return picture.text() if self.render_mode == "ansi" else picture.rgb()
        digits = np.unravel_index(self._state, tuple(factor.size for factor in model.factors))
        return " ".join(
            f"{factor.name}={factor.labels[int(digit)] if factor.labels else digit}"
            for factor, digit in zip(model.factors, digits, strict=True)
        )
