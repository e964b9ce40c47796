"""P2: a client dies by SIGKILL, and a run that is resumed ends with the bits of one in peace.

Clients are killed from outside: at a moment, or as soon as the n-th file of a commit is there, of
the repository's creation as well. After each death every checkpoint there is can be read, none has
gone, and the next client goes on from the last.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import dask
import pytest
from distributed import Client
from killing import FOREVER, Job, Moment, Once, live
from kinds import Ending, Kind, newest, undisturbed

from dqlearn.errors import ClusterLostError

ROUNDS = 20

TAXI = Kind("taxi", restart=True, keep=3)
LAKE = Kind("lake", restart=True)
TORUS = Kind("torus", keep=3)
LAGGED = Kind("torus", policy_lag=1)
WAITING = Kind("short torus, watkins:0.9:16")
ASKING = [
    Kind("asking torus", keep=3),
    Kind("asking lake", restart=True),
    Kind("sparse torus", keep=3),
]

Draw = Callable[[random.Random], Moment]


def at_file(most: int, *folders: str, within: float = 0.01) -> Draw:
    """Draw one of the first so many files that appear there, and some time after it."""
    return lambda draw: Moment(draw.uniform(0.0, within), draw.randrange(1, most + 1), folders)


MOMENTS: dict[str, Draw] = {
    "whenever": lambda draw: Moment(draw.uniform(0.0, 1.5)),
    "creation": at_file(8, "."),
    "chunks": at_file(16, "chunks"),
    "manifests": at_file(40, "manifests", within=0.0),
    "commits": at_file(12, "snapshots", "transactions", "refs", within=0.005),
    "references": at_file(4, "refs", within=0.0),
}


def dies_and_goes_on(job: Job, moment: Draw, kills: int, seed: int, *, alone: bool = True) -> None:
    """Kill so many clients; a run that ends before all of them are dead is followed by another."""
    draw = random.Random(seed)
    for n in count():
        run = Job(job.kind, job.store / str(n), job.rounds, job.on_cluster)
        kills -= lives_in_spite(run, moment, kills, draw, alone=alone)
        if not kills:
            return


def lives_in_spite(job: Job, moment: Draw, kills: int, draw: random.Random, *, alone: bool) -> int:
    """Kill clients of one run until it ends; return how many."""
    killed, number = 0, -1
    while True:
        ending = live(job, moment(draw) if killed < kills else None, alone)
        found = newest(job.store)
        assert found >= number
        number = found
        if ending:
            break
        killed += 1
    assert ending == undisturbed(job.kind, job.rounds * job.kind.round)
    return killed


@pytest.mark.parametrize(
    ("moment", "kind"),
    [pytest.param("creation", LAGGED, marks=pytest.mark.slow), ("commits", TORUS)],
    ids=str,
)
def test_killed_clients_are_followed_by_others(moment: str, kind: Kind, tmp_path: Path) -> None:
    dies_and_goes_on(Job(kind, tmp_path, ROUNDS), MOMENTS[moment], kills=2, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [LAGGED, WAITING, *(pytest.param(kind, marks=pytest.mark.soak) for kind in (LAKE, TORUS))],
    ids=str,
)
@pytest.mark.parametrize("moment", MOMENTS)
def test_many_killed_clients_are_followed_by_others(
    moment: str, kind: Kind, tmp_path: Path
) -> None:
    dies_and_goes_on(Job(kind, tmp_path, ROUNDS), MOMENTS[moment], kills=3, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["whenever", "commits"])
@pytest.mark.parametrize("kind", ASKING, ids=str)
def test_killed_clients_of_shards_that_ask(moment: str, kind: Kind, tmp_path: Path) -> None:
    dies_and_goes_on(Job(kind, tmp_path, ROUNDS), MOMENTS[moment], kills=2, seed=3)


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.parametrize("alone", [False, True], ids=["with its workers", "alone"])
@pytest.mark.parametrize("kind", [TAXI, LAGGED], ids=str)
def test_killed_clients_of_clusters(kind: Kind, alone: bool, tmp_path: Path) -> None:
    def moment(draw: random.Random) -> Moment:
        return Moment(draw.uniform(0.0, 5.0))

    dies_and_goes_on(Job(kind, tmp_path, ROUNDS, True), moment, kills=2, seed=2, alone=alone)


# A client that lives on, without its cluster


@contextmanager
def own_cluster(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Have a scheduler and a worker, and a client of them; yield the scheduler's process."""
    file = str(folder / "scheduler.json")
    commands = {
        "dask_scheduler": ("--port", "0", "--dashboard-address", ":0"),
        "dask_worker": ("--no-nanny", "--nthreads", "1", "--no-dashboard"),
    }
    # A client that loses its scheduler leaves itself behind as Dask's default.
    settings = {"scheduler": None, "distributed.comm.timeouts.connect": "3s"}
    with ExitStack() as stack:
        processes = []
        for name, options in commands.items():
            command = [sys.executable, "-m", f"distributed.cli.{name}", "--scheduler-file", file]
            process = subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL)
            processes.append(stack.enter_context(process))
            stack.callback(process.kill)
        stack.enter_context(dask.config.set(settings))
        client = stack.enter_context(Client(scheduler_file=file))
        client.wait_for_workers(1, timeout=60)
        yield processes[0]


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("kind", [LAKE, LAGGED], ids=str)
def test_the_scheduler_dies(kind: Kind, tmp_path: Path) -> None:
    """The run says so, and another process goes on from its last checkpoint."""
    store, rounds = tmp_path / "run", 14
    with own_cluster(tmp_path) as scheduler:
        learner = kind.learner()
        with pytest.raises(ClusterLostError, match=r"scheduler .*gone: connect a new Client"):
            learner.learn(FOREVER * kind.round, **kind.saving(store, Once(scheduler.kill, 9)))
    assert newest(store) >= 1
    assert live(Job(kind, store, rounds)) == undisturbed(kind, rounds * kind.round)


@pytest.mark.cluster
@pytest.mark.slow
def test_the_scheduler_dies_and_the_learner_goes_on(tmp_path: Path) -> None:
    """On threads, from the last checkpoint, in the same process."""
    kind, rounds = TORUS, 14
    saving = kind.saving(tmp_path / "run")
    with own_cluster(tmp_path) as scheduler:
        learner, once = kind.learner(), Once(scheduler.kill, 9)
        with pytest.raises(ClusterLostError):
            learner.learn(FOREVER * kind.round, **saving | {"callback": once})
    with pytest.warns(UserWarning, match=r"gone with rounds .*: going back to round [48]"):
        learner.learn(rounds * kind.round, **saving)
    assert Ending.of(learner) == undisturbed(kind, rounds * kind.round)
