"""Where a sub-space sits in its space, and what it contributes to the flat index.

::

    Dict(arm=Tuple(.., .., Box))      Place("observation", ("arm", 2))
                                      in messages   observation['arm'][2]
                                      as a factor   arm_2

Invariant: a place is only a name, used in messages and factor names and for nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gymnasium import Space

from dqlearn.errors import SpaceError

__all__ = ["Factor", "Place", "refusal"]

_LONGEST_SPACE = 160  # characters of a space's repr that a message shows


@dataclass(frozen=True)
class Factor:
    """One digit of the mixed-radix index.

    Parameters
    ----------
    name : str
        Path of the sub-space, for instance ``"arm_2"``: a dimension's name in the labelled table.
    size : int
        Number of values.
    labels : sequence of int, float or str, or None
        The values themselves: a `range` where integers do not start at 0 (never unrolled, so a
        factor of 2**62 values costs nothing), the bins' middles for a `Box`, None for 0..size-1.
    """

    name: str
    size: int
    labels: Sequence[int] | Sequence[float] | Sequence[str] | None = None


@dataclass(frozen=True)
class Place:
    """Path from the root space to a sub-space.

    Parameters
    ----------
    name : str
        What the root space is called.
    keys : tuple of str or int
        Dict keys, tuple positions and array dimensions on the way down.

    Examples
    --------
    >>> place = Place("observation").child("arm").child(2)
    >>> str(place), place.label
    ("observation['arm'][2]", 'arm_2')
    >>> Place("action").child(0).label
    'action_0'
    """

    name: str
    keys: tuple[str | int, ...] = ()

    def __str__(self) -> str:
        """Return the path as one would index the observation."""
        return self.name + "".join(f"[{key!r}]" for key in self.keys)

    def child(self, *keys: str | int) -> Place:
        """Return the place further down, after `keys`."""
        return Place(self.name, self.keys + keys)

    @property
    def label(self) -> str:
        """Name of the factor: the keys, preceded by the root's name unless the root is a Dict."""
        named = bool(self.keys) and isinstance(self.keys[0], str)
        parts = self.keys if named else (self.name, *self.keys)
        return "_".join(str(part) for part in parts)


def refusal(place: Place, space: Space[Any] | object, complaint: str) -> SpaceError:
    """Return the error that names a sub-space by its path and says what is wrong with it."""
    text = " ".join(repr(space).split())
    if len(text) > _LONGEST_SPACE:
        text = f"{text[:_LONGEST_SPACE]}..."
    return SpaceError(f"{place}: {text} {complaint}")
