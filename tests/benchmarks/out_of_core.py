"""Tables that do not fit into memory: what it costs to have them on disk.

::

    threads  the same table in memory and out of core; out of core alone, if it has more bytes than
             there are of memory
    workers  the same, on two worker processes that have plenty of memory, or --memory-limit each

There are walks of two kinds: steps of one stay near, those of the other go anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import click
import dask
import psutil
from distributed import Client, LocalCluster
from harness import Report, interleave, options, ratios, timed

from dqlearn import QLearner, TabularEnv
from dqlearn.random import integers

ACTIONS = 8


def anywhere(key, params):
    return integers(key, 0, params[0])


def near(state, action, key, params):
    """Go some steps along a ring; every 64th place pays."""
    n = params[0]
    there = (state + action + integers(key, 1, ACTIONS) - ACTIONS + n) % n
    return there, 1.0 if there % 64 == 0 else 0.0, False


def far(state, action, key, params):
    """Go anywhere; the reward depends on the action alone."""
    return integers(key, 1, params[0]), float(action) / ACTIONS, False


def learner(transition: Any, n_states: int, num_envs: int) -> QLearner:
    env = TabularEnv(n_states, ACTIONS, anywhere, transition, params=(n_states,))
    return QLearner(env, num_envs=num_envs, shards=2, gamma=0.9, exchange="gather")


def seconds(here: QLearner, transitions: int) -> float:
    """Learn from so many more."""
    return timed(lambda: here.learn(here.num_timesteps + transitions))[0]


OUT_OF_CORE = {"dqlearn.memory-limit": "1 B"}


def compare(report: Report, cases: dict[str, Callable[[], float]], repeats: int, walk: str) -> None:
    """Report transitions per second of a walk, and how much slower the second case is."""
    samples = interleave(cases, repeats)
    for name, rates in samples.items():
        report.add(f"{walk}: {name}", rates, "M/s")
    if len(samples) > 1:
        report.add(f"{walk}: ratio", ratios(*reversed(samples.values())), "x")


def threads(report: Report, num_envs: int, rounds: int, repeats: int, n_states: int) -> None:
    """Time rounds in memory and out of core, on threads, once all of the table was touched."""
    made = rounds * num_envs
    fits = 2 * n_states * ACTIONS * 8 < psutil.virtual_memory().available
    in_memory: dict[str, Any] = {"in memory": {}} if fits else {}
    for walk in (near, far):
        cases = {}
        for name, config in {**in_memory, "out of core": OUT_OF_CORE}.items():
            with dask.config.set(config):
                here = learner(walk, n_states, num_envs)
                here.learn(max(made, n_states // 8))
            cases[name] = lambda here=here: made / seconds(here, made) / 1e6
        compare(report, cases, repeats, walk.__name__)


@contextmanager
def two_workers(memory_limit: str | int) -> Iterator[Client]:
    """Start two worker processes; they are not Dask's default scheduler."""
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with (
        LocalCluster(memory_limit=memory_limit, **options) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def workers(
    report: Report, num_envs: int, rounds: int, repeats: int, n_states: int, limit: str
) -> None:
    """Time rounds in workers' memory and out of core."""
    report.add("table", [n_states * ACTIONS * 8 / 2**30], "GiB")
    with two_workers(0) as plenty, two_workers(limit) as few:
        for walk in (near, far):
            cases = {}
            for name, client in {"in memory": plenty, "out of core": few}.items():
                with client.as_current():
                    here = learner(walk, n_states, num_envs)
                    here.learn(rounds * num_envs)
                cases[name] = partial(on, client, here, num_envs, rounds)
            compare(report, cases, repeats, walk.__name__)


def on(client: Client, here: QLearner, num_envs: int, rounds: int) -> float:
    """Learn for some rounds; return transitions per second, without what a call does at its ends.

    After the first round nobody holds a copy of the table any more; the last is copied to here.
    """
    with client.as_current():
        here.learn(here.num_timesteps + rounds * num_envs)
    passed = here.history["wall_time"].values[-rounds:]
    return num_envs * (rounds - 2) / (passed[-1] - passed[1]) / 1e6


@click.command(help=__doc__)
@click.argument("what", type=click.Choice(["threads", "workers"]))
@options
@click.option("--num-envs", default=2**18, show_default=True, help="Transitions of a round.")
@click.option("--rounds", default=20, show_default=True, help="Of a sample.")
@click.option(
    "--states", "n_states", default=125_000_000, show_default=True, help="8 actions each."
)
@click.option("--memory-limit", default="1 GiB", show_default=True, help="Of each of the workers.")
def main(
    what: str,
    num_envs: int,
    rounds: int,
    n_states: int,
    memory_limit: str,
    repeats: int,
    json_path: str | None,
) -> None:
    report = Report(f"out_of_core {what}", num_envs=num_envs, rounds=rounds)
    if what == "workers":
        workers(report, num_envs, rounds, repeats, n_states, memory_limit)
    else:
        with dask.config.set(scheduler="threads", num_workers=2):
            threads(report, num_envs, rounds, repeats, n_states)
    report.finish(json_path)


if __name__ == "__main__":
    main()
