"""What compiled code depends on, as a hash: a function's code and all that it reaches.

::

    function ──► its code ──► names ──► values: constants, arrays
                                        functions, jitted or overloaded ──► their code ──► ...

Numba's own cache identifies a function by its file, and does not notice when something that the
function calls has changed. A fingerprint does: another model, or a changed one, has another
fingerprint.

Invariant: equal fingerprints, equal machine code; what cannot be described has no fingerprint,
and is compiled anew in each process instead of being cached wrongly.
"""

from __future__ import annotations

import dis
import hashlib
import importlib.metadata
import sys
import types
from collections.abc import Iterator, Mapping
from enum import EnumType
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numba import types as types_
from numba.core.dispatcher import Dispatcher
from numba.core.extending import _Intrinsic
from numba.core.typing.templates import builtin_registry

__all__ = ["fingerprint", "source_stamp"]

_PACKAGE = Path(__file__).parents[1]
_VERSIONED = ("numba", "numpy")
_GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME")
_SEMANTIC = ("fastmath", "error_model", "boundscheck")  # options of njit that change results

Seen = dict[int, types.FunctionType]


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield a function's code, and that of the functions inside it."""
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _codes(const)


@cache
def _globals(code: types.CodeType) -> frozenset[str]:
    """Return the names that a function's code loads as globals, and not as attributes only."""
    return frozenset(i.argval for i in dis.get_instructions(code) if i.opname in _GLOBAL)


def _reached(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield the names and values that the function's code takes from outside itself."""
    yield "defaults", function.__defaults__
    codes = list(_codes(function.__code__))
    names = sorted({name for code in codes for name in code.co_names})
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    found = {name: cell.cell_contents for name, cell in cells}
    taken = {name for code in codes for name in _globals(code)} & function.__globals__.keys()
    found |= {name: function.__globals__[name] for name in sorted(taken)}
    modules: set[int] = set()
    for name, value in found.items():
        yield from _attributes(name, value, names, modules)


def _attributes(
    path: str, value: Any, names: list[str], modules: set[int]
) -> Iterator[tuple[str, Any]]:
    """Yield a value and, if it is a module that may be edited, its attributes of these names."""
    yield path, value
    if isinstance(value, types.ModuleType) and not _fixed(value.__name__):
        if id(value) not in modules:
            modules.add(id(value))
            for name in names:
                if hasattr(value, name):
                    yield from _attributes(f"{path}.{name}", getattr(value, name), names, modules)


def _fixed(module: str | None) -> bool:
    """Whether a module changes only with versions that a fingerprint or numba's cache includes."""
    package = (module or "").split(".")[0]
    return package in _VERSIONED or package in sys.stdlib_module_names


def _describe(value: Any, seen: Seen) -> bytes:
    """Return bytes that change whenever compiled code that uses `value` would."""
    if isinstance(value, Dispatcher):
        given = {k: v for k, v in value.targetoptions.items() if k in _SEMANTIC and v}
        return (repr(given).encode() if given else b"") + _describe(value.py_func, seen)
    if isinstance(value, types.FunctionType):
        return _describe_function(value, seen)
    if isinstance(value, types.CodeType):
        return _describe_code(value, value.co_consts, seen)
    if isinstance(value, np.ndarray | np.generic):
        return f"{value.dtype}{np.shape(value)}".encode() + value.tobytes()
    if isinstance(value, tuple | frozenset):
        fields = repr(getattr(value, "_fields", "")).encode()
        return fields + b"(" + b",".join(_describe(item, seen) for item in value) + b")"
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return f"{type(value).__name__}:{value!r}".encode()
    if isinstance(value, _Intrinsic):
        if _fixed(value.__module__):
            return f"{value.__module__}.{value._name}".encode()
        return _describe_intrinsic(value._defn, seen)
    if isinstance(value, types_.ExternalFunction):
        return f"{value.symbol}{value.sig}".encode()
    if isinstance(value, EnumType):
        return repr(list(value.__members__.items())).encode()
    if isinstance(value, types.ModuleType) or (
        isinstance(value, type | types.BuiltinFunctionType | np.ufunc)
        and _fixed(getattr(value, "__module__", "numpy"))  # ufuncs have no __module__
    ):
        return f"{getattr(value, '__module__', '')}.{value.__name__}".encode()
    raise TypeError(f"cannot fingerprint {value!r}")


def _describe_code(code: types.CodeType, consts: tuple[Any, ...], seen: Seen) -> bytes:
    """Describe byte code; it numbers local variables, so argument names are described too."""
    arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    described = b"".join(_describe(const, seen) for const in consts)
    return code.co_code + described + repr((code.co_names, arguments)).encode()


def _describe_intrinsic(function: types.FunctionType, seen: Seen) -> bytes:
    """Describe what makes machine code directly, by its own code and the text of its file."""
    seen[id(function)] = function
    return _describe_code(function.__code__, function.__code__.co_consts, seen)


def _describe_function(function: types.FunctionType, seen: Seen) -> bytes:
    """Describe a function's code and, once each, all that it reaches."""
    if id(function) in seen:
        return b"again:" + function.__qualname__.encode()
    seen[id(function)] = function
    # A package's code changes only with its version, which is in the fingerprint.
    if _fixed(function.__module__):
        return f"{function.__module__}.{function.__qualname__}".encode()
    code, consts = function.__code__, function.__code__.co_consts
    if function.__doc__ is not None and consts[:1] == (function.__doc__,):
        consts = consts[1:]  # a docstring changes no result
    parts = [_describe_code(code, consts, seen)]
    for name, value in _reached(function):
        parts.append(name.encode() + b"=" + _describe(value, seen))
    parts += [_describe(implementation, seen) for implementation in _overloads(function)]
    return b"\n".join(parts)


def _overloads(function: types.FunctionType) -> Iterator[Any]:
    """Yield the implementations that `numba.extending.overload` gives a function, if any."""
    for overloaded, kind in builtin_registry.globals:
        if overloaded is function:
            yield from (template._overload_func for template in kind.templates)


def fingerprint(functions: Mapping[str, Any], versions: bool = True) -> str | None:
    """Hash the code and constants that functions reach, recursively.

    Parameters
    ----------
    functions : mapping of str to callable, or to what `TabularEnv.params` may hold
        Plain or jitted functions, by the role that each plays.
    versions : bool
        Whether the versions of numba and numpy are hashed too, as compiled code needs.

    Returns
    -------
    str or None
        Hexadecimal digest; None when something that the code reaches has no stable description.

    Examples
    --------
    >>> f = lambda x: x + 1
    >>> g = lambda x: x + 2
    >>> fingerprint({"f": f}) == fingerprint({"f": g})
    False
    """
    try:
        return _digest(functions, _VERSIONED if versions else (), {}).hexdigest()[:32]
    except (TypeError, ValueError, AttributeError):
        return None


def source_stamp(function: types.FunctionType) -> str | None:
    """Hash what a function's machine code was made from.

    Parameters
    ----------
    function : function
        A function that is to be compiled.

    Returns
    -------
    str or None
        A hash of the function's :func:`fingerprint` and of the text of every source file of this
        package that it reaches: any change of a text changes the stamp.
    """
    seen: Seen = {}
    try:
        digest = _digest({"function": function}, _VERSIONED, seen)
        files = {reached.__code__.co_filename for reached in seen.values()}
        for file in sorted(file for file in files if Path(file).is_relative_to(_PACKAGE)):
            digest.update(_text(file))
    except (TypeError, ValueError, AttributeError, OSError):
        return None
    return digest.hexdigest()


@cache
def _version(package: str) -> str:
    return importlib.metadata.version(package)


@cache
def _text(file: str) -> bytes:
    return Path(file).read_bytes()


def _digest(functions: Mapping[str, Any], versioned: tuple[str, ...], seen: Seen) -> hashlib._Hash:
    """Hash what functions reach, role by role; `seen` collects the functions reached."""
    digest = hashlib.sha256(repr(sorted(functions)).encode())
    for package in versioned:
        digest.update(_version(package).encode())
    for role in sorted(functions):
        own: Seen = {}
        digest.update(b"\0" + _describe(functions[role], own))
        seen |= own
    return digest
