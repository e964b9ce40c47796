"""Results that stand for themselves, without a cluster."""

from __future__ import annotations

import pytest
from dask.utils import key_split

from dqlearn.engine.holding import hold, take
from dqlearn.errors import StaleShardError


def test_a_value_is_taken_once() -> None:
    value = object()
    hold(value, "run", "ticket", "chunk")
    assert take("run", "ticket", "chunk") is value
    with pytest.raises(StaleShardError, match="chunk is no longer in this process"):
        take("run", "ticket", "chunk")


def test_what_a_failed_hand_over_left_is_let_go() -> None:
    hold("left", "run", "first", "chunk")
    hold("another run's", "another", "first", "chunk")
    hold("new", "run", "second", "chunk")
    with pytest.raises(StaleShardError):
        take("run", "first", "chunk")
    assert take("run", "second", "chunk") == "new"
    assert take("another", "first", "chunk") == "another run's"


def test_dask_forgets_the_keys_before() -> None:
    for round_ in range(100):
        assert key_split(("update", "run", round_, 0)) == "update"
    hold("value", "run", "ticket", "chunk")
    assert key_split.cache_info().currsize == 0
    take("run", "ticket", "chunk")
