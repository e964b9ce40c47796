"""Certificates of tables on disk, and exact values near gamma = 1.

::

    sweep   a table of random values, in chunks on disk, is certified: time, rate, peak of memory
    solve   value iteration and modified policy iteration, to the same bound of the error

The model of `sweep` is arithmetic alone, so that what is read is the table. Samples of `solve` are
taken once each: value iteration takes a minute.
"""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Callable
from pathlib import Path

import click
import dask
import dask.array as da
import zarr
from harness import Report, interleave, options, ratios, timed
from hashed import hashed

from dqlearn import TabularEnv, certify, exact
from dqlearn.envs import TrafficGrid, garnet

ACTIONS, GAMMA = 8, 0.99
METHODS = ("values", "policies")


def random_table(folder: Path, n_states: int, rows: int) -> da.Array:
    """Write random float32 values, and return them lazily."""
    chunks = min(rows, n_states), ACTIONS
    values = da.random.default_rng(0).random((n_states, ACTIONS), chunks=chunks, dtype="float32")
    array = zarr.create_array(folder, shape=values.shape, chunks=chunks, dtype="float32")
    da.store(values, array, lock=False)
    return da.from_zarr(array)


def peak() -> float:
    """Return the largest memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def sweep(report: Report, n_states: int, rows: int, repeats: int) -> None:
    """Certify a table on disk."""
    model, pairs = hashed(n_states), n_states * ACTIONS
    certify(da.zeros((1000, ACTIONS), dtype="float32"), hashed(1000), GAMMA)  # compiles
    with tempfile.TemporaryDirectory(dir=".") as folder:
        q = random_table(Path(folder), n_states, rows)
        before = peak()
        seconds = [timed(lambda: certify(q, model, GAMMA))[0] for _ in range(repeats)]
        report.add("peak of memory above that before", [peak() - before], "GiB")
    report.add("table", [4 * pairs / 2**30], "GiB")
    report.add("certificate", seconds, "s")
    report.add("pairs", [pairs / it / 1e6 for it in seconds], "M/s")


def solve(report: Report, gamma: float, repeats: int) -> None:
    """Solve problems without ends by both methods."""
    for name, model in {"garnet": garnet(1000, 4, seed=0), "traffic": TrafficGrid.make()}.items():
        cases = {method: solver(model, gamma, method) for method in METHODS}
        for method in METHODS:
            exact.solve(model, 0.5, 1e-2, method=method)  # compiles
        samples = interleave(cases, repeats)
        for method, seconds in samples.items():
            report.add(f"{name}: {method}", seconds, "s")
        report.add(f"{name}: values / policies", ratios(*samples.values()), "x")


def solver(model: TabularEnv, gamma: float, method: str) -> Callable[[], float]:
    """Return what times one solution."""

    def seconds() -> float:
        solved = timed(
            lambda: exact.solve(model, gamma, 1e-6, max_iterations=1_000_000, method=method)
        )
        return solved[0]

    return seconds


@click.command(help=__doc__)
@click.argument("what", type=click.Choice(["sweep", "solve"]))
@options
@click.option("--states", "n_states", default=12_500_000, show_default=True, help="Of 8 actions.")
@click.option("--rows", default=2**18, show_default=True, help="States of a chunk.")
@click.option("--gamma", default=0.9999, show_default=True, help="Discount factor of `solve`.")
def main(
    what: str, n_states: int, rows: int, gamma: float, repeats: int, json_path: str | None
) -> None:
    report = Report(f"certificates {what}", states=n_states, rows=rows, gamma=gamma)
    with dask.config.set(scheduler="threads", num_workers=2):
        if what == "sweep":
            sweep(report, n_states, rows, repeats)
        else:
            solve(report, gamma, repeats)
    report.finish(json_path)


if __name__ == "__main__":
    main()
