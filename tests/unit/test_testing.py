"""Checks of what users write find what is wrong, and let pass what is right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dqlearn import TabularEnv, envs
from dqlearn.errors import CheckError, ConfigurationError, StateRangeError
from dqlearn.random import bernoulli
from dqlearn.testing import check_model
from dqlearn.testing.model import _deviation


def initial(key: Any, params: Any) -> Any:
    return 0


def events(state: Any, action: Any, params: Any) -> Any:
    return (0.25, 0.5)


def transition(state: Any, action: Any, happened: Any, params: Any) -> Any:
    after = (state + 1 + (happened & 1) + (happened >> 1)) % 6
    return after, 1.0 * happened, after == 0


RING = TabularEnv(6, 2, initial, transition, events, n_events=2, max_episode_steps=9)


@pytest.mark.parametrize("seed", range(5))
def test_a_right_model_passes_with_every_seed(seed: int) -> None:
    check_model(RING, n_steps=50_000, seed=seed)


def uncertain(state: Any, action: Any, params: Any) -> Any:
    return (0.2 if np.random.random() < 0.5 else 0.3), 0.5


def test_events_that_draw_for_themselves() -> None:
    with pytest.raises(CheckError, match=r"Pearson's statistic .* freedom, over 1\d pairs"):
        check_model(replace(RING, events=uncertain))


def astray(state: Any, action: Any, happened: Any, params: Any) -> Any:
    return 5 if state == 3 and np.random.random() < 0.01 else (state + 1) % 5, 0.0, False


def test_what_happens_is_among_the_outcomes() -> None:
    with pytest.raises(CheckError, match=r"state \d, action \d: expected one of .*, got \[\(5, "):
        check_model(replace(RING, transition=astray))


def test_a_key_form_is_looked_at_as_far_as_it_can_be() -> None:
    def walk(state: Any, action: Any, key: Any, params: Any) -> Any:
        return state + (2 if bernoulli(key, 0, params[0]) else 1), 0.0, state > 3

    key_form = TabularEnv(7, 2, initial, walk, params=(0.0,))
    check_model(key_form, n_steps=1_000)
    with pytest.raises(StateRangeError, match="environment"):
        check_model(replace(key_form, n_states=5, params=(1.0,)), n_steps=1_000)


def test_bad_input() -> None:
    with pytest.raises(ConfigurationError, match="expected a TabularEnv, got 'Taxi-v4'"):
        check_model("Taxi-v4")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="n_steps must be an integer of at least 1, got 0"):
        check_model(envs.torus(4), n_steps=0)


@pytest.mark.parametrize(("statistic", "freedom"), [(37.7, 10), (10.83, 1), (149.4, 100)])
def test_the_tail_is_that_of_chi_square(statistic: float, freedom: int) -> None:
    """The 0.999 quantiles of NIST's table, but for 37.7, which is below 0.9999."""
    assert _deviation(statistic, freedom) == pytest.approx(3.09, abs=0.9 if freedom == 10 else 0.06)
