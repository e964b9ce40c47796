"""Environments are closed: on request, at the end of a `with`, of the learner, of the process."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from distributed import Client

from dqlearn import QLearner
from dqlearn.callbacks import Callback
from dqlearn.errors import ConfigurationError, EnvironmentFault
from dqlearn.events import RoundEnd


class Simulator(gymnasium.Env[Any, Any]):
    """Has a process of its own, and a file in a folder for as long as it is open."""

    observation_space = gymnasium.spaces.Discrete(2)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(["sleep", "600"])
        self.file = folder / str(self.process.pid)
        self.file.touch()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        return 0, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        return 1, float(action), True, False, {}

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.file.unlink(missing_ok=True)

    def __reduce__(self) -> Any:
        raise TypeError("a simulator has no copy")


def learner_of(folder: Path, **settings: Any) -> QLearner:
    defaults = {"num_envs": 4, "shards": 2, "steps_per_round": 8, "seed": 0}
    return QLearner(lambda: Simulator(folder), **(defaults | settings))


def n_open(folder: Path) -> int:
    return len(list(folder.iterdir()))


@pytest.mark.parametrize("policy_lag", [0, 1])
def test_closed_on_request_and_made_anew_when_needed(tmp_path: Path, policy_lag: int) -> None:
    learner = learner_of(tmp_path, policy_lag=policy_lag)
    learner.close()
    assert n_open(tmp_path) == 0
    learner.learn(100)
    assert n_open(tmp_path) == 4
    learner.close()
    learner.close()
    assert n_open(tmp_path) == 0
    before = learner.table.q.compute()
    assert learner.predict(0)[0] in (0, 1)
    assert learner.evaluate(3).n_episodes == 3
    assert n_open(tmp_path) == 0
    learner.learn(200)
    assert n_open(tmp_path) == 4
    assert learner.num_timesteps >= 200
    assert (learner.table.q.compute() != before).any()
    learner.close()


def test_closed_at_the_end_of_a_with(tmp_path: Path) -> None:
    with learner_of(tmp_path) as learner:
        learner.learn(100)
        assert n_open(tmp_path) == 4
    assert n_open(tmp_path) == 0
    with pytest.raises(ZeroDivisionError), learner_of(tmp_path) as learner:
        _ = learner.learn(100).num_timesteps / 0
    assert n_open(tmp_path) == 0


def test_closed_with_the_learner(tmp_path: Path) -> None:
    learner = learner_of(tmp_path).learn(100)
    del learner
    gc.collect()
    assert n_open(tmp_path) == 0


def test_not_closed_while_it_learns(tmp_path: Path) -> None:
    class Closes(Callback):
        def on_round_end(self, event: RoundEnd) -> None:
            with pytest.raises(ConfigurationError, match=r"return callbacks\.Stop"):
                event.learner.close()

    with learner_of(tmp_path) as learner:
        assert learner.learn(100, callback=Closes()).num_timesteps >= 100


def test_models_have_nothing_to_close() -> None:
    with QLearner("dqlearn/Torus-v0", env_kwargs={"side": 4}, num_envs=8) as learner:
        learner.learn(100)
    assert learner.learn(500).num_timesteps >= 500


PROGRAM = """
import sys
from pathlib import Path
from distributed import Client
from test_closing import learner_of, n_open

def main(folder, workers):
    learner = learner_of(folder, env_timeout=60.0 if workers == 0 else None)
    learner.learn(100)
    print("OPEN", n_open(folder), flush=True)
    return learner

if __name__ == "__main__":
    folder, workers = Path(sys.argv[1]), int(sys.argv[2])
    if workers:
        with Client(n_workers=workers, threads_per_worker=1, dashboard_address="127.0.0.1:0"):
            kept = main(folder, workers)
    else:
        kept = main(folder, workers)
    if len(sys.argv) > 3:
        raise SystemExit(3)
"""


@pytest.mark.parametrize(
    ("workers", "arguments", "code"),
    [
        (0, (), 0),
        (0, ("exit",), 3),
        pytest.param(2, (), 0, marks=[pytest.mark.cluster, pytest.mark.slow]),
    ],
)
def test_closed_at_the_end_of_the_process(
    tmp_path: Path, workers: int, arguments: tuple[str, ...], code: int
) -> None:
    program, folder = tmp_path / "program.py", tmp_path / "open"
    folder.mkdir()
    program.write_text(PROGRAM)
    run = subprocess.run(
        [sys.executable, program, folder, str(workers), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    assert run.returncode == code
    assert "OPEN 4" in run.stdout
    assert n_open(folder) == 0


@pytest.mark.cluster
def test_closed_on_workers(client: Client, tmp_path: Path) -> None:
    learner = learner_of(tmp_path).learn(100)
    assert n_open(tmp_path) == 4
    learner.close()
    assert n_open(tmp_path) == 0
    assert learner.learn(300).num_timesteps >= 300
    learner.close()
    assert n_open(tmp_path) == 0


# Environments that end their process


class Crashing(gymnasium.Env[Any, Any]):
    """Ends its process in step `at`, always; or when it is made, in a worker."""

    observation_space = gymnasium.spaces.Discrete(2)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, at: int, here: int, how: str) -> None:
        self.at, self.how, self.n = at, how, 0
        if at == 0 and os.getpid() != here:
            self.crash()

    def crash(self) -> None:
        if self.how == "exit":
            os._exit(1)
        os.kill(os.getpid(), getattr(signal, self.how))
        time.sleep(60)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        return 0, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.n += 1
        if self.n == self.at:
            self.crash()
        return 1, 0.0, True, False, {}


def crashing(at: int, how: str) -> QLearner:
    here, made = os.getpid(), iter(range(100))

    def make() -> gymnasium.Env[Any, Any]:
        # One was made to look at, and of those of a worker it is the second.
        return Crashing(at if next(made) == 2 else -1, here, how)

    return QLearner(make, num_envs=2, shards=1, steps_per_round=8, seed=0)


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize(
    ("at", "how", "words"),
    [
        (31, "exit", "environment 1 of shard 0 ended its process at step 30, 5 times"),
        pytest.param(
            5,
            "SIGSEGV",
            "environment 1 of shard 0 ended its process at step 4, 5 times",
            marks=pytest.mark.soak,
        ),
        pytest.param(
            0,
            "SIGKILL",
            "environment 1 of shard 0 ended its process while made or reset, 5 times",
            marks=pytest.mark.soak,
        ),
    ],
)
def test_an_environment_that_ends_its_process_again_and_again(
    at: int, how: str, words: str, tmp_path: Path
) -> None:
    place = {"dashboard_address": "127.0.0.1:0", "local_directory": str(tmp_path)}
    with Client(n_workers=1, threads_per_worker=1, **place):
        learner = crashing(at, how)
        with pytest.raises(EnvironmentFault, match=words):
            learner.learn(2_000)
        if at:  # the learner is whole: at its last recovery point
            assert learner.num_timesteps == 0
            np.testing.assert_array_equal(learner.table.q.compute(), np.zeros((2, 2)))
        del learner
    assert not list(tmp_path.rglob("*.mark"))
