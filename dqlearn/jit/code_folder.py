"""The folder of machine code: the user's own, and nobody else's.

::

    DQLEARN_CACHE_DIR, NUMBA_CACHE_DIR, XDG_CACHE_HOME, ~/.cache     the first that is set
      └─ dqlearn ── not writable, or others may write to it ──► <temporary>/dqlearn-<user's number>
                                                                  └─ neither ──► None

Machine code is loaded by unpickling, so anybody who can write a file there can run code as the
user who loads it.
Invariant: a folder that is returned was made by this user, and no other user may write to it.
"""

from __future__ import annotations

import os
import stat
import tempfile
import warnings
from functools import cache
from pathlib import Path

__all__ = ["code_folder", "own_folder"]

_ROOTS = ("DQLEARN_CACHE_DIR", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME")


def code_folder() -> Path | None:
    """Return the folder that holds this user's machine code, or None where there is none.

    Returns
    -------
    Path or None
        The folder, which exists. The first call warns if it is not the one that was asked for.
    """
    return _chosen(next(filter(None, map(os.environ.get, _ROOTS)), "~/.cache"))


@cache
def _chosen(root: str) -> Path | None:
    try:
        return own_folder(Path(root).expanduser() / "dqlearn")
    except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home
        refused = error
    try:
        found = own_folder(Path(tempfile.gettempdir()) / f"dqlearn-{os.getuid()}")
    except (OSError, AttributeError):  # AttributeError: this system has no user numbers
        found = None
    where = f"kept in {found}" if found else "not kept, and each process compiles it anew"
    warnings.warn(
        f"machine code is {where}, as it cannot be in {root!r}: {refused}; set DQLEARN_CACHE_DIR "
        "to a folder of your own that only you can write to",
        stacklevel=2,
    )
    return found


def own_folder(folder: Path) -> Path:
    """Make a folder, and check that this user owns it and nobody else may write to it.

    Parameters
    ----------
    folder : Path
        The folder; it and its parents are made if they do not exist.

    Returns
    -------
    Path
        The same path.

    Raises
    ------
    OSError
        If it cannot be made or written to, or others own it or may write to it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid"):
        there = folder.stat()
        if not folder.lstat().st_uid == there.st_uid == os.getuid():  # links can be redirected
            raise PermissionError(f"{folder} belongs to another user")
        if there.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(f"others may write to {folder}")
    tempfile.TemporaryFile(dir=folder).close()
    return folder
