"""The contract of a rule: what its functions are given, and what they return.

::

    score, value, term   (q, s, a)                              ──► a number
    target               (values, epsilon, n_actions, member)   ──► a number
    step                 (q, y, alpha)                          ──► a number

Invariant: a run of a rule that numba cannot compile is refused before anything is learned.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core.dispatcher import Dispatcher

from dqlearn.algorithms.registry import is_ours
from dqlearn.algorithms.rule import Algorithm
from dqlearn.errors import ConfigurationError
from dqlearn.jit.inference import returned_type, where

__all__ = ["check_compiles"]

_CURE = "use what numba supports, and constants of the module for everything else"
_NUMBERS = types.Float | types.Integer | types.Boolean


@cache
def check_compiles(rule: Algorithm, dtype: np.dtype[Any]) -> None:
    """Raise unless numba can compile a rule's functions, and they return numbers.

    Parameters
    ----------
    rule : Algorithm
        The rule; ours are not looked at.
    dtype : dtype
        Type of the table's values.

    Raises
    ------
    ConfigurationError
        If it cannot. The error names the function and its line; numba's own error is the cause.
    """
    if is_ours(rule):
        return
    number: Any = numba.from_dtype(dtype)
    for name, function in rule.functions.items():
        if not callable(function):
            continue
        role = name.rpartition(".")[2]
        compiled = function if isinstance(function, Dispatcher) else numba.njit(function)
        said = f"{role} of {rule.name!r}"
        returned = returned_type(said, compiled, _arguments(role, number), _CURE)
        if not isinstance(returned, _NUMBERS):
            raise ConfigurationError(
                f"{said} must return a number; {where(compiled)} returns {returned}"
            )


def _arguments(role: str, number: Any) -> tuple[Any, ...]:
    """Return the types of what a function is given."""
    if role == "target":
        values: Any = types.Array(number, 1, "C")
        return values, types.float64, types.int64, types.int64
    if role == "step":
        return number, number, number
    q: Any = types.Array(number, 3, "C")
    return q, types.int64, types.int64
