"""Checking and copying what environments return, into one form.

::

    reset ──► (observation, info)                     ──►  a copy, in the space's dtype
    step  ──► (observation, reward, terminated,       ──►  a copy; a float;
               truncated, info)                            two bools
    step of n environments                            ──►  float64 (n,), bool (n,), bool (n,)

An environment may go on writing to an observation that it has returned, and Gymnasium's vector
environments cast values to a dtype without checking that they fit. Invariant: what this module
returns shares no memory with the environment and has the value that the environment returned;
anything else is refused with an error that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import Space, spaces
from gymnasium.vector import SyncVectorEnv, VectorEnv

from dqlearn.errors import InterfaceError, RewardError

__all__ = [
    "Keep",
    "Kept",
    "flag",
    "flags",
    "keeper",
    "keeping",
    "reset_pair",
    "reward",
    "rewards",
    "step_five",
]

Keep: TypeAlias = Callable[[Any], Any]

_FLAGS = "terminated and truncated must be true or false (bool, 0 or 1)"
_REWARDS = "a reward must be one real number"
_EXACT = 2**53  # whole numbers below it are floats


def reset_pair(result: Any) -> tuple[Any, Mapping[str, Any]]:
    """Return the observation and the info of a `reset`.

    Raises
    ------
    InterfaceError
        If there are not these two.
    """
    if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Mapping):
        return result
    raise InterfaceError(
        f"reset must return (observation, info), info a dict, got {result!r}: an environment of "
        "the old interface needs a wrapper, such as shimmy's"
    )


def step_five(result: Any) -> tuple[Any, Any, Any, Any, Mapping[str, Any]]:
    """Return the five parts of what a `step` returned.

    Raises
    ------
    InterfaceError
        If there are not five.
    """
    if isinstance(result, tuple) and len(result) == 5:
        return result
    n = f"{len(result)} parts" if isinstance(result, tuple) else repr(result)
    raise InterfaceError(
        f"step must return (observation, reward, terminated, truncated, info), got {n}: an "
        "environment of the old interface needs a wrapper, such as shimmy's"
    )


def flag(value: Any) -> bool:
    """Return one flag as a bool.

    Raises
    ------
    InterfaceError
        If it is neither true nor false.
    """
    if value is True or value is False:
        return value
    return bool(flags(value, 1)[0])


def flags(values: Any, n: int) -> npt.NDArray[np.bool_]:
    """Return the flags of `n` environments, bool ``(n,)``.

    Raises
    ------
    InterfaceError
        If there are not `n` of them, or one is neither true nor false.
    """
    array = _one_each(values, n, _FLAGS)
    if array.dtype == np.bool_:
        return array
    if array.dtype.kind == "O":
        array = np.array(array.tolist())
    if array.dtype.kind not in "biuf" or not ((array == 0) | (array == 1)).all():
        raise InterfaceError(f"{_FLAGS}, got {values!r}")
    return array.astype(np.bool_)


def reward(value: Any) -> float:
    """Return one reward as a float; infinities and NaN are refused later, by the batch.

    Raises
    ------
    RewardError
        If it is no number.
    """
    if type(value) is int and -_EXACT < value < _EXACT:
        return float(value)
    return value if type(value) is float else float(rewards(value, 1)[0])


def rewards(values: Any, n: int) -> npt.NDArray[np.float64]:
    """Return the rewards of `n` environments, float64 ``(n,)``.

    Raises
    ------
    RewardError
        If there are not `n` of them, or one is no number.
    """
    try:
        array = _one_each(values, n, _REWARDS)
        if array.dtype.kind == "O":
            array = np.array(array.tolist())
    except InterfaceError as error:
        raise RewardError(str(error)) from error
    if array.dtype.kind not in "biuf":
        raise RewardError(f"{_REWARDS}, got {values!r}")
    return array.astype(np.float64, copy=False)


def _one_each(values: Any, n: int, rule: str) -> npt.NDArray[Any]:
    """Return an array ``(n,)``; a column, or the scalar of a single environment, is one too."""
    try:
        array = np.asarray(values)
    except ValueError as error:  # a ragged list
        raise InterfaceError(f"{rule}, for each of {n} environments, got {values!r}") from error
    if array.shape != (n,):
        if array.shape != (n, 1) and not (n == array.size == 1):
            raise InterfaceError(
                f"{rule}, for each of {n} environments, got an array of shape {array.shape}"
            )
        array = array.reshape(n)
    return array


def keeper(space: Space[Any]) -> Keep:
    """Return the function that copies the observations of one environment.

    Parameters
    ----------
    space : gymnasium.Space
        The observation space.

    Returns
    -------
    callable
        ``keep(observation) -> observation``, which copies part by part into the space's dtypes. It
        raises an `InterfaceError` if the parts, shape or kind of an observation are not the
        space's, or a value does not fit the dtype.

    Examples
    --------
    >>> position = np.zeros(1, np.int64)
    >>> kept = keeper(spaces.MultiDiscrete([8]))(position)
    >>> position[0] = 5
    >>> kept
    array([0])
    """
    if isinstance(space, spaces.Dict):
        return _dict_keeper({key: keeper(part) for key, part in space.spaces.items()})
    if isinstance(space, spaces.Tuple):
        return _tuple_keeper([keeper(part) for part in space.spaces])
    return _leaf_keeper(space)


def _dict_keeper(parts: Mapping[str, Keep]) -> Keep:
    def keep(observation: Any) -> Any:
        if not isinstance(observation, Mapping) or observation.keys() != parts.keys():
            raise InterfaceError(
                f"an observation must have the parts {list(parts)}, got {observation!r}"
            )
        return {key: part(observation[key]) for key, part in parts.items()}

    return keep


def _tuple_keeper(parts: list[Keep]) -> Keep:
    def keep(observation: Any) -> Any:
        if not isinstance(observation, tuple | list) or len(observation) != len(parts):
            raise InterfaceError(
                f"an observation must be a tuple of {len(parts)} parts, got {observation!r}"
            )
        return tuple(part(value) for part, value in zip(parts, observation, strict=True))

    return keep


def _leaf_keeper(space: Space[Any]) -> Keep:
    dtype, shape = np.dtype(space.dtype), space.shape
    plain = dtype == np.int64 and shape == ()  # then a Python int needs no copy

    def keep(observation: Any) -> Any:
        if plain and type(observation) is int:
            return observation
        array = np.array(observation)
        if array.shape != shape:
            raise InterfaceError(
                f"an observation of {space} must have the shape {shape}, got {observation!r}"
            )
        return array if array.dtype == dtype else _cast(array, dtype, space)

    return keep


def _cast(array: npt.NDArray[Any], dtype: np.dtype[Any], space: Space[Any]) -> npt.NDArray[Any]:
    """Return the same values in the space's dtype."""
    whole = dtype.kind in "iub"
    if array.dtype.kind not in ("iub" if whole else "iubf"):
        kind = "integers" if whole else "real numbers"
        raise InterfaceError(
            f"an observation of {space} must be {kind}, got {array.tolist()!r} in {array.dtype}: "
            "convert it in the environment"
        )
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    if whole and (cast != array).any():
        raise InterfaceError(
            f"an observation of {space} must fit {dtype}, got {array.tolist()!r}: declare a larger "
            "space, or correct the environment"
        )
    return cast


class Kept(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment whose observations are copies.

    Parameters
    ----------
    env : gymnasium.Env
        An environment that may go on writing to what it has returned.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.keep = keeper(env.observation_space)

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step; return a copy of the observation."""
        observation, *rest = step_five(self.env.step(action))
        return self.keep(observation), *rest

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Reset; return a copy of the observation."""
        observation, info = reset_pair(self.env.reset(**kwargs))
        return self.keep(observation), dict(info)


def keeping(envs: VectorEnv[Any, Any, Any]) -> VectorEnv[Any, Any, Any]:
    """Make the environments of a `SyncVectorEnv` return copies of their observations.

    With SAME_STEP autoreset, the vector environment holds the last observation of an episode while
    it resets the environment, which might overwrite it.
    """
    base = envs.unwrapped
    if isinstance(base, SyncVectorEnv):
        base.envs = [Kept(env) for env in base.envs]
    return envs
