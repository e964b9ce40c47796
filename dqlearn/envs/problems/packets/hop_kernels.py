"""Kernels of packet routing: what :mod:`dqlearn.envs.problems.packets.hops` compiles.

::

    params = bases, bursts, burst, (ways, goals, place), levels

    bases            of the factors (node, destination, queues)
    bursts, burst    probability of a burst at each queue; its packets
    ways[i]          word: where port i of each router leads
    goals, place     words: the destinations; the queue of each router, or NOWHERE
    levels           cumulative distribution of a queue at the start

Invariant: tables are words of four bits an entry, not arrays, whose references a kernel counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dqlearn.envs.problems.digits import digit, unpack
from dqlearn.random import integers, uniform

__all__ = ["NOWHERE", "events", "initial", "transition", "word_of"]

NOWHERE = 13  # then its queue is factor 15, which does not exist and is always 0


def word_of(entries: Sequence[int]) -> int:
    """Pack entries of 0 .. 15, at most 15 of them, as `digit` reads them."""
    return sum(entry << (4 * i) for i, entry in enumerate(entries))


def initial(key: Any, params: tuple[Any, ...]) -> Any:
    """Draw destination, router and queues."""
    bases, bursts, _, (_, goals, _), levels = params
    sizes = bases[0]
    goal = integers(key, 0, sizes[1])
    node = digit(goals, goal) + 1 + integers(key, 1, sizes[0] - 1)
    node -= sizes[0] if node >= sizes[0] else 0
    state = node * sizes[1] + goal
    for k in range(len(bursts)):
        draw, level = uniform(key, k + 2), 0
        for i in range(len(levels) - 1):
            level += draw >= levels[i]
        state = state * len(levels) + level
    return state


def events(state: Any, action: Any, params: tuple[Any, ...]) -> Any:
    """Return the probabilities of a burst at each queue, and that our packet is sent."""
    bases, bursts, _, (_, _, place), _ = params
    word = unpack(state, bases)
    queue = digit(word, digit(place, digit(word, 0)) + 2)
    return bursts + (1.0 / (1.0 + queue),)  # noqa: RUF005  (Numba knows no unpacking)


def transition(
    state: Any, action: Any, happened: Any, params: tuple[Any, ...]
) -> tuple[Any, Any, Any]:
    """Make one slot: the next state, the reward, whether our packet is delivered."""
    bases, bursts, burst, (ways, goals, place), _ = params
    word = unpack(state, bases)
    node, goal = digit(word, 0), digit(word, 1)
    end = digit(goals, goal)
    if node == end:  # delivered before: nothing is left to decide
        return state, 0.0, True
    sent = (happened >> len(bursts)) & 1
    mine, levels = digit(place, node), bases[0][2]
    after = digit(ways[action], node) if sent else node
    terminated = after == end
    after = after * bases[0][1] + goal
    for k in range(len(bursts)):
        level = digit(word, k + 2)
        level -= (level > 0) & (1 - sent * (k == mine))
        level += burst * ((happened >> k) & 1)
        after = after * levels + min(level, levels - 1)
    return after, -1.0, terminated
