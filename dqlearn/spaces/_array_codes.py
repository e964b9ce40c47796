"""Codes of the spaces whose elements are arrays: one digit for each flattened dimension.

::

    batch (n_envs, *shape) ──digits──► (n_envs, dimensions) ──@ strides──► index (n_envs,)
                           ◄─values──                       ◄─ // and % ──

Invariant: each digit is in ``range(size)`` of its dimension: `MultiDiscreteCode.digits` refuses
values that are out of range, `BoxCode.digits` puts them into an outer bin.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from gymnasium import Space, spaces
from numpy.typing import NDArray

from dqlearn.spaces._codes import (
    Code,
    check_int64,
    int64_array,
    int_labels,
    out_of_range,
    real_array,
    strides,
    unravel,
)
from dqlearn.spaces._places import Factor, Place
from dqlearn.spaces.bins import Bins, middles, representatives

__all__ = ["BoxCode", "MultiDiscreteCode"]

_TOO_MANY = 64
_DOUBLE = 8  # bytes


class _ArrayCode(Code):
    """Code of a space whose elements are arrays: one digit per flattened dimension."""

    def __init__(self, space: Space[Any], place: Place, sizes: Sequence[int]) -> None:
        super().__init__(space, place, sizes)
        self.shape: tuple[int, ...] = space.shape or ()
        self.sizes = np.array(sizes, dtype=np.int64)
        self.strides = np.array(strides(sizes), dtype=np.int64)
        self._weights: list[int] = self.strides.tolist()

    def _name_factors(self, labels: Iterable[Any]) -> None:
        names = (self.place.child(*dimension).label for dimension in np.ndindex(self.shape))
        self.factors = tuple(map(Factor, names, self.sizes.tolist(), labels))

    def _values(self, element: Any, kinds: str) -> list[Any] | None:
        """Return the numbers of an element in a flat list; None unless it is an array of a kind."""
        if type(element) is not np.ndarray or element.shape != self.shape:
            return None
        # Python has no long doubles.
        if element.dtype.kind not in kinds or element.dtype.itemsize > _DOUBLE:
            return None
        values: list[Any] = element.ravel().tolist()
        return values

    @abstractmethod
    def digits(self, batch: Any) -> NDArray[np.int64]:
        """Return the digits of every element of a batch, shape (n_envs, dimensions)."""

    @abstractmethod
    def values(self, digits: NDArray[np.int64]) -> NDArray[Any]:
        """Return the value of every digit, in the same shape and the space's dtype."""

    def encode(self, batch: Any) -> NDArray[np.int64]:
        """Weigh the digits by their strides."""
        index: NDArray[np.int64] = self.digits(batch) @ self.strides
        return index

    def decode(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """Take the digits apart."""
        digits = indices[:, None] // self.strides % self.sizes
        return self.values(digits).reshape(len(indices), *self.shape)


class MultiDiscreteCode(_ArrayCode):
    """Code of a `MultiDiscrete`, or of a `MultiBinary`, whose sizes are all 2."""

    def __init__(self, space: spaces.MultiDiscrete[Any] | spaces.MultiBinary, place: Place) -> None:
        if isinstance(space, spaces.MultiDiscrete):
            sizes, starts = space.nvec.ravel().tolist(), space.start.ravel().tolist()
        else:
            digits = min(math.prod(space.shape), _TOO_MANY)  # more would be refused anyway
            sizes, starts = [2] * digits, [0] * digits
        super().__init__(space, place, sizes)
        for start, size in zip(starts, sizes, strict=True):
            check_int64(self, start + size - 1)
        self._name_factors(map(int_labels, starts, sizes))
        self.starts = np.array(starts, dtype=np.int64)
        self._scales = list(zip(starts, sizes, self._weights, strict=True))

    def quick(self, element: Any) -> int:
        """Subtract the starts and weigh the digits, as `encode` does."""
        if (values := self._values(element, "iub")) is None:
            return -1
        index = 0
        for value, (start, size, weight) in zip(values, self._scales, strict=True):
            if not 0 <= value - start < size:
                return -1
            index += (value - start) * weight
        return index

    def digits(self, batch: Any) -> NDArray[np.int64]:
        """Subtract the starts and check the range."""
        values = int64_array(batch, self, self.shape)
        digits = values.reshape(len(values), self.starts.size) - self.starts
        outside = digits.view(np.uint64) >= self.sizes.view(np.uint64)
        if outside.any():
            raise out_of_range(self, values, outside)
        return digits

    def values(self, digits: NDArray[np.int64]) -> NDArray[Any]:
        """Add the starts."""
        return (digits + self.starts).astype(self.space.dtype)

    def spec(self) -> dict[str, Any]:
        """Return the shape and, for a `MultiDiscrete`, sizes, starts and dtype."""
        if isinstance(self.space, spaces.MultiBinary):
            return {"kind": "MultiBinary", "shape": list(self.shape)}
        return {
            "kind": "MultiDiscrete",
            "shape": list(self.shape),
            "nvec": self.sizes.tolist(),
            "start": self.starts.tolist(),
            "dtype": str(self.space.dtype),
        }


class BoxCode(_ArrayCode):
    """Code of a `Box` through the bin edges of each dimension."""

    space: spaces.Box[Any]

    def __init__(self, space: spaces.Box[Any], place: Place, bins: Bins) -> None:
        self.edges = [np.asarray(edges, dtype=np.float64) for edges in bins.edges]
        super().__init__(space, place, [edges.size + 1 for edges in self.edges])
        bounds = list(zip(self.edges, space.low.ravel(), space.high.ravel(), strict=True))
        self._name_factors(tuple(middles(e, float(a), float(b)).tolist()) for e, a, b in bounds)
        self.elements = [representatives(e, a, b, space.dtype) for e, a, b in bounds]
        self._cuts = list(zip((e.tolist() for e in self.edges), self._weights, strict=True))

    def quick(self, element: Any) -> int:
        """Find each value's bin and weigh the bins, as `encode` does."""
        if (values := self._values(element, "fiub")) is None:
            return -1
        index = 0
        for value, (edges, weight) in zip(values, self._cuts, strict=True):
            if value != value:  # NaN
                return -1
            index += bisect_right(edges, float(value)) * weight
        return index

    def digits(self, batch: Any) -> NDArray[np.int64]:
        """Find each value's bin."""
        values = real_array(batch, self, self.shape, kinds="fiub")
        values = values.reshape(len(values), len(self.edges))
        missing = np.isnan(values)
        if missing.any():
            row, column = np.argwhere(missing)[0]
            where = self.place.child(*unravel(column, self.shape))
            raise self.refusal(
                f"got NaN from environment {row} at {where}: NaN is in no bin; find out where the "
                "environment makes it, or replace it in a gymnasium ObservationWrapper"
            )
        found = np.empty(values.shape, dtype=np.int64)
        for column, edges in enumerate(self.edges):
            found[:, column] = np.searchsorted(edges, values[:, column], side="right")
        return found

    def values(self, digits: NDArray[np.int64]) -> NDArray[Any]:
        """Look up the bins' representatives."""
        values = np.empty(digits.shape, dtype=self.space.dtype)
        for column, elements in enumerate(self.elements):
            values[:, column] = elements[digits[:, column]]
        return values

    def spec(self) -> dict[str, Any]:
        """Return shape, bounds (null where infinite), dtype and edges."""
        return {
            "kind": "Box",
            "shape": list(self.shape),
            "low": [_finite(value) for value in self.space.low.ravel().tolist()],
            "high": [_finite(value) for value in self.space.high.ravel().tolist()],
            "dtype": str(self.space.dtype),
            "edges": [edges.tolist() for edges in self.edges],
        }


def _finite(bound: Any) -> Any:
    """Return the bound, or None in place of an infinity, which JSON does not have."""
    return None if math.isinf(bound) else bound
