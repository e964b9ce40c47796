"""The network environments: what is learned, how well, and how fast.

::

    small    learned V against V*, and the exact value of the greedy policy against the optimum
    medium   greedy return against every baseline, in the same episodes; 95 % intervals
    curve    how the gap to the best baseline closes with transitions (a plot)
    speed    compiled steps of every size on one core; whole rounds of the medium size on all
    profile  what the tasks of those rounds take, one thread at a time

Budgets and settings are those of ``tests/recipes.py``.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import dask
import numpy as np
import numpy.typing as npt
from dask.callbacks import Callback
from harness import Report, interleave, options, rate, timed
from matplotlib.figure import Figure

from dqlearn import envs, evaluate_policy, exact
from dqlearn.evaluation import EvaluationResult
from dqlearn.policy import Policy
from dqlearn.rollout import open_shard, rollout
from dqlearn.transitions import Tally

sys.path.insert(0, str(Path(__file__).parents[1]))
from recipes import RECIPES, Recipe

FAMILIES = tuple(dict.fromkeys(recipe.name for recipe in RECIPES.values()))
SEED = 1_000_003  # of evaluations; no run's own
LANES, STEPS = 4096, 64  # environments and steps of a timed rollout
POINTS = 8  # of a curve


def family_of(recipe: Recipe) -> envs.Family:
    """Return the problem that a recipe is for."""
    family: envs.Family = getattr(envs, recipe.name).of(**recipe.env_kwargs)
    return family


def small(report: Report, name: str, options: dict[str, Any]) -> None:
    """Compare the learned table with the exact solution."""
    recipe = RECIPES[f"{name}-small"]
    model, timesteps = family_of(recipe).model(), int(recipe.timesteps * options["budget"])
    best = exact.solve(model, recipe.gamma, tolerance=1e-6)
    learner = recipe.learner()
    seconds, _ = timed(partial(learner.learn, timesteps))
    value, policy = learner.table.value.compute(), learner.table.policy.compute()
    reached = exact.policy_value(model, policy.astype(np.int64), recipe.gamma, tolerance=1e-6)
    scale = 0.01 * np.abs(best.value).mean()
    error = np.abs(value - best.value).mean() / scale
    gap = (best.value - reached).mean() / scale
    report.add(f"{name} error of V", [error], "%", at_most=3.0)
    report.add(f"{name} gap of the policy", [gap], "%", at_most=1.0)
    report.add(f"{name} transitions", [learner.timesteps / 1e6], "M")
    report.add(f"{name} learning", [seconds], "s")


def interval(values: npt.NDArray[np.float64]) -> list[float]:
    """Return a 95 % interval and, between its ends, the mean."""
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    return [float(values.mean() - half), float(values.mean()), float(values.mean() + half)]


def baselines(recipe: Recipe, n_episodes: int) -> dict[str, EvaluationResult]:
    """Play the baselines of a problem."""
    problem = family_of(recipe)
    model = problem.model()
    return {
        name: evaluate_policy(model, policy, n_episodes, SEED)
        for name, policy in problem.baselines().items()
    }


def medium(report: Report, name: str, options: dict[str, Any]) -> None:
    """Compare the greedy policy with the baselines."""
    recipe = RECIPES[f"{name}-medium"]
    episodes = options["episodes"] or recipe.episodes
    learner = recipe.learner()
    seconds, _ = timed(partial(learner.learn, int(recipe.timesteps * options["budget"])))
    ours = learner.evaluate(episodes, seed=SEED).returns
    report.add(f"{name} learned", interval(ours), "return")
    for baseline, result in baselines(recipe, episodes).items():
        report.add(f"{name} {baseline}", interval(result.returns), "return")
        difference = interval(ours - result.returns)
        report.add(f"{name} learned - {baseline}", difference, "return", at_least=0.0)
    report.add(f"{name} transitions", [learner.timesteps / 1e6], "M")
    report.add(f"{name} learning", [seconds], "s")


def curve(report: Report, name: str, options: dict[str, Any]) -> None:
    """Evaluate now and then while a medium instance is learned."""
    recipe = RECIPES[f"{name}-medium"]
    episodes = options["episodes"] or recipe.episodes
    learner, budget = recipe.learner(), recipe.timesteps * options["budget"]
    best = max(result.mean for result in baselines(recipe, episodes).values())
    made, means = [], []
    for point in range(POINTS):
        learner.learn(int(budget / 2 ** (POINTS - 1 - point)))
        made.append(learner.timesteps / 1e6)
        means.append(learner.evaluate(episodes, seed=SEED).mean)
        report.add(f"{name} gap at {made[-1]:.4g} M", [best - means[-1]], "return")
    if options["plot"] is not None:
        plot(Path(options["plot"]) / f"{name}.svg", made, means, best)


def plot(where: Path, made: Sequence[float], means: Sequence[float], best: float) -> None:
    """Draw a curve and the best baseline."""
    figure = Figure(figsize=(6.0, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.semilogx(made, means, marker="o", label="greedy policy")
    axes.axhline(best, color="0.4", linestyle="--", label="best baseline")
    axes.set(title=where.stem, xlabel="transitions / 10^6", ylabel="mean return of an episode")
    axes.legend()
    figure.savefig(where)


def steps_of(recipe: Recipe, size: str) -> Callable[[], int]:
    """Return what makes compiled steps, and says how many."""
    kwargs = {**recipe.env_kwargs, "size": size}
    env = getattr(envs, recipe.name).of(**kwargs).model()
    width = np.uint8 if env.n_actions <= 256 else np.uint16
    greedy = np.zeros(env.n_states, width)  # of a large instance the pages that are read only
    policy = Policy(np.zeros(1, np.float32), greedy, 0, Tally(0, 1.0))
    shard = open_shard(env, 0, LANES, seed=0)

    def steps() -> int:
        rollout(env, shard, policy, 1.0, 0, STEPS)
        return LANES * STEPS

    return steps


def speed(report: Report, name: str, options: dict[str, Any]) -> None:
    """Time steps alone, and whole rounds."""
    recipe = RECIPES[f"{name}-medium"]
    cases = {size: steps_of(recipe, size) for size in ("small", "medium", "large")}
    for case in cases.values():
        case()
    rates = interleave({n: partial(rate, case) for n, case in cases.items()}, options["repeats"])
    for size, samples in rates.items():
        report.add(f"{name} {size}, a step on one core", [1e9 / r for r in samples], "ns")
    learner = recipe.learner()

    def advance() -> int:
        before = learner.timesteps
        learner.learn(before + int(options["transitions"]))
        return learner.timesteps - before

    advance()
    made = interleave({"rounds": partial(rate, advance)}, options["repeats"])["rounds"]
    report.add(f"{name} medium, whole rounds", [r / 1e6 for r in made], "M/s", at_least=10.0)


class Spent(Callback):
    """Sums up the time of tasks by their kind. (Dask's Profiler would keep every round's table.)"""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._began: dict[Any, float] = {}
        super().__init__(pretask=self._begin, posttask=self._end)

    def _begin(self, key: Any, *_: Any) -> None:
        self._began[key] = time.perf_counter()

    def _end(self, key: Any, *_: Any) -> None:
        seconds = time.perf_counter() - self._began.pop(key)
        self.seconds[key[0].removeprefix("dqlearn-")] += seconds


def profile(report: Report, name: str, options: dict[str, Any]) -> None:
    """Divide the time of a round among its kinds of tasks."""
    learner = RECIPES[f"{name}-medium"].learner()
    with dask.config.set(scheduler="threads", num_workers=1):
        learner.learn(1)
        before = learner.timesteps
        with Spent() as spent:
            learner.learn(before + int(options["transitions"]))
    made = learner.timesteps - before
    for kind, seconds in sorted(spent.seconds.items(), key=lambda item: -item[1]):
        report.add(f"{name} medium, {kind}", [1e9 * seconds / made], "ns a transition")


WHAT = {"small": small, "medium": medium, "curve": curve, "speed": speed, "profile": profile}


@click.command(help=__doc__)
@click.argument("what", type=click.Choice(list(WHAT)))
@options
@click.option("--family", "families", multiple=True, type=click.Choice(FAMILIES))
@click.option("--episodes", type=int, help="Of an evaluation, in place of the recipe's.")
@click.option("--budget", default=1.0, show_default=True, help="Times the recipe's transitions.")
@click.option("--transitions", default=2e7, show_default=True, help="In a sample of speed.")
@click.option("--plot", type=click.Path(exists=True), help="Folder for the curves.")
def main(what: str, families: tuple[str, ...], json_path: str | None, **options: Any) -> None:
    report = Report(f"networks {what}", **options)
    for name in families or FAMILIES:
        WHAT[what](report, name, options)
    report.finish(json_path)


if __name__ == "__main__":
    main()
