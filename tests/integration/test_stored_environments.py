"""Environments of stored tables: made with equal arguments or not at all, by no foreign code."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from click.testing import CliRunner
from distributed import Client
from gymnasium import spaces
from gymnasium.envs.registration import WrapperSpec

import dqlearn
from dqlearn import QLearner
from dqlearn.cli import main
from dqlearn.errors import DQLearnError, EnvironmentFault, IncompatibleTableError

SMALL = {"num_envs": 4, "shards": 2, "steps_per_round": 8, "seed": 0}


class Bandit(gymnasium.Env[Any, Any]):
    """Pays what its prizes say, by the action."""

    observation_space: spaces.Space[Any] = spaces.Discrete(1)
    action_space: spaces.Space[Any] = spaces.Discrete(2)

    def __init__(self, prizes: Any, bonus: Callable[[float], float] = float) -> None:
        self.prizes, self.bonus = prizes, bonus

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        return 0, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        prize = self.prizes.pop() if isinstance(self.prizes, list) else self.prizes[int(action)]
        return 0, self.bonus(prize), True, False, {}


@pytest.fixture(autouse=True)
def bandit() -> Iterator[None]:
    """Let there be an id that only this process knows."""
    gymnasium.register("Bandit-v0", Bandit)
    yield
    for name in ("Bandit-v0", "Local-v0", "Local-v1"):
        gymnasium.registry.pop(name, None)


def learner_of(**env_kwargs: Any) -> QLearner:
    return QLearner("Bandit-v0", env_kwargs=env_kwargs, **SMALL)


# arguments


@pytest.mark.parametrize(
    "prizes",
    [{0: 1.0, 1: 5.0}, (1.0, 5.0), np.array([1.0, 5.0]), {0: np.float32(1), 1: 5}],
    ids=["keys", "tuple", "array", "scalars"],
)
def test_arguments_come_back_equal(prizes: Any, tmp_path: Path) -> None:
    """They are those of the learner that was saved, types and all; so is what it plays."""
    learner = learner_of(prizes=prizes).learn(2_000, store=tmp_path / "run")
    learner.save(tmp_path / "q.zarr")
    for again in (dqlearn.resume(tmp_path / "run"), dqlearn.load(tmp_path / "q.zarr")):
        back = again._resolved.env.make().unwrapped.prizes
        assert type(back) is type(prizes)
        assert repr(back) == repr(prizes)
        assert again.evaluate(4).mean == 5.0
        again.save(tmp_path / "q.zarr")
    said = CliRunner().invoke(main, ["info", str(tmp_path / "q.zarr")]).stdout
    assert f"Bandit-v0 prizes={prizes!r}" in said.replace("\n", "")


def double(prize: float) -> float:
    return 2.0 * prize


def test_what_cannot_be_stored_must_be_given_again(tmp_path: Path) -> None:
    """The table is saved all the same; nothing else than an equal argument opens it."""
    learner = learner_of(prizes=(1.0, 5.0), bonus=double).learn(2_000, store=tmp_path / "run")
    learner.save(tmp_path / "q.zarr")
    openers = ((dqlearn.resume, "run"), (dqlearn.load, "q.zarr"), (QLearner.load, "q.zarr"))
    for opened, name in openers:
        with pytest.raises(IncompatibleTableError, match=r"'bonus'.*env_kwargs="):
            opened(tmp_path / name)
        for wrong in ({"bonus": lambda prize: -prize}, {"bonus": double, "prizes": [1.0, 5.0]}):
            with pytest.raises(IncompatibleTableError, match=r"env_kwargs= must .*(bonus|prizes)"):
                opened(tmp_path / name, env_kwargs=wrong)
        for right in ({"bonus": double}, {"bonus": double, "prizes": (1.0, 5.0)}):
            assert opened(tmp_path / name, env_kwargs=right).evaluate(4).mean == 10.0


def test_what_json_takes_for_another_is_not_stored() -> None:
    """A dictionary with a default is none without, though JSON would write it as one."""
    spec = learner_of(prizes=defaultdict(float, {"0": 1.0}, **{"1": 2.0}), bonus=abs)._resolved.spec
    assert spec["unstored"].keys() == {"prizes", "bonus"}
    assert learner_of(prizes=defaultdict(float))._resolved.spec["unstored"].keys() == {"prizes"}


def test_an_id_that_is_named_again_has_its_arguments(tmp_path: Path) -> None:
    """Not the defaults of the environment, of which the spaces would be equal."""
    learner = QLearner("FrozenLake-v1", env_kwargs={"is_slippery": False}, **SMALL).learn(100)
    learner.save(tmp_path / "q.zarr")
    again = dqlearn.load(tmp_path / "q.zarr", env="FrozenLake-v1")
    assert again._resolved.spec["kwargs"] == {"is_slippery": False}
    with pytest.raises(IncompatibleTableError, match=r"is_slippery.*False, got True"):
        dqlearn.load(tmp_path / "q.zarr", "FrozenLake-v1", env_kwargs={"is_slippery": True})


def test_arguments_are_those_of_the_beginning() -> None:
    """Neither whoever made the learner changes them later, nor one environment another's."""
    prizes = {0: 1.0, 1: 5.0}
    learner = learner_of(prizes=prizes).learn(2_000)
    prizes[1] = -9.0
    assert learner.evaluate(4).mean == 5.0
    assert json.loads(learner.table.to_xarray().attrs["environment"])["encoded"]
    one, other = (learner_of(prizes=[3.0] * 4)._resolved.env.make() for _ in range(2))
    for env in (one, other):
        env.reset()
        assert [env.step(0)[1] for _ in range(4) if env.reset()] == [3.0] * 4


# names


SPY = """
import pathlib
pathlib.Path(__file__).with_suffix(".ran").touch()
import gymnasium
from dqlearn.envs.problems.torus import torus
model = torus(side=4)
gymnasium.registry.pop("Spied-v0", None)
gymnasium.register("Spied-v0", "gymnasium.envs.toy_text.frozen_lake:FrozenLakeEnv")
"""


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put a module into the working folder, where Python would find it."""
    (tmp_path / "package").mkdir()
    for name in ("beside.py", "package/__init__.py", "package/beside.py"):
        (tmp_path / name).write_text(SPY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] in ("beside", "package")]:
        del sys.modules[name]
    gymnasium.registry.pop("Spied-v0", None)


def edit(path: Path, **attrs: str) -> None:
    header = path / "zarr.json"
    stored = json.loads(header.read_text())
    stored["attributes"].update(attrs)
    header.write_text(json.dumps(stored))


def ran(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*.ran")}


NAMES = [
    {"id": "beside:FrozenLake-v1", "kwargs": {}},
    {"id": "package.beside:FrozenLake-v1", "kwargs": {}},
    {"id": "beside:Spied-v0", "kwargs": {"is_slippery": True}, "encoded": {}},
    {"name": "model", "import": "beside:model"},
    {"name": "model", "import": "package.beside:model"},
]


@pytest.mark.parametrize("spec", NAMES, ids=str)
def test_no_module_is_imported_because_a_table_names_it(
    spec: dict[str, Any], beside: Path, client: Client
) -> None:
    """Neither here nor on workers; the error says which, and what would allow it."""
    env = "FrozenLake-v1" if "id" in spec else "dqlearn/Torus-v0"
    learner = QLearner(env, env_kwargs=None if "id" in spec else {"side": 4}, **SMALL).learn(100)
    learner.save("q.zarr")
    edit(beside / "q.zarr", environment=json.dumps(spec))
    module = (spec.get("id") or spec["import"]).partition(":")[0]
    opened: list[Callable[[], Any]] = [
        lambda: dqlearn.load("q.zarr"),
        lambda: QLearner.load("q.zarr", trust=["besid", "beside.inside", "packag"]),
    ]
    for attempt in opened:
        with pytest.raises(IncompatibleTableError, match=rf"module '{module}'.*trust="):
            attempt()
    for command in (["info", "q.zarr"], ["evaluate", "q.zarr", "--episodes", "1"]):
        CliRunner().invoke(main, command)
    assert not ran(beside)
    refused = CliRunner().invoke(main, ["evaluate", "q.zarr"])
    assert (refused.exit_code, "--trust" in refused.stderr) == (1, True)
    trusting = dqlearn.load("q.zarr", trust=module.split(".")[0])
    assert trusting.num_timesteps == learner.num_timesteps
    assert ran(beside)


def test_a_run_names_a_module(beside: Path, tmp_path: Path) -> None:
    """The same of a repository, by Python and by the command."""
    import_beside = {"name": "model", "import": "beside:model"}
    learner = QLearner("dqlearn/Torus-v0", env_kwargs={"side": 4}, **SMALL)
    learner._resolved.spec.clear()
    learner._resolved.spec.update(import_beside)
    learner.learn(100, store="run")
    with pytest.raises(IncompatibleTableError, match="module 'beside'"):
        dqlearn.resume("run")
    for command in ("resume run --timesteps 100", "evaluate run", "runs info run"):
        CliRunner().invoke(main, command.split())
    assert not ran(beside)
    done = CliRunner().invoke(main, "resume run --timesteps 200 --trust beside --quiet".split())
    assert done.exit_code == 0, done.stderr
    assert ran(beside) == {"beside.ran"}


def test_what_is_imported_already_needs_no_trust(beside: Path) -> None:
    """It is the program's own choice that it is here."""
    __import__("beside")
    QLearner("beside:Spied-v0", **SMALL).learn(100).save("q.zarr")
    assert dqlearn.load("q.zarr").num_timesteps == 128
    model = sys.modules["beside"].model
    QLearner(model, **SMALL).learn(100).save("m.zarr")
    edit(beside / "m.zarr", environment=json.dumps(NAMES[3]))
    assert dqlearn.load("m.zarr").num_timesteps == 128


@pytest.mark.parametrize(
    "spec",
    [
        {"id": "GymV21Environment-v0", "kwargs": {"env_id": "beside:FrozenLake-v1"}},
        {"id": "GymV26Environment", "kwargs": {"env_id": "beside:FrozenLake-v1"}},
        {"id": "a:b:FrozenLake-v1", "kwargs": {}},
        {"id": ":FrozenLake-v1", "kwargs": {}},
        {"name": "x", "import": "os:system"},
        {"name": "x", "import": "dqlearn.__main__:main"},
        {"name": "x", "import": "..beside:model"},
        {"name": "x", "import": ":model"},
        {"id": "FrozenLake-v1", "kwargs": {"id": "beside:FrozenLake-v1"}},
        {"id": "FrozenLake-v1", "kwargs": {"entry_point": "beside:model"}},
        {"id": "dqlearn/Torus-v0", "kwargs": {"model": "beside:model"}},
        {"id": "dqlearn/Torus-v0", "kwargs": {"vectorization_mode": "beside:model"}},
        {"id": "FrozenLake-v1", "kwargs": {}, "encoded": {"desc": {"object": "beside:model"}}},
    ],
    ids=str,
)
def test_no_other_name_imports_a_module(spec: dict[str, Any], beside: Path) -> None:
    """Nor does an argument; what cannot be made is refused by name."""
    QLearner("FrozenLake-v1", **SMALL).learn(100).save("q.zarr")
    edit(beside / "q.zarr", environment=json.dumps(spec))
    with pytest.raises(DQLearnError):
        dqlearn.load("q.zarr")
    assert not ran(beside)


# ids that only this process knows


class Cheerful(gymnasium.Wrapper[Any, Any, Any, Any]):
    def step(self, action: Any) -> Any:
        observation, reward, *rest = self.env.step(action)
        return observation, float(reward) + 1.0, *rest


@pytest.mark.cluster
def test_workers_make_what_is_registered_here(client: Client, tmp_path: Path) -> None:
    """A local class, with its wrappers, arguments and time limit; the stored form is the id."""

    class Local(Bandit):
        def __init__(self, prizes: Any, scale: float = 1.0) -> None:
            super().__init__({key: scale * value for key, value in prizes.items()})

    wrapped = WrapperSpec("TimeLimit", "gymnasium.wrappers:TimeLimit", {"max_episode_steps": 5})
    for name in ("Local-v0", "Local-v1"):
        gymnasium.register(
            name,
            Local,
            kwargs={"scale": 3.0},
            max_episode_steps=7,
            additional_wrappers=(wrapped,),
            vector_entry_point=lambda **_: None,
        )
    known = client.run(lambda: "Local-v1" in __import__("gymnasium").registry)
    assert not any(known.values())
    learner = QLearner("Local-v1", env_kwargs={"prizes": {0: 1.0, 1: 5.0}}, **SMALL)
    learner.learn(2_000, store=tmp_path / "run")
    assert learner.evaluate(4).mean == 15.0
    assert json.loads(learner.table.to_xarray().attrs["environment"])["id"] == "Local-v1"
    assert dqlearn.resume(tmp_path / "run").learn(4_000).evaluate(4).mean == 15.0
    made = learner._resolved.env.make()
    limits = []
    while isinstance(made, gymnasium.Wrapper):
        limits.append(getattr(made, "_max_episode_steps", None))
        made = made.env
    assert {5, 7} <= set(limits)


@pytest.mark.cluster
def test_what_is_registered_later_changes_nothing(client: Client) -> None:
    """Workers make what the learner found out the spaces of."""
    learner = QLearner("Bandit-v0", env_kwargs={"prizes": (1.0, 5.0)}, **SMALL)
    gymnasium.registry.pop("Bandit-v0")
    assert learner.learn(2_000).evaluate(4).mean == 5.0


@pytest.mark.filterwarnings("ignore:.*Using the latest versioned environment")
def test_an_id_without_a_version() -> None:
    """It is the latest, everywhere; ids of dqlearn are compiled as before."""
    learner = QLearner("FrozenLake", compile=False, **SMALL)
    assert learner._resolved.env.make.spec.id == "FrozenLake-v1"
    assert learner._resolved.spec["id"] == "FrozenLake"
    torus = QLearner("dqlearn/Torus-v0", env_kwargs={"side": 4}, **SMALL)
    assert isinstance(torus._resolved.env, dqlearn.TabularEnv)
    with pytest.raises(EnvironmentFault, match="Unheard-v0"):
        QLearner("Unheard-v0", **SMALL)
