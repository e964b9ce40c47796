"""A kernel template and a user's scalar functions make one compiled module.

::

    template (our source) ─┐
                           ├──► module whose globals are the user's functions ──► numba
    functions (the user's) ┘

The module's name contains a token of the functions, and the name of its machine code contains a
stamp of all that the code reaches (:mod:`dqlearn.jit.compiled`). Invariant: another model, or a
changed one, gets another module.
"""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.dispatcher import Dispatcher

__all__ = ["specialise"]

_lock = threading.Lock()


def specialise(
    template: Path, functions: Mapping[str, Callable[..., Any] | None], token: str
) -> types.ModuleType:
    """Return the module that a template becomes with a user's functions as its globals.

    Parameters
    ----------
    template : Path
        Python source whose functions call the names in `functions`.
    functions : mapping of str to callable or None
        The function that each name stands for; plain functions are jitted.
    token : str
        An identifier of the functions: their :func:`~dqlearn.jit.fingerprint.fingerprint`, or
        any unique text.

    Returns
    -------
    module
        The compiled module, the same object for the same template and token as long as the process
        lives. It is in ``sys.modules``, where numba looks up the module of cached code by name.
    """
    name = f"{__name__}.{template.stem}_{token}"
    with _lock:
        if name not in sys.modules:
            module = types.ModuleType(name)
            module.__dict__.update({role: _jitted(f) for role, f in functions.items()})
            exec(compile(template.read_text(), template, "exec"), module.__dict__)
            sys.modules[name] = module
        return sys.modules[name]


def _jitted(function: Callable[..., Any] | None) -> Callable[..., Any] | None:
    if function is None or isinstance(function, Dispatcher):
        return function
    compiled: Callable[..., Any] = njit(function)
    return compiled
