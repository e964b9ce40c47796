"""Text of unknown origin, made fit to be shown.

Invariant: what is returned moves no cursor, changes no colour and reverses no direction: every
character of it is one that Python calls printable.
"""

from __future__ import annotations

__all__ = ["printable", "shortened"]

_LONGEST = 300


def printable(text: str) -> str:
    r"""Return a text with its control characters written as escapes.

    Parameters
    ----------
    text : str
        Of unknown origin, such as an attribute of a stored table.

    Returns
    -------
    str
        The same, where all of it is printable.

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
        Of unknown origin.
    longest : int
        How many.

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
