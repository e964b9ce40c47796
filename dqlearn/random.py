"""Counter-based random numbers: a draw is a function of what it is for, never of who makes it.

::

    seed, purpose, index ──► stream ──► key of step t ──► uniform(key, 0), uniform(key, 1), ...
                             (one an environment)         numbers for the user's model

A *key* is a 64-bit number that stands for one step of one environment; ``uniform(key, i)`` is its
i-th number. The generator is SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom
number generators", OOPSLA) with a key as its seed and jumps instead of a state.

Invariant: nothing here has state, so a task that runs twice draws the same numbers twice.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dqlearn.jit.compiled import njit

__all__ = ["bernoulli", "integers", "uniform"]

_U = np.uint64
_GOLDEN = _U(0x9E3779B97F4A7C15)
_STEP = _U(0xD1342543DE82EF95)
_RESET = _U(0xA24BAED4963EE407)
_MEMBER = _U(0x9FB21C651E98DF25)
_HALF = _U(32)
_LOW = _U(0xFFFFFFFF)
_FOUR_BYTES = 2**32

# purposes: what a stream of numbers is for
STEPS, TIES, SEEDS, EVALUATION, VIEW = (_U(i) for i in range(1, 6))


@njit(cache=True, inline="always")
def mix(z: np.uint64) -> np.uint64:
    """Scramble 64 bits; a bijection in which every input bit flips half of the output bits."""
    z = (z ^ (z >> _U(30))) * _U(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> _U(27))) * _U(0x94D049BB133111EB)
    return z ^ (z >> _U(31))


@njit(cache=True)
def stream(seed: np.uint64, purpose: np.uint64, index: np.uint64) -> np.uint64:
    """Return the stream of one purpose and index under a seed."""
    return mix(mix(mix(_U(seed) + _GOLDEN) + _U(purpose)) + _U(index) * _GOLDEN)


@njit(cache=True)
def streams(seed: np.uint64, purpose: np.uint64, first: int, n: int) -> npt.NDArray[np.uint64]:
    """Return the streams of the indices ``first .. first + n - 1``, shape ``(n,)``."""
    keys = np.empty(n, np.uint64)
    for i in range(n):
        keys[i] = stream(seed, purpose, _U(first + i))
    return keys


@njit(cache=True, inline="always")
def step_key(environment: np.uint64, step: np.uint64) -> np.uint64:
    """Return the key of one step of the environment whose stream is given."""
    return mix(environment + step * _STEP)


@njit(cache=True, inline="always")
def reset_key(key: np.uint64) -> np.uint64:
    """Return the key of the initial state after an episode that ended at the step of `key`."""
    return mix(key ^ _RESET)


@njit(cache=True)
def member_of(key: np.uint64, members: int) -> np.int64:
    """Draw which of the members learns from the step of a key."""
    return integers(mix(key ^ _MEMBER), 0, members)


@njit(cache=True, inline="always")
def word(key: np.uint64, i: int) -> np.uint64:
    """Return the i-th 64-bit number of a key."""
    return mix(key + _U(i + 1) * _GOLDEN)


@njit(cache=True)
def uniform(key: np.uint64, i: int) -> float:
    """Draw the i-th number of a key, uniform on [0, 1).

    Parameters
    ----------
    key : uint64
        The key that a model's ``transition`` or ``initial`` is given.
    i : int
        Which number of the key, from 0; draws with different `i` are independent.

    Returns
    -------
    float
        A multiple of 2**-53.

    Examples
    --------
    >>> from dqlearn.random import uniform
    >>> uniform(7, 0) == uniform(7, 0), uniform(7, 0) == uniform(7, 1)
    (True, False)
    """
    return (word(_U(key), i) >> _U(11)) * (1.0 / 9007199254740992.0)


@njit(cache=True)
def integers(key: np.uint64, i: int, n: int) -> np.int64:
    """Draw the i-th number of a key as a non-negative integer, uniform below n.

    Parameters
    ----------
    key : uint64
        The key that a model's ``transition`` or ``initial`` is given.
    i : int
        Which number of the key, from 0.
    n : int
        How many values, 1 .. 2**62.

    Returns
    -------
    int
        The draw; its probability differs from ``1 / n`` by less than 2**-32, and beyond 2**32
        values by less than 2**-64.

    Examples
    --------
    >>> from dqlearn.random import integers
    >>> sorted({integers(key, 0, 3) for key in range(100)})
    [0, 1, 2]
    """
    drawn = word(_U(key), i)
    if n > _FOUR_BYTES:
        return np.int64(_high(drawn, _U(n)))
    return np.int64(((drawn >> _HALF) * _U(n)) >> _HALF)


@njit(cache=True)
def _high(a: np.uint64, b: np.uint64) -> np.uint64:
    """Return the upper 64 of the 128 bits of a product."""
    a1, a0, b1, b0 = a >> _HALF, a & _LOW, b >> _HALF, b & _LOW
    middle = a1 * b0 + ((a0 * b0) >> _HALF)
    return a1 * b1 + (middle >> _HALF) + ((a0 * b1 + (middle & _LOW)) >> _HALF)


@njit(cache=True)
def bernoulli(key: np.uint64, i: int, p: float) -> bool:
    """Draw whether an event of probability `p` happens, from the i-th number of a key.

    Parameters
    ----------
    key : uint64
        The key that a model's ``transition`` or ``initial`` is given.
    i : int
        Which number of the key, from 0.
    p : float
        Probability, 0 .. 1; 0 never happens and 1 always does.

    Returns
    -------
    bool
        Whether it happens.

    Examples
    --------
    >>> from dqlearn.random import bernoulli
    >>> bernoulli(7, 0, 1.0), bernoulli(7, 0, 0.0)
    (True, False)
    """
    return uniform(key, i) < p


@njit(cache=True, inline="always")
def explores(key: np.uint64, threshold: np.uint64) -> np.bool_:
    """Return whether the step of a key explores; `threshold` is epsilon * 2**32.

    The key itself is the draw, so that a step costs no more mixing; the model's numbers come from
    ``word(key, i)`` and are independent of it.
    """
    return (key >> _HALF) < threshold


@njit(cache=True, inline="always")
def low_half(key: np.uint64) -> np.uint64:
    """Return the lower half of a key, which is independent of whether its step explores."""
    return key & _LOW


@njit(cache=True, inline="always")
def share(half: np.uint64, n: np.uint64) -> np.int64:
    """Return one of n, evenly, by 32 random bits."""
    return np.int64((half * n) >> _HALF)


def exploration_threshold(epsilon: float) -> np.uint64:
    """Return epsilon as the bound that :func:`explores` compares with; 1 always does, 0 never."""
    return _U(round(epsilon * 2.0**32))
