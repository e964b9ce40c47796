"""The peer: Q-learning as one hand-written Numba loop on one core, one transition at a time.

Two ways of writing it, for each problem:

plain
    Each transition does everything in turn: choose, step, bootstrap, update.
tuned
    What makes it faster. Both problems: the maximum that a step bootstraps from is found together
    with its action, which is the walker's next greedy choice, so that a row is read once a step and
    not twice. Garnet: all walkers draw, then step, then learn, and each stage prefetches what the
    next one reads, so that cache misses overlap.

A loop advances a batch of walkers in turn, so that the processor overlaps their latencies; the
best batch is searched. One draw of 64 bits serves a whole step: exploration, action, slip or
successor are fields of it. Choices are selections, not branches.

Invariant: targets bootstrap from the table as it is at that moment. With several walkers, the tuned
loops may choose by a maximum that another walker has changed since; Q-learning does not mind how
actions are chosen. ``--check`` shows that all of them converge to the exact values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from harness import Report, interleave, options, rate
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from problems import (
    EPSILON,
    LEARNING_RATE,
    Problem,
    garnet_problem,
    problem_options,
    torus_problem,
)

from dqlearn import exact

Kernel = Callable[..., int]

WALKERS = tuple(2**k for k in range(13))
WAYS = ("plain", "tuned")
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


def kernels_of(problem: Problem) -> dict[str, Callable[..., int]]:
    """Return the compiled loops of a problem; they take the model's own arrays."""
    if problem.name == "torus":
        side, _, slip, step_reward, goal_reward = problem.env.params
        return torus_loops(side, slip, step_reward, goal_reward)
    outcomes = problem.env.params[0]
    if outcomes.shape[1:] != (8, 4):
        raise ValueError(f"the loop is for 8 actions and 4 successors, got {outcomes.shape=}")
    return {
        name: partial(_last, kernel, outcomes.ravel()) for name, kernel in garnet_loops().items()
    }


def _last(kernel: Kernel, model: npt.NDArray[Any], *args: Any) -> int:
    return kernel(*args, model)


class Loop:
    """A table and a batch of walkers that one loop advances.

    Parameters
    ----------
    problem : Problem
        What is learned.
    way : {"tuned", "plain"}
        How the loop is written.
    walkers : int
        Size of the batch.
    seed : int
        Of its random numbers.
    """

    def __init__(
        self, problem: Problem, way: str = "tuned", walkers: int = 8, seed: int = 0
    ) -> None:
        env, random = problem.env, np.random.default_rng(seed)
        self.walkers, self.learning_rate = walkers, LEARNING_RATE
        self._kernel, self._gamma = kernels_of(problem)[way], problem.gamma
        self._q = np.zeros(env.n_states * env.n_actions, np.float32)
        self._where = random.integers(env.n_states, size=walkers).astype(np.uint32)
        self._greedy = np.zeros(walkers, np.uint32)
        self._x = random.integers(2**64, dtype=np.uint64)
        self._shape = (env.n_states, env.n_actions)

    def advance(self, transitions: int) -> int:
        """Learn from so many transitions more, the walkers in turn; return how many they were."""
        steps = -(-transitions // self.walkers)
        rates = np.array([self.learning_rate, self._gamma, EPSILON], np.float32)
        x = self._kernel(self._q, self._where, self._greedy, steps, self._x, rates)
        self._x = np.uint64(x)
        return steps * self.walkers

    def value(self) -> npt.NDArray[np.float32]:
        """Return the largest Q-value of each state."""
        return self._q.reshape(self._shape).max(axis=1)


def sweep(
    problem: Problem, way: str, batches: Sequence[int], transitions: int, repeats: int
) -> dict[int, list[float]]:
    """Measure transitions per second for each size of the batch, all as far learned."""
    loops = {n: Loop(problem, way, n) for n in batches}
    for loop in loops.values():
        loop.advance(transitions)
    cases = {str(n): partial(rate, partial(loop.advance, transitions)) for n, loop in loops.items()}
    return {int(n): samples for n, samples in interleave(cases, repeats).items()}


def fastest(problem: Problem, way: str, transitions: int, repeats: int = 3) -> int:
    """Return the best batch of a loop."""
    rates = sweep(problem, way, WALKERS, transitions, repeats)
    return max(rates, key=lambda n: float(np.median(rates[n])))


def largest_error(problem: Problem, way: str, walkers: int, transitions: int) -> float:
    """Learn with a falling rate; return max ``|max_a Q - V*|`` / max ``|V*|``."""
    loop = Loop(problem, way, walkers)
    for k in range(6):
        loop.learning_rate = LEARNING_RATE * 0.5**k
        loop.advance(transitions)
    exact_value = exact.solve(problem.env, problem.gamma, tolerance=1e-6).value
    return float(np.abs(loop.value() - exact_value).max() / np.abs(exact_value).max())


@click.command(help="Transitions per second of hand-written one-core loops, by batch of walkers.")
@options
@problem_options
@click.option("--transitions", default=4_000_000, show_default=True, help="In a sample.")
@click.option("--check", is_flag=True, help="Show instead that the loops learn the exact values.")
def main(
    problems: list[Problem], transitions: int, check: bool, repeats: int, json_path: str | None
) -> None:
    if check:
        problems = [torus_problem(32), garnet_problem(256)]
    report = Report("loops", transitions=transitions, check=check)
    for problem in problems:
        for way in WAYS:
            if check:
                errors = [largest_error(problem, way, n, transitions) for n in (1, 8, 64)]
                report.add(f"{problem.name} {way}, error", errors, "of max |V*|", at_most=0.02)
                continue
            for n, samples in sweep(problem, way, WALKERS, transitions, repeats).items():
                report.add(f"{problem.name} {way}, {n} walkers", [r / 1e6 for r in samples], "M/s")
    report.finish(json_path)


if __name__ == "__main__":
    main()
