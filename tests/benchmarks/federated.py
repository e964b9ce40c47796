r"""Federated members: what they bring on a cluster, and what each way to merge them needs.

::

    workers          rounds that workers share / members that learn apart
                     transitions a second, and seconds to an error, on 1, 2, .. worker processes
    model            members on 8, 32, 128 workers, by the equation of cost_model
    heterogeneity    members that see different parts, merged equally / by importance / by visits
                     transitions to an error

Of `heterogeneity`: a process of four regions that nothing connects, so that an environment stays in
the region that it begins in. Each member has one environment; the seed is one that spreads them
evenly over the regions. Errors are sup-norms of Q - Q*, by the exact solution.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
import dask
import numpy as np
import numpy.typing as npt
from distributed import Client, LocalCluster
from harness import Report, interleave, options, ratios
from matplotlib.figure import Figure

from dqlearn import Federated, QLearner, TabularEnv, exact
from dqlearn.envs.problems.garnet import garnet
from dqlearn.random import integers
from dqlearn.stages.rollout import open_shard

# workers

ENVS, STEPS, GAMMA = (
    4096,
    4,
    0.9,
)  # of each worker; a round's transitions learn from the same values
LEARNING_RATE = 0.1  # of one table; n times that of n members, whose noise averages out
SYNCHRONOUS = 32  # steps of a round that workers share, as such a round costs much besides


@contextmanager
def cluster(n: int) -> Iterator[None]:
    """Start worker processes of one thread each."""
    with (
        LocalCluster(n_workers=n, threads_per_worker=1, dashboard_address=":0") as local,
        Client(local),
    ):
        yield


def learners(env: TabularEnv, n: int, local_rounds: int, merge: Any) -> dict[str, Any]:
    """Return what makes a learner of each way to use n workers."""
    chunks = -(-env.n_states // n), -1
    common = {"num_envs": n * ENVS, "shards": n, "chunks": chunks, "gamma": GAMMA, "epsilon": 0.3}
    alone: Any = common | {"steps_per_round": STEPS, "learning_rate": LEARNING_RATE}
    shared = alone | {"steps_per_round": SYNCHRONOUS}
    rate = min(1.0, n * LEARNING_RATE)
    apart = alone | {"learning_rate": rate, "federated": Federated(n, local_rounds, merge)}
    cases = {"one worker": alone, "shared": shared, "apart": apart}
    return {name: partial(QLearner, env, **settings) for name, settings in cases.items()}


@contextmanager
def fused(name: str) -> Iterator[None]:
    """Let one worker make the rounds, or spread them over all."""
    with dask.config.set({"dqlearn.fuse": name == "one worker"}):
        yield


def rate_of(name: str, make: Callable[[], QLearner], n: int) -> float:
    """Transitions a second, in millions, of rounds after the first ones."""
    with fused(name):
        learner = make().learn(1)
        learner.learn(4 * learner.num_timesteps)
        before = len(learner.history["round"])
        learner.learn(learner.num_timesteps + n)
    history = learner.history.isel(round=slice(before, None))
    made, times = history["timesteps"].values, history["wall_time"].values
    # Rounds of a task arrive together; so what counts is between the first arrival and the last.
    first = int(np.argmax(times > times[0]))
    if first == 0 or times[-1] == times[first]:  # too few
        return float((made[-1] - made[0]) / times[-1] / 1e6)
    return float((made[-1] - made[first]) / (times[-1] - times[first]) / 1e6)


def seconds_to(
    name: str,
    make: Callable[[], QLearner],
    wanted: npt.NDArray[Any],
    error: float,
    step: int,
    limit: int,
) -> tuple[float, int]:
    """Return seconds, and transitions, until V is so near to V*; infinite ones beyond a limit.

    The error is the mean of ``|max_a Q - V*|``, in units of the mean of ``|V*|``.
    """
    with fused(name):
        learner, spent = make(), 0.0
        while learner.num_timesteps < limit:
            began = time.perf_counter()
            learner.learn(learner.num_timesteps + step)
            spent += time.perf_counter() - began
            found = learner.table.q.compute().max(axis=1)
            if np.abs(found - wanted).mean() <= error * np.abs(wanted).mean():
                return spent, learner.num_timesteps
    return np.inf, limit


def workers(report: Report, tiny: bool, **it: Any) -> None:
    """Compare rounds that workers share with members that learn apart."""
    env, first = garnet(64 if tiny else it["states"], 8, 4), it["processes"][0]
    wanted = exact.solve(env, GAMMA, tolerance=1e-6).value
    apart: dict[int, list[float]] = {}
    for n in it["processes"]:
        size = n * ENVS * STEPS * it["local_rounds"]
        made = learners(env, n, it["local_rounds"], it["merge"])
        with cluster(n):
            rates = rates_of(
                made, size, 2 * size if tiny else int(it["transitions"]), it["repeats"]
            )
            apart[n] = rates["apart"]
            for name, samples in rates.items():
                report.add(f"{n} workers, {name}", samples, "M/s")
            report.add(f"{n} workers, apart / shared", ratios(apart[n], rates["shared"]), "x")
            report.add(f"{n} workers apart / {first} apart", ratios(apart[n], apart[first]), "x")
            error, limit = (9.0, size) if tiny else (it["error"], int(it["limit"]))
            step = max(size, n * ENVS * SYNCHRONOUS)
            to = partial(seconds_to, wanted=wanted, error=error, step=step, limit=limit)
            found = interleave({k: partial(to, k, make) for k, make in made.items()}, it["repeats"])
            for name, pairs in found.items():
                report.add(f"{n} workers, {name}: to {error:.0%}", [s for s, _ in pairs], "s")
                report.add(f"{n} workers, {name}: to {error:.0%}", [m / 1e6 for _, m in pairs], "M")


def rates_of(
    made: Mapping[str, Callable[[], QLearner]], size: int, transitions: int, repeats: int
) -> dict[str, list[float]]:
    """Sample the rates of all, after a first time, which compiles."""
    for name, make in made.items():
        rate_of(name, make, size)
    cases = {k: partial(rate_of, k, make, max(transitions, 6 * size)) for k, make in made.items()}
    return interleave(cases, repeats)


# model: the coefficients are those of docs/explanation/cost-model.md

BESIDE, LATENCY, PER_TASK, CENTRAL = 1.39, 3.6e-3, 0.66e-3, 0.58e-3
PER_FETCH, PER_BYTE, RATE = 1.4e-3, 1e-9, 1.25e9
WORK, BATCH = 0.119 / BESIDE, 2**22  # seconds of a core for so many transitions
STATES, PAIR_BYTES, ACTIONS = 2**20, 8, 4
LARGER, CHUNKS, LONGER = (8, 32, 128), (8, 16, 32, 64, 128), (1, 8)


def round_of(n: int, chunks: int, longer: int) -> dict[str, float]:
    """Return the seconds of a round of n members, up to their merge, by its parts.

    Where chunks are, at `homes` workers, all members fetch them, and what all made of them arrives.
    """
    table, homes = STATES * ACTIONS * PAIR_BYTES, min(n, chunks)
    tasks = n + n * homes + 2 * chunks + n + 1
    nbytes = table * (1 - 1 / n) + 2 * (n - 1) * table / homes
    return {
        "work": longer * BESIDE * WORK,
        "levels": 3 * LATENCY,
        "scheduler": tasks * CENTRAL,
        "tasks and fetches": tasks * PER_TASK / n + (n + homes - 2) * PER_FETCH,
        "bytes": nbytes * (PER_BYTE + 1.0 / RATE),
    }


def model(report: Report, **it: Any) -> None:
    """Predict the rate of members on larger clusters, in as many chunks as are best."""
    alone = BATCH / (BESIDE * WORK)
    for n in LARGER:
        for longer in LONGER:
            best = min(CHUNKS, key=lambda c: sum(round_of(n, c, longer).values()))
            parts = round_of(n, best, longer)
            name = f"{n} workers, {longer * BATCH / 1e6:.1f} M a member, {best} chunks"
            for part, seconds in parts.items():
                report.add(f"{name}: {part}", [1e3 * seconds], "ms")
            rate = n * longer * BATCH / sum(parts.values())
            report.add(f"{name}: rate / that of one worker", [rate / alone], "x")


# heterogeneity

REGIONS, PLACES = 4, 25
TWICE = 0.5


def initial(key: Any, params: Any) -> Any:
    return integers(key, 0, len(params[0]))


def events(state: Any, action: Any, params: Any) -> Any:
    return (0.5,)


def transition(state: Any, action: Any, happened: Any, params: Any) -> Any:
    return params[0][state, action, happened], params[1][state, action, happened], False


def regions() -> TabularEnv:
    """Make a process of regions that nothing connects, each a small Garnet with noisy rewards."""
    rng, n = np.random.default_rng(0), REGIONS * PLACES
    begin = np.arange(n) // PLACES * PLACES
    next_state = begin[:, None, None] + rng.integers(0, PLACES, (n, ACTIONS, 2))
    reward = rng.random((n, ACTIONS, 1)) + np.array([-0.5, 0.5])
    params = next_state, reward
    return TabularEnv(n, ACTIONS, initial, transition, events, n_events=1, params=params)


def spread_evenly(env: TabularEnv, members: int, after: int) -> int:
    """Return a seed by which as many environments begin in each region."""
    for seed in range(after, after + 1_000_000):
        begun = np.bincount(open_shard(env, 0, members, seed).state // PLACES, minlength=REGIONS)
        if (begun == members // REGIONS).all():
            return seed
    raise click.ClickException("no such seed was found")


def curve(
    env: TabularEnv, wanted: npt.NDArray[Any], federated: Federated, seed: int, rounds: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return transitions, and the error after each merge."""
    settings: dict[str, Any] = {"gamma": GAMMA, "learning_rate": 0.1, "epsilon": 1.0}
    settings |= {"num_envs": federated.members, "steps_per_round": 4, "dtype": "float64"}
    learner, made, errors = QLearner(env, federated=federated, seed=seed, **settings), [], []
    for _ in range(rounds):
        learner.learn(learner.num_timesteps + 1)
        made.append(learner.num_timesteps)
        errors.append(float(np.abs(learner.table.q.compute() - wanted).max()))
    return np.array(made), np.array(errors)


def first_below(made: npt.NDArray[Any], errors: npt.NDArray[Any], limit: float) -> float:
    """Return the transitions, in thousands, until the error is at most a limit."""
    return float(made[np.argmax(errors <= limit)] / 1e3) if errors.min() <= limit else np.inf


def heterogeneity(report: Report, tiny: bool, **it: Any) -> None:
    """Compare merges where each pair is seen by one member, or by few of many."""
    env, local, rounds = regions(), 20 if tiny else 800, 3 if tiny else 80
    wanted = exact.solve(env, GAMMA, tolerance=1e-8).q
    curves: dict[str, Any] = {}
    limits = (9.0,) if tiny else (4.0, 2.0, 1.5)
    with dask.config.set(scheduler="synchronous"):
        found: dict[str, list[Any]] = {"equal": [], "importance": [], "visits": []}
        seed = -1
        for _ in range(it["repeats"]):
            seed = spread_evenly(env, REGIONS, seed + 1)
            for merge, some in found.items():
                federated = Federated(REGIONS, local, merge)
                some.append(curve(env, wanted, federated, seed, rounds))
                curves[merge] = some[0]
        for limit in limits:
            needed = {k: [first_below(*c, limit) for c in some] for k, some in found.items()}
            for merge, samples in needed.items():
                report.add(f"{merge}: to {limit}", samples, "thousand transitions")
            for merge in ("importance", "visits"):
                share = ratios(needed[merge], needed["equal"])
                report.add(f"{merge} / equal: to {limit}", share, "x", at_most=TWICE)
        for members in (4, 16) if tiny else (4, 8, 16, 32, 64):
            floors, seed = [], -1
            for _ in range(it["repeats"]):
                seed = spread_evenly(env, members, seed + 1)
                federated = Federated(members, local, "importance")
                made, errors = curve(env, wanted, federated, seed, rounds)
                floors.append(float(errors[rounds // 2 :].mean()))
            report.add(f"importance, {members} members: floor", floors, "reward")
            curves[f"importance, {members} members"] = made, errors
    if it["plot"]:
        plot(Path(it["plot"]) / "federated.svg", curves)


def plot(where: Path, curves: Mapping[str, Any]) -> None:
    """Draw errors over the transitions of a member: merges on the left, members on the right."""
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for name, (made, errors) in curves.items():
        kind, _, members = name.partition(", ")
        n = int(members.split()[0]) if members else REGIONS
        (right if members else left).semilogy(made / n / 1e3, errors, label=members or kind)
    left.set(title=f"{REGIONS} members", ylabel="sup-norm of Q - Q*")
    right.set(title="importance")
    for axes in (left, right):
        axes.set_xlabel("transitions of a member / 1000")
        axes.legend()
    figure.savefig(where, metadata={"Date": None})


WHAT = {"workers": workers, "model": model, "heterogeneity": heterogeneity}


@click.command(help=__doc__)
@click.argument("what", type=click.Choice(list(WHAT)))
@options
@click.option("--processes", multiple=True, type=int, default=(1, 2), show_default=True)
@click.option("--states", default=2**15, show_default=True, help="Of the Garnet.")
@click.option("--local-rounds", default=64, show_default=True)
@click.option("--merge", default="importance", show_default=True)
@click.option("--transitions", default=6e7, show_default=True, help="In a sample of a rate.")
@click.option("--error", default=0.02, show_default=True)
@click.option("--limit", default=5e8, show_default=True, help="Transitions at most to an error.")
@click.option("--plot", type=click.Path(exists=True), help="Folder for the curves.")
@click.option("--tiny", is_flag=True, help="Very small, to try the script out.")
def main(what: str, json_path: str | None, **it: Any) -> None:
    report = Report(f"federated {what}", **it)
    WHAT[what](report, **it)
    report.finish(json_path)


if __name__ == "__main__":
    main()
