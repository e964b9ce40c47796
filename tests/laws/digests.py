"""Small seeded runs and the digests of what they learn: what a change of the code is held against.

::

    CASES ──► learn ──► SHA-256 of q, of visits ──► digests.json     python tests/laws/digests.py
    STORED ─► half of that ─► save, store= ──► tests/data/*.zip                 --write, --stores

`test_digests.py` makes the runs again and compares. The other laws of this folder compare two runs
of the same code; a digest also shows what changes both of them alike.

What a digest promises. dqlearn adds, subtracts, multiplies, divides and compares IEEE 754 numbers
in a fixed order, which Numba keeps, without fused operations. A digest is therefore the same on
every x86-64 machine and with every version of Numba. It rests on some things besides, which are
rounded or defined elsewhere:

- `VisitCount` with an `omega` other than 1, and `Exponential`, call the C library's ``pow``, whose
  last bit may differ. The cases that use them round the result to a float32, or to the 32 bits of
  an exploration threshold, which hides that bit but for one number in millions.
- `PowerGrid` finds its line flows by NumPy's linear algebra, and `NetworkDefence` its probabilities
  by NumPy's ``power``. The first is learned in float32 for the same reason; those of the second
  are only compared with random numbers of 53 bits.
- `garnet` and Gymnasium's own environments draw from `numpy.random.Generator`, whose streams a new
  version of NumPy may change; a new version of Gymnasium may change its environments.

No case has an environment whose steps take a sine or a logarithm, as those of CartPole do. All
digests are equal with NumPy 2.2 and 2.4, Numba 0.63 and 0.68, and Gymnasium 1.3 and 1.4, and also
when Numba, OpenBLAS and the C library use neither AVX nor fused operations. The file names what
made it.

Invariant: a case uses public names of dqlearn alone, and says its number of shards, whose default
depends on the machine.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import gymnasium
import xarray as xr
from skewed import anywhere, skewed

import dqlearn
from dqlearn import Every, QLearner, TabularEnv
from dqlearn.schedules import Exponential, Linear, Piecewise, VisitCount

FILE = Path(__file__).with_name("digests.json")
DATA = Path(__file__).parents[1] / "data"

Digests = dict[str, str]


@dataclass(frozen=True)
class Case:
    """A seeded run.

    Attributes
    ----------
    env : str, TabularEnv or callable
        The environment, as `QLearner` takes it.
    settings : mapping
        Arguments of `QLearner`.
    timesteps : int
        Transitions after which the run ends.
    reloaded : int
        Transitions after which the table is saved, and a learner that is made of it goes on; 0 for
        never.
    """

    env: str | TabularEnv | Callable[..., Any]
    settings: Mapping[str, Any]
    timesteps: int
    reloaded: int = 0

    def learner(self) -> QLearner:
        """Make the learner."""
        return QLearner(self.env, **self.settings)

    def digests(self) -> Digests:
        """Make the run, and hash what it learned."""
        if not self.reloaded:
            return digests_of(self.learner().learn(self.timesteps))
        with tempfile.TemporaryDirectory() as folder:
            self.learner().learn(self.reloaded).save(f"{folder}/q.zarr")
            return digests_of(dqlearn.load(f"{folder}/q.zarr").learn(self.timesteps))


# The settings. Nothing else in this module, or in its test, names one.

COMPILED = {"num_envs": 128, "shards": 2, "steps_per_round": 8, "gamma": 0.95, "seed": 7}
ROUND = 128 * 8
PYTHON = COMPILED | {"num_envs": 16, "compile": False, "initial_value": 0.7, "seed": 2**64 - 1}
BROADCAST = {"num_envs": 600, "shards": 3, "exchange": "broadcast", "steps_per_round": 1}
GATHER = BROADCAST | {"exchange": "gather"}
SPARSE = GATHER | {"sparse": True, "chunks": 3}
BLOCKS = GATHER | {"sparse": True, "sparse_block": 4, "chunks": 3}
LAG = {"policy_lag": 1}
FLOAT64 = {"dtype": "float64"}
STATES, ACTIONS, BOTH = ({"chunks": chunks} for chunks in ((100, -1), (-1, 1), (200, 2)))
SIDE_16 = {"env_kwargs": {"side": 16, "max_episode_steps": 40}}
SIDE_40 = {"env_kwargs": {"side": 40, "max_episode_steps": 7}}


def network(name: str, max_episode_steps: int, **settings: Any) -> Case:
    """Return a case of a network environment of the smallest size.

    All settings that its recipe advises are given.
    """
    advised = {"learning_rate": 0.2, "epsilon": 0.3, "initial_value": 0.0}
    kwargs = {"size": "small", "max_episode_steps": max_episode_steps}
    own = COMPILED | advised | {"env_kwargs": kwargs} | settings
    return Case(f"dqlearn/{name}-v0", own, 5 * ROUND)


def torus(*parts: Mapping[str, Any], rounds: int = 10, **settings: Any) -> Case:
    """Return a case of the torus; later parts of its settings replace earlier ones."""
    own = {name: value for part in (COMPILED, *parts, settings) for name, value in part.items()}
    return Case("dqlearn/Torus-v0", own, rounds * own["num_envs"] * own["steps_per_round"])


# Of these, tests/data has the table and the run after half of the transitions.
STORED = {
    "dense": torus(SIDE_16, LAG, STATES, epsilon=Linear(1.0, 0.1, 8 * ROUND), rounds=12),
    "sparse": torus(
        SIDE_16,
        BLOCKS,
        num_envs=150,
        learning_rate=VisitCount(offset=5, scale=3),
        initial_value=0.7,
        rounds=12,
    ),
}
CASES = {
    "traffic": network("TrafficGrid", 10, learning_rate=VisitCount(), **LAG),
    "production": network("ProductionLine", 10, learning_rate=Linear(0.5, 0.1, 3 * ROUND)),
    "defence": network("NetworkDefence", 10, epsilon=Linear(1.0, 0.1, 4 * ROUND)),
    "power": network("PowerGrid", 8, chunks=(5_000, 2)),
    "packet dispatch": network("PacketDispatch", 30, initial_value=0.5),
    "packet routing": network(
        "PacketRouting", 10, epsilon=Exponential(1.0, 0.1, 4 * ROUND), initial_value=-3.3
    ),
    "garnet": Case(
        "dqlearn/Garnet-v0",
        COMPILED | {"env_kwargs": {"n_states": 500, "n_actions": 3, "max_episode_steps": 7}},
        5 * ROUND,
    ),
    "a model in key form": Case(
        TabularEnv(1_000, 4, anywhere, skewed, params=(1_000,)), COMPILED, 5 * ROUND
    ),
    "torus": torus(SIDE_16, STATES),
    "torus, float64": torus(
        SIDE_16,
        FLOAT64,
        BOTH,
        epsilon=Piecewise(((0, 1.0), (4 * ROUND, 0.5), (9 * ROUND, 0.0))),
    ),
    "torus, chunks of actions": torus(SIDE_16, LAG, ACTIONS, learning_rate=VisitCount(0.8)),
    "torus, broadcast": torus(SIDE_40, BROADCAST, LAG),
    "torus, gather": torus(SIDE_40, GATHER),
    "torus, sparse": torus(SIDE_40, SPARSE),
    "torus of 2**40 states": torus({"env_kwargs": {"side": 2**20}}, SPARSE, initial_value=0.7),
    "lake": Case("FrozenLake8x8-v1", PYTHON | LAG | FLOAT64, 2_000),
    "lake, vector": Case(
        partial(gymnasium.make_vec, "FrozenLake8x8-v1"),
        PYTHON | GATHER | {"num_envs": 80, "learning_rate": VisitCount()},
        1_500,
    ),
    "lake, sparse": Case("FrozenLake8x8-v1", PYTHON | SPARSE | {"num_envs": 80}, 1_500),
    "blackjack": Case("Blackjack-v1", PYTHON, 2_000),
    "lake, compiled": Case("FrozenLake8x8-v1", COMPILED | {"initial_value": 0.7}, 5 * ROUND),
    "cliff, compiled": Case("CliffWalking-v1", COMPILED, 5 * ROUND),
    "taxi, compiled": Case("Taxi-v4", COMPILED | STATES | {"action_masks": False}, 5 * ROUND),
    **STORED,
    **{f"{name}, half": replace(it, timesteps=it.timesteps // 2) for name, it in STORED.items()},
    **{f"{name}, loaded": replace(it, reloaded=it.timesteps // 2) for name, it in STORED.items()},
}


ARCHIVED = {
    f"{name}, archived, {how}": (name, how)
    for name in STORED
    for how in ("half", "loaded", "latest", "previous")
}
"""What is found in tests/data, which earlier code stored: as it lies there, and gone on with.

Earlier code broke ties in another way, so these end elsewhere than runs of the present code.
"""


def unpacked(name: str, kind: str, folder: Path) -> Path:
    """Unpack a table or a run of tests/data into a folder."""
    path = folder / f"{name}-{kind}"
    shutil.unpack_archive(DATA / f"{name}-{kind}.zip", path)
    return path


def archived(name: str, how: str) -> Digests:
    """Hash what earlier code stored, or what is learned from there on."""
    with tempfile.TemporaryDirectory() as folder:
        table, run = (unpacked(name, kind, Path(folder)) for kind in ("table", "run"))
        if how == "half":
            return digests_of(dqlearn.load(table))
        learner = dqlearn.load(table) if how == "loaded" else dqlearn.resume(run, how)
        return digests_of(learner.learn(STORED[name].timesteps))


def digests_of(learned: QLearner | xr.Dataset) -> Digests:
    """Hash a table: its values, its visits, and of a sparse one the states that it has."""
    table = learned if isinstance(learned, xr.Dataset) else learned.table.to_xarray()
    names = [name for name in ("q", "visits", "state") if name in table.variables]
    return {name: digest(table[name].to_numpy()) for name in names}


def digest(array: Any) -> str:
    """Hash the bytes, shape and dtype of an array."""
    form = f"{array.dtype.str} {array.shape} "
    return hashlib.sha256(form.encode() + array.tobytes()).hexdigest()


def recorded() -> tuple[dict[str, Digests], dict[str, str]]:
    """Read the digests of all cases, and what they were made with."""
    found = json.loads(FILE.read_text())
    return found["digests"], found["made with"]


def here() -> dict[str, str]:
    """Say what digests are made with in this process."""
    packages = {name: version(name) for name in ("numba", "numpy", "gymnasium")}
    libc, machine = " ".join(platform.libc_ver()), platform.machine()
    return {"python": platform.python_version(), **packages, "libc": libc, "machine": machine}


def write() -> None:
    """Write the file, and name the cases that are new or changed."""
    before = recorded()[0] if FILE.exists() else {}
    after = {name: case.digests() for name, case in CASES.items()}
    after |= {name: archived(*it) for name, it in ARCHIVED.items()}
    FILE.write_text(json.dumps({"made with": here(), "digests": after}, indent=2) + "\n")
    for name in after:
        if after[name] != before.get(name):
            click.echo(f"{name}: {'changed' if name in before else 'new'}")


def store() -> None:
    """Pack the stored tables and runs that are not there yet; the others are of earlier code."""
    for name, case in STORED.items():
        with tempfile.TemporaryDirectory() as folder:
            table, run = Path(folder, "table"), Path(folder, "run")
            learner = case.learner()
            learner.learn(case.timesteps // 2, store=run, checkpoint_every=Every(rounds=4))
            learner.save(table)
            for stored in (table, run):
                archive = DATA / f"{name}-{stored.name}"
                if not archive.with_suffix(".zip").exists():
                    shutil.make_archive(str(archive), "zip", stored)


@click.command()
@click.option("--write", "digests", is_flag=True, help="Write digests.json anew.")
@click.option("--stores", is_flag=True, help="Write those of tests/data/*.zip that are missing.")
def main(digests: bool, stores: bool) -> None:
    """Write what the present code learns."""
    if digests:
        write()
    if stores:
        store()


if __name__ == "__main__":
    main()
