"""The folder or URL that a user's path means.

::

    "~/runs"   Path("runs")   "file:///data/my%20runs" ──► a folder's path
    "s3://bucket/prefix"                               ──► the URL, unchanged

Invariant: the path of a folder is returned without a scheme, without escapes and without ``~``.
"""

from __future__ import annotations

import os
from urllib.parse import unquote

from dqlearn.errors import ConfigurationError

__all__ = ["PathLike", "is_url", "located"]

PathLike = str | os.PathLike[str]

_FILE = "file://"


def located(path: PathLike) -> str:
    """Return the folder or the URL that a user's path means.

    Parameters
    ----------
    path : str or path-like
        A path, in which ``~`` is the home folder; ``file:///path``, in which ``%20`` is a space; or
        another URL.

    Returns
    -------
    str
        A path, absolute if the given one was; or a URL with another scheme than ``file``.

    Raises
    ------
    ConfigurationError
        If `path` is no text, or a ``file://`` URL that is no absolute path on this machine.

    Examples
    --------
    >>> located("file:///data/my%20runs"), located("s3://bucket/my%20runs")
    ('/data/my runs', 's3://bucket/my%20runs')
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else path
    if not isinstance(text, str):
        raise ConfigurationError(f"expected a path or a URL, got {path!r}")
    if not text.startswith(_FILE):
        return text if is_url(text) else os.path.expanduser(text)
    folder = text.removeprefix(_FILE).removeprefix("localhost")
    if not folder.startswith("/"):
        raise ConfigurationError(
            f"expected file:/// and a whole path, such as file:///data/runs, got {text!r}: give "
            "other folders as paths"
        )
    return unquote(folder)


def is_url(path: str) -> bool:
    """Whether a path that :func:`located` returned is a URL."""
    return "://" in path
