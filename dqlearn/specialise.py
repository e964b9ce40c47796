"""A kernel template and a user's scalar functions make one compiled module, cached on disk.

::

    template (our source) ─┐
                           ├──► module whose globals are the user's functions ──► numba, cache=True
    functions (the user's) ┘         file name = template + fingerprint

Numba's own cache knows a function by its file, and does not see when something it calls has
changed. So the specialised source is written to a file of its own, named by a fingerprint of all
code and constants that the user's functions reach: another model, or a changed one, is another
file.

Invariant: equal fingerprints, equal machine code; a function that cannot be fingerprinted is
compiled anew in each process instead of being cached wrongly.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import os
import sys
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from enum import EnumType
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numba.core.dispatcher import Dispatcher
from numba.core.extending import _Intrinsic

import dqlearn.random
import dqlearn.routing

__all__ = ["fingerprint", "specialise"]

_VERSIONED = ("numba", "numpy")
_SEMANTIC = ("fastmath", "error_model", "boundscheck")  # options of njit that change results
_lock = threading.Lock()


def _names(code: types.CodeType) -> Iterator[str]:
    """Yield the names in a function's code, and in the functions inside it."""
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _names(const)


def _reached(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield the names and values that the function's code takes from outside itself."""
    yield "defaults", function.__defaults__
    names = sorted(set(_names(function.__code__)))
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    found = {name: cell.cell_contents for name, cell in cells}
    found |= {name: function.__globals__[name] for name in names if name in function.__globals__}
    modules: set[int] = set()
    for name, value in found.items():
        yield from _attributes(name, value, names, modules)


def _attributes(
    path: str, value: Any, names: list[str], modules: set[int]
) -> Iterator[tuple[str, Any]]:
    """Yield a value and, if it is a module that may be edited, what the names may mean in it."""
    yield path, value
    if isinstance(value, types.ModuleType) and not _fixed(value.__name__):
        if id(value) not in modules:
            modules.add(id(value))
            for name in names:
                if hasattr(value, name):
                    yield from _attributes(f"{path}.{name}", getattr(value, name), names, modules)


def _fixed(module: str | None) -> bool:
    """Whether a module changes only with versions that the fingerprint or numba's cache holds."""
    package = (module or "").split(".")[0]
    return package in _VERSIONED or package in sys.stdlib_module_names


def _describe(value: Any, seen: set[int]) -> bytes:
    """Return bytes that change whenever compiled code that uses `value` would."""
    if isinstance(value, Dispatcher):
        given = {k: v for k, v in value.targetoptions.items() if k in _SEMANTIC and v}
        return (repr(given).encode() if given else b"") + _describe(value.py_func, seen)
    if isinstance(value, types.FunctionType):
        return _describe_function(value, seen)
    if isinstance(value, types.CodeType):
        consts = b"".join(_describe(const, seen) for const in value.co_consts)
        return value.co_code + consts + repr((value.co_names, value.co_varnames)).encode()
    if isinstance(value, np.ndarray | np.generic):
        return f"{value.dtype}{np.shape(value)}".encode() + value.tobytes()
    if isinstance(value, tuple | frozenset):
        fields = repr(getattr(value, "_fields", "")).encode()
        return fields + b"(" + b",".join(_describe(item, seen) for item in value) + b")"
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return f"{type(value).__name__}:{value!r}".encode()
    if isinstance(value, _Intrinsic) and _fixed(value.__module__):
        return f"{value.__module__}.{value._name}".encode()
    if isinstance(value, EnumType):
        return repr(list(value.__members__.items())).encode()
    if isinstance(value, types.ModuleType) or (
        isinstance(value, type | types.BuiltinFunctionType | np.ufunc)
        and _fixed(getattr(value, "__module__", "numpy"))  # which ufuncs do not have
    ):
        return f"{getattr(value, '__module__', '')}.{value.__name__}".encode()
    raise TypeError(f"cannot fingerprint {value!r}")


def _describe_function(function: types.FunctionType, seen: set[int]) -> bytes:
    """Describe a function's code and, once each, all that it reaches."""
    if id(function) in seen:
        return b"again:" + function.__qualname__.encode()
    seen.add(id(function))
    # What packages hold changes with their versions, which are in the fingerprint.
    if _fixed(function.__module__):
        return f"{function.__module__}.{function.__qualname__}".encode()
    parts = [_describe(function.__code__, seen)]
    for name, value in _reached(function):
        parts.append(name.encode() + b"=" + _describe(value, seen))
    return b"\n".join(parts)


def fingerprint(functions: Mapping[str, Any], versions: bool = True) -> str | None:
    """Hash the code and constants that functions reach, recursively.

    Parameters
    ----------
    functions : mapping of str to callable, or to what `TabularEnv.params` may hold
        Plain or jitted functions by the role they play.
    versions : bool
        Whether those of numba and numpy matter, as they do to compiled code.

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
    digest = hashlib.sha256(repr(sorted(functions)).encode())
    for package in _VERSIONED if versions else ():
        digest.update(importlib.metadata.version(package).encode())
    try:
        for role in sorted(functions):
            digest.update(b"\0" + _describe(functions[role], set()))
    except (TypeError, ValueError):
        return None
    return digest.hexdigest()[:32]


def _jitted(function: Callable[..., Any] | None) -> Callable[..., Any] | None:
    if function is None or isinstance(function, Dispatcher):
        return function
    compiled: Callable[..., Any] = njit(function)
    return compiled


def _cache_file(template: Path, digest: str, source: str) -> Path:
    """Write the specialised source once, atomically, and return where it stands."""
    root = os.environ.get("DQLEARN_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    folder = Path(root) if root else Path.home() / ".cache"
    ours = "".join(map(inspect.getsource, (dqlearn.random, dqlearn.routing)))  # their imports
    ours += "".join(sibling.read_text() for sibling in sorted(template.parent.glob("_*.py")))
    own = hashlib.sha256(ours.encode()).hexdigest()[:12]
    target = folder / "dqlearn" / f"{template.stem.strip('_')}_{own}_{digest}.py"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
        draft.write_text(source)
        draft.replace(target)
    return target


def specialise(
    template: Path,
    functions: Mapping[str, Callable[..., Any] | None],
    token: str,
    cached: bool = True,
) -> types.ModuleType:
    """Return the module that a template becomes with a user's functions as its globals.

    Parameters
    ----------
    template : Path
        Python source whose functions call the names in `functions`.
    functions : mapping of str to callable or None
        What those names stand for; plain functions are jitted.
    token : str
        Identifies the functions: their :func:`fingerprint`, or anything unique without `cached`.
    cached : bool
        Whether machine code is kept on disk; only right when `token` is a fingerprint.

    Returns
    -------
    module
        The same object for the same template and token, as long as the process lives. It stands in
        ``sys.modules``, where numba looks the module of cached code up by its name.
    """
    name = f"{__name__}.{template.stem}_{token}"
    with _lock:
        if name not in sys.modules:
            sys.modules[name] = _build(name, template, functions, token if cached else None)
        return sys.modules[name]


def _build(
    name: str,
    template: Path,
    functions: Mapping[str, Callable[..., Any] | None],
    digest: str | None,
) -> types.ModuleType:
    source, where = template.read_text(), f"<{template.stem}>"
    try:
        if digest is not None:
            where = str(_cache_file(template, digest, source))
    except OSError:  # no home, or a read-only one
        digest = None
    if digest is None:
        source = source.replace("cache=True", "cache=False")
    module = types.ModuleType(name)
    module.__dict__.update({name: _jitted(f) for name, f in functions.items()})
    exec(compile(source, where, "exec"), module.__dict__)
    return module
