"""The network environments: what is learned, how well, and how fast.

::

    by_id     returns with nothing but an id and its budget, of the best baseline, and by chance
    small     learned V against V*, and the exact value of the greedy policy against the optimum
    medium    greedy return against every baseline, in the same episodes; 95 % intervals
    curve     how the gap to the best baseline closes with transitions (a plot)
    speed     compiled steps of every size on one core; whole rounds of the medium size on all
    profile   what the stages of those rounds take, on one thread
    tie       equal servers, where joining the shortest queue is optimal: learned against that
    coupling  what couples the storages of the small power grid, by exact solutions

Budgets and settings are those of the families. But in `by_id`, what is learned may begin and end
its episodes otherwise, or pay in another way (``tests/recipes.py``); what is played and solved are
the registered sizes, but for a dispatcher of the medium size, whose queues are empty at first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import dask
import numpy as np
import numpy.typing as npt
from harness import Report, interleave, options, rate, timed
from matplotlib.figure import Figure
from stages import stopwatch

from dqlearn import QLearner, envs, evaluate_policy, exact
from dqlearn.algorithms import Extent
from dqlearn.envs import Family, PacketDispatch, PowerGrid, TrafficGrid
from dqlearn.envs.problems.family import Baseline
from dqlearn.kernels.ties import empty_sets, ties
from dqlearn.stages.policy import Policy
from dqlearn.stages.rollout import open_shard, rollout
from dqlearn.statistics import RoundStats

sys.path.insert(0, str(Path(__file__).parents[1]))
import coupling
from recipes import RECIPES

Floats = npt.NDArray[np.float64]

FAMILIES = tuple(dict.fromkeys(recipe.name for recipe in RECIPES.values()))
SEED = 1_000_003  # of evaluations; no run's own
LANES, STEPS = 4096, 64  # environments and steps of a timed rollout
POINTS = 8  # of a curve


def by_id(report: Report, name: str, options: dict[str, Any]) -> None:
    """Learn the registered environment as whoever knows its name does, and play it."""
    problem = getattr(envs, name).of("small")
    learner = QLearner(f"dqlearn/{name}-v0")
    learner.learn(int(problem.recipes["small"].timesteps * options["budget"]))
    model, episodes = learner.model, options["episodes"] or 2_000
    rng = np.random.default_rng(SEED)
    policies = {
        "by id": greedy(learner),
        "random": lambda states, t: rng.integers(model.n_actions, size=len(states)),
        **problem.baselines(),
    }
    returns = {n: evaluate_policy(model, p, episodes, SEED).returns for n, p in policies.items()}
    best = max(problem.baselines(), key=lambda rule: returns[rule].mean())
    for label, policy in (("by id", "by id"), (f"best: {best}", best), ("random", "random")):
        report.add(f"{name} {label}", interval(returns[policy]), "return")
    gain = interval(returns["by id"] - returns[best])
    report.add(f"{name} by id - {best}", gain, "return", at_least=0.0)


def small(report: Report, name: str, options: dict[str, Any]) -> None:
    """Compare the learned table with the exact solution."""
    recipe = RECIPES[f"{name}-small"]
    model, timesteps = recipe.problem.model(), int(recipe.timesteps * options["budget"])
    best = exact.solve(model, recipe.gamma, tolerance=1e-6)
    learner = recipe.learner()
    seconds, _ = timed(partial(learner.learn, timesteps))
    value, policy = learner.table.value.compute(), learner.table.policy.compute()
    reached = exact.policy_value(model, policy.astype(np.int64), recipe.gamma, tolerance=1e-6)
    scale = 0.01 * np.abs(best.value).mean()
    error = np.abs(value - best.value).mean() / scale
    gap = (best.value - reached).mean() / scale
    report.add(f"{name} states", [model.n_states], "")
    report.add(f"{name} error of V", [error], "%", at_most=3.0)
    report.add(f"{name} gap of the policy", [gap], "%", at_most=1.0)
    report.add(f"{name} transitions", [learner.num_timesteps / 1e6], "M")
    report.add(f"{name} learning", [seconds], "s")


def interval(values: Floats) -> list[float]:
    """Return a 95 % interval and, between its ends, the mean."""
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    return [float(values.mean() - half), float(values.mean()), float(values.mean() + half)]


def played(problem: Family, policy: Baseline, n_episodes: int) -> Floats:
    """Return what episodes pay."""
    return evaluate_policy(problem.model(), policy, n_episodes, SEED).returns


def greedy(learner: QLearner) -> Baseline:
    """Return the policy of a table, to be played in the registered problem."""
    actions = learner.table.policy.compute().astype(np.int64)
    return lambda states, t: np.asarray(actions[states])


def medium(report: Report, name: str, options: dict[str, Any]) -> None:
    """Compare the greedy policy with the baselines."""
    recipe = RECIPES[f"{name}-medium"]
    problem, episodes = recipe.problem, options["episodes"] or recipe.episodes
    learner = recipe.learner()
    seconds, _ = timed(partial(learner.learn, int(recipe.timesteps * options["budget"])))
    policies = {"learned": greedy(learner), **problem.baselines()}
    ours = played(problem, policies["learned"], episodes)
    for policy_name, policy in policies.items():
        returns = played(problem, policy, episodes)
        report.add(f"{name} {policy_name}", interval(returns), "return")
        if policy_name != "learned":
            label = f"{name} learned - {policy_name}"
            report.add(label, interval(ours - returns), "return", at_least=0.0)
        if isinstance(problem, TrafficGrid):
            # The same episodes, but for a price of one for each vehicle that turns away.
            priced = played(replace(problem, lost_cost=1.0), policy, episodes)
            report.add(f"{name} {policy_name}, lost", interval(returns - priced), "vehicles")
    report.add(f"{name} transitions", [learner.num_timesteps / 1e6], "M")
    report.add(f"{name} learning", [seconds], "s")


def curve(report: Report, name: str, options: dict[str, Any]) -> None:
    """Evaluate now and then while a medium instance is learned."""
    recipe = RECIPES[f"{name}-medium"]
    episodes = options["episodes"] or recipe.episodes
    learner, budget = recipe.learner(), recipe.timesteps * options["budget"]
    problem = recipe.problem
    rules = problem.baselines().values()
    best = max(played(problem, rule, episodes).mean() for rule in rules)
    made, means = [], []
    for point in range(POINTS):
        before = learner.num_timesteps
        if learner.learn(int(budget / 2 ** (POINTS - 1 - point))).num_timesteps == before:
            continue  # the same round
        made.append(learner.num_timesteps / 1e6)
        means.append(played(problem, greedy(learner), episodes).mean())
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


def steps_of(name: str, size: str) -> Callable[[], int]:
    """Return what makes compiled steps, and says how many."""
    env = getattr(envs, name).make(size)
    tied = empty_sets(env.n_states, env.n_actions)  # nothing is read of it: all explore
    policy = Policy(
        np.zeros(1, np.float32), tied, 0, RoundStats(0, 1.0), Extent(env.n_actions, ties(0))
    )
    shard = open_shard(env, 0, LANES, seed=0)

    def steps() -> int:
        rollout(env, shard, policy, 1.0, 0, STEPS)
        return LANES * STEPS

    return steps


def speed(report: Report, name: str, options: dict[str, Any]) -> None:
    """Time steps alone, and whole rounds."""
    recipe = RECIPES[f"{name}-medium"]
    cases = {size: steps_of(name, size) for size in ("small", "medium", "large")}
    for case in cases.values():
        case()
    rates = interleave({n: partial(rate, case) for n, case in cases.items()}, options["repeats"])
    for size, samples in rates.items():
        report.add(f"{name} {size}, a step on one core", [1e9 / r for r in samples], "ns")
    learner = recipe.learner()

    def advance() -> int:
        before = learner.num_timesteps
        learner.learn(before + int(options["transitions"]))
        return learner.num_timesteps - before

    advance()
    made = interleave({"rounds": partial(rate, advance)}, options["repeats"])["rounds"]
    report.add(f"{name} medium, whole rounds", [r / 1e6 for r in made], "M/s", at_least=10.0)


def profile(report: Report, name: str, options: dict[str, Any]) -> None:
    """Divide the time of a single round among its stages."""
    learner = RECIPES[f"{name}-medium"].learner()
    single = {"dqlearn.fuse": False}
    with dask.config.set({"scheduler": "threads", "num_workers": 1, **single}):
        learner.learn(1)
        before = learner.num_timesteps
        with stopwatch() as seconds:
            elapsed, _ = timed(lambda: learner.learn(before + int(options["transitions"])))
    made = learner.num_timesteps - before
    for stage, spent in [*seconds.most_common(), ("all", elapsed)]:
        report.add(f"{name} medium, {stage}", [1e9 * spent / made], "ns a transition")


def tie(report: Report, name: str, options: dict[str, Any]) -> None:
    """Compare with the shortest queue at the registered small size, its servers made equal.

    Played from empty queues: from full ones it pays, over an episode, to lose packets, which costs
    less than to hold them for longer than 1 / (1 - gamma) slots.
    """
    recipe = RECIPES[f"{name}-small"]
    rates = np.full(4, np.mean(PacketDispatch.of("small").rates)).tolist()
    problem = PacketDispatch.of("small", rates=rates, start="empty")
    model, episodes = problem.model(), options["episodes"] or 10_000
    learner = recipe.learner(env_kwargs={**recipe.env_kwargs, "rates": rates})
    learner.learn(int(recipe.timesteps * options["budget"]))
    policies = {"policy": greedy(learner), "rule": problem.baselines()["shortest_queue"]}
    ours, theirs = (played(problem, policy, episodes) for policy in policies.values())
    report.add(f"{name} shortest queue", interval(theirs), "return")
    report.add(f"{name} learned - shortest queue", interval(ours - theirs), "return")
    best = exact.solve(model, recipe.gamma, tolerance=1e-6).value.mean()
    for policy_name, policy in policies.items():
        actions = policy(np.arange(model.n_states), 0)
        value = exact.policy_value(model, actions, recipe.gamma, tolerance=1e-6).mean()
        report.add(f"{name} gap of the {policy_name}", [100 * (value / best - 1)], "%", at_most=1.0)
    report.add(f"{name} transitions", [learner.num_timesteps / 1e6], "M")


def coupled(report: Report, name: str, options: dict[str, Any]) -> None:
    """Take away what couples the storages, by one and by both."""
    free: dict[str, dict[str, Any]] = {
        "as it is": {},
        "without losses": {"resistance": 0.0},
        "without limits": {"limit": None},
        "without both": {"resistance": 0.0, "limit": None},
    }
    for case, changes in free.items():
        problem = PowerGrid.of("small", **changes)
        solution = exact.solve(problem.model(), coupling.GAMMA, tolerance=1e-8)
        q = coupling.folded(solution)
        for what, share in (
            ("best orders that depend on the other", coupling.contingent(q)),
            ("spread of V* that is no sum", coupling.interaction(q)),
            ("cost above the optimum if run apart", coupling.apart(problem, solution)),
        ):
            report.add(f"{case}: {what}", [100 * share], "%")


WHAT = {
    "by_id": by_id,
    "small": small,
    "medium": medium,
    "curve": curve,
    "speed": speed,
    "profile": profile,
    "tie": tie,
    "coupling": coupled,
}
ONLY = {"tie": ("PacketDispatch",), "coupling": ("PowerGrid",)}


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
    for name in ONLY.get(what, families or FAMILIES):
        WHAT[what](report, name, options)
    report.finish(json_path)


if __name__ == "__main__":
    main()
