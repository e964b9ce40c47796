"""The policy that shards act on: the greedy action and the value of every state, after a round.

Exploration is not part of it: a shard draws epsilon-greedily for itself, at the epsilon of the
transitions that the policy has been learned from. On the gather path a shard acts on one of the
states that it asked for, and of no others. Invariant: equal tables, seeds and rounds give equal
policies, whatever the chunk grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.kernels.choose import Lookup, choose_greedily
from dqlearn.stages.summary import Summary
from dqlearn.statistics import RoundStats
from dqlearn.table.row_index import Known
from dqlearn.table.transitions import Sized

__all__ = ["KnownPolicy", "Part", "Policy"]


@dataclass(frozen=True)
class Part(Sized):
    """What the chunks in one memory say: their summaries, by the numbers of the chunks.

    Attributes
    ----------
    chunks : tuple of int
        Which.
    summaries : tuple of Summary
        Of each.
    round : int
        The round that they are of; it breaks ties.
    """

    chunks: tuple[int, ...]
    summaries: tuple[Summary, ...]
    round: int


@dataclass(frozen=True)
class Policy(Sized):
    """What the table says at the start of a round.

    Attributes
    ----------
    value : float (n_states * members,)
        What a state is worth to each member: the bootstrap, of Q-learning ``max_a Q_r(s, a)``. On
        the gather path (m * members,), of the states asked for.
    action : unsigned int (n_states,)
        The greedy action; likewise.
    timesteps : int
        Transitions that Q_r has been learned from.
    tally : RoundStats
        Of the round that led to Q_r.
    td_abs_sum : float
        Sum of ``|y - q|`` over that round's updates.
    rows : int32 (n_envs,), optional
        On the gather path, where the state of each environment stands; else state s is in row s.
    """

    value: npt.NDArray[Any]
    action: npt.NDArray[Any]
    timesteps: int
    tally: RoundStats
    td_abs_sum: float = 0.0
    rows: npt.NDArray[np.int32] | None = None

    def rows_of(self, state: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the row of each environment, which are in these states."""
        return state if self.rows is None else self.rows

    @property
    def members(self) -> int:
        """Tables that learn beside each other, each of which has a bootstrap of every state."""
        return len(self.value) // len(self.action)

    @property
    def lookup(self) -> Lookup:
        """The greedy action of every state, for a kernel."""
        return self.action

    def choose(self, states: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return the greedy action of each state, shape ``(m,)``."""
        chosen: npt.NDArray[np.int64] = self.action[states].astype(np.int64)
        return chosen


@dataclass(frozen=True)
class KnownPolicy(Sized):
    """What a sparse table says of all states.

    Attributes
    ----------
    known : Known
        Which states were visited.
    action : unsigned int (rows,)
        The greedy action of each, by its row.
    tie_key : uint64
        :func:`dqlearn.kernels.summary.ties` of the table; it chooses for all others.
    n_actions : int
        Of the table.
    """

    known: Known
    action: npt.NDArray[Any]
    tie_key: np.uint64
    n_actions: int

    @property
    def lookup(self) -> Lookup:
        """The greedy action of every state, for a kernel."""
        known = self.known
        return self.action, known.bits, known.blocks, known.slots, self.tie_key, self.n_actions

    def choose(self, states: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return the greedy action of each state, shape ``(m,)``."""
        actions = np.empty(len(states), np.int64)
        choose_greedily(self.lookup, np.asarray(states, np.int64), actions)
        return actions
