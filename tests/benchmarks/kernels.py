"""Q-learning as hand-written Numba loops on one core, one transition at a time: the kernels.

::

    kernel(q, walkers, greedy, steps, x, rates, *model) -> x     x: the random numbers' state

Two ways of writing one, for each problem:

plain
    Each transition does everything in turn: choose, step, bootstrap, update.
tuned
    What makes it faster. All problems: the maximum that a step bootstraps from is found together
    with its action, which is the walker's next greedy choice, so that a row is read once a step and
    not twice. Garnet and big: all walkers draw, then step, then learn, and each stage prefetches
    what the next one reads, so that cache misses overlap.

A loop advances a batch of walkers in turn, so that the processor overlaps their latencies. One draw
of 64 bits serves a whole step: exploration, action, slip or successor are fields of it. Choices are
selections, not branches.

Invariant: targets bootstrap from the table as it is at that moment. With several walkers, the tuned
loops may choose by a maximum that another walker has changed since; Q-learning does not mind how
actions are chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from problems import Problem

from dqlearn.random import integers, uniform

Kernel = Callable[..., int]

_U = np.uint64
_MULTIPLIER, _INCREMENT = _U(6364136223846793005), _U(1442695040888963407)  # Knuth's MMIX
_24_BITS = _U(0xFFFFFF)


@njit(inline="always")
def advance(x):
    return x * _MULTIPLIER + _INCREMENT


@njit(inline="always")
def scramble(x):
    """Let the good upper bits of a linear congruential generator reach the lower ones."""
    return x ^ (x >> _U(32))


@njit(inline="always")
def happens(bits, threshold):
    """Whether an event of probability ``threshold / 2**24`` happens, from 24 bits."""
    return (bits & _24_BITS) < threshold


@njit(inline="always")
def threshold_of(probability):
    return _U(probability * 2.0**24)


@njit(inline="always")
def better(value, action, other_value, other_action):
    wins = value >= other_value
    return (value if wins else other_value), (action if wins else other_action)


@njit(inline="always")
def best_of_4(q, at, first):
    """Maximum of four successive values and its action, as a tree: a chain takes twice as long."""
    left, left_action = better(q[at], first, q[at + _U(1)], first + _U(1))
    right, right_action = better(q[at + _U(2)], first + _U(2), q[at + _U(3)], first + _U(3))
    return better(left, left_action, right, right_action)


@njit(inline="always")
def best_of_8(q, at):
    left, left_action = best_of_4(q, at, _U(0))
    right, right_action = best_of_4(q, at + _U(4), _U(4))
    return better(left, left_action, right, right_action)


@intrinsic
def prefetch(context, array, index):
    """Begin to load an element of an array into the cache, without waiting for it."""

    def build(ctx, builder, signature, args):
        data = ctx.make_array(signature.args[0])(ctx, builder, args[0]).data
        address = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
        word = ir.IntType(32)
        hint = builder.module.declare_intrinsic(
            "llvm.prefetch",
            [address.type],
            ir.FunctionType(ir.VoidType(), [address.type, *[word] * 3]),
        )
        builder.call(hint, [address, *(ir.Constant(word, v) for v in (0, 3, 1))])
        return ctx.get_dummy_value()

    return types.void(array, index), build


@cache
def torus_loops(
    side: int, slip: float, step_reward: float, goal_reward: float
) -> dict[str, Kernel]:
    """Compile the loops of a torus whose side is a power of two; its numbers become constants."""
    bits = _U(side.bit_length() - 1)
    columns, cells, above = _U(side - 1), _U(side * side - 1), _U(64 - 2 * (side.bit_length() - 1))
    step_cost, prize = np.float32(step_reward), np.float32(goal_reward)
    slipping = _U(slip * 2.0**24)

    @njit(inline="always")
    def move(state, direction):
        step = _U(2) * (direction & _U(1)) - _U(1)
        vertical = _U(1) if direction < _U(2) else _U(0)
        row = (state + ((step * vertical) << bits)) & (cells - columns)
        return row | ((state + step * (_U(1) - vertical)) & columns)

    @njit(inline="always")
    def step(state, greedy, draw, exploring):
        """Epsilon-greedy action, and the cell that it leads to."""
        action = (draw >> _U(48)) & _U(3) if happens(draw, exploring) else greedy
        slips = happens(draw >> _U(24), slipping)
        return action, move(state, (draw >> _U(50)) & _U(3) if slips else action)

    @njit(inline="always")
    def restart(draw):
        return scramble(draw * _MULTIPLIER) >> above

    @njit(nogil=True)
    def plain(q, walkers, greedy, steps, x, rates):
        alpha, gamma, exploring = rates[0], rates[1], threshold_of(rates[2])
        for _ in range(steps):
            for w in range(len(walkers)):
                x = advance(x)
                draw, state = scramble(x), _U(walkers[w])
                _, best = best_of_4(q, state << _U(2), _U(0))
                action, after = step(state, best, draw, exploring)
                value, _ = best_of_4(q, after << _U(2), _U(0))
                target = prize if after == _U(0) else step_cost + gamma * value
                pair = (state << _U(2)) | action
                q[pair] += alpha * (target - q[pair])
                walkers[w] = restart(draw) if after == _U(0) else after
        return x

    @njit(nogil=True)
    def tuned(q, walkers, greedy, steps, x, rates):
        alpha, gamma, exploring = rates[0], rates[1], threshold_of(rates[2])
        for _ in range(steps):
            for w in range(len(walkers)):
                x = advance(x)
                draw, state = scramble(x), _U(walkers[w])
                action, after = step(state, _U(greedy[w]), draw, exploring)
                value, best = best_of_4(q, after << _U(2), _U(0))
                target = prize if after == _U(0) else step_cost + gamma * value
                pair = (state << _U(2)) | action
                q[pair] += alpha * (target - q[pair])
                if after == _U(0):
                    after = restart(draw)
                    _, best = best_of_4(q, after << _U(2), _U(0))
                walkers[w], greedy[w] = after, best
        return x

    return {"plain": plain, "tuned": tuned}


@cache
def garnet_loops() -> dict[str, Kernel]:
    """Compile the loops of a Garnet with 8 actions and 4 successors."""

    @njit(inline="always")
    def choose(state, greedy, draw, exploring):
        """Epsilon-greedy pair, and where its outcome stands in the model."""
        action = (draw >> _U(48)) & _U(7) if happens(draw, exploring) else greedy
        pair = (state << _U(3)) | action
        return pair, (pair << _U(2)) | ((draw >> _U(51)) & _U(3))

    @njit(nogil=True)
    def plain(q, walkers, greedy, steps, x, rates, outcomes):
        alpha, gamma, exploring = rates[0], rates[1], threshold_of(rates[2])
        for _ in range(steps):
            for w in range(len(walkers)):
                x = advance(x)
                state = _U(walkers[w])
                _, best = best_of_8(q, state << _U(3))
                pair, drawn = choose(state, best, scramble(x), exploring)
                after = _U(outcomes[drawn].next_state)
                value, _ = best_of_8(q, after << _U(3))
                q[pair] += alpha * (outcomes[drawn].reward + gamma * value - q[pair])
                walkers[w] = after
        return x

    @njit(nogil=True)
    def tuned(q, walkers, greedy, steps, x, rates, outcomes):
        alpha, gamma, exploring = rates[0], rates[1], threshold_of(rates[2])
        pairs = np.empty(len(walkers), np.uint32)
        drawn = np.empty(len(walkers), np.uint32)
        for _ in range(steps):
            for w in range(len(walkers)):
                x = advance(x)
                pairs[w], drawn[w] = choose(_U(walkers[w]), _U(greedy[w]), scramble(x), exploring)
                prefetch(outcomes, _U(drawn[w]))
            for w in range(len(walkers)):
                after = _U(outcomes[_U(drawn[w])].next_state)
                prefetch(q, after << _U(3))
                walkers[w] = after
            for w in range(len(walkers)):
                value, best = best_of_8(q, _U(walkers[w]) << _U(3))
                pair, reward = _U(pairs[w]), outcomes[_U(drawn[w])].reward
                q[pair] += alpha * (reward + gamma * value - q[pair])
                greedy[w] = best
        return x

    return {"plain": plain, "tuned": tuned}


@cache
def big_loops(n_states: int) -> dict[str, Kernel]:
    """Compile the loops of the problem whose 8 actions lead to hashed successors."""
    n = np.int64(n_states)

    @njit(inline="always")
    def choose(state, greedy, draw, exploring):
        """Epsilon-greedy pair, and the state that it leads to."""
        action = (draw >> _U(48)) & _U(7) if happens(draw, exploring) else greedy
        pair = (state << _U(3)) | action
        return pair, _U(integers((pair << _U(2)) | ((draw >> _U(51)) & _U(3)), 0, n))

    @njit(nogil=True)
    def plain(q, walkers, greedy, steps, x, rates):
        alpha, gamma, exploring = rates[0], rates[1], threshold_of(rates[2])
        for _ in range(steps):
            for w in range(len(walkers)):
                x = advance(x)
                state = _U(walkers[w])
                _, best = best_of_8(q, state << _U(3))
                pair, after = choose(state, best, scramble(x), exploring)
                value, _ = best_of_8(q, after << _U(3))
                q[pair] += alpha * (np.float32(uniform(pair, 1)) + gamma * value - q[pair])
                walkers[w] = after
        return x

    @njit(nogil=True)
    def tuned(q, walkers, greedy, steps, x, rates):
        alpha, gamma, exploring = rates[0], rates[1], threshold_of(rates[2])
        pairs = np.empty(len(walkers), np.uint32)
        for _ in range(steps):
            for w in range(len(walkers)):
                x = advance(x)
                pair, after = choose(_U(walkers[w]), _U(greedy[w]), scramble(x), exploring)
                prefetch(q, after << _U(3))
                pairs[w], walkers[w] = pair, after
            for w in range(len(walkers)):
                value, greedy[w] = best_of_8(q, _U(walkers[w]) << _U(3))
                pair = _U(pairs[w])
                q[pair] += alpha * (np.float32(uniform(pair, 1)) + gamma * value - q[pair])
        return x

    return {"plain": plain, "tuned": tuned}


def kernels_of(problem: Problem) -> tuple[dict[str, Kernel], tuple[Any, ...]]:
    """Return the compiled loops of a problem, and the model's own arrays that they take last."""
    if problem.name == "torus":
        side, _, slip, step_reward, goal_reward = problem.env.params
        return torus_loops(side, slip, step_reward, goal_reward), ()
    if problem.name == "big":
        return big_loops(problem.env.n_states), ()
    outcomes = problem.env.params[0]
    if outcomes.shape[1:] != (8, 4):
        raise ValueError(f"the loop is for 8 actions and 4 successors, got {outcomes.shape=}")
    return garnet_loops(), (outcomes.ravel(),)
