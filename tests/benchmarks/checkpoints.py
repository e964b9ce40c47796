"""What a checkpoint costs: its throughput, what it takes from learning, and what it leaves out.

throughput
    A whole table, q and visits, on two worker processes: a first checkpoint and, in turn,
    ``dask.array.to_zarr`` of the same two arrays.
learning
    The same rounds with one checkpoint among them and without; the difference is what one costs.
second commit
    After rounds in which all environments stay in one of many chunks.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import click
import dask
import dask.array as da
from harness import Report, interleave, options, ratios, timed
from problems import OnDask, cluster_option, two_workers

from dqlearn import Every, TabularEnv, load
from dqlearn.random import integers

ACTIONS = 256
CHUNKS = 128


def initial(key, params):
    return integers(key, 0, params[0])


def transition(state, action, key, params):
    """Go anywhere, for a reward that no other pair has: what is learned does not compress."""
    reward = (state * 0.6180339887 + action * 0.7548776662) % 1.0
    return integers(key, 1, params[0]), reward, False


def problem(n_states: int, among: int) -> TabularEnv:
    """Make a model with many actions, that is, a large table and a small policy.

    Its environments are among the first states only.
    """
    return TabularEnv(n_states, ACTIONS, initial, transition, params=(among,))


def learner(env: TabularEnv, scheduler: dict[str, Any], num_envs: int, chunks: int) -> OnDask:
    rows = -(-env.n_states // chunks)
    settings = {"num_envs": num_envs, "steps_per_round": 1, "shards": 2, "chunks": (rows, -1)}
    return OnDask(env, scheduler, exchange="broadcast", **settings)


class Throughput:
    """Writes a table to new places, time after time."""

    def __init__(self, it: OnDask, folder: Path, megabytes: float) -> None:
        self.it, self.folder, self.megabytes, self.n = it, folder, megabytes, 0

    def place(self) -> str:
        self.n += 1
        return str(self.folder / f"{self.n}")

    def checkpoint(self) -> float:
        """MB/s of a first checkpoint; nothing is learned meanwhile."""
        place, learner = self.place(), self.it.learner
        with dask.config.set(self.it.scheduler):
            elapsed, _ = timed(lambda: learner.learn(learner.num_timesteps, store=place))
        return self._rate(elapsed, place)

    def to_zarr(self) -> float:
        """MB/s of Dask's own way."""
        place = self.place()
        with dask.config.set(self.it.scheduler):
            table = self.it.learner.table
            both = [
                da.to_zarr(array, f"{place}/{name}", compute=False)
                for name, array in (("q", table.q), ("visits", table.visits))
            ]
            elapsed, _ = timed(lambda: dask.compute(*both))
        return self._rate(elapsed, place)

    def _rate(self, elapsed: float, place: str) -> float:
        shutil.rmtree(place)
        return self.megabytes / elapsed


class Learning:
    """Makes the same number of rounds, with a checkpoint among them or without."""

    def __init__(self, it: OnDask, folder: Path, rounds: int, round_: int) -> None:
        self.it, self.round, self.transitions = it, round_, rounds * round_
        self.place, self.middle = str(folder / "learning"), rounds // 2

    def seconds(self, every: Every) -> float:
        self.it.learn_options = {"store": self.place, "checkpoint_every": every}
        return timed(lambda: self.it.advance(self.transitions))[0]

    def without(self) -> float:
        """Only the checkpoint that ends every call."""
        return self.seconds(Every(seconds=1e9))

    def with_one(self) -> float:
        """One more, in the middle."""
        done = self.it.learner.num_timesteps // self.round
        return self.seconds(Every(rounds=done + self.middle))


def tree_bytes(place: str) -> int:
    return sum(file.stat().st_size for file in Path(place).rglob("*") if file.is_file())


def second_commit(it: OnDask, folder: Path, n_states: int) -> float:
    """Bytes of a checkpoint that one chunk changed for, over those of the whole table."""
    table, place, part = str(folder / "table"), str(folder / "second"), n_states // CHUNKS
    with dask.config.set(it.scheduler):
        it.learner.save(table)
        here = load(table, env=problem(n_states, part), num_envs=256, chunks=(part, -1))
        here.learn(here.num_timesteps, store=place)
        first = tree_bytes(place)
        here.learn(here.num_timesteps + 1)
    return (tree_bytes(place) - first) / first


@click.command(help="Throughput of a checkpoint, and its price for learning.")
@options
@cluster_option
@click.option("--states", default=2**20, show_default=True, help="256 actions each, 8 bytes.")
@click.option("--chunks", default=32, show_default=True, help="Of the table.")
@click.option("--num-envs", default=2**22, show_default=True, help="Transitions of a round.")
@click.option("--rounds", default=20, show_default=True, help="Of a sample of learning.")
def main(
    cluster: str | None,
    states: int,
    chunks: int,
    num_envs: int,
    rounds: int,
    repeats: int,
    json_path: str | None,
) -> None:
    size = states * ACTIONS * 8 / 2**20
    report = Report("checkpoints", table_mib=size, chunks=chunks, num_envs=num_envs, rounds=rounds)
    with two_workers(cluster) as scheduler, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        it = learner(problem(states, states), scheduler, num_envs, chunks)
        it.advance(4 * num_envs)
        throughput = Throughput(it, folder, states * ACTIONS * 8 / 1e6)
        cases = {"checkpoint": throughput.checkpoint, "to_zarr": throughput.to_zarr}
        rates = interleave(cases, repeats)
        for case, samples in rates.items():
            report.add(f"throughput, {case}", samples, "MB/s")
        both = ratios(rates["checkpoint"], rates["to_zarr"])
        report.add("checkpoint / to_zarr", both, "x", at_least=0.8)
        learning = Learning(it, folder, rounds, num_envs)
        learning.without()
        spent = interleave({"without": learning.without, "with": learning.with_one}, repeats)
        report.add("rounds without a checkpoint", spent["without"], "s")
        cost = [b - a for a, b in zip(spent["without"], spent["with"], strict=True)]
        report.add("one checkpoint among them", cost, "s more")
        report.add(
            "slowed by one a minute", [100 * seconds / 60 for seconds in cost], "%", at_most=10
        )
        commit = second_commit(it, folder, states)
        report.add("second commit, 1 of 128 chunks touched", [100 * commit], "%", at_most=3)
    report.finish(json_path)


if __name__ == "__main__":
    main()
