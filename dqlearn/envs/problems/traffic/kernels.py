"""One slot of TrafficGrid, as scalar functions; see :mod:`dqlearn.envs.problems.traffic.model`.

::

    state = queues * 2**N + phases      word: queue k in bits 4k .. 4k + 3, phase of i in bit N-1-i

    params = bases       of the 2N queues
             chances     of the events: one arrival an entry, then the coins of platoons
             rules       (N, B, s, whether one intersection a step, whether episodes begin empty)
             lost_cost
             roads       (4 source, 4 target, the source's light, mask, value) each
             exits       (4 queue, its light) each
             entries     4 queue each

    lights = bit N-1-i, of main at i; bit 2N-1-i, of cross: 1 where green throughout the slot

Invariant: what a slot moves depends on the queues at its beginning; a place that becomes free in it
is taken in the next, so the order of intersections does not matter.
"""

from __future__ import annotations

from typing import Any

from dqlearn.envs.problems.digits import digit, pack, unpack
from dqlearn.jit.compiled import njit
from dqlearn.random import integers

__all__ = ["events", "initial", "transition"]


def initial(key: Any, params: Any) -> Any:
    """Draw a first state: uniform, or empty queues and main everywhere."""
    n, capacity, _, _, empty = params[2]
    if empty:
        return 0
    queues = 0
    for k in range(2 * n):
        queues = queues * (capacity + 1) + integers(key, k, capacity + 1)
    return (queues << n) + integers(key, 2 * n, 1 << n)


def events(state: Any, action: Any, params: Any) -> Any:
    """Return the probabilities of the arrivals and the coins."""
    return params[1]


def transition(state: Any, action: Any, happened: Any, params: Any) -> tuple[Any, Any, bool]:
    """Make one slot: switch, serve, arrive."""
    bases, _, rules, lost_cost, roads, exits, entries = params
    n, capacity, _, one, _ = rules
    every = (1 << n) - 1
    phases, word = state & every, unpack(state >> n, bases)
    # With one intersection a step, action i > 0 switches intersection i, whose bit is 1 << n >> i.
    wanted = phases ^ ((1 << n >> action) & every) if one else action
    steady = every & ~(phases ^ wanted)
    lights = (steady & phases) << n | (steady & ~phases)
    word = serve(word, lights, happened >> len(entries), rules, roads, exits)
    lost = 0
    for e in range(len(entries)):
        comes = (happened >> e) & 1
        full = comes & (((word >> entries[e]) & 15) == capacity)
        word += (comes - full) << entries[e]
        lost += full
    vehicles = 0
    for k in range(len(bases[0])):
        vehicles += digit(word, k)
    return (pack(word, bases) << n) + wanted, -float(vehicles) - lost_cost * lost, False


@njit(cache=True)
def serve(word: Any, lights: Any, coins: Any, rules: Any, roads: Any, exits: Any) -> Any:
    """Return the queues after those that are green have sent their platoons."""
    _, capacity, saturation, _, _ = rules
    after, joined = word, 0
    for r in range(len(roads)):
        source, target = roads[r, 0], roads[r, 1]
        opened = ((lights >> roads[r, 2]) & 1) & ((coins & roads[r, 3]) == roads[r, 4])
        room = capacity - ((word >> target) & 15) - ((joined >> target) & 15)
        platoon = min(saturation, (word >> source) & 15, room) * opened
        after -= platoon << source
        joined += platoon << target
    for e in range(len(exits)):
        source = exits[e, 0]
        after -= (min(saturation, (word >> source) & 15) * ((lights >> exits[e, 1]) & 1)) << source
    return after + joined
