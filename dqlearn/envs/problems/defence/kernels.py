r"""One slot of a network under attack, in bit fields.

::

    host          0     1    ..   N-1
    place        N-1   N-2   ..    0       two bits each, so that a state is 4^N's index
    state         xx    xx   ..   xx       0 clean, 1 scanned, 2 user, 3 root
    event         N-1   N-2   ..    0      the attack on that place succeeds; event N: the removal

All hosts are treated at once where they can be: the upper bit of a field says whether the host is
compromised, adding a bit to a field is a step of the attacker, and the costs of four hosts (a byte)
are one look into a table. Invariant: an event of probability zero never happens, so a transition
need not ask which hosts could be attacked, and no field overflows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.cpython.unsafe import tuple as tuples  # a module: what numba's own has is fingerprinted

from dqlearn.jit.compiled import njit
from dqlearn.random import integers

__all__ = ["MAX_HOSTS", "OUTSIDE", "events", "initial", "transition"]

MAX_HOSTS = 15  # of 16 events, one is the removal's
OUTSIDE = 1 << 2 * MAX_HOSTS  # a neighbour that is always compromised
_LOWER = OUTSIDE // 3  # the lower bit of each field


def initial(key: Any, params: tuple[Any, ...]) -> Any:
    """Draw a first state, of ``params[0]`` that there may be."""
    return integers(key, 0, params[0])


def events(state: Any, action: Any, params: tuple[Any, ...]) -> Any:
    """Return the chance of an attack on each place, and that of a removal."""
    _, chances, success, neighbours, effects, _, _ = params
    row = effects[np.uint64(action), 2]
    sources = ((state >> 1) & _LOWER) | OUTSIDE
    for place in range(len(chances) - 1):
        level = (state >> (2 * place)) & 3
        near = _count(neighbours[np.uint64(row), np.uint64(place)] & sources)
        chance = success[np.uint64(level), np.uint64(near)]
        # Numba passes an intrinsic's first argument itself.
        chances = tuples.tuple_setitem(chances, place, chance)  # type: ignore[call-arg]
    return chances


def transition(
    state: Any, action: Any, happened: Any, params: tuple[Any, ...]
) -> tuple[Any, Any, bool]:
    """Let the attacks that happened succeed, then the decision, and count the costs."""
    _, chances, _, _, effects, price, losses = params
    n = len(chances) - 1
    state += _spread(happened & ((1 << n) - 1))
    state &= ~effects[np.uint64(action), 0]
    # A user's field is 10: the intruder loses it, but knows the host as before, 01.
    lost = (state >> 1) & ~state & effects[np.uint64(action), 1] & -(happened >> n)
    state ^= 3 * lost
    cost = price[np.uint64(action)]
    for byte in range(losses.shape[0]):
        cost += losses[np.uint64(byte), np.uint64((state >> (8 * byte)) & 255)]
    return state, -cost, False


@njit(cache=True)
def _count(bits: Any) -> Any:
    """Count the bits of a word that has them at even places 0 .. 30, at most 15."""
    pairs = (bits & 0x33333333) + ((bits >> 2) & 0x33333333)
    return ((pairs * 0x11111111) >> 28) & 15


@njit(cache=True)
def _spread(bits: Any) -> Any:
    """Move bit k to place 2 k, for k below 16."""
    bits = (bits | bits << 8) & 0x00FF00FF
    bits = (bits | bits << 4) & 0x0F0F0F0F
    bits = (bits | bits << 2) & 0x33333333
    return (bits | bits << 1) & 0x55555555
