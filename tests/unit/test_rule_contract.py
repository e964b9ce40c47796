"""A rule that cannot be compiled, or returns no numbers, is refused before anything is learned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import dqlearn
from dqlearn.algorithms import Q_LEARNING, Best
from dqlearn.envs.problems.torus import torus
from dqlearn.errors import ConfigurationError

TABLE = {"rate": 0.5}


def opened(q: Any, y: Any, alpha: Any) -> Any:
    return open("q").read()


def looked_up(q: Any, y: Any, alpha: Any) -> Any:
    return q + TABLE["rate"] * (y - q)


def plain(q: Any, y: Any) -> Any:
    return q + y


def helped(q: Any, y: Any, alpha: Any) -> Any:
    return plain(q, y)


def paired(values: Any, epsilon: Any, n_actions: Any, member: Any) -> Any:
    return values[0], epsilon


def nothing(q: Any, s: Any, a: Any) -> Any:
    return None


def beside(q: Any, s: Any, a: Any) -> Any:
    return q[s, a]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": opened}, "numba cannot compile step of 'mine', at test_rule_contract.py, line"),
        ({"step": looked_up}, "constants of the module"),
        ({"step": helped}, r"decorate plain with @numba\.njit"),
        ({"target": paired}, r"target of 'mine' must return a number; paired in .* returns Tuple"),
        ({"summary": (Best(nothing),)}, "score of 'mine' must return a number"),
        ({"summary": (Best(beside),)}, "score of 'mine' must return a number; beside in .* array"),
    ],
)
def test_it_is_refused(changes: dict[str, Any], message: str) -> None:
    rule = replace(Q_LEARNING, name="mine", **changes)
    with pytest.raises(ConfigurationError, match=message):
        dqlearn.QLearner(torus(4), algorithm=rule)


def test_what_compiles_is_not() -> None:
    rule = replace(Q_LEARNING, name="mine", step=lambda q, y, alpha: q + alpha * (y - q))
    assert dqlearn.QLearner(torus(4), algorithm=rule).num_timesteps == 0
