"""The network environments keep Gymnasium's contract, and simulate what they enumerate.

Laws of every family: Gymnasium's own checks, single and vector; frequencies of simulated steps
against enumerated probabilities; exact values against an independent solver; tables read by labels.
"""

from __future__ import annotations

import json
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

import gymnasium
import networks
import networkx as nx
import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import SyncVectorEnv
from quantecon.markov import DiscreteDP
from recipes import RECIPES, Recipe
from scipy.sparse import bmat, csr_matrix
from scipy.stats import chisquare

import dqlearn
from dqlearn import QLearner, TabularEnv, envs, exact
from dqlearn.envs import TabularGymEnv, TabularVectorEnv
from dqlearn.envs.faces.gym_view import view_kernels
from dqlearn.envs.problems.defence import baselines as defence_rules
from dqlearn.envs.problems.production import baselines as production_rules
from dqlearn.envs.problems.traffic import fixed
from dqlearn.exact.outcomes import outcomes_of
from dqlearn.random import EVALUATION, streams
from dqlearn.testing import check_model

NAMES = tuple(dict.fromkeys(recipe.name for recipe in RECIPES.values()))
SAMPLE = "TrafficGrid"  # what a short run of the tests tries; each compiles kernels of its own
FAMILIES = [
    name if name == SAMPLE else pytest.param(name, marks=pytest.mark.slow) for name in NAMES
]
EVALUATE = dqlearn.evaluate_policy, QLearner.evaluate
SIZES = ("small", "medium", "large")


@cache
def model(name: str, size: str = "small") -> TabularEnv:
    made: TabularEnv = getattr(envs, name).make(size)
    return made


def small(name: str) -> Recipe:
    return RECIPES[f"{name}-small"]


@pytest.mark.parametrize("name", FAMILIES)
def test_gymnasium_s_checks_and_ours(name: str) -> None:
    check_env(gymnasium.make(f"dqlearn/{name}-v0").unwrapped)
    check_model(model(name), n_steps=5_000)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_vector_is_its_single_environments(name: str) -> None:
    many = gymnasium.make_vec(f"dqlearn/{name}-v0", num_envs=3)
    assert isinstance(many, TabularVectorEnv)
    single = SyncVectorEnv([lambda: TabularGymEnv(model(name))] * 3)
    assert many.reset(seed=5)[0].tolist() == single.reset(seed=5)[0].tolist()
    draw = np.random.default_rng(0)
    for _ in range(30):
        actions = draw.integers(model(name).n_actions, size=3)
        for ours, theirs in zip(many.step(actions)[:4], single.step(actions)[:4], strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", FAMILIES)
def test_sizes(name: str, size: str) -> None:
    """Small can be solved, medium is about a million states, large needs a cluster."""
    least, most = {"small": (1e3, 2e4), "medium": (5e5, 5e6), "large": (5e7, 1e10)}[size]
    env = gymnasium.make(f"dqlearn/{name}-v0", size=size)
    assert least <= env.observation_space.n <= most  # type: ignore[attr-defined]
    env.reset(seed=0)
    for action in range(3):
        env.step(action)


@pytest.mark.parametrize("mode", ["ansi", "rgb_array"])
@pytest.mark.parametrize("name", FAMILIES)
def test_it_can_be_seen(name: str, mode: str) -> None:
    env = gymnasium.make(f"dqlearn/{name}-v0", render_mode=mode)
    env.reset(seed=0)
    seen: list[Any] = [env.render()]
    for _ in range(5):
        env.step(env.action_space.sample())
        seen.append(env.render())
    if mode == "ansi":
        assert len(set(seen)) > 1
        assert all(len(text.splitlines()) > 2 for text in seen)
    else:
        assert all(pixels.dtype == np.uint8 and pixels.std() > 0 for pixels in seen)
        assert any((pixels != seen[0]).any() for pixels in seen[1:])


@pytest.mark.parametrize("size", ["small", "medium"])
@pytest.mark.parametrize("name", FAMILIES)
def test_frequencies_are_the_enumerated_probabilities(name: str, size: str) -> None:
    """Of next states, in 12 pairs; the tests of all families together fail once in 10,000 seeds."""
    env, n, draw = model(name, size), 20_000, np.random.default_rng(1)
    for _ in range(12):
        state, action = int(draw.integers(env.n_states)), int(draw.integers(env.n_actions))
        expected: dict[int, float] = {}
        for p, after, _, _ in env.outcomes(state, action):
            expected[after] = expected.get(after, 0.0) + p
        after, counts = np.unique(simulated(env, state, action, n), return_counts=True)
        assert set(after.tolist()) <= expected.keys()
        seen = dict(zip(after.tolist(), counts.tolist(), strict=True))
        often = [s for s, p in expected.items() if n * p >= 5]
        observed = [seen.get(s, 0) for s in often]
        wanted = [n * expected[s] for s in often]
        observed.append(n - sum(observed))  # all rare ones together
        wanted.append(max(n - sum(wanted), 1e-9))
        if wanted[-1] < 5:
            observed[-2:], wanted[-2:] = [sum(observed[-2:])], [sum(wanted[-2:])]
        if len(wanted) > 1:
            wanted = [w * n / sum(wanted) for w in wanted]
            assert chisquare(observed, wanted).pvalue > 1e-4 / (12 * 2 * len(NAMES))


def simulated(env: TabularEnv, state: int, action: int, n: int) -> npt.NDArray[np.int64]:
    """Return the next states of n steps from one pair."""
    states, actions = np.full(n, state), np.full(n, action)
    reward, terminated = np.empty(n), np.empty(n, np.bool_)
    view_kernels(env).step_many(
        streams(np.uint64(7), EVALUATION, 0, n),
        np.zeros(n, np.int64),
        np.ones(n, np.bool_),
        env.params,
        actions,
        states,
        reward,
        terminated,
    )
    return states


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_an_independent_solver_agrees(name: str) -> None:
    """QuantEcon's policy iteration on the enumerated model: the same values to 1e-9."""
    env, gamma = model(name), small(name).gamma
    ours = exact.solve(env, gamma, tolerance=1e-11)
    by_policies = exact.solve(env, gamma, tolerance=1e-10, method="policies")
    found = outcomes_of(env, 2**31).blocks()  # each is valid until the next
    blocks = [type(block)(*(column.copy() for column in block)) for _, block in found]
    rewards = np.concatenate([block.reward for block in blocks])
    ends = np.concatenate([np.diff(block.start) for block in blocks])
    onward = csr_matrix(
        (
            np.concatenate([block.weight for block in blocks]),
            np.concatenate([block.next_state for block in blocks]),
            np.concatenate([[0], np.cumsum(ends)]),
        ),
        shape=(env.n_states * env.n_actions, env.n_states),
    )
    # An episode that ends goes to one more state, where nothing happens any more.
    over = csr_matrix(np.maximum(1.0 - onward.sum(axis=1), 0.0))
    onward = bmat([[onward, over], [None, csr_matrix([[1.0]])]], format="csr")
    state, action = np.divmod(np.arange(len(rewards) + 1), env.n_actions)
    theirs = DiscreteDP(np.append(rewards, 0.0), onward, gamma, state, action).solve(
        method="policy_iteration"
    )
    np.testing.assert_allclose(ours.value, theirs.v[:-1], rtol=0, atol=1e-9)
    np.testing.assert_allclose(by_policies.value, theirs.v[:-1], rtol=0, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_small_instances_are_learned(name: str) -> None:
    """Mean |V - V*| within 3 % of mean |V*|; the greedy policy's value within 1 %."""
    recipe = small(name)
    best = exact.solve(model(name), recipe.gamma, tolerance=1e-6)
    learner = recipe.learner().learn(recipe.timesteps)
    policy = learner.table.policy.compute().astype(np.int64)
    reached = exact.policy_value(model(name), policy, recipe.gamma, tolerance=1e-6)
    scale = np.abs(best.value).mean()
    assert np.abs(learner.table.value.compute() - best.value).mean() <= 0.03 * scale
    assert (best.value - reached).mean() <= 0.01 * scale


def test_baselines_are_searched_in_episodes_of_their_own() -> None:
    """With no seed that an evaluation has by default, or in the benchmarks."""
    evaluations = {signature(play).parameters["seed"].default for play in EVALUATE}
    searches = {part.SEED for part in (defence_rules, production_rules, fixed)}
    assert len(searches | evaluations | {networks.SEED}) == 3 + len(evaluations) + 1


@pytest.mark.parametrize("kept", ["in memory", "saved", "in a run"])
@pytest.mark.parametrize("name", FAMILIES)
def test_tables_are_read_by_their_labels(name: str, kept: str, tmp_path: Path) -> None:
    """A pair that has been updated, by the names of its factors and of its action."""
    place = str(tmp_path / kept)
    learner = QLearner(f"dqlearn/{name}-v0", seed=0)
    learner.learn(10_000, store=place if kept == "in a run" else None)
    table = learner.table.to_xarray()
    if kept == "saved":
        learner.save(place)
        table = xr.open_zarr(place)
    elif kept == "in a run":
        table = dqlearn.open_table(place)
    q, env = learner.table.q.compute(), model(name)
    state, action = (int(pair[-1]) for pair in np.nonzero(learner.table.visits.compute()))
    digits = np.unravel_index(state, [factor.size for factor in env.factors])
    labels = {
        factor.name: factor.labels[digit] if factor.labels else int(digit)
        for factor, digit in zip(env.factors, digits, strict=True)
    }
    chosen = (env.action_labels or ())[action]
    found = dqlearn.unfold(table).q.sel({**labels, "action": chosen}).compute().item()
    assert found == q[state, action] != 0.0


def test_a_graph_can_be_resumed_by_its_id(tmp_path: Path) -> None:
    """A run keeps the edges, not the graph, and its time limit."""
    graph = nx.DiGraph([(0, 1)])
    kwargs = {"n_intersections": 2, "network": graph, "max_episode_steps": 30}
    learner = QLearner("dqlearn/TrafficGrid-v0", env_kwargs=kwargs, num_envs=64, shards=1, seed=0)
    learner.learn(5_000, store=tmp_path / "run").save(tmp_path / "q.zarr")
    kept = json.loads(dqlearn.open_table(tmp_path / "run").attrs["environment"])
    plain = {"n_intersections": 2, "network": [[0, 1, "main"]], "max_episode_steps": 30}
    assert kept == {"id": "dqlearn/TrafficGrid-v0", "kwargs": plain, "encoded": {}}
    learner.learn(10_000)
    again = dqlearn.resume(tmp_path / "run", at="previous").learn(10_000)
    np.testing.assert_array_equal(again.table.q.compute(), learner.table.q.compute())
    assert dqlearn.load(tmp_path / "q.zarr").evaluate(3).lengths.tolist() == [30] * 3
