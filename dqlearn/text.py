"""Text to be shown: of unknown origin, in the message of an error or a warning, in a notebook.

Invariant: what `printable` returns moves no cursor, changes no colour and reverses no direction:
every character of it is one that Python calls printable. In HTML all text is escaped.
"""

from __future__ import annotations

import sys
import textwrap
import warnings
from collections.abc import Iterable, Mapping
from html import escape
from inspect import cleandoc

__all__ = ["html_table", "printable", "shortened", "warn_caller", "with_entries"]

_LONGEST = 300
_WIDTH = 92
_OURS = {"dqlearn", "contextlib"}


def printable(text: str) -> str:
    r"""Return a text with its control characters written as escapes.

    Parameters
    ----------
    text : str
        A text of unknown origin, such as an attribute of a stored table.

    Returns
    -------
    str
        The text, with escapes for characters that are not printable.

    Examples
    --------
    >>> print(printable("Taxi\x1b[2J-v4"))
    Taxi\x1b[2J-v4
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shortened(value: object, longest: int = _LONGEST) -> str:
    """Return what a value looks like, in so many characters, for the message of an error.

    Parameters
    ----------
    value : object
        A value of unknown origin.
    longest : int
        Greatest number of characters.

    Returns
    -------
    str

    Examples
    --------
    >>> shortened("a" * 1000, 9)
    "'aaaaa..."
    """
    try:
        text = repr(value)
    except Exception as error:  # one that is nested too deeply has none
        text = f"a {type(value).__name__} without a repr ({type(error).__name__})"
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def html_table(caption: str, rows: Mapping[str, str]) -> str:
    """Return rows as a table.

    Parameters
    ----------
    caption : str
        Caption above the table.
    rows : mapping of str to str
        Names and values, as plain text.

    Returns
    -------
    str

    Examples
    --------
    >>> html_table("a", {"b": "<c>"})
    '<table><caption>a</caption><tr><th>b</th><td>&lt;c&gt;</td></tr></table>'
    """
    body = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows.items()
    )
    return f"<table><caption>{escape(caption)}</caption>{body}</table>"


def with_entries(doc: str | None, stands: str, entries: Iterable[tuple[str, str, str]]) -> str:
    r"""Return a docstring with entries in the place of one that stands for them.

    Parameters
    ----------
    doc : str, optional
        A docstring in numpydoc's form; python -OO has none.
    stands : str
        The last entry of its first section, and a line of its own.
    entries : iterable of (name, type, description)
        Entries to put in its place.

    Returns
    -------
    str

    Examples
    --------
    >>> entries = [("gamma", "float", "Discount factor.")]
    >>> with_entries("Learn.\n\n**settings\n    All of them.\n\nSee there.", "**settings", entries)
    'Learn.\n\ngamma : float\n    Discount factor.\n\nSee there.'
    """
    before, found, after = cleandoc(doc or "").partition(f"\n{stands}\n")
    if not found:
        return before
    told = [
        f"{name} : {type_}\n{textwrap.indent(textwrap.fill(what, _WIDTH), '    ')}"
        for name, type_, what in entries
    ]
    _, blank, others = after.partition("\n\n")
    return "\n".join([before, *told]) + blank + others


def warn_caller(message: str) -> None:
    """Warn of something at the line that has called dqlearn, however deep inside it is noticed.

    Parameters
    ----------
    message : str
        What happened, and what to do about it.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in _OURS:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
