"""TrafficGrid's baselines, on states worked out by hand, and the plan that fixed time finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dqlearn import evaluate_policy
from dqlearn.envs.problems.traffic import TrafficGrid
from dqlearn.envs.problems.traffic.fixed import best_plan, fixed_time


def state_of(problem: TrafficGrid, queues: Any, phases: str) -> int:
    """Index of a state whose phases are written as "mc"."""
    return problem.index(queues, ["main" if phase == "m" else "cross" for phase in phases])


def labels_of(problem: TrafficGrid, name: str, states: list[int], t: int = 0) -> list[str]:
    actions = problem.baselines()[name](np.array(states), t)
    return [problem.action_labels[action] for action in actions]


def test_longest_queue_first_by_hand() -> None:
    """The longer queue is wanted; where both are equal, the phase that is."""
    problem = TrafficGrid.of("small")
    states = [state_of(problem, q, "mc") for q in ([(3, 1), (2, 2)], [(1, 3), (5, 0)])]
    assert labels_of(problem, "longest queue first", states) == ["main cross", "cross main"]


def test_max_pressure_by_hand() -> None:
    """Four vehicles behind four have no pressure; leaving the network, they have four."""
    problem = TrafficGrid.of("small")
    states = [state_of(problem, q, "mm") for q in ([(4, 3), (4, 0)], [(4, 3), (1, 2)])]
    assert labels_of(problem, "max pressure", states) == ["cross main", "main cross"]
    assert labels_of(problem, "longest queue first", states) == ["main main", "main cross"]


def test_max_pressure_where_platoons_divide() -> None:
    """The next queues are 6 and 0, on average 3: the pressure is 1 on main, and 2 on cross."""
    problem = TrafficGrid(3, ((0, 1), (0, 2)))
    states = [state_of(problem, [(4, 2), (6, 0), (0, 0)], "mmm")]
    assert labels_of(problem, "max pressure", states) == ["cross main main"]


def test_one_step_switches_where_it_gains_most() -> None:
    problem = TrafficGrid.of("small", control="one")
    queues = [[(3, 1), (2, 2)], [(1, 3), (0, 5)], [(1, 3), (0, 1)]]
    states = [state_of(problem, q, "mm") for q in queues]
    labels = ["keep", "switch 2", "switch 1"]
    assert labels_of(problem, "longest queue first", states) == labels


def test_fixed_time_follows_its_plan() -> None:
    """The same for all states; each light is green as long as the plan says, cycle after cycle."""
    problem = TrafficGrid.of("small")
    cycle, *rest = best_plan(problem)
    greens, offsets = rest[:2], rest[2:]
    rows = [labels_of(problem, "fixed time", [0, 5_000, 9_603], t) for t in range(2 * cycle)]
    assert all(len(set(row)) == 1 for row in rows)
    for i in range(2):
        main = [row[0].split()[i] == "main" for row in rows]
        assert main[:cycle] == main[cycle:]
        assert sum(main[:cycle]) == greens[i]
        assert [main[(k - offsets[i]) % cycle] for k in range(cycle)] == sorted(
            main[:cycle], reverse=True
        )


def test_fixed_time_is_the_best_of_its_kind() -> None:
    """Better than plans that one might guess, by the returns that evaluations give."""
    problem = TrafficGrid.of("small")
    model = problem.model()

    def guess(cycle: int, green: int) -> Any:
        return lambda states, t: np.full(len(states), 3 * int(t % cycle >= green))

    found = evaluate_policy(model, problem.baselines()["fixed time"], 200, seed=3)
    for cycle, green in [(4, 2), (6, 3), (12, 6), (20, 10), (20, 16)]:
        assert found.mean > evaluate_policy(model, guess(cycle, green), 200, seed=3).mean


def test_fixed_time_switches_one_a_step() -> None:
    """Where two lights are due at once, the second follows a slot later."""
    problem = TrafficGrid.of("small", control="one")
    cycle, *rest = best_plan(problem)
    due = [
        all((t + offset) % cycle >= green for green, offset in zip(rest[:2], rest[2:], strict=True))
        for t in range(cycle)
    ]
    states = [state_of(problem, [(0, 0), (0, 0)], phases) for phases in ("mm", "cm", "cc")]
    assert fixed_time(problem, np.array(states), due.index(True)).tolist() == [1, 2, 0]


@pytest.mark.parametrize("control", ["all", "one"])
@pytest.mark.parametrize("name", ["fixed time", "longest queue first", "max pressure"])
def test_baselines_are_valid(name: str, control: str) -> None:
    problem = TrafficGrid.of("small", control=control, max_episode_steps=40)
    result = evaluate_policy(problem.model(), problem.baselines()[name], 20, seed=0)
    assert -40 * 24 < result.mean < 0
