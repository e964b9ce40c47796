"""The policy that shards act on: the greedy action and the value of every state, after a round.

Exploration is not part of it: a shard draws epsilon-greedily for itself, at the epsilon of the
transitions that the policy has been learned from. Invariant: equal tables, seeds and rounds give
equal policies, whatever the chunk grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from dqlearn.maxima import Maxima
from dqlearn.transitions import Sized, Tally

__all__ = ["Policy"]


@dataclass(frozen=True)
class Policy(Sized):
    """What the table says at the start of a round.

    Attributes
    ----------
    value : float (n_states,)
        ``max_a Q_r(s, a)``: the bootstrap.
    action : unsigned int (n_states,)
        The action that attains it.
    timesteps : int
        Transitions that Q_r has been learned from.
    tally : Tally
        Of the round that led to Q_r.
    td_abs_sum : float
        Sum of ``|y - q|`` over that round's updates.
    """

    value: npt.NDArray[Any]
    action: npt.NDArray[Any]
    timesteps: int
    tally: Tally
    td_abs_sum: float = 0.0

    @classmethod
    def of(cls, best: Maxima) -> Policy:
        """Make the policy of a table from its joined maxima."""
        made = best.tally.timesteps + best.tally.n_transitions
        return cls(best.value, best.action, made, best.tally, best.td_abs_sum)
