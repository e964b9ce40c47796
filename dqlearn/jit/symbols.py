"""The numbers by which symbols in machine code tell functions of one name apart.

::

    reward(...)      of a file   ──► hash of the file's stamp and the byte code   reward$2163…
    <locals>.step    elsewhere   ──► drawn at random                              step$9027…

Numba gives each function that it compiles a number of its own, counted up from 1 in each process.
Functions of one name, such as the closures of one factory, or the versions of one notebook cell,
then have one symbol where several processes compiled them, and a process that loads their code from
files runs the first in the place of the others. Numbers at random prevent that. But numba keeps the
kernel and the wrapper of a `guvectorize` in two files, and these may come from two processes: the
wrapper finds its kernel only where both processes gave it the same number. So a function of a file
has the number that any process would give it, apart from dqlearn's own, which are kept whole, and
many of which take functions: only their addresses would tell those apart.

Invariant: two functions have one number only where they are the same code of the same file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from hashlib import blake2b
from itertools import count
from types import FunctionType
from typing import Any

from numba.core.bytecode import FunctionIdentity

__all__ = ["number_apart"]

_FIRST = 10**15  # numba's own numbers stay far below
_APART = {"__main__", __name__.partition(".")[0]}

#: By the digest of a function, how often this process has numbered it.
_times: dict[bytes, Iterator[int]] = {}


def number_apart() -> None:
    """Let numba number all functions of this process in this way."""
    numbered: Callable[[type[FunctionIdentity], Any], Any]
    numbered = FunctionIdentity.__dict__["from_function"].__func__

    def from_function(cls: type[FunctionIdentity], pyfunc: Any) -> Any:
        identity = numbered(cls, pyfunc)
        identity.unique_id = _number(identity.func)
        identity.unique_name = f"{identity.func_qualname}${identity.unique_id}"
        return identity

    FunctionIdentity.from_function = classmethod(from_function)  # type: ignore[method-assign, assignment]


def _number(function: FunctionType) -> int:
    """Return the number of a function, of 16 digits."""
    digest = _digest(function)
    if digest is None:
        return _FIRST + int.from_bytes(os.urandom(6))
    time = next(_times.setdefault(digest, count()))
    return _FIRST + int.from_bytes(digest) + time


def _digest(function: FunctionType) -> bytes | None:
    """Return 6 bytes that stand for the function of a file; None where it has a random number."""
    code = function.__code__
    package = (function.__module__ or "__main__").partition(".")[0]  # numba makes some without one
    if "<" in function.__qualname__ or package in _APART:
        return None
    try:
        stat = os.stat(code.co_filename)
    except OSError:
        return None
    stamp = (function.__qualname__, code.co_firstlineno, stat.st_mtime_ns, stat.st_size)
    return blake2b(repr(stamp).encode() + code.co_code, digest_size=6).digest()
