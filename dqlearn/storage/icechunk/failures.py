"""Messages of Icechunk's errors; whether a storage does not answer, or data are damaged.

Invariant: texts are for people, on one line.
"""

from __future__ import annotations

import re
from itertools import dropwhile, takewhile

import icechunk

__all__ = ["first_line", "unreachable"]

_MARGIN = re.compile(r"^\s+[x×|](?=\s|$)")  # drawn by Icechunk beside its texts

# The words of Icechunk's clients of object stores, and of the operating system.
_NO_ANSWER = re.compile(
    r"dispatch failure|service error|tim(ed |e)out|Generic (S3|GCS|MicrosoftAzure|HTTP) error"
    r"|\(os error \d+\)"
)
_MISSING = re.compile(r"NoSuchKey|not found|No such file")


def first_line(error: BaseException) -> str:
    """Return the message of an Icechunk error, on one line, without the trace of its own calls."""
    lines = [_MARGIN.sub("", line).strip() for line in str(error).splitlines()]
    text = " ".join(takewhile(bool, dropwhile(lambda line: not line, lines)))
    return text or repr(error)


def unreachable(error: BaseException) -> bool:
    """Whether an error means that a storage does not answer, and not that data are damaged."""
    if not isinstance(error, icechunk.IcechunkError):
        return False
    return bool(_NO_ANSWER.search(str(error))) and not _MISSING.search(str(error))
