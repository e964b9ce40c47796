"""What names a checkpoint, and what a list of checkpoints says of one.

::

    "latest", "previous", "best"    move with the run
    7                               counts the run's checkpoints
    "good"                          a tag, which stays

Invariant: a tag is none of the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from dqlearn.errors import StoreError
from dqlearn.text import html_table

__all__ = ["BEST", "LATEST", "PREVIOUS", "At", "CheckpointInfo", "check_tag"]

LATEST, BEST, PREVIOUS = "latest", "best", "previous"

At = str | int
"""What names a checkpoint: "latest", "previous", "best", a number, or a tag."""

_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, repr=False)
class CheckpointInfo:
    """What a list of checkpoints says of one.

    Parameters
    ----------
    number : int
        Counts the run's checkpoints from 0.
    round, timesteps : int
        Rounds and transitions that its table was learned from.
    written : datetime
        When, in UTC.
    tags : tuple of str
        Names that point to it.
    snapshot : str
        The store's name of it.
    """

    number: int
    round: int
    timesteps: int
    written: datetime
    tags: tuple[str, ...]
    snapshot: str

    def __repr__(self) -> str:
        """Return its number, what it has learned from, when it was written, and its tags."""
        tags = "".join(f", {tag!r}" for tag in self.tags)
        return (
            f"CheckpointInfo({self.number}: round {self.round}, {self.timesteps} transitions, "
            f"{self.written:%Y-%m-%d %H:%M:%S}{tags})"
        )

    def _repr_html_(self) -> str:
        """Return a table of the same."""
        return html_table(
            f"checkpoint {self.number}",
            {
                "round": f"{self.round:,}",
                "learned from": f"{self.timesteps:,} transitions",
                "written": f"{self.written:%Y-%m-%d %H:%M:%S} UTC",
                "tags": ", ".join(self.tags) or "none",
                "snapshot": self.snapshot,
            },
        )


def check_tag(name: str, taken: Iterable[str]) -> None:
    """Refuse what cannot be a tag.

    Parameters
    ----------
    name : str
        A name.
    taken : iterable of str
        Those that are in use, besides "latest", "best" and "previous".

    Raises
    ------
    StoreError
        If it is none, or is in use.
    """
    if not _TAG.fullmatch(name) or name.isdigit():
        raise StoreError(
            "a name begins with a letter or digit, goes on with these, '.', '_' or '-', and is "
            f"no number; got {name!r}"
        )
    if name in (LATEST, BEST, PREVIOUS, *taken):
        raise StoreError(f"the name {name!r} is taken: choose another")
