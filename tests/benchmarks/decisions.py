"""How long a decision takes with a stored table, of which nothing else of dqlearn is imported.

::

    import      from dqlearn.policy import Policy, in a fresh process
    open        Policy.open of a saved table: every greedy action is found
    one         policy(observation): median and 99th percentile of single calls
    batch       policy.batch(states), on one core

The peers are `QLearner.predict`, and NumPy on the bare array: ``np.load(...)[s].argmax()``.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import gymnasium
import numpy as np
from gymnasium import spaces
from harness import Report, interleave, options, rate, ratios, timed

from dqlearn import QLearner
from dqlearn.policy import Policy

IMPORT_AT_MOST = 0.3  # seconds
ONE_AT_MOST = {"p50": 3.0, "p99": 20.0}  # microseconds, of an integer
PARTS_AT_MOST = 50.0  # microseconds, of a dictionary, a tuple or an array
BATCH_AT_LEAST = 50.0  # millions a second


class Parts(gymnasium.Env[Any, Any]):
    """An environment whose observations have the space that it is given; all steps are alike."""

    def __init__(self, space: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = space, spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), float(action), False, False, {}


BOX = spaces.Box(-1.0, 1.0, (4,))
SPACES: dict[str, tuple[spaces.Space[Any], Any]] = {
    "dict": (spaces.Dict(arm=spaces.MultiDiscrete([3, 2]), lamp=spaces.Discrete(4), at=BOX), None),
    "tuple": (spaces.Tuple((spaces.Discrete(32), spaces.Discrete(11), spaces.Discrete(2))), None),
    "box": (BOX, 6),
}


def saved(learner: QLearner, path: Path) -> Path:
    learner.save(path)
    return path


def walk(side: int, **settings: Any) -> QLearner:
    """Learn a while on a torus, so that some states are visited often, and others never."""
    learner = QLearner("dqlearn/Torus-v0", env_kwargs={"side": side}, seed=0, **settings)
    return learner.learn(4 * side * side)


def of_parts(space: spaces.Space[Any], bins: Any, path: Path) -> Path:
    """Save a table of a few rounds in an environment with such observations."""
    bins = {"at": 4} if isinstance(space, spaces.Dict) else bins
    learner = QLearner(partial(Parts, space), bins=bins, num_envs=4, steps_per_round=8, seed=0)
    return saved(learner.learn(256), path)


def percentiles(decide: Callable[[Any], Any], observations: Sequence[Any]) -> dict[str, float]:
    """Return percentiles of the microseconds of single calls, the clock's own included."""
    clock, taken = time.perf_counter_ns, np.empty(len(observations))
    gc.disable()  # as its pauses belong to what else is in the process
    try:
        for i, observation in enumerate(observations):
            began = clock()
            decide(observation)
            taken[i] = clock() - began
    finally:
        gc.enable()
    return {f"p{p}": float(np.percentile(taken, p)) / 1e3 for p in (50, 99)}


def importing() -> float:
    program = "import time; t = time.perf_counter(); from dqlearn.policy import Policy; "
    command = [sys.executable, "-c", f"{program}print(time.perf_counter() - t)"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def singles(
    cases: dict[str, tuple[Callable[[Any], Any], Sequence[Any]]], repeats: int
) -> dict[str, dict[str, list[float]]]:
    """Take the percentiles of each case in turn."""
    found: dict[str, dict[str, list[float]]] = {name: {"p50": [], "p99": []} for name in cases}
    for _ in range(repeats):
        for name, (decide, observations) in cases.items():
            for percentile, microseconds in percentiles(decide, observations).items():
                found[name][percentile].append(microseconds)
    return found


def add_singles(report: Report, found: dict[str, dict[str, list[float]]]) -> None:
    for name, by_percentile in found.items():
        for percentile, samples in by_percentile.items():
            target = {}
            if name == "int":
                target = {"at_most": ONE_AT_MOST[percentile]}
            elif name in SPACES and percentile == "p99":
                target = {"at_most": PARTS_AT_MOST}
            report.add(f"{name}: {percentile}", samples, "us", **target)


def cases_of(
    learner: QLearner, policy: Policy, q: Any, states: Any, folder: Path
) -> dict[str, tuple[Callable[[Any], Any], Sequence[Any]]]:
    """Return what decides, and on which observations, by name."""
    several, fewer = states.tolist(), len(states) // 4
    cases: dict[str, tuple[Callable[[Any], Any], Sequence[Any]]] = {
        "int": (policy, several),
        "int, decide": (policy.decide, several),
        "int, QLearner.predict": (learner.predict, several[:fewer]),
        "int, q[s].argmax()": (lambda s: q[s].argmax(), several),
    }
    for kind, (space, bins) in SPACES.items():
        other = Policy.open(of_parts(space, bins, folder / f"{kind}.zarr"))
        space.seed(0)
        cases[kind] = (other, [space.sample() for _ in range(fewer)])
    return cases


def through(decide: Callable[[Any], Any], states: Any) -> float:
    """Return millions of decisions a second, all in one call."""
    return rate(lambda: len(decide(states))) / 1e6


@click.command(help=__doc__)
@click.option("--side", default=1000, show_default=True, help="Side of the torus: side^2 states.")
@click.option("--calls", default=20_000, show_default=True, help="Single decisions a sample.")
@options
def main(side: int, calls: int, repeats: int, json_path: str | None) -> None:
    report = Report("decisions", states=side * side, calls=calls, repeats=repeats)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        learner = walk(side)
        path = saved(learner, folder / "torus.zarr")
        sparse = Policy.open(saved(walk(side, sparse=True), folder / "sparse.zarr"))
        np.save(folder / "q.npy", learner.table.q.compute())
        policy, q = Policy.open(path), np.load(folder / "q.npy")
        starts = {"import": importing, "open": lambda: timed(partial(Policy.open, path))[0]}
        opened = interleave(starts, repeats)
        states = np.random.default_rng(0).integers(0, side * side, 2**20)
        cases = cases_of(learner, policy, q, states[:calls], folder)
        cases["int, sparse table"] = (sparse, cases["int"][1])
        singles(cases, 1)
        found = singles(cases, repeats)
        batches = {
            "batch": partial(through, policy.batch, states),
            "batch, sparse table": partial(through, sparse.batch, states),
            "batch, q[s].argmax(1)": partial(through, lambda s: q[s].argmax(1), states),
        }
        interleave(batches, 2)
        rates = interleave(batches, repeats)
    report.add("import", opened["import"], "s", at_most=IMPORT_AT_MOST)
    report.add("open", opened["open"], "s")
    add_singles(report, found)
    ours, among_visited, bare = rates.values()
    report.add("batch", ours, "M/s", at_least=BATCH_AT_LEAST)
    report.add("batch, sparse table", among_visited, "M/s")
    report.add("batch, q[s].argmax(1)", bare, "M/s")
    report.add("batch / q[s].argmax(1)", ratios(ours, bare), "x")
    report.finish(json_path)


if __name__ == "__main__":
    main()
