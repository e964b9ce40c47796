"""NetworkDefence: one slot against arrays and loops, conservation, baselines, pictures."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dqlearn import TabularEnv, evaluate_policy
from dqlearn.envs.problems.defence import LEVELS, NetworkDefence
from dqlearn.envs.problems.defence.baselines import (
    PERIODS,
    do_nothing,
    periodic_restore,
    react,
    searched_period,
)
from dqlearn.envs.problems.picture import Picture
from dqlearn.errors import ConfigurationError

CLEAN, SCANNED, USER, ROOT = range(4)
CHANCE = st.floats(0.0, 1.0)
COST = st.floats(0.0, 20.0)
SMALL = NetworkDefence.of("small")
HOST = {name: i for i, name in enumerate(SMALL.hosts)}


class Slot(NamedTuple):
    """A network, its levels, a decision, and which attacks and removal would succeed."""

    problem: NetworkDefence
    levels: list[int]
    action: int
    attacks: list[bool]  # one a host
    removal: bool


def state_of(levels: list[int]) -> int:
    return sum(level * 4**i for i, level in enumerate(reversed(levels)))


def small_state(**levels: int) -> int:
    return state_of([levels.get(host, CLEAN) for host in SMALL.hosts])


def action_of(label: str, problem: NetworkDefence = SMALL) -> int:
    return problem.labels.index(label)


@st.composite
def slots(draw: Callable[..., Any]) -> Slot:
    """Draw networks of few sizes: each is compiled anew."""
    n = draw(st.sampled_from([2, 5, 15]))
    pairs = st.sampled_from(list(combinations(range(n), 2)))
    edges = draw(st.lists(pairs, unique=True, max_size=3 * n))
    names = "scan", "exploit", "escalate", "removal", "user_share"
    problem = NetworkDefence(
        hosts=[f"host_{i}" for i in range(n)],
        values=draw(st.lists(COST, min_size=n, max_size=n)),
        edges=edges,
        exposed=draw(st.lists(st.integers(0, n - 1), unique=True, min_size=1)),
        isolable=edges[: draw(st.integers(0, len(edges)))],
        **{name: draw(CHANCE) for name in names},
        **{f"{kind}_cost": draw(COST) for kind in ("restore", "removal", "isolation")},
    )
    return Slot(
        problem,
        draw(st.lists(st.integers(CLEAN, ROOT), min_size=n, max_size=n)),
        draw(st.integers(0, len(problem.labels) - 1)),
        draw(st.lists(st.booleans(), min_size=n, max_size=n)),
        draw(st.booleans()),
    )


def decision(slot: Slot) -> tuple[str, Any]:
    """Return what the label says: a verb, and the host or link it is about."""
    verb, _, what = slot.problem.labels[slot.action].partition(" ")
    if verb == "isolate":
        first, second = what.split(" - ")
        return verb, {slot.problem.hosts.index(first), slot.problem.hosts.index(second)}
    return verb, slot.problem.hosts.index(what.split()[-1]) if what else None


def sources(slot: Slot, host: int) -> int:
    """Count whence a host can be attacked."""
    verb, what = decision(slot)
    n = int(host in slot.problem.exposed)
    for edge in slot.problem.edges:
        if host in edge and not (verb == "isolate" and set(edge) == what):
            (other,) = set(edge) - {host}
            n += slot.levels[other] >= USER
    return n


def chances(slot: Slot) -> list[float]:
    """Return the probability of an attack's success, one a host."""
    problem, found = slot.problem, []
    for host, level in enumerate(slot.levels):
        failure = 1.0
        for _ in range(sources(slot, host)):
            failure *= 1.0 - (problem.scan if level == CLEAN else problem.exploit)
        found.append([1.0 - failure, 1.0 - failure, problem.escalate, 0.0][level])
    return found


def possible(slot: Slot) -> Slot:
    """Leave out what has no chance."""
    attacks = [hit and p > 0.0 for hit, p in zip(slot.attacks, chances(slot), strict=True)]
    return slot._replace(attacks=attacks, removal=slot.removal and slot.problem.removal > 0.0)


def follows(slot: Slot) -> tuple[list[int], float]:
    """Return the levels after a slot, and its reward, by the model's description."""
    problem, (verb, what) = slot.problem, decision(slot)
    levels = [level + hit for level, hit in zip(slot.levels, slot.attacks, strict=True)]
    if verb == "restore":
        levels[what] = CLEAN
    elif verb == "remove" and levels[what] == USER and slot.removal:
        levels[what] = SCANNED
    price = {
        "monitor": 0.0,
        "restore": problem.restore_cost,
        "remove": problem.removal_cost,
        "isolate": problem.isolation_cost,
    }[verb]
    weight = [0.0, 0.0, problem.user_share, 1.0]
    losses = [value * weight[level] for value, level in zip(problem.values, levels, strict=True)]
    return levels, -sum(losses) - price


def compiled(slot: Slot) -> tuple[list[int], float, bool]:
    """Return what the kernel makes of a slot."""
    env, n = slot.problem.model(), len(slot.levels)
    happened = sum(hit << (n - 1 - host) for host, hit in enumerate(slot.attacks))
    happened |= slot.removal << n
    state, reward, terminated = env.kernels.transition(
        state_of(slot.levels), slot.action, happened, env.params
    )
    return slot.problem.levels(state).tolist(), reward, terminated


@given(slots())
def test_chances_are_those_of_independent_sources(slot: Slot) -> None:
    env = slot.problem.model()
    *found, removal = env.kernels.events(state_of(slot.levels), slot.action, env.params)
    assert found[::-1] == pytest.approx(chances(slot), rel=1e-12, abs=1e-15)
    assert removal == slot.problem.removal


@given(slots())
def test_a_slot_is_what_it_is_described_as(slot: Slot) -> None:
    slot = possible(slot)
    levels, reward, terminated = compiled(slot)
    expected, cost = follows(slot)
    assert levels == expected
    assert reward == pytest.approx(cost, rel=1e-12)
    assert not terminated


@given(slots())
def test_levels_change_only_as_the_rules_allow(slot: Slot) -> None:
    """Compromised after = before + newly - removed, and no host moves without a cause."""
    slot = possible(slot)
    after, (verb, what) = compiled(slot)[0], decision(slot)
    for host, (old, new) in enumerate(zip(slot.levels, after, strict=True)):
        if host == what:
            continue
        assert old <= new <= old + 1
        if sources(slot, host) == 0 and old in (CLEAN, SCANNED):
            assert new == old
    newly = sum(hit and old == SCANNED for hit, old in zip(slot.attacks, slot.levels, strict=True))
    removed = 0
    if verb in ("restore", "remove"):
        reached = slot.levels[what] + slot.attacks[what]
        removed = int(reached >= USER if verb == "restore" else reached == USER and slot.removal)
        assert after[what] == (CLEAN if verb == "restore" else reached - removed)
    compromised = [sum(level >= USER for level in levels) for levels in (slot.levels, after)]
    assert compromised[1] == compromised[0] + newly - removed


def outcome(env: TabularEnv, state: int, action: int) -> dict[int, float]:
    chance: dict[int, float] = {}
    for p, after, _, _ in env.outcomes(state, action):
        chance[after] = chance.get(after, 0.0) + p
    return chance


def test_a_clean_network_by_hand() -> None:
    """Only user_1 and user_2 are exposed, and each is scanned with 0.2."""
    first, second = small_state(user_1=SCANNED), small_state(user_2=SCANNED)
    assert outcome(SMALL.model(), 0, action_of("monitor")) == pytest.approx(
        {0: 0.64, first: 0.16, second: 0.16, first + second: 0.04}
    )


def test_an_attacked_network_by_hand() -> None:
    """The server is scanned: it falls to one source with 0.2; the source becomes root with 0.3."""
    env = NetworkDefence.of("small", scan=0.0).model()
    state = small_state(enterprise_2=USER, operational=SCANNED)
    after = outcome(env, state, action_of("remove from enterprise_2"))
    assert after == pytest.approx(
        {
            small_state(enterprise_2=SCANNED, operational=SCANNED): 0.7 * 0.6 * 0.8,
            small_state(enterprise_2=SCANNED, operational=USER): 0.7 * 0.6 * 0.2,
            small_state(enterprise_2=USER, operational=SCANNED): 0.7 * 0.4 * 0.8,
            small_state(enterprise_2=USER, operational=USER): 0.7 * 0.4 * 0.2,
            small_state(enterprise_2=ROOT, operational=SCANNED): 0.3 * 0.8,
            small_state(enterprise_2=ROOT, operational=USER): 0.3 * 0.2,
        }
    )


@pytest.mark.parametrize(
    ("levels", "label", "cost"),
    [
        ({}, "monitor", 0.0),
        ({"user_3": ROOT}, "monitor", 0.1),
        ({"enterprise_1": ROOT}, "monitor", 1.0),
        ({"operational": ROOT}, "monitor", 11.0),
        ({"operational": ROOT}, "restore operational", 1.0),
        ({"operational": ROOT}, "remove from operational", 11.1),
        ({"operational": USER}, "monitor", 1.1),
        ({"user_3": ROOT, "enterprise_1": ROOT, "enterprise_2": SCANNED}, "monitor", 1.1),
    ],
)
def test_costs_of_cage_2(levels: dict[str, int], label: str, cost: float) -> None:
    """Where the attacker does nothing."""
    env = SMALL.model()
    after, reward, _ = env.kernels.transition(
        small_state(**levels), action_of(label), 0, env.params
    )
    assert reward == pytest.approx(-cost)
    assert after == (0 if label.startswith("restore") else small_state(**levels))


def test_an_isolated_link_stops_the_attack_for_a_slot() -> None:
    problem = NetworkDefence.of("small", isolable=[[5, 4]], isolation_cost=0.25)
    env, label = problem.model(), "isolate enterprise_2 - operational"
    state = small_state(enterprise_2=ROOT, operational=SCANNED)
    for name, chance in (("monitor", 0.2), (label, 0.0)):
        events = env.kernels.events(state, action_of(name, problem), env.params)
        assert events[0] == pytest.approx(chance)  # that of the last host
    assert env.kernels.transition(state, action_of(label, problem), 0, env.params)[1] == -1.25


def test_states_and_decisions_are_labelled() -> None:
    env = SMALL.model()
    assert [(factor.name, factor.labels) for factor in env.factors] == [
        (name, LEVELS) for name in SMALL.hosts
    ]
    assert env.action_labels == SMALL.labels
    assert SMALL.labels[0] == "monitor"
    assert {len(set(problem.labels)) for problem in (SMALL, NetworkDefence.of("large"))} == {13, 31}
    np.testing.assert_array_equal(
        SMALL.levels(np.arange(4096)), np.stack(np.unravel_index(np.arange(4096), (4,) * 6), 1)
    )


@pytest.mark.parametrize(("start", "count"), [("uniform", 16), ("clean", 1)])
def test_first_states(start: str, count: int) -> None:
    problem = NetworkDefence(["a", "b"], [1, 1], [(0, 1)], [0], start=start)
    env = problem.model()
    assert len({env.initial(key, env.params) for key in range(500)}) == count
    assert 0 in {env.initial(key, env.params) for key in range(500)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hosts": ["a"]}, "2 .. 15 hosts"),
        ({"hosts": [str(i) for i in range(16)]}, "2 .. 15 hosts"),
        ({"hosts": ["a", "a"]}, "different names"),
        ({"hosts": ["a", "action"]}, "different names"),
        ({"hosts": "ab"}, "different names"),
        ({"values": [1.0]}, "a value for each of 6 hosts"),
        ({"values": [-1.0] * 6}, "values must be a number of at least 0"),
        ({"values": [math.inf] * 6}, "values must be a number of at least 0"),
        ({"edges": [(0, 6)]}, "different nodes in 0 .. 5"),
        ({"edges": [(0, 1), (1, 0)]}, "may be given once"),
        ({"exposed": []}, "at least one host"),
        ({"exposed": [6]}, "at least one host"),
        ({"exposed": [1, 1]}, "at least one host"),
        ({"isolable": [(0, 5)]}, "expected some of"),
        ({"isolable": [3]}, "expected some of"),
        ({"isolable": [(4, 5), (5, 4)]}, "may be given once"),
        ({"scan": 1.5}, "scan must be in 0 .. 1"),
        ({"exploit": "0.5"}, "exploit must be in 0 .. 1"),
        ({"removal": math.nan}, "removal must be in 0 .. 1"),
        ({"restore_cost": -1.0}, "restore_cost must be a number of at least 0"),
        ({"start": "dirty"}, "start must be 'uniform' or 'clean'"),
        ({"max_episode_steps": 0}, "max_episode_steps.* must be an integer of at least 1"),
        ({"password": "x"}, "has the parameters"),
    ],
)
def test_bad_parameters(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        NetworkDefence.of("small", **changes)


def test_a_network_may_come_from_json_or_networkx() -> None:
    lists = NetworkDefence(["a", "b", "c"], [1, 2, 3], [[0, 1], [1, 2]], [0], [[2, 1]])
    graph = NetworkDefence(("a", "b", "c"), (1.0, 2.0, 3.0), nx.path_graph(3), (0,), ((1, 2),))
    assert lists == graph
    assert hash(lists) == hash(graph)
    assert lists.isolable == ((1, 2),)


def test_react_cleans_the_host_that_costs_most() -> None:
    states = {
        small_state(): "monitor",
        small_state(user_1=SCANNED, operational=SCANNED): "monitor",
        small_state(user_2=USER): "remove from user_2",
        small_state(user_1=ROOT, user_3=ROOT): "restore user_1",
        small_state(user_1=ROOT, enterprise_2=USER): "restore user_1",
        small_state(user_1=ROOT, enterprise_2=ROOT): "restore enterprise_2",
        small_state(enterprise_2=ROOT, operational=USER): "remove from operational",
        small_state(enterprise_2=ROOT, operational=ROOT): "restore operational",
    }
    # A tie is the first host's: 0.1 for root of user_1, and 0.1 times 1 for a user of enterprise_2.
    found = react(SMALL, np.array(list(states)), 0)
    assert [SMALL.labels[action] for action in found] == list(states.values())


def test_react_cleans_also_what_costs_nothing() -> None:
    problem = NetworkDefence.of("small", user_share=0.0)
    (action,) = react(problem, np.array([small_state(user_3=USER)]), 0)
    assert problem.labels[action] == "remove from user_3"


def test_periodic_restore_takes_the_hosts_in_turn() -> None:
    states = np.arange(3)
    found = [periodic_restore(SMALL, states, t, period=2) for t in range(14)]
    assert all(len(set(actions.tolist())) == 1 for actions in found)
    names = [SMALL.labels[actions[0]] for actions in found]
    assert names[1::2] == ["monitor"] * 7
    assert names[::2] == [f"restore {host}" for host in (*SMALL.hosts, "user_1")]


@pytest.mark.parametrize(("value", "period"), [(1000.0, min(PERIODS)), (0.0, max(PERIODS))])
def test_the_period_is_searched(value: float, period: int) -> None:
    """Always restore what costs a fortune; what costs nothing, as rarely as may be."""
    problem = NetworkDefence(["a", "b"], [value] * 2, [(0, 1)], [0], start="clean")
    assert searched_period(problem) == period


def test_baselines_are_policies() -> None:
    problem = NetworkDefence.of("small", start="clean", max_episode_steps=20)
    means = {
        name: evaluate_policy(problem.model(), policy, 200, seed=1).mean
        for name, policy in problem.baselines().items()
    }
    reacting, periodic, nothing = means.values()
    assert reacting > periodic > nothing
    assert (do_nothing(problem, np.arange(5), 3) == 0).all()


def test_pictures() -> None:
    problem = NetworkDefence.of("small", isolable=[(4, 5)])
    state = small_state(user_1=ROOT, enterprise_2=USER)
    picture = problem.picture(state, action_of("isolate enterprise_2 - operational", problem))
    assert isinstance(picture, Picture)
    lines = picture.text().splitlines()
    assert lines[0] == "isolate enterprise_2 - operational; compromised hosts cost 0.20 a slot"
    assert lines[1].split() == ["user_1", "[##########]", "root"]
    assert lines[-1].endswith("isolated")
    assert [node.level for node in picture.nodes[:6]] == pytest.approx([1, 0, 0, 0, 2 / 3, 0])
    assert len(picture.links) == len(problem.edges) + len(problem.exposed)
    assert problem.picture(0, None).title.startswith("monitor")
    before, after = problem.picture(0, None).rgb(), picture.rgb()
    assert before.dtype == np.uint8
    assert before.shape == after.shape
    assert (before != after).any()


@settings(max_examples=20)
@given(st.sampled_from(["medium", "large"]), st.data())
def test_every_host_has_a_place_of_its_own(size: str, data: st.DataObject) -> None:
    problem = NetworkDefence.of(size)
    state = data.draw(st.integers(0, 4 ** len(problem.hosts) - 1))
    nodes = problem.picture(state, 0).nodes
    assert len({node.at for node in nodes}) == len(nodes)
    assert [LEVELS.index(node.text) for node in nodes[:-1]] == problem.levels(state).tolist()
