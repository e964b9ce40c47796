"""Digits: a state of many small factors, taken apart once into one word.

::

    state = d_0 * (b_1 b_2 ..) + d_1 * (b_2 ..) + .. + d_{n-1}      mixed radix, as `state_dims`
    word  = d_0 | d_1 << 4 | .. | d_{n-1} << 4 (n-1)                four bits a digit

A transition that reads its factors many times reads them from the word, where that is a shift; a
division of integers costs twenty times as much. The quotients are made with the inverses of the
bases instead. Invariant: exact for up to 16 factors of at most 15 values, and states below 2**48.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dqlearn.errors import ConfigurationError
from dqlearn.jit.compiled import njit

__all__ = ["Bases", "bases_of", "digit", "pack", "unpack", "with_digit"]

Bases = tuple[tuple[int, ...], tuple[float, ...]]
"""Sizes of the factors, and their inverses: goes into a model's `params`."""


def bases_of(sizes: Sequence[int]) -> Bases:
    """Return what the kernels take a state apart with.

    Parameters
    ----------
    sizes : sequence of int
        Sizes of the factors, the most significant first, each 1 .. 15.

    Returns
    -------
    Bases
        For :func:`unpack` and :func:`pack`.

    Raises
    ------
    ConfigurationError
        If there are too many, or they are too large.

    Examples
    --------
    >>> bases_of((3, 4))
    ((3, 4), (0.3333333333333333, 0.25))
    """
    if not 1 <= len(sizes) <= 16 or not all(1 <= size <= 15 for size in sizes):
        raise ConfigurationError(
            f"a word holds 1 .. 16 factors of 1 .. 15 values, got the sizes {tuple(sizes)}"
        )
    if math.prod(sizes) > 2**48:
        raise ConfigurationError(
            f"expected at most 2**48 states, got {math.prod(sizes)} from the sizes {tuple(sizes)}"
        )
    return tuple(map(int, sizes)), tuple(1.0 / size for size in sizes)


@njit(cache=True)
def unpack(state: Any, bases: Any) -> Any:
    """Take a state apart.

    Parameters
    ----------
    state : int
        Mixed radix.
    bases : Bases
        The bases of its factors.

    Returns
    -------
    int64
        The word.

    Examples
    --------
    >>> word = unpack(11, bases_of((3, 4)))
    >>> digit(word, 0), digit(word, 1)
    (2, 3)
    """
    sizes, inverses = bases
    word = 0
    for i in range(len(sizes) - 1, -1, -1):
        # The half keeps the product away from integers by more than it can err.
        rest = int((state + 0.5) * inverses[i])
        word |= (state - rest * sizes[i]) << (4 * i)
        state = rest
    return word


@njit(cache=True)
def pack(word: Any, bases: Any) -> Any:
    """Put a state together again.

    Parameters
    ----------
    word : int
        As :func:`unpack` returns it.
    bases : Bases
        The bases of its factors.

    Returns
    -------
    int64
        The state.

    Examples
    --------
    >>> bases = bases_of((3, 4))
    >>> pack(unpack(11, bases), bases)
    11
    """
    sizes = bases[0]
    state = 0
    for i in range(len(sizes)):
        state = state * sizes[i] + ((word >> (4 * i)) & 15)
    return state


@njit(cache=True)
def digit(word: Any, i: Any) -> Any:
    """Return factor i of a word.

    Parameters
    ----------
    word : int
        As :func:`unpack` returns it.
    i : int
        Which.

    Returns
    -------
    int64
        Its value.
    """
    return (word >> (4 * i)) & 15


@njit(cache=True)
def with_digit(word: Any, i: Any, value: Any) -> Any:
    """Return a word with another value of factor i.

    Parameters
    ----------
    word : int
        As :func:`unpack` returns it.
    i : int
        Which.
    value : int
        In 0 .. 15.

    Returns
    -------
    int64
        The word.

    Examples
    --------
    >>> digit(with_digit(0, 3, 7), 3)
    7
    """
    return (word & ~(15 << (4 * i))) | (value << (4 * i))
