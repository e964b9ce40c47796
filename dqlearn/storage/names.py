"""Names of checkpoints, and entries in a list of checkpoints.

::

    "latest", "previous", "best"    move with the run
    7                               the number of a checkpoint, counted from 0
    "good"                          a tag, which stays

Invariant: a tag is neither a number nor one of the names that move.
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
"""A name of a checkpoint: "latest", "previous", "best", its number, or a tag."""

_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, repr=False)
class CheckpointInfo:
    """An entry in a list of checkpoints.

    Parameters
    ----------
    number : int
        Number of the checkpoint, counted from 0.
    round, timesteps : int
        Rounds and transitions that its table was learned from.
    written : datetime
        Time of the commit, in UTC.
    tags : tuple of str
        Names that point to the checkpoint.
    snapshot : str
        The store's id of the checkpoint.
    """

    number: int
    round: int
    timesteps: int
    written: datetime
    tags: tuple[str, ...]
    snapshot: str

    def __repr__(self) -> str:
        """Return a line with number, transitions, time and tags."""
        tags = "".join(f", {tag!r}" for tag in self.tags)
        return (
            f"CheckpointInfo({self.number}: round {self.round}, {self.timesteps} transitions, "
            f"{self.written:%Y-%m-%d %H:%M:%S}{tags})"
        )

    def _repr_html_(self) -> str:
        """Return a table of the same facts."""
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
    """Refuse a name that cannot be a tag.

    Parameters
    ----------
    name : str
        The name.
    taken : iterable of str
        Names in use, besides "latest", "best" and "previous".

    Raises
    ------
    StoreError
        If the name cannot be a tag, or is in use.
    """
    if not _TAG.fullmatch(name) or name.isdigit():
        raise StoreError(
            "a name begins with a letter or digit, goes on with these, '.', '_' or '-', and is "
            f"no number; got {name!r}"
        )
    if name in (LATEST, BEST, PREVIOUS, *taken):
        raise StoreError(f"the name {name!r} is taken: choose another")
