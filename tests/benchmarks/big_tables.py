"""Tables much larger than a round: what the gather path costs, and how much memory it takes.

::

    states   a round of the same environments on sparse tables of 10^6, 10^7, ... 10^12 states
    laid-out the same on tables with room for all states, as far as there is memory
    visited  10^12 states, of which 10^7 are visited: memory, and bytes on disk
    billion  10^9 pairs, all of whose memory is touched: transitions per second, and memory

The states of ``states`` and ``laid-out`` are a million places far from each other, as many on a
small table as on a large one; the steps of ``visited`` and ``billion`` go anywhere.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import dask
import numpy as np
import psutil
from harness import Report, options, timed

from dqlearn import QLearner, TabularEnv
from dqlearn.random import integers

ACTIONS, FEW_ACTIONS = 8, 4
SPREAD = 0.2  # of the time of a round, over the sizes


def anywhere(key, params):
    return integers(key, 0, params[0])


def at_a_place(key, params):
    return integers(key, 0, params[1]) * (params[0] // params[1])


def near(state, action, key, params):
    """Go to a place nearby, on a ring of them; every 64th pays."""
    n, places = params
    stride = n // places
    place = (state // stride + action + integers(key, 1, ACTIONS) - ACTIONS + places) % places
    return place * stride, 1.0 if place % 64 == 0 else 0.0, False


def far(state, action, key, params):
    """Go anywhere; the reward depends on the action alone."""
    return integers(key, 1, params[0]), float(action) / ACTIONS, False


@dataclass(frozen=True)
class Case:
    """A table, how its environments move, and how many there are."""

    n_states: int
    num_envs: int
    sparse: bool = False
    places: int = 0
    n_actions: int = ACTIONS

    def learner(self) -> QLearner:
        moves = (at_a_place, near) if self.places else (anywhere, far)
        params = self.n_states, self.places
        env = TabularEnv(self.n_states, self.n_actions, *moves, params=params)
        own = {"shards": 2, "gamma": 0.9, "exchange": "gather", "sparse": self.sparse}
        return QLearner(env, num_envs=self.num_envs, **own)


def seconds(here: QLearner, transitions: int) -> float:
    """Learn from so many more."""
    return timed(lambda: here.learn(here.num_timesteps + transitions))[0]


def states(report: Report, case: Case, rounds: int, repeats: int, largest: int) -> None:
    """Time rounds on tables of more and more states."""
    means, made = [], rounds * case.num_envs
    for exponent in range(6, largest + 1):
        here = replace(case, n_states=10**exponent).learner()
        here.learn(max(made, 5 * case.places))
        samples = [1e3 * seconds(here, made) / rounds for _ in range(repeats)]
        report.add(f"10^{exponent} states", samples, "ms a round")
        means.append(float(np.median(samples)))
    target = {"at_most": 1 + SPREAD} if case.sparse else {}
    report.add("slowest / fastest size", [max(means) / min(means)], "x", **target)


def visited(report: Report, case: Case, n_visited: int) -> None:
    """Visit some states of a table that has very many, and store what is known of them."""
    process, here = psutil.Process(), case.learner()
    here.learn(case.num_envs)
    before = process.memory_info().rss
    elapsed, _ = timed(lambda: here.learn(n_visited))
    after = process.memory_info().rss
    known = here.table.n_visited
    report.add("visited states", [known / 1e6], "M")
    report.add("transitions per second, all of new states", [n_visited / elapsed / 1e6], "M/s")
    report.add("memory that the table took", [(after - before) / 2**20], "MiB")
    report.add("memory a visited state", [(after - before) / known], "bytes")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "q.zarr"
        seconds_to_save, _ = timed(lambda: here.save(path))
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    report.add("saved", [size / 2**20], "MiB")
    report.add("time to save it", [seconds_to_save], "s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    report.add("peak memory, with what saving takes", [peak], "GiB")


def billion(report: Report, case: Case, rounds: int, repeats: int) -> None:
    """Touch all memory of a table, then time rounds."""
    here, table = case.learner(), case.n_states * ACTIONS * 8 / 2**30
    elapsed, _ = timed(lambda: here.learn(case.n_states // 8))  # 16 visits to each page of 4 KiB
    report.add("first visits", [elapsed], "s")
    made = rounds * case.num_envs
    rates = [made / seconds(here, made) / 1e6 for _ in range(repeats)]
    report.add("transitions per second", rates, "M/s", at_least=5.0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    report.add("table", [table], "GiB")
    report.add("peak memory", [peak], "GiB", at_most=1.5 * table + 1.0)


@click.command(help=__doc__)
@click.argument("what", type=click.Choice(["states", "laid-out", "visited", "billion"]))
@options
@click.option("--num-envs", default=2**18, show_default=True, help="Transitions of a round.")
@click.option("--rounds", default=20, show_default=True, help="Of a sample.")
@click.option("--largest", type=int, help="Power of ten, of states.")
@click.option("--places", default=1_000_000, show_default=True, help="Of states and laid-out.")
@click.option("--visited", "n_visited", default=10_000_000, show_default=True, help="States.")
@click.option("--states", "n_states", default=125_000_000, show_default=True, help="Of billion.")
def main(
    what: str,
    num_envs: int,
    rounds: int,
    largest: int | None,
    places: int,
    n_visited: int,
    n_states: int,
    repeats: int,
    json_path: str | None,
) -> None:
    report = Report(f"big_tables {what}", num_envs=num_envs, rounds=rounds)
    with dask.config.set(scheduler="threads", num_workers=2):
        if what == "states":
            case = Case(0, num_envs, sparse=True, places=places)
            states(report, case, rounds, repeats, largest or 12)
        elif what == "laid-out":
            states(report, Case(0, num_envs, places=places), rounds, repeats, largest or 8)
        elif what == "visited":
            case = Case(10**12, num_envs, sparse=True, n_actions=FEW_ACTIONS)
            visited(report, case, n_visited)
        else:
            billion(report, Case(n_states, num_envs), rounds, repeats)
    report.finish(json_path)


if __name__ == "__main__":
    main()
