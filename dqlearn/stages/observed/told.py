"""What somebody says of transitions, one row each, before anything of it is checked.

::

    observe(obs, action, ...)     one transition, or arrays of them
    observe(frame)                columns: obs, action, reward, next_obs, terminated, ...
                                  of an array  obs_0, obs_1, ..    of a Dict  obs_key

Invariant: each part has one row for every transition; the rows themselves may hold anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import Space, spaces

from dqlearn.errors import ConfigurationError, SpaceError
from dqlearn.text import shortened

__all__ = ["REQUIRED", "Told", "array_of", "column", "is_frame", "told", "told_by_frame"]

REQUIRED = ("obs", "action", "reward", "next_obs", "terminated")
_OPTIONAL = ("truncated", "source", "seq")
_OBSERVED = ("obs", "next_obs")


@dataclass(frozen=True)
class Told:
    """Rows that nobody has checked.

    Attributes
    ----------
    n : int
        Number of rows.
    obs, action, next_obs : array, tuple or dict of arrays
        Batches of elements of their spaces, as a `VectorEnv` returns them.
    reward, terminated, truncated : array (n,)
        As ``Env.step`` returns them.
    source : str, int, array (n,), or None
        Where each row comes from.
    seq : int, array (n,), or None
        Its number there.
    """

    n: int
    obs: Any
    action: Any
    reward: npt.NDArray[Any]
    next_obs: Any
    terminated: npt.NDArray[Any]
    truncated: npt.NDArray[Any]
    source: Any = None
    seq: Any = None


def is_frame(value: Any) -> bool:
    """Return whether a value has named columns: a Dataset, a data frame, a mapping."""
    return isinstance(value, Mapping) or hasattr(value, "columns")


def told(observed: Space[Any], action: Space[Any], given: Mapping[str, Any]) -> Told:
    """Take one transition, whose reward is one number, or a batch of them, as it is given.

    Parameters
    ----------
    observed, action : gymnasium.Space
        The spaces of the observations and of the actions.
    given : mapping
        The arguments by their names; those that are left out are None.

    Returns
    -------
    Told
        The rows.

    Raises
    ------
    ConfigurationError
        If something is missing, or not laid out in rows.
    """
    _check_there(given, [name for name in REQUIRED if given.get(name) is not None])
    if isinstance(given["reward"], list | tuple) or np.ndim(given["reward"]):
        return _rows(given)
    parts = {"obs": observed, "next_obs": observed, "action": action}
    single = {
        name: _alone(parts.get(name), given[name])
        for name in (*REQUIRED, "truncated")
        if given.get(name) is not None
    }
    return _rows({**given, **single})


def told_by_frame(frame: Any, given: Mapping[str, Any], observed: Space[Any]) -> Told:
    """Take the columns of a Dataset, of a data frame, or of a mapping.

    Parameters
    ----------
    frame : object
        What ``frame[name]`` is a column of.
    given : mapping
        The arguments by their names; those that are not None take the place of columns.
    observed : gymnasium.Space
        The space of the observations, whose parts may have columns of their own.

    Returns
    -------
    Told
        The rows.

    Raises
    ------
    ConfigurationError
        If a column is missing.
    """
    columns = frame if isinstance(frame, Mapping) else frame.columns
    names = [str(name) for name in getattr(frame, "variables", columns)]  # coordinates, too
    found: dict[str, Any] = {}
    for name in (*REQUIRED, *_OPTIONAL):
        if given.get(name) is not None:
            found[name] = given[name]
        elif name in _OBSERVED:
            parts = _parts(frame, names, name, observed)
            found |= {} if parts is None else {name: parts}
        elif name in names:
            found[name] = np.asarray(frame[name])
    _check_there(found, names)
    return _rows(found)


def _parts(frame: Any, names: list[str], prefix: str, space: Space[Any]) -> Any:
    """Return the observations that a column, or several, hold; None where one is missing."""
    if prefix in names:
        return np.asarray(frame[prefix])
    parts: Any
    if isinstance(space, spaces.Dict):
        parts = {k: _parts(frame, names, f"{prefix}_{k}", it) for k, it in space.spaces.items()}
        return None if any(part is None for part in parts.values()) else parts
    if isinstance(space, spaces.Tuple):
        parts = tuple(
            _parts(frame, names, f"{prefix}_{i}", it) for i, it in enumerate(space.spaces)
        )
        return None if any(part is None for part in parts) else parts
    columns = [f"{prefix}_{i}" for i in range(int(np.prod(space.shape or ())))]
    if not space.shape or not {*columns} <= {*names}:
        return None
    flat = np.stack([np.asarray(frame[column]) for column in columns], axis=1)
    return flat.reshape(len(flat), *space.shape)


def _check_there(given: Mapping[str, Any], names: Iterable[str]) -> None:
    for name in REQUIRED:
        if given.get(name) is None:
            raise ConfigurationError(
                f"observe() needs {', '.join(REQUIRED)}, as arguments or as columns of the first; "
                f"{name!r} is missing, got {shortened(list(names))}"
            )


def _alone(space: Space[Any] | None, value: Any) -> Any:
    """Return one element as a batch of one."""
    if isinstance(space, spaces.Dict) and isinstance(value, Mapping):
        return {key: _alone(space.spaces.get(key), part) for key, part in value.items()}
    if isinstance(space, spaces.Tuple) and isinstance(value, tuple | list):
        return tuple(_alone(*pair) for pair in zip(space.spaces, value, strict=False))
    return [value]


def _rows(given: Mapping[str, Any]) -> Told:
    reward = column("reward", given["reward"], None)
    n, cut = len(reward), given.get("truncated")
    return Told(
        n,
        given["obs"],
        given["action"],
        reward,
        given["next_obs"],
        column("terminated", given["terminated"], n),
        np.zeros(n, np.bool_) if cut is None else column("truncated", cut, n),
        given.get("source"),
        given.get("seq"),
    )


def column(name: str, values: Any, n: int | None) -> npt.NDArray[Any]:
    """Return a column of `n` values, or of as many as there are.

    Parameters
    ----------
    name : str
        Name of the column, for the error.
    values : array-like
        The values.
    n : int, optional
        Number of rows.

    Returns
    -------
    ndarray
        The column, shape (n,), of any dtype.

    Raises
    ------
    ConfigurationError
        If there is not one value for each row.
    """
    array = array_of(values)
    if array.ndim != 1 or (n is not None and len(array) != n):
        expected = (
            "one value for each row"
            if n is None
            else f"one value for each of {n} rows, as reward has"
        )
        raise ConfigurationError(f"{name} must have {expected}, got the shape {array.shape}")
    return array


def array_of(values: Any) -> npt.NDArray[Any]:
    """Return rows as an array; of objects, where they are no numbers of one shape."""
    if hasattr(values, "__array__"):
        values = np.asarray(values)
    try:
        array = np.asarray(values)
    except ValueError:  # ragged
        array = np.empty(0, object)
    if array.dtype.kind in "biuf" or (array.dtype.kind == "O" and array.size):
        return array
    if isinstance(values, np.ndarray):
        return values.astype(object)
    if not isinstance(values, list | tuple):
        raise SpaceError(f"expected rows of numbers, got {shortened(values)}")
    objects = np.empty(len(values), object)
    objects[:] = [np.asarray(it) if isinstance(it, list | tuple) else it for it in values]
    return objects
