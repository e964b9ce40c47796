"""What newcomers pass by mistake is refused by name, and says what to pass instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest

from dqlearn import Every, QLearner, envs, evaluate_policy, exact, schedules
from dqlearn.envs import TabularGymEnv, TabularVectorEnv, garnet, torus
from dqlearn.errors import ConfigurationError, DQLearnError
from dqlearn.spaces import Bins

WALK = torus(4)
NAMED = nx.path_graph(["a", "b", "c", "d"])
NAN = float("nan")


def learner(**settings: Any) -> QLearner:
    return QLearner(WALK, **({"num_envs": 8, "shards": 1} | settings))


def stepped(action: Any) -> Any:
    env = TabularGymEnv(WALK)
    env.reset(seed=0)
    return env.step(action)


def stay(states: Any, t: int) -> Any:
    return states * 0


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "an id that is near": (lambda: envs.from_table("Taxi-v99"), "Taxi-v99.*Taxi"),
    "an id without a table": (lambda: envs.from_table("CartPole-v1"), "with P and initial_state"),
    "a number for an environment": (lambda: envs.from_table(3), "expected a Gymnasium id.*got 3"),
    "a model for its table": (lambda: envs.from_table(WALK), "expected a Gymnasium id"),
    "a number of bins": (lambda: Bins(10), r"Bins\(\[\[.*got 10; for a number of equal bins"),
    "words for bins": (lambda: Bins("abc"), "an array of edges for each dimension.*'abc'"),
    "no bins": (lambda: Bins(None), "an array of edges for each dimension.*None"),
    "edges in words": (lambda: Bins([["low", "high"]]), "edges of dimension 0 must be"),
    "ragged edges": (lambda: Bins([[1, [2, 3]]]), "edges of dimension 0 must be"),
    "ends in words": (lambda: Bins.uniform("a", "b", 3), "need finite low < high, got low=a"),
    "a bool for chunks": (lambda: learner(chunks=True), "chunks must cover.*True"),
    "a bool for gamma": (lambda: learner(gamma=True), "gamma must be in 0 .. 1, got True"),
    "NaN for gamma": (lambda: learner(gamma=NAN), "gamma must be in 0 .. 1, got nan"),
    "a bool for a seed": (lambda: learner(seed=True), "seed must be an integer.*True"),
    "a bool for a count": (lambda: learner(num_envs=True), "num_envs must be an integer.*True"),
    "a bool for a lag": (lambda: learner(policy_lag=True), "policy_lag must be 0 or 1, got True"),
    "a bool for a value": (lambda: learner(initial_value=True), "initial_value must be.*True"),
    "a bool for a rate": (lambda: learner(learning_rate=True), "must be a number.*True"),
    "no dtype": (lambda: learner(dtype=None), "dtype must be float32 or float64, got None"),
    "words for sparse": (lambda: learner(sparse="yes"), "sparse must be a bool.*'yes'"),
    "a number for sparse": (
        lambda: learner(sparse=16),
        "sparse must be a bool, got 16: sparse_block",
    ),
    "a part of a block": (lambda: learner(sparse_block=1.5), "sparse_block must be .*got 1.5"),
    "a block of no sparse table": (lambda: learner(sparse_block=4), "pass sparse=True"),
    "words for steps": (lambda: learner().learn("100"), "whole number >= 0, such as.*'100'"),
    "no steps": (lambda: learner().learn(None), "whole number >= 0, such as.*None"),
    "NaN steps": (lambda: learner().learn(NAN), "whole number >= 0, such as.*nan"),
    "infinite steps": (lambda: learner().learn(np.inf), "whole number >= 0, such as.*inf"),
    "a part of a step": (lambda: learner().learn(10.5), "whole number >= 0, such as.*10.5"),
    "a bool for steps": (lambda: learner().learn(True), "whole number >= 0, such as.*True"),
    "words for episodes": (lambda: learner().evaluate("10"), "n_episodes must be an integer.*'10'"),
    "a part of an episode": (lambda: learner().evaluate(1.5), "n_episodes must be an integer.*1.5"),
    "a seed below 0": (lambda: learner().evaluate(1, seed=-1), "seed must be an integer.*-1"),
    "a seed in words": (lambda: learner().evaluate(1, seed="a"), "seed must be an integer.*'a'"),
    "a schedule from NaN": (
        lambda: learner(epsilon=schedules.Linear(NAN, 0.1, 10)),
        "epsilon must stay in .*nan",
    ),
    "a schedule from a bool": (lambda: schedules.Linear(True, 0.1, 10), "start must be a number"),
    "a bool for an interval": (lambda: Every(True), "must be an integer.*True"),
    "gamma in words": (lambda: exact.solve(WALK, "0.9"), "gamma must be in 0 .. 1, got '0.9'"),
    "no gamma": (lambda: exact.solve(WALK, None), "gamma must be in 0 .. 1, got None"),
    "a tolerance in words": (lambda: exact.solve(WALK, 0.9, "a"), "tolerance must be a number"),
    "NaN for a tolerance": (lambda: exact.solve(WALK, 0.9, NAN), "tolerance must be a number"),
    "sweeps in words": (lambda: exact.solve(WALK, 0.9, 1e-9, "a"), "max_iterations must be an"),
    "bytes in words": (lambda: exact.solve(WALK, 0.9, max_bytes="1GB"), "max_bytes must be an"),
    "values in words": (lambda: exact.bellman_residual("q", WALK, 0.9), "q must be an array"),
    "no policy": (lambda: evaluate_policy(WALK, None), r"function policy\(states, t\).*None"),
    "a policy that is an array": (
        lambda: evaluate_policy(WALK, np.zeros(16, int)),
        r"function policy\(states, t\) -> actions.*lambda states, t: array\[states\]",
    ),
    "games in words": (lambda: evaluate_policy(WALK, stay, "3"), "n_episodes must be an integer"),
    "games from a seed below 0": (
        lambda: evaluate_policy(WALK, stay, 3, seed=-1),
        "seed must be an integer",
    ),
    "a slip in words": (lambda: torus(4, slip="a"), "slip must be a probability.*'a'"),
    "a slip that is NaN": (lambda: torus(4, slip=NAN), "slip must be a probability.*nan"),
    "a reward in words": (lambda: torus(4, step_reward="a"), "step_reward must be finite.*'a'"),
    "a reward that is NaN": (lambda: torus(4, goal_reward=NAN), "goal_reward must be finite"),
    "states in words": (lambda: garnet("4"), "n_states must be an integer.*'4'"),
    "states in parts": (lambda: garnet(4.0), "n_states must be an integer.*4.0"),
    "a Garnet's seed": (lambda: garnet(4, seed=-1), "seed must be an integer of at least 0.*-1"),
    "sizes in a list": (lambda: envs.PowerGrid.of(["small"]), r"size must be one of.*\['small'\]"),
    "an id for a model": (lambda: TabularGymEnv("Taxi-v4"), "expected a TabularEnv, got 'Taxi-v4'"),
    "no model": (lambda: TabularVectorEnv(None, 3), "expected a TabularEnv, got None"),
    "environments in words": (lambda: TabularVectorEnv(WALK, "3"), "num_envs must be an int.*'3'"),
    "an action in words": (lambda: stepped("up"), "action must be an integer in 0 .. 3, got 'up'"),
    "no action": (lambda: stepped(None), "action must be an integer in 0 .. 3, got None"),
    "a part of an action": (lambda: stepped(1.5), "action must be an integer in 0 .. 3, got 1.5"),
    "named buses": (
        lambda: envs.PowerGrid.of(topology=NAMED),
        r"integers 0 \.\. .*'a': number them, as networkx.convert_node_labels_to_integers",
    ),
    "named routers": (lambda: envs.PacketRouting.of(edges=NAMED), "convert_node_labels_to"),
    "named hosts": (lambda: envs.NetworkDefence.of(edges=NAMED), "convert_node_labels_to"),
    "parts of nodes": (lambda: envs.NetworkDefence.of(edges=[(0.5, 1)]), "got 0.5: number them"),
    "no hosts": (lambda: envs.NetworkDefence.of(hosts=None), "a sequence of hosts, got None"),
    "one value": (lambda: envs.NetworkDefence.of(values=3.0), "a sequence of values, got 3.0"),
    "one exposed": (lambda: envs.NetworkDefence.of(exposed=0), "a sequence of exposed, got 0"),
    "traffic in words": (lambda: envs.TrafficGrid.of(arrival_main="a"), "arrival_main.*'a'"),
    "a cost in words": (lambda: envs.TrafficGrid.of(lost_cost=None), "lost_cost.*None"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong(case: str) -> None:
    call, message = WRONG[case]
    with pytest.raises(DQLearnError, match=f"(?s){message}") as caught:
        call()
    assert isinstance(caught.value, ConfigurationError)


def test_what_is_right() -> None:
    """NumPy's numbers are numbers, whole floats are counts of steps, and ids have tables."""
    made = learner(
        num_envs=np.int32(8), gamma=np.float32(0.9), seed=np.int64(3), chunks=np.int64(4)
    )
    assert made.learn(1e2).num_timesteps >= 100
    assert envs.from_table("FrozenLake-v1").n_states == 16
    graph = nx.convert_node_labels_to_integers(NAMED)
    assert envs.PowerGrid.of(topology=graph.subgraph([0, 1, 2])).topology == ((0, 1), (1, 2))
