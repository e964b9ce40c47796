"""Models as Gymnasium environments: Gymnasium's own checks, and one law for single and vector."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from dqlearn.envs.faces.gym_view import TabularGymEnv
from dqlearn.envs.faces.vector_view import TabularVectorEnv
from dqlearn.envs.problems.garnet import garnet
from dqlearn.envs.problems.torus import torus
from dqlearn.envs.registry import register
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import ConfigurationError, RewardError, SpaceError, StateRangeError

register()

MODELS = {
    "torus": torus(side=3, slip=0.3, max_episode_steps=6),  # terminates and truncates often
    "garnet": garnet(n_states=20, n_actions=4, max_episode_steps=3),
}
N = 5

Copy = Callable[[Any], Any]
COPIES: list[Copy] = [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))]


def actions(n: int, seed: int = 0) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).integers(4, size=n)


def episode(env: TabularGymEnv, n: int = 8) -> list[tuple[Any, ...]]:
    """Return the steps of an environment that is reset when an episode ends."""
    steps = []
    for action in actions(n):
        steps.append(env.step(action))
        if steps[-1][2] or steps[-1][3]:
            env.reset()
    return steps


@pytest.mark.parametrize("name", ["dqlearn/Torus-v0", "dqlearn/Garnet-v0"])
def test_gymnasium_checks(name: str) -> None:
    check_env(gymnasium.make(name).unwrapped)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_seed_is_an_episode(model: TabularEnv) -> None:
    """The same seed gives the same steps; another one, or none, others."""
    env = TabularGymEnv(model)
    runs = []
    for seed in (7, 7, 8, None):
        state, _ = env.reset(seed=seed)
        runs.append([state, *episode(env, 30)])
    assert runs[0] == runs[1]
    assert runs[0] != runs[2] != runs[3] != runs[0]


def test_unseeded_environments_differ() -> None:
    first = [TabularGymEnv(garnet(n_states=10**5, n_actions=1)).reset()[0] for _ in range(4)]
    assert len(set(first)) == 4


@pytest.mark.parametrize("copied", COPIES, ids=["deepcopy", "pickle"])
def test_copies_go_on_alike(copied: Copy) -> None:
    """A copy made within an episode goes on as the original does."""
    env = TabularGymEnv(MODELS["torus"])
    env.reset(seed=1)
    episode(env, 4)
    other = copied(env)
    assert episode(env) == episode(other)
    envs = TabularVectorEnv(MODELS["torus"], N)
    envs.reset(seed=1)
    envs.step(actions(N))
    twin = copied(envs)
    for t in range(8):
        assert data_equivalence(envs.step(actions(N, t)), twin.step(actions(N, t)), exact=True)


def test_the_models_time_limit_truncates() -> None:
    """An episode of at most 3 steps is truncated in its third, and the next one anew."""
    env = TabularGymEnv(MODELS["garnet"])
    for _ in range(2):
        env.reset()
        assert [env.step(a)[2:4] for a in range(3)] == [(False, False)] * 2 + [(False, True)]


def test_render_names_the_factors() -> None:
    env = TabularGymEnv(torus(side=8), render_mode="ansi")
    state, _ = env.reset(seed=0)
    assert env.render() == f"row={state // 8} column={state % 8}"
    plain = TabularGymEnv(MODELS["garnet"], render_mode="ansi")
    state, _ = plain.reset(seed=0)
    assert plain.render() == f"state={state}"


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_vector_is_sync_vector_of_singles(model: TabularEnv, mode: AutoresetMode) -> None:
    """Over 60 steps, with resets in between, every number returned is the same to the bit."""
    ours = TabularVectorEnv(model, N, mode)
    sync = SyncVectorEnv([lambda: TabularGymEnv(model)] * N, autoreset_mode=mode)
    assert ours.metadata["autoreset_mode"] is mode
    assert ours.observation_space == sync.observation_space
    assert ours.action_space == sync.action_space
    n_ended = 0

    def both(call: Callable[[Any], Any]) -> Any:
        mine, theirs = call(ours), call(sync)
        assert data_equivalence(mine, theirs, exact=True), (mine, theirs)
        return mine

    both(lambda envs: envs.reset(seed=11))
    for t in range(60):
        _, _, terminated, truncated, _ = both(lambda envs, t=t: envs.step(actions(N, t)))
        ended = terminated | truncated
        n_ended += ended.sum()
        if t % 20 == 19:
            seed: Any = [1, None, 2, None, 3] if t == 19 else None
            both(lambda envs, seed=seed: envs.reset(seed=seed))
        elif ended.any() and mode is AutoresetMode.DISABLED:
            both(lambda envs, m=ended: envs.reset(options={"reset_mask": m.copy()}))
        elif t == 30:
            some = np.arange(N) < 2
            both(lambda envs, m=some: envs.reset(seed=40, options={"reset_mask": m.copy()}))
    assert n_ended > 20


def test_what_is_returned_is_not_reused() -> None:
    envs = TabularVectorEnv(MODELS["torus"], N)
    first, _ = envs.reset(seed=0)
    kept = first.copy()
    results = [envs.step(actions(N, t)) for t in range(3)]
    first[:] = -5
    assert not np.shares_memory(results[0][0], results[1][0])
    assert all((states >= 0).all() for states, *_ in results)
    assert np.array_equal(envs.reset(seed=0)[0], kept)


def started(**kwargs: Any) -> TabularVectorEnv:
    envs = TabularVectorEnv(MODELS["torus"], N, **kwargs)
    envs.reset(seed=0)
    return envs


def disabled() -> TabularVectorEnv:
    """An environment left where its episodes were truncated."""
    envs = TabularVectorEnv(garnet(10, 4, max_episode_steps=1), N, "Disabled")
    envs.reset(seed=0)
    envs.step(np.zeros(N, int))
    return envs


def reset(mask: Any) -> Any:
    return started().reset(options={"reset_mask": mask})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: TabularGymEnv(MODELS["torus"], "human"), ConfigurationError, "None or 'ansi'"),
        (lambda: TabularVectorEnv(MODELS["torus"], 0), ConfigurationError, "num_envs"),
        (lambda: started(autoreset_mode="Never"), ConfigurationError, "'NextStep', 'SameStep'"),
        (lambda: TabularGymEnv(MODELS["torus"]).step(0), ResetNeeded, "reset"),
        (lambda: TabularVectorEnv(MODELS["torus"], 2).step([0, 0]), ResetNeeded, "reset"),
        (lambda: disabled().step(np.zeros(N, int)), ResetNeeded, "reset_mask"),
        (lambda: started().step([0]), SpaceError, "5 integer actions"),
        (lambda: started().step([0, 1, 2, 3, 4]), SpaceError, "0 .. 3"),
        (lambda: started().step([0, 1, 2, 3, 0.5]), SpaceError, "integer"),
        (lambda: started().reset(seed=[1, 2]), ConfigurationError, "one seed for each of 5"),
        (lambda: reset(np.zeros(N, bool)), ConfigurationError, "at least one True"),
        (lambda: reset(np.ones(N, int)), ConfigurationError, "bool array"),
        (lambda: reset(np.ones(N - 1, bool)), ConfigurationError, "shape"),
    ],
)
def test_errors(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_action_out_of_range() -> None:
    env = TabularGymEnv(MODELS["torus"])
    env.reset(seed=0)
    for action in (-1, 4):
        with pytest.raises(SpaceError, match=str(action)):
            env.step(action)


def broken(initial: int, state: int, reward: float) -> TabularEnv:
    """A model of 3 states that begins, goes and pays as told, right or wrong."""
    return TabularEnv(
        3,
        1,
        lambda key, params: params[0],
        lambda s, a, happened, params: (params[1], params[2], False),
        lambda s, a, params: (0.5,),
        n_events=1,
        params=(initial, state, reward),
    )


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (broken(3, 0, 0.0), StateRangeError, "initial"),
        (broken(0, -1, 0.0), StateRangeError, "0 .. 2, got -1 after environment 0 in state 0"),
        (broken(0, 1, np.nan), RewardError, "nan"),
    ],
)
def test_a_model_at_fault(model: TabularEnv, error: type[Exception], message: str) -> None:
    for env, action in ((TabularGymEnv(model), 0), (TabularVectorEnv(model, 2), [0, 0])):
        with pytest.raises(error, match=message):
            env.reset(seed=0) and env.step(action)
