"""What the laws are tried on: runs, chunk grids, places to run; and the hash they compare by."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import dask
import gymnasium
import numpy as np
import reference
from distributed import Client, LocalCluster
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from reference import Settings

from dqlearn import QLearner, TabularEnv
from dqlearn.envs.problems.torus import torus
from dqlearn.schedules import Linear, VisitCount
from dqlearn.table.views.sparse import SparseTable


@dataclass(frozen=True)
class Run:
    """An environment, the settings to learn it with, and for how long."""

    make: Callable[[], TabularEnv | str | Callable[..., SyncVectorEnv]]
    settings: Settings
    timesteps: int
    n_states: int
    n_actions: int
    exchange: str = "broadcast"
    sparse: int = 0

    def learner(self, **changes: Any) -> QLearner:
        # The reference knows no masks but those of test_masks.py.
        own = {"exchange": self.exchange, "compile": False, "action_masks": False}
        if self.sparse:
            own |= {"sparse": True, "sparse_block": self.sparse}
        return QLearner(self.make(), **(vars(self.settings) | own | changes))

    @property
    def grids(self) -> dict[str, Callable[[int, int], Any]]:
        """What to try as its chunks; a sum over actions has them together."""
        if self.sparse:
            return SHARES
        whole = self.settings.algorithm == "expected_sarsa"
        return {name: GRIDS[name] for name in (("auto", "states") if whole else GRIDS)}

    def chunks(self, grid: str) -> Any:
        """Return the chunks of a grid."""
        return self.grids[grid](self.n_states, self.n_actions)


def lakes(
    mode: AutoresetMode = AutoresetMode.NEXT_STEP, **settings: Any
) -> Callable[..., SyncVectorEnv]:
    """Return what makes lakes that reset in the step after an end, or in another mode."""

    def make(num_envs: int) -> SyncVectorEnv:
        each = partial(gymnasium.make, "FrozenLake8x8-v1", **settings)
        return SyncVectorEnv([each] * num_envs, autoreset_mode=mode)

    return make


# Between them: both kinds of environment, dtypes and lags, several shards and blocks, all sorts of
# learning rate, truncated and terminated episodes.
RUNS = {
    "taxi": Run(
        lambda: "Taxi-v4",
        Settings(12, 50, 2, learning_rate=VisitCount(0.8), epsilon=Linear(1.0, 0.1, 2_000)),
        4_000,
        500,
        6,
    ),
    "lake": Run(
        lambda: "FrozenLake8x8-v1",
        Settings(80, 10, policy_lag=1, dtype="float64", learning_rate=Linear(0.5, 0.1, 3_000)),
        4_000,
        64,
        4,
    ),
    "torus": Run(
        lambda: torus(side=320, max_episode_steps=50),
        Settings(320, 32, 3, learning_rate=0.5, epsilon=Linear(1.0, 0.1, 20_000), seed=2**64 - 1),
        50_000,
        320 * 320,
        4,
    ),
}
# On the gather path, of one step a round.
ASKING = {
    "asking torus": Run(
        lambda: torus(side=40, max_episode_steps=7),
        Settings(600, 1, 3, policy_lag=1, learning_rate=0.5, epsilon=Linear(1.0, 0.1, 5_000)),
        3_600,
        40 * 40,
        4,
        "gather",
    ),
    "asking lake": Run(
        lakes,
        Settings(
            80,
            1,
            2,
            learning_rate=VisitCount(0.8),
            initial_value=0.7,
            policy_lag=1,
            dtype="float64",
            seed=5,
        ),
        1_500,
        64,
        4,
        "gather",
    ),
}
# The same with room for visited states only, which stand alone, or in blocks of some.
SPARSE = {
    name.replace("asking", "sparse"): replace(run, sparse=block)
    for (name, run), block in zip(ASKING.items(), (4, 1), strict=True)
}
# By other rules, on all ways that there are; two that split the actions, and one that cannot.
RULES = {
    f"{name}, {algorithm}": replace(run, settings=replace(run.settings, algorithm=algorithm))
    for name, run in (RUNS | ASKING | SPARSE).items()
    for algorithm in ("double_q", "expected_sarsa")
    if (name, algorithm) not in {("torus", "expected_sarsa"), ("lake", "expected_sarsa")}
}
# By rules that look several steps ahead, in windows shorter than a round, and longer.
_SHORT = Run(
    lambda: torus(side=12, max_episode_steps=7),
    Settings(150, 2, 2, learning_rate=0.5, epsilon=Linear(1.0, 0.1, 2_000)),
    4_000,
    144,
    4,
)
_LAKES = replace(ASKING["asking lake"], exchange="broadcast")
_LATER, _AT_ONCE, _BY_MASK = (
    replace(_LAKES, make=partial(lakes, mode, max_episode_steps=10))
    for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED)
)
WINDOWS = {
    f"{name}, {algorithm}": replace(run, settings=replace(run.settings, algorithm=algorithm))
    for name, run, algorithm in (
        ("taxi", RUNS["taxi"], "watkins:0.9:4"),
        ("lake", RUNS["lake"], "n_step:3"),
        ("torus", RUNS["torus"], "peng:0.8:5"),
        ("short torus", _SHORT, "watkins:0.9:16"),
        ("lake that resets later", _LATER, "tree_backup:3"),
        ("lake that resets at once", _AT_ONCE, "peng:0.5:3"),
        ("lake that is reset", _BY_MASK, "n_step:4"),
    )
}
RULES |= WINDOWS
ALL_RUNS = RUNS | ASKING | SPARSE | RULES


def uneven(n_states: int, n_actions: int) -> Any:
    rows = (n_states // 7, n_states // 2, 1)
    return (*rows, n_states - sum(rows)), (1, n_actions - 1)


GRIDS: dict[str, Callable[[int, int], Any]] = {
    "auto": lambda n_states, n_actions: "auto",
    "whole": lambda n_states, n_actions: -1,
    "states": lambda n_states, n_actions: (-(-n_states // 3), -1),
    "actions": lambda n_states, n_actions: (-1, 1),
    "both": lambda n_states, n_actions: (-(-n_states // 4), 2),
    "uneven": uneven,
    "many": lambda n_states, n_actions: (-(-n_states // 13), 3),
}


SHARES: dict[str, Callable[[int, int], Any]] = {
    "auto": lambda n_states, n_actions: "auto",
    "one": lambda n_states, n_actions: 1,
    "three": lambda n_states, n_actions: 3,
    "thirteen": lambda n_states, n_actions: 13,
}


class Place(NamedTuple):
    """Where to run: a scheduler of this process, or that many worker processes."""

    scheduler: str
    threads: int
    workers: int = 0
    fuse: bool = True

    def __str__(self) -> str:
        fused = "" if self.fuse else "-single"
        return f"{self.scheduler}-{self.workers or ''}x{self.threads}{fused}"


PLACES = [
    Place("synchronous", 1),
    *(Place("threads", threads) for threads in (1, 2, 4)),
    Place("threads", 2, fuse=False),
    *(
        Place("distributed", threads, workers, fuse=False)
        for workers, threads in ((1, 4), (2, 2), (3, 1))
    ),
    Place("distributed", 2, 2),
]


@contextmanager
def dask_at(place: Place) -> Iterator[None]:
    """Make a place the one where Dask runs."""
    if not place.workers:
        here = {"scheduler": place.scheduler, "num_workers": place.threads}
        with dask.config.set({**here, "dqlearn.fuse": place.fuse}):
            yield
        return
    with (
        dask.config.set({"dqlearn.fuse": place.fuse}),
        LocalCluster(
            n_workers=place.workers, threads_per_worker=place.threads, dashboard_address=":0"
        ) as cluster,
        Client(cluster),
    ):
        yield


def read_beside(learner: QLearner, timesteps: int, look: Callable[[Any], Any]) -> dict[int, Any]:
    """Learn, and use the learner in another thread; return its looks at tables, by their rounds."""
    seen, over = {}, threading.Event()

    def read() -> None:
        while not over.is_set():
            table = learner.table
            seen[table.round] = look(table)
            learner.predict(0)
            learner.evaluate(1, max_steps=1)

    reader = threading.Thread(target=read)
    reader.start()
    learner.learn(timesteps)
    over.set()
    reader.join()
    return seen


class Bits(NamedTuple):
    """SHA-256 of the C-ordered arrays."""

    q: str
    visits: str

    @classmethod
    def of(cls, *arrays: np.ndarray[Any, Any]) -> Bits:
        return cls(*(hashlib.sha256(np.ascontiguousarray(array)).hexdigest() for array in arrays))


def bits(learner: QLearner) -> Bits:
    """Hash what was learned; of a sparse table, with the states that it has no room for."""
    table = learner.table
    q, visits = dask.compute(table.q, table.visits)
    if isinstance(table, SparseTable):
        shape = table.grid.shape[0], *q.shape[1:]
        whole = np.full(shape, learner._plan.initial_value, q.dtype)
        counts = np.zeros(shape, visits.dtype)
        whole[table.states], counts[table.states] = q, visits
        q, visits = whole, counts
    return Bits.of(q, visits)


@functools.cache
def reference_bits(name: str) -> Bits:
    """Hash what the reference learns in a run."""
    run = ALL_RUNS[name]
    return Bits.of(*reference.learn(run.make(), run.timesteps, run.settings))


def undisturbed(run: Run, **changes: Any) -> Bits:
    """Hash what is learned by the simplest scheduler."""
    with dask_at(PLACES[0]):
        return bits(run.learner(**changes).learn(run.timesteps))
