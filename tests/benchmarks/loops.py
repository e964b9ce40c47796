"""The peer: Q-learning as one hand-written Numba loop on one core.

The kernels, plain and tuned, are those of :mod:`kernels`. The best batch of walkers is searched.
``--check`` shows that all of them converge to the exact values.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import click
import numpy as np
import numpy.typing as npt
from harness import Report, interleave, options, rate
from kernels import kernels_of
from problems import (
    EPSILON,
    LEARNING_RATE,
    Problem,
    garnet_problem,
    problem_options,
    torus_problem,
)

from dqlearn import exact

WALKERS = tuple(2**k for k in range(13))
WAYS = ("plain", "tuned")


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
        kernels, self._model = kernels_of(problem)
        self._kernel, self._gamma = kernels[way], problem.gamma
        self._q = np.zeros(env.n_states * env.n_actions, np.float32)
        self._where = random.integers(env.n_states, size=walkers).astype(np.uint32)
        self._greedy = np.zeros(walkers, np.uint32)
        self._x = random.integers(2**64, dtype=np.uint64)
        self._shape = (env.n_states, env.n_actions)

    def advance(self, transitions: int) -> int:
        """Learn from so many transitions more, the walkers in turn; return how many they were."""
        steps = -(-transitions // self.walkers)
        rates = np.array([self.learning_rate, self._gamma, EPSILON], np.float32)
        x = self._kernel(self._q, self._where, self._greedy, steps, self._x, rates, *self._model)
        self._x = np.uint64(x)
        return steps * self.walkers

    def value(self) -> npt.NDArray[np.float32]:
        """Return the largest Q-value of each state."""
        return self._q.reshape(self._shape).max(axis=1)


def sweep(
    problem: Problem,
    way: str,
    batches: Sequence[int],
    transitions: int,
    repeats: int,
    kind: type[Loop] = Loop,
) -> dict[int, list[float]]:
    """Measure transitions per second for each size of the batch, all as far learned."""
    loops = {n: kind(problem, way, n) for n in batches}
    for loop in loops.values():
        loop.advance(transitions)
    cases = {str(n): partial(rate, partial(loop.advance, transitions)) for n, loop in loops.items()}
    return {int(n): samples for n, samples in interleave(cases, repeats).items()}


def fastest(
    problem: Problem, way: str, transitions: int, repeats: int = 3, kind: type[Loop] = Loop
) -> int:
    """Return the best batch of a loop."""
    rates = sweep(problem, way, WALKERS, transitions, repeats, kind)
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
