"""Outcomes: what may follow each pair (state, action) of a model, with its probability.

::

    events, transition ──► 2^K outcomes of a pair ──merge──► expected reward; successors, weights
    P[state][action]   ──►          (a list)      ──────►              the same

Outcomes with the same successor are merged, and those that terminate contribute only their reward:
nothing follows them. Memory: 12 bytes per merged outcome and 12 per pair (16 and 12 above 2**31
states). Blocks of states are kept, in the order asked for, while they fit into `max_bytes`
together; a block that does not is tabulated anew whenever asked for. Invariant: either way the
block has the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import gymnasium
import numpy as np
import numpy.typing as npt

from dqlearn.checks import check_whole
from dqlearn.envs.faces.gym_view import TabularGymEnv, view_kernels
from dqlearn.envs.model_faults import check_events, check_mask, check_outcome
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import ConfigurationError

__all__ = ["Block", "Outcomes", "outcomes_of"]

Outcome: TypeAlias = tuple[float, int, float, bool]
Table: TypeAlias = Mapping[int, Mapping[int, Sequence[Outcome]]]

BLOCK_OUTCOMES = 2**22


class Block(NamedTuple):
    """Merged outcomes of some states; a row is a pair (state, action), the action fastest.

    Row i has the successors ``next_state[start[i] : start[i + 1]]``, whose probabilities are the
    same slice of `weight`, and the expected reward ``reward[i]``.
    """

    reward: npt.NDArray[np.float64]
    start: npt.NDArray[np.int32]
    next_state: npt.NDArray[Any]
    weight: npt.NDArray[np.float64]


@dataclass
class TableOutcomes:
    """A whole table of outcomes as one block."""

    n_states: int
    n_actions: int
    block: Block

    def blocks(self, backward: bool = False) -> Iterable[tuple[int, Block]]:
        """Return the first state, 0, and the block."""
        return [(0, self.block)]


class ModelOutcomes:
    """Outcomes of a model, block by block."""

    def __init__(self, env: TabularEnv, max_bytes: int) -> None:
        self.n_states, self.n_actions = int(env.n_states), int(env.n_actions)
        self._env, self._room = env, max_bytes
        self._kept: dict[int, Block] = {}
        n = 1 << env.n_events
        self._size = min(self.n_states, max(1, BLOCK_OUTCOMES // (self.n_actions * n)))
        rows = self._size * self.n_actions
        index = np.int32 if self.n_states <= 2**31 else np.int64
        self._drawn = np.empty(n), np.empty(n, np.int64), np.empty(n), np.empty(n, np.bool_)
        self._slot = np.zeros(self.n_states, np.int32)
        self._scratch = (np.empty(rows * n, index), np.empty(rows * n))

    def blocks(self, backward: bool = False) -> Iterator[tuple[int, Block]]:
        """Iterate over first states and blocks; each is valid until the next is asked for."""
        firsts = range(0, self.n_states, self._size)
        for first in reversed(firsts) if backward else firsts:
            yield first, self._kept.get(first) or self._keep(first, self._tabulate(first))

    def _tabulate(self, first: int) -> Block:
        env, n_rows = self._env, min(self._size, self.n_states - first) * self.n_actions
        reward, start = np.empty(n_rows), np.empty(n_rows + 1, np.int32)
        row, outcome = view_kernels(env).tabulate(
            first,
            self.n_states,
            self.n_actions,
            env.n_events,
            env.params,
            self._drawn,
            self._slot,
            (reward, start, *self._scratch),
        )
        if row >= 0:
            state, action = divmod(row, self.n_actions)
            fault = tuple(drawn[outcome] for drawn in self._drawn)
            check_events(env, first + state, action)
            check_outcome(first + state, action, fault, self.n_states)
            check_mask(env, f"state {first + state}, action {action}", fault[1])
        next_state, weight = self._scratch
        return Block(reward, start, next_state[: start[-1]], weight[: start[-1]])

    def _keep(self, first: int, block: Block) -> Block:
        """Keep a copy of the block if there is room."""
        n_bytes = sum(column.nbytes for column in block)
        if n_bytes <= self._room:
            self._room -= n_bytes
            self._kept[first] = Block._make(column.copy() for column in block)
        return block


Outcomes: TypeAlias = ModelOutcomes | TableOutcomes


def outcomes_of(env: TabularEnv | gymnasium.Env[Any, Any], max_bytes: int) -> Outcomes:
    """Return the outcomes of a model in events form, or of an environment with a table of them.

    Parameters
    ----------
    env : TabularEnv or gymnasium.Env
        The model or environment; wrappers around it are ignored.
    max_bytes : int
        Memory for blocks that are kept, in bytes.

    Returns
    -------
    Outcomes
        The outcomes; ``blocks()`` yields pairs (first state, Block), in order.

    Raises
    ------
    ConfigurationError
        If the outcomes cannot be enumerated.
    """
    check_whole("max_bytes", max_bytes, 0)
    base: Any = env.unwrapped if isinstance(env, gymnasium.Env) else env
    model: Any = base.model if isinstance(base, TabularGymEnv) else base
    if isinstance(model, TabularEnv) and model.events is not None:
        return ModelOutcomes(model, max_bytes)
    if isinstance(getattr(model, "P", None), Mapping):
        return _tabled(model.P)
    raise ConfigurationError(
        "expected a TabularEnv in events form, or a gymnasium.Env with a table P of outcomes, "
        f"got {env!r}: anything else cannot be enumerated"
    )


def _tabled(table: Table) -> TableOutcomes:
    n_states, n_actions = len(table), len(table[0])
    reward, start, onward = [], [0], []
    for state in range(n_states):
        for action in range(n_actions):
            outcomes = table[state][action]
            _check_outcomes(state, action, outcomes, n_states)
            reward.append(sum(p * r for p, _, r, _ in outcomes))
            onward += [(s, p) for p, s, _, terminated in outcomes if not terminated]
            start.append(len(onward))
    block = Block(
        np.array(reward, np.float64),
        np.array(start, np.int32),
        np.array([s for s, _ in onward], np.int32),
        np.array([p for _, p in onward], np.float64),
    )
    return TableOutcomes(n_states, n_actions, block)


def _check_outcomes(state: int, action: int, outcomes: Sequence[Outcome], n_states: int) -> None:
    for outcome in outcomes:
        check_outcome(state, action, outcome, n_states)
    if abs(sum(p for p, *_ in outcomes) - 1.0) > 1e-6:
        raise ConfigurationError(
            f"probabilities must add up to 1, got {outcomes} in state {state}, action {action}"
        )
