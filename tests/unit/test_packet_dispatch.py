"""PacketDispatch: a slot, the shortest queue, the other rules, pictures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqlearn import QLearner, TabularEnv, exact
from dqlearn.envs.problems.packets import PacketDispatch
from dqlearn.errors import ConfigurationError
from dqlearn.schedules import VisitCount


def state_of(model: TabularEnv, *parts: int) -> int:
    return int(np.ravel_multi_index(parts, [factor.size for factor in model.factors]))


def parts_of(model: TabularEnv, state: int) -> list[int]:
    shape = [factor.size for factor in model.factors]
    return [int(part) for part in np.unravel_index(state, shape)]


def slot_of(model: TabularEnv, state: int, action: int, mask: int) -> tuple[int, float, bool]:
    return model.transition(state, action, mask, model.params)


@st.composite
def dispatches(draw: st.DrawFn) -> tuple[PacketDispatch, list[int], int, list[bool], bool]:
    """A problem, its queues, an action, which servers finish, and whether a packet arrives."""
    rates = draw(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=6))
    capacity, n = draw(st.integers(1, 14)), len(rates)
    problem = PacketDispatch(tuple(rates), draw(st.floats(0, 1)), capacity, draw(st.floats(0, 99)))
    queues = draw(st.lists(st.integers(0, capacity), min_size=n, max_size=n))
    done = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    return problem, queues, draw(st.integers(0, n - 1)), done, draw(st.booleans())


def dispatch_slot(
    problem: PacketDispatch, queues: list[int], action: int, done: list[bool], arrives: bool
) -> tuple[list[int], float, int]:
    """One slot as the docstring tells it: the queues, the reward, the packets that left."""
    queues, left, lost = list(queues), 0, 0
    for i, finished in enumerate(done):
        if finished and queues[i] > 0:
            queues[i] -= 1
            left += 1
    if arrives:
        if queues[action] < problem.capacity:
            queues[action] += 1
        else:
            lost = 1
    return queues, -sum(queues) - problem.loss_cost * lost, left


@given(dispatches())
def test_dispatch_slot(case: tuple[PacketDispatch, list[int], int, list[bool], bool]) -> None:
    problem, queues, action, done, arrives = case
    model = problem.model()
    mask = sum(happened << k for k, happened in enumerate([arrives, *done]))
    state, reward, terminated = slot_of(model, state_of(model, *queues), action, mask)
    after, expected, left = dispatch_slot(*case)
    assert (parts_of(model, state), terminated) == (after, False)
    assert reward == pytest.approx(expected)
    assert problem.queues(state) == tuple(after)
    if problem.loss_cost > 1.0:
        lost = round((-reward - sum(after)) / problem.loss_cost)
        assert sum(queues) + arrives == left + sum(after) + lost
        assert lost in (0, 1)


def test_dispatch_outcomes_by_hand() -> None:
    """One packet in queue 1, none in queue 2; the next goes to queue 2."""
    model = PacketDispatch((0.5, 0.25), arrival=0.8, capacity=1).model()
    chance: dict[tuple[int, float], float] = {}
    for p, state, reward, terminated in model.outcomes(2, 1):
        assert not terminated
        chance[state, reward] = chance.get((state, reward), 0.0) + p
    expected = {(3, -2.0): 0.4, (1, -1.0): 0.4, (2, -1.0): 0.1, (0, 0.0): 0.1}
    assert chance == pytest.approx(expected)


def test_shortest_queue_is_optimal_for_equal_servers() -> None:
    """In every state some shortest queue is a best action, and no other is better."""
    problem = PacketDispatch((0.3,) * 3, arrival=0.8, capacity=5, loss_cost=50.0)
    model = problem.model()
    best = exact.solve(model, gamma=0.98)
    queues = np.array([problem.queues(s) for s in range(model.n_states)])
    shortest = queues == queues.min(axis=1, keepdims=True)
    assert np.where(shortest, best.q, -np.inf).max(axis=1) == pytest.approx(best.value, abs=1e-6)
    assert (best.q.max(axis=1) - np.where(shortest, -np.inf, best.q).max(axis=1)).max() > 0.5
    rule = problem.baselines()["shortest_queue"](np.arange(model.n_states), 0)
    value = exact.policy_value(model, rule, gamma=0.98)
    assert value == pytest.approx(best.value, abs=1e-6)


def test_learner_ties_with_the_shortest_queue() -> None:
    """Equal servers: the learned policy is worth what the optimal rule is, within one percent."""
    problem = PacketDispatch((0.5,) * 2, arrival=0.9, max_episode_steps=50)
    model = problem.model()
    rate = VisitCount(1.0, offset=50, scale=50)
    settings = {"num_envs": 512, "shards": 1, "steps_per_round": 32, "seed": 0}
    learner = QLearner(model, gamma=0.95, learning_rate=rate, epsilon=0.5, **settings)
    learner.learn(2_000_000)
    learned = np.asarray(learner.table.q.compute()).argmax(axis=1)
    rule = problem.baselines()["shortest_queue"](np.arange(model.n_states), 0)
    ours, theirs = (exact.policy_value(model, policy, 0.95).mean() for policy in (learned, rule))
    assert theirs * 1.01 <= ours <= theirs + 1e-6


def test_unequal_servers_have_no_simple_rule() -> None:
    """Every rule is worse than the optimum, from no packets, by a percent at least."""
    problem = PacketDispatch((0.6, 0.2, 0.1), arrival=0.7, capacity=6, loss_cost=50.0)
    model = problem.model()
    best = exact.solve(model, gamma=0.98).value[0]
    for rule in problem.baselines().values():
        worth = exact.policy_value(model, rule(np.arange(model.n_states), 0), gamma=0.98)[0]
        assert worth < 1.01 * best


def test_dispatch_rules_by_hand() -> None:
    problem = PacketDispatch((0.2, 0.5, 0.3), arrival=0.5, capacity=3)
    model, rules = problem.model(), problem.baselines()
    queues = [(0, 0, 0), (1, 1, 1), (0, 2, 1), (3, 3, 2), (2, 3, 3), (1, 0, 0)]
    states = np.array([state_of(model, *levels) for levels in queues])
    assert rules["shortest_queue"](states, 0).tolist() == [1, 1, 0, 2, 0, 1]
    # (q + 1) / rate: (5, 2, 3.3), (10, 4, 6.7), (5, 6, 6.7), (full, full, 10), (15, full, full) ..
    assert rules["shortest_delay"](states, 0).tolist() == [1, 1, 0, 2, 0, 1]
    assert rules["never_queue"](states, 0).tolist() == [1, 1, 0, 2, 0, 1]
    states = np.array([state_of(model, 0, 1, 3)])
    assert rules["shortest_delay"](states, 0).tolist() == [1]  # 4 slots there, 5 at the idle one
    assert rules["never_queue"](states, 0).tolist() == [0]


def test_compiled_is_the_same() -> None:
    """The compiled model enumerates what the functions give in plain Python."""
    model = PacketDispatch.of("small").model()
    pairs = np.random.default_rng(0).integers((model.n_states, model.n_actions), size=(50, 2))
    for state, action in pairs.tolist():
        plain = []
        chances = model.events(state, action, model.params)
        for mask in range(1 << model.n_events):
            happened = [mask >> k & 1 for k in range(model.n_events)]
            p = math.prod(c if h else 1 - c for c, h in zip(chances, happened, strict=True))
            plain += [(p, *slot_of(model, state, action, mask))] if p > 0.0 else []
        assert np.array(model.outcomes(state, action)) == pytest.approx(np.array(plain))


def test_sizes() -> None:
    """Small can be solved, medium has about a million states, large a hundred million or more."""
    small, medium, large = (
        PacketDispatch.of(size).model().n_states for size in PacketDispatch.sizes
    )
    assert small <= 16_000
    assert 0.9e6 <= medium <= 1.1e6
    assert 1e8 <= large <= 1e9
    for size in PacketDispatch.sizes:
        assert (
            PacketDispatch.of(size).model().digest is not None
        )  # so that machine code is kept on disk


def test_rules_give_valid_actions() -> None:
    for size in PacketDispatch.sizes:
        problem = PacketDispatch.of(size)
        model = problem.model()
        states = np.random.default_rng(0).integers(model.n_states, size=200)
        for rule in problem.baselines().values():
            actions = rule(states, 3)
            assert actions.shape == states.shape
            assert actions.dtype == np.int64
            assert ((actions >= 0) & (actions < model.n_actions)).all()
            assert np.array_equal(actions, rule(states, 3))


def test_labels() -> None:
    model = PacketDispatch.of("small").model()
    assert [factor.name for factor in model.factors] == [f"queue_{i}" for i in (1, 2, 3, 4)]
    assert model.action_labels == ("queue_1", "queue_2", "queue_3", "queue_4")


def test_dispatch_picture() -> None:
    problem = PacketDispatch((0.5, 0.3), arrival=0.4, capacity=4)
    picture = problem.picture(state_of(problem.model(), 4, 1), 1)
    text = picture.text()
    assert text.startswith("5 packets, load 0.50; chosen: queue_2\n")
    assert "queue_1               [##########] 4 of 4" in text
    assert [link.level for link in picture.links] == [0.0, 1.0]
    assert picture.rgb().shape[2] == 3
    assert "none yet" in problem.picture(0, None).title


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rates": ()}, "rates must be 1 .. 14 probabilities"),
        ({"rates": (0.5, 0.0)}, "rates must be 1 .. 14 probabilities"),
        ({"rates": 0.5}, "rates must be a sequence of numbers, got 0.5"),
        ({"arrival": 1.5}, "divide arrival and rates alike"),
        ({"capacity": 15}, "capacity must be an integer in 1 .. 14, got 15"),
        ({"loss_cost": -1.0}, "loss_cost must be a number of at least 0"),
        ({"start": "full"}, "start must be 'uniform' or 'empty'"),
    ],
)
def test_bad_dispatch(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        PacketDispatch.of("small", **changes)
