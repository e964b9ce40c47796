"""Masks of the actions of Python environments, as they come with a reset or a step.

::

    info["action_mask"]    Gymnasium's Taxi, PettingZoo     ┐ one of 0 and 1, or of bools, for each
    env.action_masks()     sb3-contrib's MaskablePPO        ┘ action ──► bool (n_envs, n_actions)

A MultiDiscrete action has one mask for each of its parts, a tuple of them or all in a row. What is
valid must follow from the observation: `Seen` notices where it does not. Invariant: an environment
that has a mask at its first reset has one after each step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import MultiDiscrete

from dqlearn.errors import ActionMaskError
from dqlearn.spaces import SpaceIndex

__all__ = ["KEY", "Seen", "mask_of", "masks_of", "says_masks"]

KEY = "action_mask"
"""The key of a mask in an info."""

_METHOD = "action_masks"


def says_masks(env: Any) -> bool:
    """Whether an environment, or the first of a vector, has a method that says its masks."""
    base = env.unwrapped
    bases = [base, *(one.unwrapped for one in getattr(base, "envs", [])[:1])]
    return any(callable(getattr(it, name, None)) for it in bases for name in (KEY, _METHOD))


def mask_of(env: gymnasium.Env[Any, Any], info: Mapping[str, Any]) -> Any:
    """Return the mask of one environment, as it says it; None if it has none.

    Parameters
    ----------
    env : gymnasium.Env
        The environment.
    info : mapping
        What its last reset or step returned.

    Returns
    -------
    object or None
    """
    if KEY in info:
        return info[KEY]
    method = getattr(env.unwrapped, _METHOD, None)
    return method() if callable(method) else None


def masks_of(
    info: Mapping[str, Any], actions: SpaceIndex, idle: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.bool_] | None:
    """Return the masks of a vector environment; None if it has none.

    Parameters
    ----------
    info : mapping
        What its last reset or step returned.
    actions : SpaceIndex
        The numbers of its actions.
    idle : bool (n_envs,), optional
        Environments whose next action is ignored, so that they need no mask.

    Returns
    -------
    bool (n_envs, n_actions), optional

    Raises
    ------
    ActionMaskError
        If an environment has no mask, or one that is none.
    """
    given = info.get(KEY)
    if given is None:
        return None
    said = info.get(f"_{KEY}")
    found = np.ones((len(given), actions.n), np.bool_)
    silent = np.zeros(len(given), np.bool_) if said is None else ~np.asarray(said, np.bool_)
    skip = np.zeros_like(silent) if idle is None else silent & idle
    for e in range(len(given)):
        if skip[e]:
            continue
        if silent[e] or given[e] is None:
            raise ActionMaskError(
                f"an environment with a mask must have one after each step, got none of "
                f"environment {e} of its shard: see its info, or pass action_masks=False"
            )
        found[e] = _as_mask(given[e], actions)
    return found


def _as_mask(given: Any, actions: SpaceIndex) -> npt.NDArray[np.bool_]:
    """Return the mask of an environment over the numbers of its actions."""
    sizes, parts = [actions.n], [given]
    if isinstance(actions.space, MultiDiscrete):
        sizes = actions.space.nvec.ravel().tolist()
        split = isinstance(given, tuple | list) and len(given) == len(sizes)
        parts = list(given) if split else np.split(np.asarray(given), np.cumsum(sizes)[:-1])
    flags = [_flags(part, n, given) for part, n in zip(parts, sizes, strict=True)]
    mask = flags[0]
    for flag in flags[1:]:
        mask = np.logical_and.outer(mask, flag).ravel()
    return mask


def _flags(part: Any, n: int, given: Any) -> npt.NDArray[np.bool_]:
    array = np.asarray(part)
    if array.dtype == np.int8 and array.shape == (n,) and not (array & -2).any():
        return array.view(np.bool_)
    if array.shape == (n,) and array.dtype.kind in "biuf" and np.isin(array, (0, 1)).all():
        return array.astype(np.bool_)
    raise ActionMaskError(
        f"a mask must have 0 or 1 for each of {n} actions, got {given!r}: correct the environment, "
        "or pass action_masks=False"
    )


class Seen:
    """The masks of the states that a shard has acted in."""

    def __init__(self) -> None:
        self._masks: dict[int, bytes] = {}
        self._new: list[tuple[int, npt.NDArray[np.bool_]]] = []

    def note(self, states: npt.NDArray[np.int64], masks: npt.NDArray[np.bool_], first: int) -> None:
        """Note the masks of states in which environments act now.

        Parameters
        ----------
        states : int64 (m,)
            The states.
        masks : bool (m, n_actions)
            Their masks.
        first : int
            Number of the first environment, for the message.

        Raises
        ------
        ActionMaskError
            If the mask of a state has changed, or no action is valid.
        """
        for e, (state, mask) in enumerate(zip(states.tolist(), masks, strict=True)):
            text = mask.tobytes()
            known = self._masks.get(state)
            if known == text:
                continue
            if known is not None:
                before = np.flatnonzero(np.frombuffer(known, np.bool_)).tolist()
                raise ActionMaskError(
                    "the mask of a state must always be the same, got the valid actions "
                    f"{np.flatnonzero(mask).tolist()} and before {before} from environment "
                    f"{first + e} in state {state}: add what the mask depends on to the "
                    "observation, or pass action_masks=False"
                )
            if not mask.any():
                raise ActionMaskError(
                    "a state in which an episode goes on must have a valid action, got none from "
                    f"environment {first + e} in state {state}: let it terminate"
                )
            self._masks[state] = text
            self._new.append((state, mask.copy()))

    def told(self, n_actions: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return states that are new since the last call, with their masks.

        Parameters
        ----------
        n_actions : int
            Number of actions.

        Returns
        -------
        (int64 (m,), bool (m, n_actions))
        """
        states = np.array([state for state, _ in self._new], np.int64)
        masks = np.array([mask for _, mask in self._new], np.bool_).reshape(-1, n_actions)
        self._new = []
        return states, masks
