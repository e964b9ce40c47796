"""The arrays of fused rounds that every environment shares: the table, and what is counted.

::

    chunks, policy of round r ──► Arrays ── arguments ──► kernel
                                    └──► chunks, policy, reports after n rounds

The environments have arrays of their own, see :mod:`dqlearn.stages.fused.compiled` and
:mod:`dqlearn.stages.fused.stepped`. Invariant: what somebody else holds is copied before it is
written to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from dqlearn.algorithms.rule import Algorithm, Found
from dqlearn.kernels.buffers import copy, empty
from dqlearn.kernels.summary import action_dtype
from dqlearn.kernels.ties import empty_sets
from dqlearn.schedules import Constant, Schedule, VisitCount
from dqlearn.stages.initial.masks import Masking, check_tried
from dqlearn.stages.plan import Plan
from dqlearn.stages.policy import Policy
from dqlearn.stages.rollout import state_dtype
from dqlearn.statistics import RoundStats, no_episodes
from dqlearn.table.chunk import Chunk, Stamp
from dqlearn.table.grid import owner_dtype
from dqlearn.table.transitions import Masks, Piece, Transitions

__all__ = ["Arrays"]

_OFFSETS = np.int32


class Arrays:
    """The arrays of some rounds.

    Parameters
    ----------
    plan : Plan
        The plan of the run.
    chunks : sequence of Chunk
        The chunks of round `round_`.
    policy : Policy
        The policy of that round.
    round_, n_rounds : int
        The first round, and the number of rounds.
    in_place : (bool, bool)
        Whether the arrays of the chunks, and those of the policy, may be written to.

    Attributes
    ----------
    policy : Policy
        The policy that the rounds begin with.
    owned : list of Chunk
        The chunks, whose arrays the rounds write to.
    values, tied : arrays (n_states, ...)
        The numbers and the set of every state, which the rounds keep current.
    timesteps : int64 (n_rounds + 1,)
        Transitions made before each round, and after the last.
    epsilons, rates : float64 (n_rounds,)
        Epsilon and the learning rate of each round; the rate is NaN where each pair has its own.
    alphas : float (n_rounds,)
        The rates in the table's dtype, as the kernel takes them.
    counts, restarts : int64 (n_rounds, shards)
        Transitions that each shard makes in each round, and environments that are built anew.
    episodes : float64 (n_rounds, shards, statistics)
        What is counted of episodes.
    td_abs_sum : float64 (n_rounds, chunks)
        Sums of ``|y - q|``.
    changed : int64 (chunks,)
        Number of the round, of these ones and from 1, that last changed each chunk.
    """

    def __init__(
        self,
        plan: Plan,
        chunks: Sequence[Chunk],
        policy: Policy,
        round_: int,
        n_rounds: int,
        in_place: tuple[bool, bool],
    ) -> None:
        self._plan, self._round, self.policy = plan, round_, policy
        self.owned = [self._own(chunk, in_place[0]) for chunk in chunks]
        self.values, self.tied = _summaries(plan, chunks, policy, in_place[1])
        self.timesteps = np.full(n_rounds + 1, policy.timesteps)
        self.epsilons, self.rates = np.zeros(n_rounds), np.zeros(n_rounds)
        self.alphas = np.zeros(n_rounds, self.values.dtype)
        self.counts = np.zeros((n_rounds, plan.shards), np.int64)
        self.restarts = np.zeros_like(self.counts)
        self.episodes = np.tile(no_episodes(), (n_rounds, plan.shards, 1))
        self.td_abs_sum = np.zeros((n_rounds, plan.grid.n_chunks))
        self.changed = np.zeros(plan.grid.n_chunks, np.int64)

    def _own(self, chunk: Chunk, in_place: bool) -> Chunk:
        """Return a chunk whose arrays may be written to."""
        writable = in_place and chunk.stamp is not None and chunk.q.flags.writeable
        if writable:
            return chunk.at(self._round)
        columns = {"q": copy(chunk.q), "visits": copy(chunk.visits)}
        return chunk.with_columns(columns, stamp=Stamp(self._round))

    def count(self, first: int, last: int, counts: npt.NDArray[np.int64]) -> None:
        """Note the transitions of rounds `first` .. `last` - 1, each shard's, and what follows."""
        self.counts[first:last] = counts
        per_round = self.counts[first:last].sum(axis=1) + self._plan.beside
        self.timesteps[first + 1 : last + 1] = self.timesteps[first] + np.cumsum(per_round)

    def schedule(self, first: int, last: int) -> None:
        """Set epsilon and the learning rate of rounds whose timesteps are known."""
        rate, before = self._plan.learning_rate, self.timesteps[first:last]
        self.epsilons[first:last] = _along(self._plan.epsilon, before)
        if isinstance(rate, VisitCount):
            self.rates[first:last] = np.nan
        else:
            self.rates[first:last] = self.alphas[first:last] = _along(rate, before)

    def mask(self, masks: Masks) -> None:
        """Mask pairs that are not valid, and make the summaries of their states again."""
        rule = self._plan.algorithm
        piece = Piece((np.empty(0, _OFFSETS),), RoundStats(0, 0.0), masks=masks)
        for c, chunk in enumerate(self.owned):
            extent = self._plan.extent(c)
            Masking(self._plan.env, extent).learn(chunk, [piece])
            first = extent.first_state
            own = masks.states[(masks.states >= first) & (masks.states < first + len(chunk.q))]
            found = rule.find(chunk.q, replace(extent, states=own))
            _write(rule, found, own, self.values, self.tied)

    def check_tried(self, batch: Transitions) -> None:
        """Refuse transitions of pairs that are not valid; see :func:`check_tried`."""
        for c, chunk in enumerate(self.owned):
            rows = batch.state - self._plan.extent(c).first_state
            own = (rows >= 0) & (rows < len(chunk.q))
            check_tried(chunk.q.reshape(len(chunk.q), -1)[rows[own], batch.action[own]])

    def stamp(self, made: int | None) -> None:
        """Say how many rounds the arrays of the chunks have learned; None while they change."""
        for chunk in self.owned:
            cast("Stamp", chunk.stamp).round = -1 if made is None else self._round + made

    def table(self) -> tuple[Any, ...]:
        """Return the table as ``kernels/templates/rounds_template.py`` takes it."""
        plan, grid, rate = self._plan, self._plan.laid_out, self._plan.learning_rate
        by_visits = rate.numbers if isinstance(rate, VisitCount) else None
        axes = (locator.arrays for locator in grid.locators)
        shape = grid.bases, grid.widths, grid.members, grid.shape[1]
        addresses = np.array(
            [[array.ctypes.data for array in (it.q, it.visits)] for it in self.owned], np.int64
        )
        gamma, tie_key = self.values.dtype.type(plan.gamma), plan.extent().tie_key
        return gamma, by_visits, (*axes, *shape), addresses, grid.row_edges, tie_key

    def batch(self, size: int, tiles: npt.NDArray[np.int64]) -> tuple[Any, ...]:
        """Return room for a round's transitions, as the kernel takes it.

        Parameters
        ----------
        size : int
            Transitions in a tile, at most.
        tiles : int64 (shards,)
            Number of tiles of each shard.
        """
        plan, dtype, n_shards = self._plan, self.values.dtype, len(tiles)
        n_chunks, columns = plan.grid.n_chunks, plan.n_actions * plan.grid.members
        state = state_dtype(plan.grid.shape[0])
        walked = tuple(
            empty((n_shards, size), kind) for kind in (state, action_dtype(columns), dtype, state)
        )
        room = tuple(
            empty((n_shards, size if n_chunks > 1 else 0), kind)
            for kind in (owner_dtype(n_chunks), _OFFSETS, dtype)
        )
        first_tile = np.concatenate([[0], np.cumsum(tiles)]).astype(np.int64)
        n = plan.num_envs * plan.most_learned
        starts = np.zeros((int(first_tile[-1]), n_chunks + 1), np.int64)
        return walked, room, (empty(n, _OFFSETS), empty(n, dtype), starts), first_tile

    def chunks_after(self, made: int) -> tuple[Chunk, ...]:
        """Return the chunks after so many rounds."""
        tally = self._tally(made - 1)
        return tuple(
            replace(
                chunk,
                tally=tally,
                td_abs_sum=float(self.td_abs_sum[made - 1, c]),
                changed=int(self.timesteps[r]) if r else chunk.changed,
                answers=(),
            )
            for c, (chunk, r) in enumerate(zip(self.owned, self.changed.tolist(), strict=True))
        )

    def _tally(self, r: int) -> RoundStats:
        """Return the counts of the r-th of the rounds."""
        return reduce(
            add,
            (
                RoundStats.of_kernel(
                    episodes.tolist(),
                    timesteps=int(self.timesteps[r]),
                    epsilon=float(self.epsilons[r]),
                    n_transitions=int(n),
                    n_restarts=int(restarts),
                )
                for episodes, n, restarts in zip(
                    self.episodes[r], self.counts[r], self.restarts[r], strict=True
                )
            ),
        )

    def tally_of(self, made: int) -> RoundStats:
        """Return the counts of so many rounds together."""
        before, epsilon = int(self.timesteps[0]), float(self.epsilons[0])
        return RoundStats.of_rounds(before, epsilon, self.reports(made))

    def policy_after(self, made: int) -> Policy:
        """Return the policy after so many rounds."""
        plan, timesteps = self._plan, int(self.timesteps[made])
        worth = plan.algorithm.worth(self.values, plan.epsilon(timesteps), plan.n_actions)
        tally, td = self._tally(made - 1), float(_in_order(self.td_abs_sum[made - 1 : made])[0])
        return Policy(
            *(worth, self.tied, timesteps, tally, plan.extent(), td),
            numbers=self.values,
            by_env=plan.algorithm.by_env,
        )

    def reports(self, made: int) -> dict[str, npt.NDArray[Any]]:
        """Return the reports of so many rounds, as columns."""
        return {
            "round": self._round + np.arange(made),
            "timesteps": self.timesteps[1 : made + 1],
            "epsilon": self.epsilons[:made],
            "learning_rate": self.rates[:made],
            "n_transitions": self.counts[:made].sum(axis=1),
            "td_abs_sum": _in_order(self.td_abs_sum[:made]),
            "n_restarts": self.restarts[:made].sum(axis=1),
            "wall_time": np.full(made, np.nan),
            **RoundStats.pooled(self.episodes[:made]),
        }


def _along(schedule: Schedule, timesteps: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return a schedule's values before each round."""
    if isinstance(schedule, Constant):
        return np.full(len(timesteps), schedule.value)
    return np.array([schedule(t) for t in timesteps.tolist()], np.float64)


def _in_order(columns: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Add columns one after another: NumPy adds in pairs, which rounds differently."""
    total = np.zeros(len(columns))
    for column in columns.T:
        total += column
    return total


def _summaries(
    plan: Plan, chunks: Sequence[Chunk], policy: Policy, in_place: bool
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the numbers and the set of every state, in arrays that may be written to."""
    if policy.numbers is not None:
        arrays = policy.numbers, policy.tied
        return arrays if in_place else (copy(arrays[0]), copy(arrays[1]))
    rule, n_states = plan.algorithm, plan.grid.shape[0]
    values = empty((n_states, len(rule.summary)), chunks[0].q.dtype)
    tied = empty_sets(n_states, plan.n_actions)
    for c, chunk in enumerate(chunks):
        own = plan.laid_out.region(c)[0]
        _write(rule, rule.find(chunk.q, plan.extent(c)), own, values, tied)
    return values, tied


def _write(
    rule: Algorithm, found: Found, own: Any, values: npt.NDArray[Any], tied: npt.NDArray[Any]
) -> None:
    """Write what was found of some states into the numbers and the sets of all."""
    tied[own] = rule.tied(found)
    for k, (field, columns) in enumerate(zip(rule.summary, found, strict=True)):
        values[own, k] = field.value_of(columns)
