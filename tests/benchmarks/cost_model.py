r"""What a round on a cluster costs, fitted to measured rounds and extrapolated to larger clusters.

::

    T = work x beside / cores
        + levels x latency + tasks x per_task + (fetches x per_fetch + bytes x per_byte) / cores
        + hops x delay + bytes / (workers x rate)                  on a network, see --shaped

``levels``, ``tasks`` and ``hops`` are read off the graph that is sent; the ``bytes`` that workers
receive follow from batch, states and workers. Each worker fetches twice a round from each other
one: parcels, and parts of the policy. ``work`` is what the tasks of the stages take on one worker,
and ``beside`` how much longer they take on two that work side by side; both are measured inside the
tasks. The other four coefficients are fitted to rounds of 1, 2 and 4 worker processes. Some sizes
of rounds are left out of the fit, and predicted.

Several worker processes share the cores of this machine, so that ``cores`` is the smaller of both
numbers. On other machines it is the number of workers' threads, or of workers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import median
from typing import Any

import click
import numpy as np
from case import CORES, Case, Floats, Shape, Size
from harness import Report, options
from problems import OnDask
from scipy.optimize import nnls
from shaped import Network, shaped_cluster
from speedup import workers
from stream import SETTLING, STAGES, Watched, watch

from dqlearn.envs.problems.torus import torus

PROCESSES, BEYOND = (1, 2, 4), 8  # the latter is never fitted
FITTED = tuple(product((256, 1024), (2**13, 2**16), (1, 4)))  # side, environments, shards a worker
HELD_OUT = ((512, 2**15, 1), (512, 2**15, 2), (1024, 2**17, 1))
TINY = tuple(product((16, 32), (64, 256), (1, 2))), ((24, 128, 1), (32, 512, 1))
AT_MOST = 0.2  # relative error of a prediction
UNITS = (("ms a level", 1e3), ("ms a task", 1e3), ("ms a fetch", 1e3), ("ns a byte", 1e9))

NETWORKS = (Network(0.0, 1e12), Network(5e-3, 1e12), Network(0.0, 5e7), Network(2e-3, 1e8))
LARGER, THREADS_EACH, ENVS_EACH = (8, 32, 128), 8, 2**17
ASSUMED = Network(5e-5, 1.25e9)  # of a larger cluster: 10 Gbit/s


def rounds_of(
    case: Case, scheduler: Mapping[str, Any], rounds: int
) -> Callable[[], tuple[Watched, float]]:
    """Set a learner up; return what watches some of its rounds, and what they cost this process."""
    learner = OnDask(torus(case.side), scheduler, **case.settings())
    learner.advance(3 * case.batch)

    def sample() -> tuple[Watched, float]:
        before = time.process_time()
        seen = watch(learner, scheduler["scheduler"], case.batch, rounds)
        return seen, (time.process_time() - before) / (rounds + SETTLING)

    return sample


@dataclass(frozen=True)
class Model:
    """The coefficients.

    Attributes
    ----------
    beside : float
        Seconds of work beside others, over those alone.
    each : array
        Of a level, a task, a fetch and a byte.
    central : float
        Of a task in the process of scheduler and client: a part of the above.
    """

    beside: float
    each: Floats
    central: float

    def seconds(self, case: Case) -> float:
        """Predict a round on this machine."""
        return computed(case, self.beside) + float(case.row() @ self.each)


def computed(case: Case, beside: float) -> float:
    """Return the seconds of a round that are work."""
    busy = min(case.workers * case.threads, CORES)
    return case.work * (beside if busy > 1 else 1.0) / busy


class Laboratory:
    """Measures rounds.

    Parameters
    ----------
    repeats, rounds : int
        Samples of a case; rounds of a sample.

    Attributes
    ----------
    times : dict
        Seconds of each case.
    """

    def __init__(self, repeats: int, rounds: int) -> None:
        self._repeats, self._rounds = repeats, rounds
        self._work: dict[Size, float] = {}
        self._compute: dict[Case, float] = {}  # of the worker that has most of it
        self._central: dict[Case, float] = {}
        self.times: dict[Case, float] = {}

    def measure(self, n: int, sizes: Sequence[Size]) -> None:
        """Time rounds on `n` workers; one worker comes first, as it tells the work."""
        with workers(n) as scheduler:
            self.times |= self._timed(n, sizes, scheduler)

    def on(self, n: int, network: Network, sizes: Sequence[Size]) -> dict[Case, float]:
        """Time rounds on `n` workers on a network."""
        with shaped_cluster(n, network) as scheduler:
            return self._timed(n, sizes, scheduler)

    def fit(self, sizes: Sequence[Size]) -> Model:
        """Fit to what was measured of some sizes."""
        times = {case: t for case, t in self.times.items() if case.size in sizes}
        two = [case for case in times if case.workers == CORES]
        beside = sum(self._compute[case] for case in two) / sum(case.work / CORES for case in two)
        most = max(times, key=lambda case: case.graph.tasks / case.batch)
        return Model(beside, fitted(times, beside), self._central[most] / most.graph.tasks)

    def _timed(
        self, n: int, sizes: Sequence[Size], scheduler: Mapping[str, Any]
    ) -> dict[Case, float]:
        """Sample all sizes in turns, so that what else the machine does falls on all alike."""
        rounds = {size: rounds_of(Case(n, *size), scheduler, self._rounds) for size in sizes}
        samples = [
            {size: sample() for size, sample in rounds.items()} for _ in range(self._repeats)
        ]
        return dict(self._noted(n, size, [some[size] for some in samples]) for size in sizes)

    def _noted(
        self, n: int, size: Size, samples: Sequence[tuple[Watched, float]]
    ) -> tuple[Case, float]:
        if n == 1:
            self._work[size] = median(seen.total(*STAGES) for seen, _ in samples)
        case = Case(n, *size, work=self._work[size])
        self._compute[case] = median(seen.largest(*STAGES) for seen, _ in samples)
        self._central[case] = median(central for _, central in samples)
        return case, median(seen.seconds for seen, _ in samples)


def fitted(times: Mapping[Case, float], beside: float) -> Floats:
    """Return the coefficients, none negative, that make the relative errors least."""
    weights = 1.0 / np.array(list(times.values()))
    rows = np.array([case.row() for case in times]) * weights[:, None]
    left = np.array([seconds - computed(case, beside) for case, seconds in times.items()])
    coefficients: Floats = nnls(rows, left * weights)[0]
    return coefficients


def report_on(
    report: Report, times: Mapping[Case, float], held_out: Sequence[Size], model: Model
) -> None:
    """Add the coefficients, and how far predictions are from what was measured."""
    report.add("measured", [model.beside], "x work")
    report.add("measured, scheduler and client", [1e3 * model.central], "ms a task")
    for value, (unit, scale) in zip(model.each, UNITS, strict=True):
        report.add("fitted", [value * scale], unit)
    for case, own in times.items():
        target = {"at_most": AT_MOST} if case.size in held_out and case.workers != BEYOND else {}
        compare(report, case.name, own, model.seconds(case), **target)


def compare(report: Report, name: str, own: float, foretold: float, **target: float) -> None:
    """Add what was measured, what was predicted, and the relative error."""
    report.add(f"{name}: measured", [1e3 * own], "ms")
    report.add(f"{name}: predicted", [1e3 * foretold], "ms")
    report.add(f"{name}: error", [abs(foretold - own) / own], "", **target)


def shaped(report: Report, laboratory: Laboratory, sizes: Sequence[Size]) -> None:
    """Compare what networks add with what was predicted; the first has neither delay nor limit."""
    relayed: dict[Case, float] = {}
    for network in NETWORKS:
        times = laboratory.on(CORES, network, sizes)
        relayed = relayed or times
        for case, own in times.items():
            name = f"{1e3 * network.delay:g} ms, {network.rate / 1e6:g} MB/s: {case.name}"
            compare(report, name, own, relayed[case] + case.on(network))


def variants(case: Case, n: int) -> Iterator[tuple[str, Case, Shape, float]]:
    """Return what a round on n cores may be like: its case, graph, and how often pieces move."""
    grown = replace(case, workers=n, num_envs=ENVS_EACH * n)
    yield "as it is", grown, grown.graph, 1.0
    eight = replace(grown, workers=n // THREADS_EACH, threads=THREADS_EACH, shards_each=8)
    if eight.workers > 1:
        yield f"{THREADS_EACH} threads a worker", eight, eight.graph, 1.0
    long = replace(grown, num_envs=8 * grown.num_envs)
    yield "rounds 8 times as long", long, long.graph, 1.0
    yield "parcels in two steps", grown, in_two_steps(grown.graph, n), 2.0


def in_two_steps(shape: Shape, n: int) -> Shape:
    """Let parcels, and parts of the policy, go to one worker of each of sqrt(n) groups first."""
    groups = int(np.ceil(np.sqrt(n)))
    tasks = shape.tasks - n * n + 2 * n * groups
    return Shape(tasks, shape.levels + 2, shape.hops + 8, 4 * n * groups)


def extrapolate(report: Report, model: Model, case: Case) -> None:
    """Add what a round would cost where every thread has a core, every worker a network link.

    The scheduler handles one task after another, each worker its own and what it fetches.
    """
    latency, per_task, per_fetch, per_byte = model.each
    for n in LARGER:
        for name, grown, shape, moved in variants(case, n):
            nbytes, m = moved * grown.received, grown.workers
            parts = {
                "work": model.beside * case.work * grown.batch / case.batch / n,
                "levels": shape.levels * latency + shape.hops * ASSUMED.delay,
                "scheduler": shape.tasks * model.central,
                "tasks and fetches": (shape.tasks * per_task + shape.fetches * per_fetch) / m,
                "bytes": nbytes * (per_byte + 1.0 / ASSUMED.rate),
            }
            for part, value in parts.items():
                report.add(f"{n} cores, {name}: {part}", [1e3 * value], "ms")
            made = grown.batch / sum(parts.values()) / 1e6
            report.add(f"{n} cores, {name}: transitions", [made], "M/s")


@click.command(help=__doc__)
@options
@click.option("--rounds", default=10, show_default=True, help="Of a sample.")
@click.option("--shaped", "networks", is_flag=True, help="Also on networks; Linux, as root.")
@click.option("--tiny", is_flag=True, help="Very small rounds, to try the script out.")
def main(rounds: int, networks: bool, tiny: bool, repeats: int, json_path: str | None) -> None:
    sizes, held_out = TINY if tiny else (FITTED, HELD_OUT)
    report, laboratory = Report("cost_model", rounds=rounds), Laboratory(repeats, rounds)
    for n in PROCESSES:
        laboratory.measure(n, [*sizes, *held_out])
    laboratory.measure(BEYOND, held_out[:1])
    model = laboratory.fit(sizes)
    report_on(report, laboratory.times, held_out, model)
    if networks:
        shaped(report, laboratory, held_out[:1])
    extrapolate(report, model, [case for case in laboratory.times if case.workers == 1][-1])
    report.finish(json_path)


if __name__ == "__main__":
    main()
