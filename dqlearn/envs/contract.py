"""The contract of a model: what its functions are given, and what they return.

::

    initial     (key, params)                    ──► an integer
    events      (state, action, params)          ──► a tuple of n_events floats
    transition  (state, action, happened or key, params) ──► (an integer, a number, a bool)
    valid       (state, action, params)          ──► a bool

Numba infers the types of each function by itself, so that an error names the function at fault and
its line. Functions that passed the check are noted beside their machine code, so that a process
that loads the code need not compile them to check them again. Invariant: no kernel of a model is
compiled before its functions have passed the check.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core.dispatcher import Dispatcher

from dqlearn.envs.model import Model
from dqlearn.errors import ConfigurationError
from dqlearn.jit.code_folder import code_folder
from dqlearn.jit.inference import returned_type, where

__all__ = ["check_params", "check_signatures", "check_types"]

_KEY, _INDEX = types.uint64, types.int64
_CURE = "use what numba supports, and pass everything else in params"
_checked: set[str] = set()


def _arguments(env: Model) -> dict[str, dict[str, Any]]:
    """Return the names and types of what each function is given."""
    params = _typeof(env.params)
    pair = {"state": _INDEX, "action": _INDEX}
    drawn = {"key": _KEY} if env.events is None else {"happened": _INDEX}
    taken = {
        "initial": {"key": _KEY, "params": params},
        "events": {**pair, "params": params},
        "transition": {**pair, **drawn, "params": params},
        "valid": {**pair, "params": params},
    }
    return {role: taken[role] for role, function in env.functions.items() if function is not None}


# Checks made before anything is compiled


def check_params(params: Any) -> None:
    """Raise unless `params` is a tuple of values that numba can take.

    Parameters
    ----------
    params : object
        What the user gave.

    Raises
    ------
    ConfigurationError
        If it is not a tuple, or numba cannot take a value in it.
    """
    if not isinstance(params, tuple):
        raise ConfigurationError(
            f"params must be a tuple of scalars and arrays, got {params!r}: write ({params!r},)"
            if np.isscalar(params)
            else f"params must be a tuple of scalars and arrays, got {params!r}"
        )
    for i, value in enumerate(params):
        try:
            if _fits(_typeof(value)):
                continue
        except ValueError:
            pass
        raise ConfigurationError(
            f"params[{i}] must be a scalar, an array or a tuple of these, got {value!r}: compiled "
            "functions cannot take it; make a tuple or a NumPy array of it"
        )


def _typeof(value: Any) -> Any:
    """Return numba's type of a value."""
    kind: Any = numba.typeof(value)  # type: ignore[no-untyped-call]
    return kind


def _fits(kind: Any) -> bool:
    """Whether values of this numba type can be passed to kernels, in any process."""
    parts: Any = kind if isinstance(kind, types.BaseTuple) else ()
    held = getattr(kind, "dtype", kind)
    refused = isinstance(kind, types.List | types.Set) or held == types.pyobject
    return not refused and all(map(_fits, parts))


def check_signatures(env: Model) -> None:
    """Raise unless a model's functions are functions that take the arguments they will be given.

    Parameters
    ----------
    env : Model
        The model.

    Raises
    ------
    ConfigurationError
        If one is no function, or takes other arguments.
    """
    for role, arguments in _arguments(env).items():
        function = env.functions[role]
        wanted = f"{role}({', '.join(arguments)})"
        if not (inspect.isfunction(function) or isinstance(function, Dispatcher)):
            raise ConfigurationError(f"expected a function {wanted}, got {function!r}")
        taken = inspect.signature(getattr(function, "py_func", function))
        try:
            taken.bind(*arguments)
        except TypeError as error:
            raise ConfigurationError(
                f"expected a function {wanted}, got {where(function)}, which takes {taken}"
            ) from error


# Checks made once, before the first kernel is compiled


def check_types(env: Model, functions: Mapping[str, Any], token: str) -> None:
    """Raise unless numba can compile a model's functions, and they return what they should.

    Parameters
    ----------
    env : Model
        The model.
    functions : mapping of str to Dispatcher
        The model's functions by their names, as kernels call them.
    token : str
        An identifier that no other functions have in this process.

    Raises
    ------
    ConfigurationError
        If a check fails. The error names the function and its line; numba's own error is the cause.
    """
    arguments = _arguments(env)
    name = _note(env, arguments, token)
    if name in _checked or _is_noted(name):
        return
    for role, taken in arguments.items():
        returned = returned_type(role, functions[role], tuple(taken.values()), _CURE)
        _CHECKS[role](env, functions[role], returned)
    _checked.add(name)
    folder = code_folder() if env.digest else None
    if folder is not None:
        with suppress(OSError):
            (folder / name).touch()


def _note(env: Model, arguments: Mapping[str, Any], token: str) -> str:
    """Return the name of the note that these functions passed, with these types, this check."""
    told = f"{token} {arguments} {env.n_events}".encode() + Path(__file__).read_bytes()
    return f"checked-{hashlib.sha256(told).hexdigest()[:32]}"


def _is_noted(name: str) -> bool:
    folder = code_folder()
    return folder is not None and (folder / name).exists()


def _is_state(kind: types.Type) -> bool:
    return isinstance(kind, types.Integer | types.Boolean)


def _check_initial_type(env: Model, function: Any, returned: Any) -> None:
    if not _is_state(returned):
        raise ConfigurationError(
            f"initial must return a state, an integer in 0 .. {env.n_states - 1}; "
            f"{where(function)} returns {returned}"
        )


def _check_events_type(env: Model, function: Any, returned: Any) -> None:
    uniform = isinstance(returned, types.UniTuple | types.NamedUniTuple)
    right = uniform and isinstance(returned.dtype, types.Float | types.Integer)
    if not right or len(returned) != env.n_events:
        raise ConfigurationError(
            f"events must return a tuple of n_events={env.n_events} probabilities, all of them "
            f"floats; {where(function)} returns {returned}"
        )


def _check_transition_type(env: Model, function: Any, returned: Any) -> None:
    wanted = "transition must return (next_state, reward, terminated)"
    found = f"{where(function)} returns {returned}"
    parts: Any = returned if isinstance(returned, types.BaseTuple) else ()
    if len(parts) != 3:
        raise ConfigurationError(f"{wanted}; {found}")
    state, reward, terminated = parts
    number = types.Float | types.Integer | types.Boolean
    for right, part in (
        (_is_state(state), f"next_state an integer in 0 .. {env.n_states - 1}: int(...) makes one"),
        (isinstance(reward, number), "reward a real number"),
        (isinstance(terminated, types.Boolean), "terminated a bool: a comparison, or bool(...)"),
    ):
        if not right:
            raise ConfigurationError(f"{wanted}, {part}; {found}")


def _check_valid_type(env: Model, function: Any, returned: Any) -> None:
    if not isinstance(returned, types.Boolean):
        raise ConfigurationError(
            "valid must return a bool: a comparison, or bool(...); "
            f"{where(function)} returns {returned}"
        )


_CHECKS: dict[str, Callable[[Any, Any, Any], None]] = {
    "initial": _check_initial_type,
    "events": _check_events_type,
    "transition": _check_transition_type,
    "valid": _check_valid_type,
}
