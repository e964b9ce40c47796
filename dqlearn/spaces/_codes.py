"""One class per kind of space, each with the same five methods.

A space is a mixed-radix number, its first part the most significant digit::

    Dict(arm=MultiDiscrete([3, 2]), lamp=Discrete(4))          n = 3 * 2 * 4 = 24
    index = (arm_0 * 2 + arm_1) * 4 + lamp

``encode`` turns a batch, as a `VectorEnv` returns it, into indices; ``decode`` turns indices into a
batch, as ``VectorEnv.step`` expects it; ``wrap`` makes a batch of one element and ``unwrap`` undoes
it; ``pick`` takes one element out of a batch; ``spec`` describes the space in JSON types. ``quick``
is the index of one element without a single array, where that is possible: a microsecond or two.

Invariant: ``n <= 2**62``, so that every digit, stride and sum fits int64; encode is a bijection
between the elements (of a Box: the bins) and ``range(n)``, decode its inverse.
"""

from __future__ import annotations

import itertools
import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import Space, spaces
from numpy.typing import NDArray

from dqlearn.errors import SpaceError
from dqlearn.spaces._places import Factor, Place, refusal

__all__ = ["Code", "DiscreteCode", "ProductCode"]

_LARGEST = 2**62
_MOST_BITS, _TOO_MANY = 64, 2**64
_INT64_MAX = 2**63 - 1


class Code(ABC):
    """Two-way map between one space and ``range(n)``.

    Parameters
    ----------
    space : gymnasium.Space
        The space.
    place : Place
        Where the space sits, for messages and factor names.
    sizes : sequence of int
        Radices of the index's digits, the most significant first.
    """

    factors: tuple[Factor, ...]

    def __init__(self, space: Space[Any], place: Place, sizes: Sequence[int]) -> None:
        self.space, self.place = space, place
        bits = sum(map(math.log2, sizes))  # first, as the product may have millions of digits
        self.n = math.prod(sizes) if bits < _MOST_BITS else _TOO_MANY
        if self.n > _LARGEST:
            raise self.refusal(
                f"has about 2**{int(bits)} elements, more than the 2**62 that fit an "
                "index: leave out what does not matter (a gymnasium ObservationWrapper) or use "
                "fewer bins"
            )

    def refusal(self, complaint: str) -> SpaceError:
        """Return the error that names this sub-space."""
        return refusal(self.place, self.space, complaint)

    @abstractmethod
    def encode(self, batch: Any) -> NDArray[np.int64]:
        """Return the index of every element of `batch`, shape (n_envs,)."""

    @abstractmethod
    def decode(self, indices: NDArray[np.int64]) -> Any:
        """Return the batch of the elements at `indices`, which must be in range."""

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """Return the space, and its bins, in JSON types."""

    def wrap(self, element: Any) -> Any:
        """Return the batch that holds `element` alone."""
        return np.asarray(element)[None]

    def quick(self, element: Any) -> int:
        """Return the index of a usual element; -1 of any other, which `encode` takes or refuses."""
        return -1

    def element(self, index: int) -> Any:
        """Return the element at one index, which must be in range."""
        return self.unwrap(self.decode(np.array([index])))

    def pick(self, batch: Any, i: int) -> Any:
        """Return element i of a batch that `encode` takes."""
        return np.asarray(batch)[i]

    def is_element(self, value: Any) -> bool:
        """Whether `value` is laid out as one element, not as a batch of them."""
        return np.ndim(value) == len(self.space.shape or ())

    def unwrap(self, batch: Any) -> Any:
        """Return the only element of `batch`."""
        return batch[0, ...]


class DiscreteCode(Code):
    """Code of a `Discrete`: ``index = value - start``."""

    space: spaces.Discrete[Any]

    def __init__(self, space: spaces.Discrete[Any], place: Place) -> None:
        n, start = int(space.n), int(space.start)
        super().__init__(space, place, [n])
        check_int64(self, start + n - 1)
        self.factors = (Factor(place.label, n, int_labels(start, n)),)
        self.start = np.int64(start)
        self._first, self._n = start, n  # Python's own: faster than NumPy's scalars

    def encode(self, batch: Any) -> NDArray[np.int64]:
        """Subtract the start; one unsigned comparison checks both ends of the range."""
        values = int64_array(batch, self, ())
        index = np.subtract(values, self.start)
        if index.view(np.uint64).max(initial=0) >= self.n:
            raise out_of_range(self, values, index.view(np.uint64) >= self.n)
        return index

    def quick(self, element: Any) -> int:
        """Subtract the start, as `encode` does."""
        if type(element) is not int and not isinstance(element, np.integer):
            return -1
        index = int(element) - self._first
        return index if 0 <= index < self._n else -1

    def decode(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """Add the start."""
        return (indices + self.start).astype(self.space.dtype, copy=False)

    def element(self, index: int) -> Any:
        """Add the start."""
        return self.space.dtype.type(index + self._first)

    def unwrap(self, batch: Any) -> Any:
        """Return the NumPy scalar: Gymnasium's element of a `Discrete`."""
        return batch[0]

    def spec(self) -> dict[str, Any]:
        """Return n, start and dtype."""
        n, start = self.factors[0].size, int(self.start)
        return {"kind": "Discrete", "n": n, "start": start, "dtype": str(self.space.dtype)}


class ProductCode(Code):
    """Code of a `Tuple` or a `Dict`: its members' indices are the digits."""

    def __init__(
        self, space: spaces.Tuple[Any] | spaces.Dict, place: Place, members: Mapping[Any, Code]
    ) -> None:
        if not members:
            raise refusal(place, space, "has no sub-space, so there is nothing to index: drop it")
        super().__init__(space, place, [member.n for member in members.values()])
        self.factors = tuple(factor for member in members.values() for factor in member.factors)
        self.members = members
        self.strides = strides([member.n for member in members.values()])
        self._keyed = list(zip(members, members.values(), self.strides, strict=True))
        self._kind = dict if isinstance(space, spaces.Dict) else tuple

    def quick(self, element: Any) -> int:
        """Weigh the members' indices, as `encode` does."""
        if type(element) is not self._kind or len(element) != len(self._keyed):
            return -1
        index = 0
        for key, member, stride in self._keyed:
            if self._kind is dict and key not in element:
                return -1
            if (digit := member.quick(element[key])) < 0:
                return -1
            index += digit * stride
        return index

    def element(self, index: int) -> Any:
        """Take the digits apart; each member has the element of its own."""
        return self._pack(it.element(index // stride % it.n) for _, it, stride in self._keyed)

    def pick(self, batch: Any, i: int) -> Any:
        """Pick element i of every member."""
        return self._pack(member.pick(part, i) for member, part in self._parts(batch))

    def encode(self, batch: Any) -> NDArray[np.int64]:
        """Weigh the members' indices by their strides."""
        indices = [member.encode(part) for member, part in self._parts(batch)]
        lengths = [len(index) for index in indices]
        if len(set(lengths)) > 1:
            raise self.refusal(f"expects parts of one length (n_envs), got {lengths=}")
        index = np.zeros(lengths[0], dtype=np.int64)
        for digit, stride in zip(indices, self.strides, strict=True):
            index += digit * stride
        return index

    def decode(self, indices: NDArray[np.int64]) -> Any:
        """Take the digits apart; each member decodes its own."""
        pairs = zip(self.members.values(), self.strides, strict=True)
        return self._pack(member.decode(indices // stride % member.n) for member, stride in pairs)

    def wrap(self, element: Any) -> Any:
        """Wrap every member."""
        return self._pack(member.wrap(part) for member, part in self._parts(element))

    def is_element(self, value: Any) -> bool:
        """Ask the first part; a value that does not have the parts is refused."""
        code, part = self._parts(value)[0]
        return code.is_element(part)

    def unwrap(self, batch: Any) -> Any:
        """Unwrap every member."""
        return self._pack(member.unwrap(part) for member, part in self._parts(batch))

    def spec(self) -> dict[str, Any]:
        """Return the members' specs and, for a `Dict`, their keys in the order of the digits."""
        members = [member.spec() for member in self.members.values()]
        if isinstance(self.space, spaces.Dict):
            return {"kind": "Dict", "keys": list(self.members), "spaces": members}
        return {"kind": "Tuple", "spaces": members}

    def _parts(self, value: Any) -> list[tuple[Code, Any]]:
        """Pair every member with its part of `value`."""
        expected = Mapping if isinstance(self.space, spaces.Dict) else (tuple, list)
        keys = list(self.members)
        if not isinstance(value, expected) or len(value) != len(keys):
            raise self.refusal(f"expects a part for each of {keys}, got {value!r}")
        try:
            return [(member, value[key]) for key, member in self.members.items()]
        except KeyError as missing:
            raise self.refusal(f"expects a part for each of {keys}, got {value!r}") from missing

    def _pack(self, parts: Iterable[Any]) -> Any:
        if isinstance(self.space, spaces.Dict):
            return dict(zip(self.members, parts, strict=True))
        return tuple(parts)


def strides(sizes: Sequence[int]) -> list[int]:
    """Return the weight of every digit: the product of the sizes after it."""
    after = itertools.accumulate(reversed(sizes), operator.mul, initial=1)
    return list(after)[-2::-1]


def int_labels(start: int, n: int) -> range | None:
    return range(start, start + n) if start else None


def check_int64(code: Code, largest: int) -> None:
    if largest > _INT64_MAX:
        raise code.refusal(
            f"has elements up to {largest}, more than int64 holds: lower its start "
            "(gymnasium.wrappers.TransformObservation or TransformAction)"
        )


def real_array(batch: Any, code: Code, shape: tuple[int, ...], kinds: str) -> NDArray[Any]:
    array = np.asarray(batch)
    if array.dtype.kind not in kinds:
        kind = "real numbers" if "f" in kinds else "integers"
        raise code.refusal(f"expects {kind}, got {array.dtype=!s}")
    if array.ndim != len(shape) + 1 or array.shape[1:] != shape:
        expected = ", ".join(map(str, ("n_envs", *shape)))
        raise code.refusal(f"expects a batch of shape ({expected}), got {array.shape=}")
    return array


def int64_array(batch: Any, code: Code, shape: tuple[int, ...]) -> NDArray[np.int64]:
    array = real_array(batch, code, shape, kinds="iub")
    if array.dtype == np.uint64 and array.max(initial=0) > _INT64_MAX:
        raise out_of_range(code, array, array > _INT64_MAX)
    return array.astype(np.int64, copy=False)


def out_of_range(code: Code, values: NDArray[Any], outside: NDArray[np.bool_]) -> SpaceError:
    """Return the error about the first value of the batch that is outside its range."""
    row, column = np.argwhere(outside.reshape(len(values), -1))[0]
    value = values.reshape(len(values), -1)[row, column]
    factor = code.factors[column]
    first = factor.labels[0] if factor.labels else 0
    where = code.place.child(*unravel(column, values.shape[1:]))
    return code.refusal(
        f"got {value} from environment {row} at {where}, outside "
        f"{first}..{first + factor.size - 1}: declare a larger space, or correct the environment"
    )


def unravel(column: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(column, shape)) if shape else ()
