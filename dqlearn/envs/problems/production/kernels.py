"""Kernels of the production line: one slot, all machines side by side in one word.

::

    byte i of a word: of machine i    its stock; its health: 0 down, 1 worn, 2 good;
                                      its mode: 0 idle, 1 run, 2 maintain
    event 0: an order; event i + 1: what may happen to machine i in this slot

A flag is bit 0 of its machine's byte, so that a logical operation makes it for all machines; only
who works follows one machine after another, the last first. Each machine needs one event only,
because its health and its mode say what that event means: wear, a failure, the end of a service or
of a repair. Invariant: no byte overflows, nothing here allocates, and plain Python computes the
same.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dqlearn.jit.compiled import njit
from dqlearn.random import integers

__all__ = ["IDLE", "MAINTAIN", "RUN", "LineParams", "events", "initial", "transition"]

IDLE, RUN, MAINTAIN = range(3)
ONES = 0x0101_0101_0101_0101
LOW = 0x0707_0707_0707_0707
TOP = 0x7F7F_7F7F_7F7F_7F7F  # added to a byte sets its bit 7 if there is anything in it
NOBODY = 63  # the bit of no machine
# Unsigned: a signed index is first tested for counting from the end.
_U = np.uint64


class LineParams(NamedTuple):
    """What the kernels know of a line.

    Attributes
    ----------
    size : int
        Values of a machine's digit ``3 * stock + health``: 3 (buffer + 1).
    scales : float64 (n,)
        Inverses of the digits' places, ``size ** (i + 1 - n)``.
    decisions : int64 (n_actions,)
        Modes of all machines, packed.
    no_events : tuple of float
        An order's probability in the last of n + 1 places.
    chances : float64 (n, 12)
        Probability of a machine's event, by ``mode << 2 | health``.
    routes : int64 (n, 2)
        Of every machine: a flag for each store it takes from; the bit of the machine after it,
        or NOBODY.
    costs : float64 (n, 32)
        The costs of a slot, by ``maintained << 4 | down << 3 | stock``.
    to_full : int
        In each byte, what is missing to 128 when a store is full.
    sale : tuple of float
        Price of a sale, and cost of a lost one.
    empty : bool
        Whether episodes begin empty, all machines good.
    """

    size: int
    scales: npt.NDArray[np.float64]
    decisions: npt.NDArray[np.int64]
    no_events: tuple[float, ...]
    chances: npt.NDArray[np.float64]
    routes: npt.NDArray[np.int64]
    costs: npt.NDArray[np.float64]
    to_full: int
    sale: tuple[float, float]
    empty: bool


def initial(key: Any, params: Any) -> Any:
    """Draw the first state, digit by digit; empty and good is the digit 2."""
    state = 0
    for i in range(len(params.no_events) - 1):
        state = state * params.size + (2 if params.empty else int(integers(key, i, params.size)))
    return state


def events(state: Any, action: Any, params: Any) -> Any:
    """Return the probabilities of an order and of the machines' events."""
    health, decision = _apart(state, params)[1], params.decisions[_U(action)]
    p = params.no_events
    for i in range(len(p) - 1):
        chance = (health >> (8 * i)) & 3 | ((decision >> (8 * i)) & 3) << 2
        # Moves all up by one: after the last machine the order stands in front.
        p = p[1:] + (params.chances[_U(i), _U(chance)],)  # noqa: RUF005  (for numba)
    return p


def transition(state: Any, action: Any, happened: Any, params: Any) -> Any:
    """Make one slot."""
    decision, n = params.decisions[_U(action)], len(params.no_events) - 1
    stock, health = _apart(state, params)
    up, worn = ((health + TOP) >> 7) & ONES, health & ONES
    event = _spread(happened >> 1)

    stocked = ((stock + TOP) >> 7) & ONES
    has_room = ~((stock + params.to_full) >> 7)
    ready, works, taken = decision & up, 0, 0
    for k in range(n):
        i = n - 1 - k
        needs, after = params.routes[_U(i), _U(0)], params.routes[_U(i), _U(1)]
        # A full store has room if the machine after it works.
        room = (has_room >> (8 * i)) | (works >> after)
        one = (ready >> (8 * i)) & room & ((stocked & needs) == needs)
        works |= one << (8 * i)
        taken |= one * needs

    stock += (works & ~(worn & event)) - taken
    done = (decision >> 1) & event
    health += (done & worn) + 2 * (done & ~up) - (works & event)

    last = 8 * (n - 1)
    ordered = happened & 1
    sold = ordered & ((stock >> last) > 0)
    stock -= sold << last
    reward = params.sale[0] * sold - params.sale[1] * (ordered - sold)
    maintained = (decision >> 1) & ONES
    spent = stock | (maintained & ~up) << 3 | maintained << 4
    for i in range(n):
        reward -= params.costs[_U(i), _U((spent >> (8 * i)) & 31)]
    return _together(3 * stock + health, n, params.size), reward, False


@njit(cache=True)
def _apart(state: Any, params: Any) -> Any:
    """Return a state's stocks and healths.

    Quotients of all places at once: none waits for another. The half keeps the products away from
    integers by more than they can err.
    """
    digits, before = 0, 0
    for i in range(len(params.no_events) - 1):
        quotient = int((state + 0.5) * params.scales[_U(i)])
        digits |= (quotient - before * params.size) << (8 * i)
        before = quotient
    stock = ((digits * 11) >> 5) & LOW  # a third of each byte: exact up to 14
    return stock, digits - 3 * stock


@njit(cache=True)
def _together(digits: Any, n: Any, size: Any) -> Any:
    """Return the state of given digits."""
    state = 0
    for i in range(n):
        state = state * size + ((digits >> (8 * i)) & 15)
    return state


@njit(cache=True)
def _spread(bits: Any) -> Any:
    """Return a word with bit i of eight as the flag of byte i."""
    low, high = (bits & 15) * 0x204081, (bits >> 4) * 0x204081
    return (low & 0x0101_0101) | (high & 0x0101_0101) << 32
