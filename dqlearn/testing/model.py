r"""Check of a compiled model, to be called from its tests.

::

    check_model(model) ─► Gymnasium's checker ─► steps ─► each is one of the outcomes, as often as
                                                          they say

How often is judged by Pearson's statistic over all pairs that were seen often enough; its tail is
that of Wilson and Hilferty (1931). Invariant: what is right passes with every seed, but for one in
a million; a check that fails says what it saw.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.utils.env_checker import check_env

from dqlearn.checks import check_count
from dqlearn.envs.faces.gym_view import TabularGymEnv, check_is_model
from dqlearn.envs.faces.vector_view import TabularVectorEnv
from dqlearn.envs.play import playable, random_valid
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import CheckError

__all__ = ["check_model"]

_SIDE_BY_SIDE = 256
_SELDOM = 5.0  # expected count of an outcome: rarer ones are not judged alone
_IMPROBABLE = 4.75  # standard deviations, which one in a million exceeds

Outcome = tuple[int, float, bool]
Pairs = dict[tuple[int, int], Counter[Outcome]]


def check_model(model: TabularEnv, n_steps: int = 200_000, seed: int = 0) -> None:
    """Check that a compiled model does what it says.

    Gymnasium's checker looks at it as at any environment. Then random actions are taken; each
    transition of a model in events form must be among its outcomes, and each outcome must come as
    often as its probability says. A model in key form has no outcomes: of it the states and the
    rewards are checked.

    Parameters
    ----------
    model : TabularEnv
        The model.
    n_steps : int
        Transitions to be made.
    seed : int
        Seed of the actions and of the model's draws.

    Raises
    ------
    CheckError
        If it does something else than its outcomes say.
    EnvironmentFault
        If a state is outside the model's, a reward is not finite, or a probability is outside
        0 .. 1.
    ConfigurationError
        If `model` is no `TabularEnv`, or `n_steps` no count.

    References
    ----------
    Wilson and Hilferty (1931), "The Distribution of Chi-Square", PNAS 17.

    Examples
    --------
    >>> from dqlearn import envs
    >>> from dqlearn.testing import check_model
    >>> check_model(envs.torus(side=4))
    """
    check_is_model(model)
    kind = TabularGymEnv if model.valid is None else _Obedient
    n_steps = check_count("n_steps", n_steps)
    check_env(kind(model), skip_render_check=True)
    seen = _seen(model, n_steps, seed)
    if model.events is not None:
        _check_frequencies(model, seen)


def _seen(model: TabularEnv, n_steps: int, seed: int) -> Pairs:
    """Count what followed each pair, under random actions."""
    n = min(n_steps, _SIDE_BY_SIDE)
    envs, draw, seen = TabularVectorEnv(model, n), np.random.default_rng(seed), Pairs()
    state, _ = envs.reset(seed=seed)
    over = np.zeros(n, np.bool_)
    for _ in range(-(-n_steps // n)):
        action = random_valid(draw, playable(model, state))
        after, reward, terminated, truncated, _ = envs.step(action)
        columns = (column[~over].tolist() for column in (state, action, after, reward, terminated))
        for s, a, *outcome in zip(*columns, strict=True):  # a step that resets is no transition
            seen.setdefault((s, a), Counter())[tuple(outcome)] += 1
        state, over = after, terminated | truncated
    return seen


class _Obedient(TabularGymEnv):
    """The model as an environment that takes a valid action in place of one that is not."""

    def step(self, action: Any) -> Any:
        """Step; the checker draws any action."""
        mask = self.model.masks([self._state])[0] if self._state >= 0 else None
        return super().step(action if mask is None or mask[action] else np.int64(mask.argmax()))


def _check_frequencies(model: TabularEnv, seen: Pairs) -> None:
    """Compare with the outcomes: none but those, and in the long run as often."""
    statistic, freedom = 0.0, 0
    for (state, action), counts in seen.items():
        expected: dict[Any, float] = defaultdict(float)
        for p, *outcome in model.outcomes(state, action):
            expected[tuple(outcome)] += p
        if strange := counts.keys() - expected.keys():
            raise CheckError(
                f"state {state}, action {action}: expected one of {sorted(expected)}, got "
                f"{sorted(strange)}, as (next state, reward, terminated)"
            )
        own, parts = _pearson(counts, expected)
        statistic, freedom = statistic + own, freedom + parts
    if freedom and _deviation(statistic, freedom) > _IMPROBABLE:
        raise CheckError(
            f"expected outcomes as often as their probabilities say, got Pearson's statistic "
            f"{statistic:.1f} with {freedom} degrees of freedom, over {len(seen)} pairs: do the "
            "events depend on anything but (state, action, params)?"
        )


def _pearson(counts: Counter[Outcome], expected: Mapping[Outcome, float]) -> tuple[float, int]:
    """Return Pearson's statistic of one pair and its degrees of freedom; rare outcomes as one."""
    n = counts.total()
    cells = [(counts[outcome], n * p) for outcome, p in expected.items()]
    often = [cell for cell in cells if cell[1] >= _SELDOM]
    rare = [cell for cell in cells if cell[1] < _SELDOM]
    rest = (sum(got for got, _ in rare), sum(wanted for _, wanted in rare))
    if rest[1] >= _SELDOM:
        often.append(rest)
    elif rare:
        return 0.0, 0  # what is left over would not be a multinomial
    statistic = sum((got - wanted) ** 2 / wanted for got, wanted in often)
    return statistic, len(often) - 1


def _deviation(statistic: float, freedom: int) -> float:
    """Return how many standard deviations a chi-square variable is above its mean."""
    width = 2.0 / (9.0 * freedom)
    return float((math.cbrt(statistic / freedom) - (1.0 - width)) / math.sqrt(width))
