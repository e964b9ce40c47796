"""What all benchmarks share: interleaved samples, medians of paired ratios, one small report.

::

    repeat 1   A B C       What else the machine does falls on all cases of a repeat alike,
    repeat 2   A B C       and cancels in the ratios A/B of each repeat.
    ...

A sample is a number in the unit of its figure. Invariant: warming up (compilation, caches, imports
on workers) is done before the first sample.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import click
import psutil

PACKAGES = ("dqlearn", "dask", "distributed", "numba", "numpy", "gymnasium")


json_option = click.option("--json", "json_path", type=click.Path(), help="Write samples there.")


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of benchmarks that take several samples."""
    repeats = click.option("--repeats", default=5, show_default=True, help="Samples of each case.")
    return repeats(json_option(command))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Make a call; return the seconds that it took, and its result."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def rate(work: Callable[[], int]) -> float:
    """Things that a call makes in a second; it returns how many it made."""
    elapsed, made = timed(work)
    return made / elapsed


def interleave(cases: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Take one sample of each case in turn, `repeats` times."""
    samples: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, case in cases.items():
            samples[name].append(case())
    return samples


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Divide samples of the same repeats."""
    return [a / b for a, b in zip(over, under, strict=True)]


@dataclass
class Figure:
    """One row of a report; its target, if it has one, is for the median."""

    name: str
    samples: list[float]
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def median(self) -> float:
        return median(self.samples)

    @property
    def target(self) -> str:
        if self.at_least is not None:
            return f">= {self.at_least:g} {'met' if self.median >= self.at_least else 'missed'}"
        if self.at_most is not None:
            return f"<= {self.at_most:g} {'met' if self.median <= self.at_most else 'missed'}"
        return ""

    @property
    def cells(self) -> tuple[str, ...]:
        spread = f"{min(self.samples):.3g} .. {max(self.samples):.3g}"
        return self.name, f"{self.median:.4g}", self.unit, spread, self.target


class Report:
    """Figures of one benchmark, with the machine they are of."""

    def __init__(self, benchmark: str, **parameters: Any) -> None:
        self.benchmark, self.parameters = benchmark, parameters
        self.machine = machine()
        self.figures: list[Figure] = []

    def add(self, name: str, samples: Sequence[float], unit: str, **target: float) -> None:
        """Add a figure; `target` is ``at_least=`` or ``at_most=``."""
        self.figures.append(Figure(name, list(samples), unit, **target))

    def finish(self, json_path: str | None) -> None:
        """Print the table, and write everything as JSON."""
        click.echo(f"{self.benchmark}: {_listed(self.parameters)}")
        click.echo(_listed(self.machine) + "\n")
        header = ("figure", "median", "unit", "range", "target")
        rows = [header, *(figure.cells for figure in self.figures)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            aligned = zip(row, widths, ("<", ">", "<", "<", "<"), strict=True)
            click.echo("  ".join(f"{cell:{side}{width}}" for cell, width, side in aligned).rstrip())
        if json_path is not None:
            figures = [asdict(figure) | {"median": figure.median} for figure in self.figures]
            whole = vars(self) | {"figures": figures}
            Path(json_path).write_text(json.dumps(whole, indent=1, default=str) + "\n")


def machine() -> dict[str, Any]:
    """Facts that figures depend on; `load` is that of the minute before the benchmark."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load": round(psutil.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _listed(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())
