"""The policy that shards act on: the greedy actions and the value of every state, after a round.

Exploration is not part of it: a shard makes its own epsilon-greedy draws, with the epsilon that
belongs to the number of transitions that the policy has been learned from. On the gather path a
shard's policy covers only the states that the shard asked for. Invariant: equal tables and seeds
give equal policies, whatever the round and the chunk grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.algorithms.fields import Extent
from dqlearn.kernels.choose import Lookup, choose_greedily
from dqlearn.kernels.ties import empty_sets, members_of, sets_of
from dqlearn.stages.summary import Summary
from dqlearn.statistics import RoundStats
from dqlearn.table.row_index import Known
from dqlearn.table.transitions import Sized

__all__ = ["KnownPolicy", "Part", "Policy"]


@dataclass(frozen=True)
class Part(Sized):
    """The summaries of the chunks that lie in one memory.

    Attributes
    ----------
    chunks : tuple of int
        Numbers of the chunks.
    summaries : tuple of Summary
        The summary of each chunk.
    round : int
        The round of the summaries.
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
        What each state is worth to each member: its bootstrap, which in Q-learning is
        ``max_a Q_r(s, a)``. On the gather path (m * members,), for the m states asked for.
    tied : unsigned int (n_states,) or uint64 (n_states, words)
        The set of the greedy actions of each state; on the gather path (m, ...), for the states
        asked for. See :mod:`dqlearn.kernels.ties`.
    timesteps : int
        Transitions that Q_r has been learned from.
    tally : RoundStats
        Counts of the round that led to Q_r.
    extent : Extent
        The states that the policy is of, and the number of their actions.
    td_abs_sum : float
        Sum of ``|y - q|`` over that round's updates.
    numbers : float (n_states, fields), optional
        The value of each field of the rule's summary, where rounds keep them current.
    by_env : bool
        Whether each environment teaches a member of its own.
    rows : int32 (n_envs,), optional
        On the gather path, the row of the state of each environment; else state s is in row s.
    """

    value: npt.NDArray[Any]
    tied: npt.NDArray[Any]
    timesteps: int
    tally: RoundStats
    extent: Extent
    td_abs_sum: float = 0.0
    numbers: npt.NDArray[Any] | None = None
    by_env: bool = False
    rows: npt.NDArray[np.int32] | None = None

    def rows_of(self, state: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the row of each environment, given the states that the environments are in."""
        return state if self.rows is None else self.rows

    @property
    def members(self) -> int:
        """Number of tables that learn side by side, each with its own bootstrap of every state."""
        return len(self.value) // len(self.tied)

    @cached_property
    def action(self) -> npt.NDArray[Any]:
        """The action that stands for the greedy ones of each state, unsigned int (n_states,)."""
        return self.extent.pick(self.tied)

    @property
    def lookup(self) -> Lookup:
        """The greedy action of every state, in the form that kernels take."""
        return self.action

    def choose_one(self, state: int) -> int:
        """Return the greedy action of a state."""
        return int(self.extent.pick(self.tied[state : state + 1], state)[0])

    def choose(self, states: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return the greedy action of each state, shape ``(m,)``."""
        return self.extent.pick(self.tied[states], np.asarray(states)).astype(np.int64)

    def choose_valid(self, state: int, valid: npt.NDArray[np.bool_]) -> int:
        """Return the greedy one of the valid actions (n_actions,) of a state.

        Where no greedy action is valid, all valid ones count as such.
        """
        tied = self.tied[state : state + 1].copy()
        greedy = members_of(tied, len(valid))[0]
        sets_of((greedy & valid if (greedy & valid).any() else valid)[None], tied)
        return int(self.extent.pick(tied, state)[0])


@dataclass(frozen=True)
class KnownPolicy(Sized):
    """The greedy policy of a sparse table, over all states.

    Attributes
    ----------
    known : Known
        The states that have a row in the table.
    action : unsigned int (rows,)
        The greedy action of the state in each row.
    tie_key : uint64
        :func:`dqlearn.kernels.ties.ties` of the table; it sets the action of all other states.
    n_actions : int
        Number of actions of the table.
    """

    known: Known
    action: npt.NDArray[Any]
    tie_key: np.uint64
    n_actions: int

    @property
    def lookup(self) -> Lookup:
        """The greedy action of every state, in the form that kernels take."""
        known = self.known
        return self.action, known.bits, known.blocks, known.slots, self.tie_key, self.n_actions

    def choose_one(self, state: int) -> int:
        """Return the greedy action of a state."""
        return int(self.choose(np.array([state]))[0])

    def choose_valid(self, state: int, valid: npt.NDArray[np.bool_]) -> int:
        """Return the greedy one of the valid actions (n_actions,) of a state.

        Where the greedy action is not valid, all valid ones count as such.
        """
        action = self.choose_one(state)
        if valid[action]:
            return action
        extent, tied = Extent(self.n_actions, self.tie_key), empty_sets(1, self.n_actions)
        sets_of(valid[None], tied)
        return int(extent.pick(tied, state)[0])

    def choose(self, states: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return the greedy action of each state, shape ``(m,)``."""
        actions = np.empty(len(states), np.int64)
        choose_greedily(self.lookup, np.asarray(states, np.int64), actions)
        return actions
