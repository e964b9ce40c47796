"""`SpaceIndex`: a whole space as ``range(n)``.

::

    space, bins ──code_of──► tree of codes ──spec──► JSON ──from_spec──► the same tree

    FrozenLake     Discrete(16)                          n = 16    observation
    Blackjack      Tuple(Discrete(32), 11, 2)            n = 704   observation_0, _1, _2
    CartPole       Box + Bins                            n = 162   observation_0 .. _3

Invariant: the order of the digits is the order of the space's members (`Dict`: as
``space.spaces`` has them), so an index means the same in every process and in a stored table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import Space, spaces
from numpy.typing import ArrayLike, NDArray

from dqlearn.errors import SpaceError
from dqlearn.spaces._build import BinsLike, code_of, space_of
from dqlearn.spaces._codes import Code, DiscreteCode
from dqlearn.spaces._places import Factor, Place
from dqlearn.text import shortened

__all__ = ["SpaceIndex"]


class SpaceIndex:
    """Two-way map between the elements of a Gymnasium space and ``range(n)``.

    Make one with `from_space` or `from_spec`.

    Parameters
    ----------
    root : Code
        The code of the whole space.

    Attributes
    ----------
    n : int
        Number of indices, at most 2**62.
    factors : tuple of Factor
        Digits of the index in mixed radix, the first the most significant; names are unique.
    bins : Bins, int, tuple of int, mapping or sequence, optional
        The bins that `from_space` was given.

    Examples
    --------
    >>> space = spaces.Dict(arm=spaces.MultiDiscrete([3, 2]), lamp=spaces.Discrete(4, start=1))
    >>> index = SpaceIndex.from_space(space)
    >>> index.n, [factor.name for factor in index.factors]
    (24, ['arm_0', 'arm_1', 'lamp'])
    >>> index.encode({"arm": np.array([[0, 0], [2, 1]]), "lamp": np.array([1, 4])})
    array([ 0, 23])
    >>> index.decode_one(9)
    {'arm': array([1, 0]), 'lamp': np.int64(2)}
    """

    def __init__(self, root: Code) -> None:
        self._root = root
        self._indices = DiscreteCode(spaces.Discrete(root.n), Place(f"index of {root.place}"))
        self.n = root.n
        self.bins: BinsLike = None
        self.factors = _unique(root.factors)

    @classmethod
    def from_space(
        cls, space: Space[Any], bins: BinsLike = None, name: str = "observation"
    ) -> SpaceIndex:
        """Index a space.

        Parameters
        ----------
        space : gymnasium.Space
            `Discrete`, `MultiDiscrete`, `MultiBinary`, `Box` with bins, or a `Tuple` or `Dict`
            of these, nested to any depth.
        bins : Bins, int, tuple of int, mapping or sequence, optional
            How to cut a `Box`: `Bins`, or a number of equal bins over its finite bounds, for all
            dimensions or for each. For a `Dict` a mapping, for a `Tuple` a sequence of its
            sub-spaces' bins; what is missing is None.
        name : str, default "observation"
            The name of the space in messages and factors.

        Returns
        -------
        SpaceIndex
            The index of the whole space.

        Raises
        ------
        SpaceError
            If the space, or a part of it, cannot be indexed; the message names the part.

        Examples
        --------
        >>> box = spaces.Box(-1.0, 1.0, (2,))
        >>> SpaceIndex.from_space(box, bins=(4, 2)).factors[1]
        Factor(name='observation_1', size=2, labels=(-0.5, 0.5))
        """
        index = cls(code_of(space, bins, Place(name)))
        index.bins = bins
        return index

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> SpaceIndex:
        """Rebuild an index from what `spec` returned.

        Parameters
        ----------
        spec : mapping
            The description of the index, plain data: nothing in it is executed.

        Returns
        -------
        SpaceIndex
            An index with the same factors, and the same number for every element.

        Raises
        ------
        SpaceError
            If `spec` does not describe a space.
        """
        try:
            space, bins = space_of(spec["space"])
            name = str(spec["name"])
        except SpaceError:
            raise
        except Exception as error:  # a spec may say anything
            raise SpaceError(
                f"expected the result of SpaceIndex.spec(), got {shortened(spec)}: "
                f"{shortened(error)}; was the table's attribute edited?"
            ) from error
        return cls.from_space(space, bins, name)

    def spec(self) -> dict[str, Any]:
        """Return all that is needed to rebuild the index, in JSON types.

        Returns
        -------
        dict
            A dictionary ``{"name": str, "space": {"kind": str, ...}}``.

        Examples
        --------
        >>> SpaceIndex.from_space(spaces.Discrete(4), name="action").spec()
        {'name': 'action', 'space': {'kind': 'Discrete', 'n': 4, 'start': 0, 'dtype': 'int64'}}
        """
        return {"name": self._root.place.name, "space": self._root.spec()}

    @property
    def space(self) -> Space[Any]:
        """The space itself.

        Examples
        --------
        >>> SpaceIndex.from_space(spaces.Discrete(4)).space
        Discrete(4)
        """
        return space_of(self._root.spec())[0]

    def encode(self, batch: Any) -> NDArray[np.int64]:
        """Return the index of every element of a batch.

        Parameters
        ----------
        batch : array, tuple or dict of arrays
            A batch as a `VectorEnv` returns it: the first axis of every array is the environments.

        Returns
        -------
        ndarray of int64, shape (n_envs,)
            The indices; they never share memory with `batch`.

        Raises
        ------
        SpaceError
            If an element is not in the space, or a value is NaN: the message names environment
            and dimension. (What lies outside a `Box` goes to the outer bins.)
        """
        return self._root.encode(batch)

    def is_element(self, value: Any) -> bool:
        """Tell one element of the space from a batch of them, by the layout.

        Parameters
        ----------
        value : object
            An element, or a batch as a `VectorEnv` returns it.

        Returns
        -------
        bool
            True for an element.
        """
        return self._root.is_element(value)

    def encode_one(self, element: Any) -> int:
        """Return the index of one element of the space.

        Parameters
        ----------
        element : object
            An element as ``space.sample()`` returns it.

        Returns
        -------
        int
            The index, in ``range(n)``.

        Raises
        ------
        SpaceError
            In the cases of `encode`.
        """
        index = self._root.quick(element)
        return int(self._root.encode(self._root.wrap(element))[0]) if index < 0 else index

    def pick(self, batch: Any, i: int) -> Any:
        """Return one element of a batch.

        Parameters
        ----------
        batch : array, tuple or dict of arrays
            A batch that `encode` takes.
        i : int
            Which environment's.

        Returns
        -------
        object
            The element, whose arrays may share memory with `batch`.

        Examples
        --------
        >>> index = SpaceIndex.from_space(spaces.Dict(lamp=spaces.Discrete(4)))
        >>> index.pick({"lamp": np.array([3, 1])}, 1)
        {'lamp': np.int64(1)}
        """
        return self._root.pick(batch, i)

    def decode(self, indices: ArrayLike) -> Any:
        """Return the batch of the elements at some indices.

        Parameters
        ----------
        indices : array-like of int, shape (n_envs,)
            The indices, each in ``range(n)``.

        Returns
        -------
        array, tuple or dict of arrays
            The batch as ``VectorEnv.step`` expects it, in the space's dtypes. For a `Box` it has
            each bin's representative: the element of the bin nearest to its middle.

        Raises
        ------
        SpaceError
            If an index is not in ``range(n)``.
        """
        return self._root.decode(self._indices.encode(indices))

    def decode_one(self, index: int) -> Any:
        """Return the element at one index.

        Parameters
        ----------
        index : int
            The index, in ``range(n)``.

        Returns
        -------
        object
            An element of the space.

        Raises
        ------
        SpaceError
            If the index is not in ``range(n)``.
        """
        if type(index) is int and 0 <= index < self.n:
            return self._root.element(index)
        return self._root.unwrap(self.decode([index]))

    def __repr__(self) -> str:
        """Return the name, the size and the factors on one line."""
        sizes = " x ".join(f"{factor.name}={factor.size}" for factor in self.factors)
        return f"<SpaceIndex {self._root.place.name}: n={self.n} ({sizes})>"


def _unique(factors: tuple[Factor, ...]) -> tuple[Factor, ...]:
    """Append underscores to repeated names: ``a[0]`` and ``a_0`` would both be called a_0."""
    seen: set[str] = set()
    unique = []
    for factor in factors:
        name = factor.name
        while name in seen:
            name += "_"
        seen.add(name)
        unique.append(replace(factor, name=name))
    return tuple(unique)
