"""Compiled functions whose machine code is kept on disk, and is never stale.

::

    @njit(cache=True)                              in the folder of machine code:
    def walk(...)  ──first call──► source_stamp ──► walk-87-<stamp>.py311.nbi    numba's index
                                                    walk-87-<stamp>.py311.1.nbc  one a signature

Numba names machine code by a function's own file, and stamps it with that file alone, so it does
not notice a changed callee in another file. Here the stamp covers everything that the function
reaches (:mod:`dqlearn.jit.fingerprint`). It is part of the file's name, so that two versions of the
package do not overwrite each other's code in turn. The index keeps code of other processors and of
other versions of numba apart.

The symbols in kept code are apart from those of other processes (:mod:`dqlearn.jit.symbols`).

Invariant: what is loaded is what would be compiled. Where a file cannot be read, its code is
compiled anew and written again; where nothing can be written, each process compiles for itself.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import caching

from dqlearn.jit.code_folder import code_folder, own_folder
from dqlearn.jit.fingerprint import source_stamp
from dqlearn.jit.symbols import number_apart

__all__ = ["njit"]

F = TypeVar("F", bound=Callable[..., Any])


number_apart()


def njit(*, cache: bool = False, **options: Any) -> Callable[[F], F]:
    """Compile a function as `numba.njit` does, but keep its machine code as this module says.

    Parameters
    ----------
    cache : bool, default False
        Whether machine code is kept.
    **options
        Options of `numba.njit`.

    Returns
    -------
    callable
        The decorator, which returns numba's dispatcher.
    """

    def decorate(function: F) -> F:
        made: Any = numba.njit(**options)(function)
        if cache and hasattr(made, "_cache"):  # with NUMBA_DISABLE_JIT, made is the plain function
            made._cache = _Kept(function)
        return cast("F", made)

    return decorate


class _Kept(caching._Cache):
    """The cache of one function's machine code, as numba's dispatcher calls it.

    Nothing is looked up before the first call: what a function reaches may be defined after it.
    """

    def __init__(self, function: Any) -> None:
        self._function = function

    @cached_property
    def _files(self) -> caching._Cache:
        stamp = source_stamp(self._function)
        folder = code_folder()
        if stamp is None or folder is None:
            return caching.NullCache()
        return _Files(self._function, folder, stamp)

    @property
    def cache_path(self) -> str | None:
        """The folder that holds the machine code."""
        path: str | None = self._files.cache_path
        return path

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the code of a signature, or None."""
        try:
            return self._files.load_overload(sig, target_context)
        except Exception:  # an emptied or truncated file: unpickling may raise anything
            self._writing(self._files.flush)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the code of a signature."""
        self._writing(self._files.save_overload, sig, data)

    def enable(self) -> None:
        """Do nothing: the cache is enabled from the start."""

    def disable(self) -> None:
        """Keep nothing from now on."""
        self._files = caching.NullCache()

    def flush(self) -> None:
        """Forget all signatures."""
        self._files.flush()

    def _writing(self, write: Callable[..., None], *args: Any) -> None:
        """Write; if that fails, warn and keep nothing from now on."""
        try:
            write(*args)
        except OSError as error:
            self.disable()
            warnings.warn(
                f"machine code is not kept, and each process compiles it anew: {error}; make room, "
                "or set DQLEARN_CACHE_DIR to a folder that can be written to",
                stacklevel=2,
            )


class _Files(caching.FunctionCache):
    """Numba's cache files of one function, in dqlearn's folder and under dqlearn's stamp."""

    def __init__(self, function: Any, folder: Path, stamp: str) -> None:
        self._name, self._py_func = repr(function), function
        self._impl = _Code(function, folder, stamp)
        self._cache_path = str(folder)
        self._cache_file = caching.IndexDataCacheFile(
            self._cache_path, self._impl.filename_base, stamp
        )
        self.enable()

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        """Return the key in the index of the code of one signature on one processor.

        Numba's own key also holds pickled closures, and a compiled function in one pickles
        differently in each process. They are left out here, as the stamp covers them.
        """
        return sig, codegen.magic_tuple()


class _Code(caching.CompileResultCacheImpl):
    """Numba's storage format of machine code, located in dqlearn's folder."""

    def __init__(self, function: Any, folder: Path, stamp: str) -> None:
        self._lineno = function.__code__.co_firstlineno
        self._locator = _Place(function, folder, stamp)
        own = f"{Path(function.__code__.co_filename).stem.strip('_')}.{function.__qualname__}"
        self._filename_base = self.get_filename_base(own, sys.abiflags)


class _Place(caching._CacheLocator):
    """Where one function's machine code lies."""

    def __init__(self, function: Any, folder: Path, stamp: str) -> None:
        self._py_file = function.__code__.co_filename
        self._folder, self._stamp = folder, stamp
        self._line = function.__code__.co_firstlineno

    def ensure_cache_path(self) -> None:
        """Make the folder if need be, and check that it is the user's own."""
        own_folder(self._folder)

    def get_cache_path(self) -> str:
        """Return the folder."""
        return str(self._folder)

    def get_source_stamp(self) -> str:
        """Return the stamp."""
        return self._stamp

    def get_disambiguator(self) -> str:
        """Return a text that distinguishes functions of one name, and versions of one function."""
        return f"{self._line}-{self._stamp[:24]}"
