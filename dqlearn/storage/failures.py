"""What storages say when they fail, told from what damaged chunks and our own code say.

Invariant: Icechunk is not imported for it: an error of Icechunk's comes from where it is.
"""

from __future__ import annotations

import re
import sys
from itertools import dropwhile, takewhile

__all__ = ["first_line", "of_icechunk", "unreachable"]

_MARGIN = re.compile(r"^\s+[x×|](?=\s|$)")  # that Icechunk draws beside its texts

# As its clients of object stores say it, and the operating system.
_NO_ANSWER = re.compile(
    r"dispatch failure|service error|tim(ed |e)out|Generic (S3|GCS|MicrosoftAzure|HTTP) error"
    r"|\(os error \d+\)"
)
_MISSING = re.compile(r"NoSuchKey|not found|No such file")


def of_icechunk(error: BaseException) -> bool:
    """Whether an error is one of Icechunk's."""
    icechunk = sys.modules.get("icechunk")
    return icechunk is not None and isinstance(error, icechunk.IcechunkError)


def first_line(error: BaseException) -> str:
    """Return what Icechunk's errors say, on one line, without the trace of its own calls."""
    lines = [_MARGIN.sub("", line).strip() for line in str(error).splitlines()]
    text = " ".join(takewhile(bool, dropwhile(lambda line: not line, lines)))
    return text or repr(error)


def unreachable(error: BaseException) -> bool:
    """Whether an error says that a storage does not answer, not that something in it is damaged."""
    if not of_icechunk(error):
        return False
    return bool(_NO_ANSWER.search(str(error))) and not _MISSING.search(str(error))
