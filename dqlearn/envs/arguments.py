"""Storing an environment's arguments as JSON that gives back equal values, or names what it lacks.

::

    {"side": 8, "prizes": {0: 1.0}, "log": print}
        ──► "kwargs"    {"side": 8}                               plain JSON, as it is
            "encoded"   {"prizes": {"dict": [[0, 1.0]]}}          one key: the kind of value
            "unstored"  {"log": {"type": ..., "digest": ...}}     must be given again
        ──► {"side": 8, "prizes": {0: 1.0}}  and  log=print, from whoever resumes

The kinds are a closed set, so that reading them executes nothing. Types count: a tuple comes back
as a tuple, 1 as 1 and True as True. Invariant: an argument that comes back equals the one that went
in, and one that cannot come back is asked for by name.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.errors import IncompatibleTableError
from dqlearn.jit.fingerprint import fingerprint
from dqlearn.text import shortened

__all__ = ["is_equal", "own", "restored", "stored", "texts"]

_DEEPEST = 50  # levels of nesting
_LONGEST = 2**20  # characters of an argument's JSON; of a longer one only a digest is stored
_LARGEST = 2**1023  # integer that is written in decimal digits
_KINDS = "biufcmMSU"  # kinds of dtype whose values are just their bytes
_TYPES: dict[str, type] = {kind.__name__: kind for kind in (bool, int, float, complex, str, bytes)}
_PYTHON = ".".join(map(str, sys.version_info[:2]))  # byte code differs between versions
_NOTHING = object()


def stored(kwargs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return arguments as JSON.

    Parameters
    ----------
    kwargs : mapping
        Arguments of an environment.

    Returns
    -------
    dict
        ``kwargs``, the arguments that are plain JSON; ``encoded``, those that JSON can encode; and,
        if there are others, ``unstored``, their types and digests.

    Examples
    --------
    >>> stored({"side": 8, "goal": (7, 7)})
    {'kwargs': {'side': 8}, 'encoded': {'goal': {'tuple': [7, 7]}}}
    """
    parts: dict[str, dict[str, Any]] = {"kwargs": {}, "encoded": {}}
    for name, value in kwargs.items():
        packed, digest = _described(value)
        if packed is _NOTHING:
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            known = {"type": kind, "digest": digest, "python": _PYTHON}
            parts.setdefault("unstored", {})[name] = known
        elif _is_plain(value):
            parts["kwargs"][name] = value
        else:
            parts["encoded"][name] = packed
    return parts


def restored(
    spec: Mapping[str, Any], given: Mapping[str, Any] | None, where: str
) -> dict[str, Any]:
    """Return the arguments of a stored environment.

    Parameters
    ----------
    spec : mapping
        What :func:`stored` returned; older tables have ``kwargs`` alone, which JSON may have
        changed.
    given : mapping, optional
        Arguments from the user: those that could not be stored, and any of the others again.
    where : str
        The place of the table, for messages.

    Returns
    -------
    dict
        The arguments by name.

    Raises
    ------
    IncompatibleTableError
        If an argument is missing, or a given one differs from the stored one.

    Examples
    --------
    >>> restored({"kwargs": {"side": 8}, "encoded": {"goal": {"tuple": [7, 7]}}}, None, "q.zarr")
    {'side': 8, 'goal': (7, 7)}
    """
    given = {} if given is None else dict(given)
    unstored = spec.get("unstored", {})
    try:
        encoded = {name: _unpacked(data) for name, data in spec.get("encoded", {}).items()}
    except Exception as error:  # the stored data may be anything, so any exception may come
        raise IncompatibleTableError(
            f"expected arguments that dqlearn stored at {where!r}, got others: {shortened(error)}"
        ) from error
    kwargs = {**spec.get("kwargs", {}), **encoded}
    if missing := {name: known["type"] for name, known in unstored.items() if name not in given}:
        raise IncompatibleTableError(
            f"the environment of {where!r} had arguments that could not be stored, of types "
            f"{shortened(missing)}: pass them as env_kwargs=, equal to those that it had"
        )
    for name, value in given.items():
        if name in unstored:
            _check_known(name, value, unstored[name], where)
        else:
            _check_equal(name, value, kwargs, where, exactly="encoded" in spec)
    return kwargs | given


def texts(spec: Mapping[str, Any]) -> dict[str, str]:
    """Return the arguments of a stored environment as text for people to read.

    Parameters
    ----------
    spec : mapping
        What :func:`stored` returned.

    Returns
    -------
    dict of str
        For each argument its JSON where that is plain; else Python's repr, or only its type.

    Examples
    --------
    >>> texts(stored({"slippery": False, "goal": (7, 7), "log": print}))
    {'slippery': 'false', 'goal': '(7, 7)', 'log': 'builtins.builtin_function_or_method'}
    """
    plain = {name: json.dumps(value) for name, value in spec.get("kwargs", {}).items()}
    encoded = {name: shortened(_unpacked(it)) for name, it in spec.get("encoded", {}).items()}
    kinds = {name: known["type"] for name, known in spec.get("unstored", {}).items()}
    return plain | encoded | kinds


def _check_known(name: str, value: Any, known: Mapping[str, Any], where: str) -> None:
    """Compare an argument with the stored type and digest of one that could not be stored."""
    _, digest = _described(value)
    comparable = known["digest"] is not None and known["python"] == _PYTHON
    if comparable and digest != known["digest"]:
        raise IncompatibleTableError(
            f"env_kwargs= must have the {name} that {where!r} was learned with, got another: "
            f"{shortened(value)}"
        )


def _check_equal(
    name: str, value: Any, kwargs: Mapping[str, Any], where: str, exactly: bool
) -> None:
    """Compare an argument with the stored one, `exactly` or only as JSON would hold them."""
    same = False
    if name in kwargs and exactly:
        same = is_equal(value, kwargs[name])
    elif name in kwargs:
        with suppress(TypeError, ValueError, RecursionError):
            same = json.loads(json.dumps(value)) == kwargs[name]
    if not same:
        expected = shortened(kwargs[name]) if name in kwargs else "no such argument"
        raise IncompatibleTableError(
            f"env_kwargs= must be those that {where!r} was learned with: of {name} expected "
            f"{expected}, got {shortened(value)}; pass env= for another environment"
        )


def is_equal(one: Any, other: Any) -> bool:
    """Whether two arguments are equal, types and all; what cannot be stored equals nothing.

    Parameters
    ----------
    one, other : object
        The arguments.

    Returns
    -------
    bool
        Whether they are equal.

    Examples
    --------
    >>> is_equal({"a": (1, 2)}, {"a": (1, 2)}), is_equal((1, 2), [1, 2]), is_equal(1, True)
    (True, False, False)
    """
    try:
        texts = {_text(_packed(value)) for value in (one, other)}
    except (TypeError, ValueError):
        return False
    return len(texts) == 1


def own(value: Any, depth: int = 0) -> Any:
    """Return a copy of an argument that nobody else can change.

    Parameters
    ----------
    value : object
        The argument. Lists, tuples, dictionaries, sets, arrays and bytearrays are copied, with what
        they hold; anything else, such as a simulator, is shared with the caller.
    depth : int
        Levels of nesting above the value.

    Returns
    -------
    object
        The copy.
    """
    kind = type(value)
    if depth > _DEEPEST:
        return value
    if kind in (list, tuple, set, frozenset):
        return kind(own(item, depth + 1) for item in value)
    if kind is dict:
        return {key: own(item, depth + 1) for key, item in value.items()}
    return value.copy() if kind in (np.ndarray, bytearray) else value


def _described(value: Any) -> tuple[Any, str | None]:
    """Return (a value as JSON, None), or (nothing, a digest of the value or None)."""
    try:
        packed = _packed(value)
    except (TypeError, ValueError):
        # The digest of a function is that of its code; not every function has one.
        known = fingerprint({"argument": value}, versions=False) if callable(value) else None
        return _NOTHING, known
    text = _text(packed)
    if len(text) > _LONGEST:
        return _NOTHING, hashlib.sha256(text.encode()).hexdigest()
    return packed, None


def _is_plain(value: Any) -> bool:
    """Whether JSON alone gives back an equal value."""
    if type(value) is dict:
        return all(type(k) is str and _packs_as_is(k) for k in value) and all(
            map(_is_plain, value.values())
        )
    return all(map(_is_plain, value)) if type(value) is list else _packs_as_is(value)


def _packs_as_is(value: Any) -> bool:
    kind = type(value)
    if kind is str:
        return not any("\ud800" <= c <= "\udfff" for c in value)  # JSON merges a pair
    if kind is int:
        return -_LARGEST < int(value) < _LARGEST
    return value is None or kind is bool or (kind is float and math.isfinite(value))


def _packed(value: Any, depth: int = 0) -> Any:
    """Return a value as JSON in which each object has one key, the kind of value it is.

    Raises TypeError or ValueError for a value of no such kind.
    """
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    if _packs_as_is(value):
        return value
    kind = type(value)
    pack = _PACK.get(kind)
    if kind is list:
        return [_packed(item, depth + 1) for item in value]
    if kind is dict:
        return {"dict": [[_packed(part, depth + 1) for part in item] for item in value.items()]}
    if kind in (tuple, set, frozenset):
        items = [_packed(item, depth + 1) for item in value]
        return {kind.__name__: items if kind is tuple else sorted(items, key=_text)}
    if pack is not None:
        return pack(value)
    if isinstance(value, np.generic) and kind is value.dtype.type:
        return {"scalar": _packed_array(np.asarray(value))["array"]}
    if isinstance(value, type) and _TYPES.get(value.__name__) is value:
        return {"type": value.__name__}
    if isinstance(value, type) and issubclass(value, np.generic):
        return {"scalar type": _plain_dtype(np.dtype(value)).str}
    if isinstance(value, np.dtype):
        return {"dtype": _plain_dtype(value).str}
    raise TypeError(f"{kind} has no form in JSON")


def _packed_array(value: npt.NDArray[Any]) -> dict[str, Any]:
    body = b64encode(np.ascontiguousarray(value).tobytes()).decode()
    return {"array": [_plain_dtype(value.dtype).str, list(value.shape), body]}


def _plain_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Refuse a dtype that its text does not fully describe, or whose values are not just bytes."""
    if dtype.kind not in _KINDS or dtype.metadata or np.dtype(dtype.str) != dtype:
        raise TypeError(f"values of {dtype} have no form in JSON")
    return dtype


_PACK: dict[type, Callable[[Any], Any]] = {
    float: lambda value: {"float": repr(value)},  # nan, inf, -inf
    int: lambda value: {"int": hex(value)},  # Python reads at most 4300 decimal digits
    complex: lambda value: {"complex": [_packed(value.real), _packed(value.imag)]},
    str: lambda value: {"str": _base64(value.encode("utf-8", "surrogatepass"))},
    bytes: lambda value: {"bytes": _base64(value)},
    bytearray: lambda value: {"bytearray": _base64(value)},
    range: lambda value: {"range": [value.start, value.stop, value.step]},
    np.ndarray: _packed_array,
}


def _base64(value: bytes | bytearray) -> str:
    return b64encode(value).decode()


def _unpacked(data: Any) -> Any:
    """Return the value; it may raise any exception for data that :func:`_packed` does not make."""
    if isinstance(data, list):
        return [_unpacked(item) for item in data]
    if not isinstance(data, dict):
        return data
    ((kind, body),) = data.items()
    return _UNPACK[kind](body)


def _unpacked_array(body: Sequence[Any]) -> npt.NDArray[Any]:
    text, shape, values = body
    dtype = _plain_dtype(np.dtype(text))
    return np.frombuffer(b64decode(values), dtype).reshape(shape).copy()


_UNPACK: dict[str, Callable[[Any], Any]] = {
    "dict": lambda body: {_unpacked(key): _unpacked(value) for key, value in body},
    "tuple": lambda body: tuple(map(_unpacked, body)),
    "set": lambda body: set(map(_unpacked, body)),
    "frozenset": lambda body: frozenset(map(_unpacked, body)),
    "float": float,
    "int": lambda body: int(body, 16),
    "complex": lambda body: complex(*map(_unpacked, body)),
    "str": lambda body: b64decode(body).decode("utf-8", "surrogatepass"),
    "bytes": b64decode,
    "bytearray": lambda body: bytearray(b64decode(body)),
    "range": lambda body: range(*body),
    "array": _unpacked_array,
    "scalar": lambda body: _unpacked_array(body)[()],
    "type": _TYPES.__getitem__,
    "scalar type": lambda body: _plain_dtype(np.dtype(body)).type,
    "dtype": lambda body: _plain_dtype(np.dtype(body)),
}


def _text(packed: Any) -> str:
    """Return JSON text that is the same for equal values, whatever the order of their keys."""
    return json.dumps(_in_order(packed))


def _in_order(packed: Any) -> Any:
    if isinstance(packed, dict):
        ((kind, body),) = packed.items()
        body = _in_order(body)
        return {kind: sorted(body, key=json.dumps) if kind == "dict" else body}
    return [_in_order(item) for item in packed] if isinstance(packed, list) else packed
