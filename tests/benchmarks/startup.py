"""Seconds until dqlearn is there: its import, and its first learning, in fresh processes.

A cold cache is an empty directory for everything that Numba compiles; a warm one was filled by the
process before.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial

import click
from harness import Report, interleave, options, ratios, timed

DEPENDENCIES = (
    "click, cloudpickle, dask.array, distributed, filelock, gymnasium, icechunk, numba, numpy, "
    "psutil, tqdm, xarray, zarr"
)
IMPORT_AT_MOST = 1.2
COLD_AT_MOST, WARM_AT_MOST = 15.0, 2.0

LEARN = """
import time
import dqlearn

def initial(key, params):
    return 0

def events(state, action, params):
    return (0.9,)

def transition(state, action, happened, params):
    state = min(max(state + (1 if action else -1) * happened, 0), 99)
    return state, -1.0, state == 99

began = time.perf_counter()
walk = dqlearn.TabularEnv(100, 2, initial, transition, events, n_events=1)
dqlearn.QLearner(walk, num_envs=64, steps_per_round=16).learn(total_timesteps=10_000)
print(time.perf_counter() - began)
"""


def python(code: str, cache: str | None = None) -> str:
    """Run code in a fresh interpreter; return what it prints."""
    env = dict(os.environ)
    if cache is not None:
        env |= {"DQLEARN_CACHE_DIR": cache, "NUMBA_CACHE_DIR": cache}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout


def importing(modules: str) -> float:
    return timed(partial(python, f"import {modules}"))[0]


class Learning:
    """Learns in fresh processes, first with an empty cache and then with the one that this left."""

    def __init__(self, folder: str) -> None:
        self._folder, self._cache = folder, ""

    def cold(self) -> float:
        self._cache = tempfile.mkdtemp(dir=self._folder)
        return float(python(LEARN, self._cache))

    def warm(self) -> float:
        return float(python(LEARN, self._cache))


@click.command(help="Seconds of import, and of the first learn() with a cold and a warm cache.")
@options
def main(repeats: int, json_path: str | None) -> None:
    report = Report("startup")
    with tempfile.TemporaryDirectory() as folder:
        learning = Learning(folder)
        samples = interleave(
            {
                "import of the dependencies": partial(importing, DEPENDENCIES),
                "import dqlearn": partial(importing, "dqlearn"),
                "first learn, cold cache": learning.cold,
                "first learn, warm cache": learning.warm,
            },
            repeats,
        )
    dependencies, dqlearn, cold, learned = samples.values()
    report.add("import of the dependencies", dependencies, "s")
    report.add("import dqlearn", dqlearn, "s")
    report.add("dqlearn / dependencies", ratios(dqlearn, dependencies), "x", at_most=IMPORT_AT_MOST)
    report.add("first learn, cold cache", cold, "s", at_most=COLD_AT_MOST)
    report.add("first learn, warm cache", learned, "s", at_most=WARM_AT_MOST)
    report.finish(json_path)


if __name__ == "__main__":
    main()
