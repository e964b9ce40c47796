"""Bins: how a real interval becomes a handful of indices.

Interior edges cut the line; what lies outside them falls into the two outer bins::

    edges           -1.2       0.0       1.2
    bin         0     |    1    |    2    |    3
    middle    -1.8       -0.6       0.6       1.8

Bin i holds ``edges[i-1] <= x < edges[i]``, as `numpy.digitize` has it; k edges make k + 1 bins.
Invariant: edges are finite and ascend strictly, so that no bin is empty.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dqlearn.errors import SpaceError

__all__ = ["Bins", "middles", "representatives"]


@dataclass(frozen=True)
class Bins:
    """Interior bin edges of a `Box`, one ascending array for each of its flattened dimensions.

    Parameters
    ----------
    edges : sequence of array-like
        Interior edges, in the units of the observation; kept as tuples of floats. An empty array
        makes one bin: that dimension is ignored. A single array serves every dimension of a box.

    Raises
    ------
    SpaceError
        If an array is not one-dimensional, not finite or not strictly ascending.

    Examples
    --------
    >>> Bins([[-1.2, 0.0, 1.2], []])
    Bins(edges=((-1.2, 0.0, 1.2), ()))
    """

    edges: Sequence[ArrayLike]

    def __post_init__(self) -> None:
        """Check the edges and freeze them as tuples of floats."""
        if isinstance(self.edges, str) or not isinstance(self.edges, Iterable):
            raise SpaceError(
                "expected an array of edges for each dimension, such as Bins([[-1.0, 0.0, 1.0]]), "
                f"got {self.edges!r}; for a number of equal bins pass bins=n, or Bins.uniform(low, "
                "high, n)"
            )
        frozen = tuple(_frozen(i, edges) for i, edges in enumerate(self.edges))
        object.__setattr__(self, "edges", frozen)

    @classmethod
    def uniform(cls, low: ArrayLike, high: ArrayLike, n: ArrayLike) -> Bins:
        """Cut ``[low, high]`` into `n` equal bins per dimension.

        Parameters
        ----------
        low, high : float or array-like of shape (d,)
            Ends of the interval. Values beyond them fall into the first or the last bin.
        n : int or array-like of shape (d,)
            Number of bins; 1 ignores the dimension, whatever its ends.

        Returns
        -------
        Bins
            ``n - 1`` interior edges per dimension.

        Raises
        ------
        SpaceError
            If shapes do not match, `n` is not a positive integer, or ``low < high`` (both finite)
            does not hold where ``n > 1``.

        Examples
        --------
        >>> Bins.uniform([-1.0, 0.0], [1.0, 3.0], [4, 3])
        Bins(edges=((-0.5, 0.0, 0.5), (1.0, 2.0)))
        """
        try:
            triples = np.broadcast(*(np.ravel(part) for part in (low, high, n)))
        except ValueError as error:
            raise SpaceError(
                "low, high and n of uniform bins must be scalars or have one value per dimension, "
                f"got shapes {np.shape(low)}, {np.shape(high)}, {np.shape(n)}"
            ) from error
        return cls(tuple(_even_edges(i, *triple) for i, triple in enumerate(triples)))


def _frozen(dimension: int, edges: ArrayLike) -> tuple[float, ...]:
    try:
        array = np.asarray(edges, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty((0, 0))  # refused below, like everything that is not a list of numbers
    if array.ndim != 1 or not np.isfinite(array).all() or (np.diff(array) <= 0).any():
        raise SpaceError(
            f"edges of dimension {dimension} must be a one-dimensional, finite, strictly ascending "
            f"array of interior edges, got {edges!r}; values beyond the outermost edges need none"
        )
    return tuple(array.tolist())


def _even_edges(dimension: int, low: Any, high: Any, n: Any) -> NDArray[np.float64]:
    try:
        count = operator.index(n)
    except TypeError:
        count = 0
    if count < 1:
        raise SpaceError(f"dimension {dimension} needs a whole number of bins >= 1, got {n!r}")
    if count == 1:
        return np.empty(0)
    numbers = isinstance(low, Real) and isinstance(high, Real)
    if not (numbers and np.isfinite(low) and np.isfinite(high) and low < high):
        raise SpaceError(
            f"uniform bins of dimension {dimension} need finite low < high, got low={low!s}, "
            f"high={high!s}; give the interval that matters: what lies beyond goes to its ends"
        )
    return np.linspace(float(low), float(high), count + 1)[1:-1]


def middles(edges: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Return the middle of every bin.

    An outer bin is taken to be as wide as its neighbour, or less where the box ends. With fewer
    than two edges there is no neighbour: then it reaches to the box's bound or, where that is
    infinite, one unit far.

    Parameters
    ----------
    edges : ndarray of float64, shape (k,)
        Interior edges.
    low, high : float
        Bounds of the box; they may be infinite.

    Returns
    -------
    ndarray of float64, shape (k + 1,)
        The middles, ascending, within the bounds.

    Examples
    --------
    >>> middles(np.array([-1.2, 0.0, 1.2]), -4.8, 4.8).round(9).tolist()
    [-1.8, -0.6, 0.6, 1.8]
    >>> middles(np.array([0.0]), -3.0, np.inf).tolist()
    [-1.5, 0.5]
    """
    if edges.size > 1:
        left, right = 2 * edges[0] - edges[1], 2 * edges[-1] - edges[-2]
    else:
        anchor = edges[0] if edges.size else np.clip(0.0, low, high)
        left = low if np.isfinite(low) else anchor - 1
        right = high if np.isfinite(high) else anchor + 1
    walls = np.clip(np.concatenate([[left], edges, [right]]), low, high)
    middle: NDArray[np.float64] = (walls[:-1] + walls[1:]) / 2
    return middle


def representatives(
    edges: NDArray[np.float64], low: Any, high: Any, dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Return the value of `dtype` nearest to every bin's middle that is in the bin and the box.

    Parameters
    ----------
    edges : ndarray of float64, shape (k,)
        Interior edges.
    low, high : scalar of dtype
        Bounds of the box; they may be infinite.
    dtype : numpy.dtype
        The dtype of the box.

    Returns
    -------
    ndarray of dtype, shape (k + 1,)
        The value for each bin. A bin without an element of the box (its edges lie outside the
        bounds, or between two neighbouring values of `dtype`) gets the nearest element of the box.

    Examples
    --------
    >>> representatives(np.array([1.5, 2.5]), np.uint8(0), np.uint8(9), np.dtype("uint8"))
    array([1, 2, 3], dtype=uint8)
    """
    centre = middles(edges, float(low), float(high))
    if dtype.kind == "f":
        with np.errstate(over="ignore"):  # an edge beyond the dtype's range becomes an infinity
            centre, at_least = centre.astype(dtype), edges.astype(dtype)
            at_least = np.where(at_least < edges, np.nextafter(at_least, np.inf), at_least)
            below = np.nextafter(at_least, -np.inf)
    else:
        centre, at_least = np.rint(centre), np.ceil(edges)
        below = at_least - 1
    centre[1:] = np.maximum(centre[1:], at_least)
    centre[:-1] = np.minimum(centre[:-1], below)
    inside = np.clip(centre, float(low), float(high)).astype(dtype)
    element: NDArray[Any] = np.clip(inside, low, high)  # float64 rounds bounds beyond 2**53
    return element
