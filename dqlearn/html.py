"""What Jupyter shows of an object: a small table of names and values."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

__all__ = ["html_table"]


def html_table(caption: str, rows: Mapping[str, str]) -> str:
    """Return rows as a table.

    Parameters
    ----------
    caption : str
        Above it.
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
