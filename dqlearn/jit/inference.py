"""Inference: which type a user's function returns, and what to say if numba cannot compile it.

Invariant: an error names the function, its file and line, what numba says, and what to do.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from numba import types

from dqlearn.errors import ConfigurationError

__all__ = ["returned_type", "where"]


def returned_type(role: str, function: Any, arguments: tuple[Any, ...], cure: str) -> Any:
    """Compile a function for some types of arguments; return the type of its result.

    Parameters
    ----------
    role : str
        What the function is, for the error.
    function : Dispatcher
        The function.
    arguments : tuple of numba types
        The types of its arguments.
    cure : str
        What to do if numba cannot compile it.

    Returns
    -------
    numba type

    Raises
    ------
    ConfigurationError
        If numba cannot compile it; numba's own error is the cause.
    """
    callee = types.Dispatcher(function)
    try:
        signature: Any = callee.get_call_type(function.typingctx, arguments, {})
    except Exception as error:  # numba's own errors, and any of the function's constants
        raise ConfigurationError(_complaint(role, function, error, cure)) from error
    return types.unliteral(signature.return_type)


def _complaint(role: str, function: Any, error: Exception, cure: str) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith("Failed in nopython mode")]
    reason = said[0] if said else repr(error)
    if reason.endswith(":") and len(said) > 1:
        reason += " " + said[1].removeprefix(">>> ")
    found = re.search(r'File "([^"]+)", line (\d+)', str(error))
    place = f"{Path(found[1]).name}, line {found[2]}" if found else where(function)
    helper = re.search(r"name '(\w+)': .*<class 'function'>", reason)
    cure = f"decorate {helper[1]} with @numba.njit" if helper else cure
    return f"numba cannot compile {role}, at {place}: {reason.rstrip('.: ')}; {cure}"


def where(function: Any) -> str:
    """Return the place of a function's definition."""
    code = getattr(function, "py_func", function).__code__
    return f"{code.co_name} in {Path(code.co_filename).name}, line {code.co_firstlineno}"
