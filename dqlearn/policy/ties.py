"""The hash that breaks ties, for many states at once, in NumPy.

::

    seed ──► tie_key ──► mix(key + (state * n_actions + action + 1) * golden)     largest wins

These are the numbers of :mod:`dqlearn.random`, whose functions Numba compiles. Invariant: each has
the bits that :func:`dqlearn.kernels.ties.ties` and the kernels of that module have; unsigned
integers of 64 bits wrap around.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["tie_hashes", "tie_key"]

_U = np.uint64
_GOLDEN = _U(0x9E3779B97F4A7C15)
_TIES = _U(2)  # the purpose of the stream of numbers


def tie_key(seed: int) -> np.uint64:
    """Return the key that says which of several tied actions stands for them.

    Parameters
    ----------
    seed : int
        Seed of the run, 0 .. 2**64 - 1.

    Returns
    -------
    uint64
        The key.

    Examples
    --------
    >>> from dqlearn.kernels.ties import ties
    >>> int(tie_key(7)) == int(ties(7))
    True
    """
    # An array: NumPy warns of scalars that wrap around.
    purposed = _mix(_mix(np.array([seed], _U) + _GOLDEN) + _TIES)
    return _U(_mix(purposed)[0])


def tie_hashes(
    key: np.uint64, states: npt.NDArray[Any], actions: npt.NDArray[Any], n_actions: int
) -> npt.NDArray[np.uint64]:
    """Return the hash of each pair; of the actions that tie, the one with the largest is greedy.

    Parameters
    ----------
    key : uint64
        The result of `tie_key`.
    states, actions : int (...)
        The pairs, broadcast against each other.
    n_actions : int
        Number of actions of the whole table.

    Returns
    -------
    uint64 (...)
        The hashes, in the shape of the pairs.

    Examples
    --------
    >>> tie_hashes(tie_key(0), np.array([[3], [4]]), np.arange(4), 4).argmax(axis=1).shape
    (2,)
    """
    pairs = states.astype(_U) * _U(n_actions) + actions.astype(_U)
    pairs += _U(1)
    pairs *= _GOLDEN
    pairs += key
    return _mix(pairs)


def _mix(z: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Scramble 64 bits, in place, as ``mix`` of :mod:`dqlearn.random` does."""
    z ^= z >> _U(30)
    z *= _U(0xBF58476D1CE4E5B9)
    z ^= z >> _U(27)
    z *= _U(0x94D049BB133111EB)
    z ^= z >> _U(31)
    return z
