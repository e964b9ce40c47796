"""Batch: observed rows as the transitions that one shard, or several, would have made.

::

    Told ─► sifted, checked ─► rows that are learned ─► cut into pieces ─► Transitions, ...

The number of a transition in the run stands for the step of environment 0 in the draws of
:mod:`dqlearn.kernels.members`; with a member for each environment, the index of its source stands
for the environment, or, without sources, that number. Invariant: the pieces, in their order, are
the rows in theirs; how they are cut depends on the rows alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from dqlearn.envs.tabular import TabularEnv
from dqlearn.kernels.codes import NO_BOOTSTRAP
from dqlearn.kernels.members import columns_of_walk
from dqlearn.kernels.summary import action_dtype
from dqlearn.random import STEPS, streams
from dqlearn.stages.observed.check import Bad, Elements, flags, numbers, rewards, sources
from dqlearn.stages.observed.outcome import Observed
from dqlearn.stages.observed.sources import Sifted, Sources
from dqlearn.stages.observed.told import Told
from dqlearn.stages.plan import Plan
from dqlearn.stages.rollout import state_dtype
from dqlearn.statistics import RoundStats
from dqlearn.table.transitions import Transitions

__all__ = ["PIECE", "Batch", "batch_of"]

PIECE = 2**18
"""Transitions in a piece, at most: each is routed by a task of its own."""


@dataclass(frozen=True)
class Batch:
    """Rows that are to be learned in one round.

    Attributes
    ----------
    pieces : tuple of Transitions
        The rows; none if there is nothing to learn.
    marks : dict
        The highest number of each source, once they are learned.
    outcome : Observed
        What becomes of each row.
    """

    pieces: tuple[Transitions, ...]
    outcome: Observed
    marks: dict[str | int, int | None] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of the rows."""
        return sum(piece.__sizeof__() for piece in self.pieces)


def batch_of(
    told: Told,
    spaces: tuple[Elements, Elements],
    counters: Sources,
    plan: Plan,
    timesteps: int,
    skip: bool,
) -> Batch:
    """Make a batch of what somebody says of transitions.

    Parameters
    ----------
    told : Told
        The rows.
    spaces : (Elements, Elements)
        The observations and the actions.
    counters : Sources
        The numbers of the sources so far.
    plan : Plan
        The plan of the run.
    timesteps : int
        Transitions that the run was learned from before.
    skip : bool
        Whether bad rows are skipped.

    Returns
    -------
    Batch
        The rows to learn.

    Raises
    ------
    BadRowError
        If a row is bad, and they are not skipped.
    """
    n, bad = told.n, Bad(skip)
    seq, source = numbers(told.seq, n, bad), sources(told.source, n, bad)
    sifted = _sifted(counters, source, seq, bad, n)
    bad.asked = sifted.new
    columns = _checked(told, spaces, plan.dtype, bad)
    _check_valid(plan, columns, bad)
    learn, index = sifted.new & bad.good(n), sifted.index
    if not learn.all():
        columns, index = tuple(column[learn] for column in columns), index[learn]
    if source is None:
        index = timesteps + np.arange(len(index))
    pieces = _pieces(plan, columns, index, timesteps)
    return Batch(pieces, _outcome(sifted, learn, bad), sifted.marks)


def _sifted(
    counters: Sources, source: Any, seq: npt.NDArray[np.int64] | None, bad: Bad, n: int
) -> Sifted:
    """Sift the rows that say where they come from; the others are bad, and no duplicates."""
    if not bad.reasons:
        return counters.sift(source, seq, n)
    whole = bad.good(n)
    own = source[whole] if isinstance(source, np.ndarray) else source
    some = counters.sift(own, None if seq is None else seq[whole], int(whole.sum()))
    new, index, missing = np.ones(n, np.bool_), np.zeros(n, np.int64), np.zeros(n, np.int64)
    new[whole], index[whole], missing[whole] = some.new, some.index, some.missing
    return Sifted(new, index, missing, some.marks)


def _checked(
    told: Told, spaces: tuple[Elements, Elements], dtype: np.dtype[Any], bad: Bad
) -> tuple[npt.NDArray[Any], ...]:
    """Return state, action, reward and next state of each row that is new, if it is not bad."""
    n, (states, actions), new = told.n, spaces, cast("npt.NDArray[np.bool_]", bad.asked)
    over = flags("terminated", told.terminated, bad)
    flags("truncated", told.truncated, bad)
    reward = rewards(told.reward, dtype, bad)
    rows = _where(new)
    state = states.encode("obs", told.obs, n, rows, bad)
    action = actions.encode("action", told.action, n, rows, bad)
    after = states.encode("next_obs", told.next_obs, n, _where(new & ~over), bad)
    after[over] = NO_BOOTSTRAP
    return state, action, reward, after


def _check_valid(plan: Plan, columns: tuple[npt.NDArray[Any], ...], bad: Bad) -> None:
    """Note rows whose action a model says is not valid."""
    model = plan.env
    if not isinstance(model, TabularEnv) or model.valid is None:
        return
    state, action = columns[:2]
    for first in range(0, len(state), PIECE):
        masks = model.masks(state[first : first + PIECE])
        tried = np.take_along_axis(masks, action[first : first + PIECE, None], axis=1)[:, 0]
        for i in np.flatnonzero(~tried).tolist():
            row = first + i
            valid = np.flatnonzero(masks[i]).tolist()
            bad.add(row, "action", f"valid in state {state[row]}, one of {valid}", action[row])


def _where(wanted: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64] | None:
    """Return positions; None for all."""
    return None if wanted.all() else np.flatnonzero(wanted)


def _pieces(
    plan: Plan,
    columns: tuple[npt.NDArray[Any], ...],
    index: npt.NDArray[np.int64],
    timesteps: int,
) -> tuple[Transitions, ...]:
    """Cut rows into pieces, in the types that chunks take."""
    state, action, reward, after = columns
    members, n_actions, place = plan.grid.members, plan.n_actions, state_dtype(plan.grid.shape[0])
    if members > 1 and plan.algorithm.by_env:
        action = action + index % members * n_actions
    elif members > 1:
        key = streams(np.uint64(plan.seed), STEPS, 0, 1)
        columns_of_walk(key, timesteps, len(action), 1, -1, members, n_actions, action)
    state, after = state.astype(place, copy=False), after.astype(place, copy=False)
    action = action.astype(action_dtype(n_actions * members), copy=False)
    tally = RoundStats(timesteps=timesteps, epsilon=plan.epsilon(timesteps))
    cuts = (slice(first, first + PIECE) for first in range(0, len(state), PIECE))
    return tuple(
        Transitions(
            state[own],
            action[own],
            reward[own],
            after[own],
            replace(tally, n_transitions=len(state[own])),
        )
        for own in cuts
    )


def _outcome(sifted: Sifted, learn: npt.NDArray[np.bool_], bad: Bad) -> Observed:
    """Say what becomes of each row."""
    duplicates, skipped = np.flatnonzero(~sifted.new), sorted(bad.reasons)
    return Observed(
        learned=int(learn.sum()),
        duplicates=len(duplicates),
        gaps=int(sifted.missing.sum()),
        skipped=len(skipped),
        duplicate_rows=duplicates,
        gap_rows=np.flatnonzero(sifted.missing),
        skipped_rows=np.array(skipped, np.int64),
        reasons=tuple(bad.reasons[row] for row in skipped),
    )
