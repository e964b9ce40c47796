"""Spaces and flat indices: the two-way map between a Gymnasium space and ``range(n)``.

::

    index.py         SpaceIndex          the public class
    bins.py          Bins                edges that make a Box finite
    _places.py       Place, Factor       where a sub-space sits; what it adds to the index
    _codes.py        a class per kind:   encode / decode / wrap / unwrap / spec
    _array_codes.py  the same, for kinds whose elements are arrays
    _build.py        code_of, space_of   from a space, or its spec, to its code

Invariant: the index of an element depends on the space and its bins alone.
"""

from __future__ import annotations

from dqlearn.spaces._build import BinsLike
from dqlearn.spaces._places import Factor
from dqlearn.spaces.bins import Bins
from dqlearn.spaces.index import SpaceIndex

__all__ = ["Bins", "BinsLike", "Factor", "SpaceIndex"]
