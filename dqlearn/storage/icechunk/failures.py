"""What Icechunk says when it fails: no answer of a storage, told from what damaged chunks say.

Invariant: texts are for people, on one line.
"""

from __future__ import annotations

import re
from itertools import dropwhile, takewhile

import icechunk

__all__ = ["first_line", "unreachable"]

_MARGIN = re.compile(r"^\s+[x×|](?=\s|$)")  # that Icechunk draws beside its texts

# As its clients of object stores say it, and the operating system.
_NO_ANSWER = re.compile(
    r"dispatch failure|service error|tim(ed |e)out|Generic (S3|GCS|MicrosoftAzure|HTTP) error"
    r"|\(os error \d+\)"
)
_MISSING = re.compile(r"NoSuchKey|not found|No such file")


def first_line(error: BaseException) -> str:
    """Return what Icechunk's errors say, on one line, without the trace of its own calls."""
    lines = [_MARGIN.sub("", line).strip() for line in str(error).splitlines()]
    text = " ".join(takewhile(bool, dropwhile(lambda line: not line, lines)))
    return text or repr(error)


def unreachable(error: BaseException) -> bool:
    """Whether an error says that a storage does not answer, not that something in it is damaged."""
    if not isinstance(error, icechunk.IcechunkError):
        return False
    return bool(_NO_ANSWER.search(str(error))) and not _MISSING.search(str(error))
