r"""What a round on a cluster costs, fitted to measured rounds and extrapolated to larger clusters.

::

    T = levels x latency + tasks x per_task + work / cores x contention + bytes x per_byte

``levels`` and ``tasks`` are read off the graph that is sent, ``bytes`` follow from batch, states,
and workers, and ``work`` is what one core takes for the same round without a cluster. A fit over
rounds of 1, 2 and 4 worker processes gives the latency of a level, the time of a task in the
scheduler, a factor for compute beside communication, and the time of a byte. Every fourth round is
left out of the fit, and predicted.

Several worker processes share the cores of this machine, so that ``cores`` is the smaller of both
numbers. On other machines it is the number of workers' threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from statistics import median
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import psutil
from distributed import Client, LocalCluster
from harness import Report, options, timed
from problems import THREADS, OnDask
from scipy.optimize import nnls

from dqlearn.envs.torus import torus
from dqlearn.graph import State
from dqlearn.rounds import round_graph

PROCESSES = (1, 2, 4)
SIDES, ENVS = (256, 1024), (2**13, 2**16)
TINY = (16, 32), (64, 256)
STEPS = 32
CHUNKS_PER_WORKER = 2
PAIR_BYTES, STATE_BYTES = 8, 5  # an offset and a target; a value and an action
LARGER = (8, 32, 128)
AT_MOST = 0.2  # relative error of a prediction
CORES = psutil.cpu_count() or 1


@dataclass(frozen=True)
class Case:
    """A round: of so many environments on a torus, on so many workers of one thread each."""

    workers: int
    side: int
    num_envs: int
    work: float = 0.0
    """Seconds that one core takes for its stages."""

    @property
    def states(self) -> int:
        return self.side * self.side

    @property
    def batch(self) -> int:
        return self.num_envs * STEPS

    def settings(self, shards: int) -> dict[str, Any]:
        chunk = -(-self.states // (CHUNKS_PER_WORKER * shards))
        common = {"num_envs": self.num_envs, "steps_per_round": STEPS, "policy_lag": 0}
        return {**common, "shards": shards, "chunks": (chunk, -1)}

    @property
    def nbytes(self) -> float:
        """What the workers receive from each other, together."""
        others = self.workers - 1
        return others * (self.batch * PAIR_BYTES / self.workers + self.states * STATE_BYTES)

    @property
    def row(self) -> npt.NDArray[np.float64]:
        """Factors of (latency, per_task, contention, per_byte)."""
        tasks, levels = graph_of(self.workers)
        return np.array([levels, tasks, self.work / min(self.workers, CORES), self.nbytes])


@cache
def graph_of(workers: int) -> tuple[int, int]:
    """Return the tasks of a round, and how many wait for one another at most."""
    learner = OnDask(torus(64), THREADS, **Case(workers, 64, 64 * workers).settings(workers))
    plan, n = learner.learner._plan, learner.learner._plan.grid.n_chunks
    counts = (("best", min(workers, n)), ("chunk", n), ("shard", workers))
    keys = (tuple((name, "run", i) for i in range(count)) for name, count in counts)
    drawn = round_graph(plan, State(0, ("plan", "run"), *keys), workers)
    depth: dict[Any, int] = {}

    def deep(key: Any) -> int:
        if key not in depth:
            needed = [deep(k) for k in drawn.tasks[key].dependencies if k in drawn.tasks]
            depth[key] = 1 + max(needed, default=0)
        return depth[key]

    return len(drawn.tasks), max(deep(key) for key in drawn.state.policy)


@contextmanager
def cluster_of(workers: int) -> Iterator[Mapping[str, Any]]:
    """Start worker processes of one thread each."""
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0") as local,
        Client(local, set_as_default=False) as client,
    ):
        yield {"scheduler": client}


def seconds_a_round(case: Case, scheduler: Mapping[str, Any], repeats: int, rounds: int) -> float:
    """Return the median over some samples."""
    learner = OnDask(torus(case.side), scheduler, **case.settings(case.workers))
    learner.advance(3 * case.batch)
    samples = [timed(lambda: learner.advance(rounds * case.batch))[0] for _ in range(repeats)]
    return median(samples) / rounds


def cases(sides: tuple[int, ...], envs: tuple[int, ...], repeats: int, rounds: int) -> list[Case]:
    """Return all rounds to be measured, with the work of each, measured on one core."""
    found = []
    for side, num_envs in product(sides, envs):
        alone = Case(1, side, num_envs)
        work = seconds_a_round(alone, {"scheduler": "synchronous"}, repeats, rounds)
        found += [Case(n, side, num_envs, work) for n in PROCESSES]
    return found


def measure(found: list[Case], repeats: int, rounds: int) -> dict[Case, float]:
    """Time all rounds; those of one cluster after another."""
    times = {}
    for n in PROCESSES:
        with cluster_of(n) as scheduler:
            for case in (case for case in found if case.workers == n):
                times[case] = seconds_a_round(case, scheduler, repeats, rounds)
    return times


def fit(times: Mapping[Case, float]) -> npt.NDArray[np.float64]:
    """Return the coefficients, none negative, that make the relative errors least."""
    weights = 1.0 / np.array(list(times.values()))
    rows = np.array([case.row for case in times]) * weights[:, None]
    coefficients: npt.NDArray[np.float64] = nnls(rows, np.ones(len(rows)))[0]
    return coefficients


def report_on(report: Report, times: Mapping[Case, float]) -> npt.NDArray[np.float64]:
    """Add the coefficients, and the errors of what was predicted without being fitted."""
    ordered = list(times)
    held_out = ordered[::4]
    coefficients = fit({case: times[case] for case in ordered if case not in held_out})
    units = ("ms a level", "ms a task", "x the work of one core", "ns a byte")
    for value, scale, unit in zip(coefficients, (1e3, 1e3, 1.0, 1e9), units, strict=True):
        report.add("fitted", [value * scale], unit)
    for case in ordered:
        predicted, own = float(case.row @ coefficients), times[case]
        name = f"{case.workers} workers, {case.states} states, {case.batch} transitions"
        report.add(f"{name}: measured", [1e3 * own], "ms")
        target = {"at_most": AT_MOST} if case in held_out else {}
        error = abs(predicted - own) / own
        report.add(f"{name}: error of the prediction", [error], "", **target)
    return coefficients


def extrapolate(
    report: Report, coefficients: npt.NDArray[np.float64], case: Case, per_worker: int
) -> None:
    """Add what a round would cost where every worker has a core and a network of its own."""
    for n in LARGER:
        grown = replace(
            case,
            workers=n,
            num_envs=per_worker * n,
            work=case.work * per_worker * n / case.num_envs,
        )
        tasks, levels = graph_of(n)
        parts = np.array([levels, tasks, grown.work / n, grown.nbytes / n]) * coefficients
        for part, value in zip(("levels", "tasks", "work", "bytes"), parts, strict=True):
            report.add(f"{n} workers: {part}", [1e3 * value], "ms")
        report.add(f"{n} workers: transitions", [grown.batch / parts.sum() / 1e6], "M/s")


@click.command(help=__doc__)
@options
@click.option("--rounds", default=10, show_default=True, help="Of a sample.")
@click.option("--tiny", is_flag=True, help="Very small rounds, to try the script out.")
def main(rounds: int, tiny: bool, repeats: int, json_path: str | None) -> None:
    found = cases(*(TINY if tiny else (SIDES, ENVS)), repeats, rounds)
    report = Report("cost_model", rounds=rounds)
    coefficients = report_on(report, measure(found, repeats, rounds))
    extrapolate(report, coefficients, found[-1], per_worker=2**17)
    report.finish(json_path)


if __name__ == "__main__":
    main()
