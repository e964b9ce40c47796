r"""Fused rounds of compiled environments: one call of a kernel makes many rounds, in place.

::

    (chunks, shards, policy) of round r ──► kernel, on one or more threads ──► those of round r + n
                                                └──► reports of n rounds, as columns

The policy holds the summary of every state, and the kernel keeps it current: it changes where a
value does. A round costs its transitions, and never the table. Invariant: the bits are those of n
rounds made one after another by :mod:`dqlearn.engine.tasks.learning`, for any number of threads; a
round that meets a fault of the model is not made, and those before it are.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import cache, cached_property, reduce
from itertools import pairwise
from operator import add
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from dqlearn.algorithms.fields import Best
from dqlearn.algorithms.rule import Algorithm
from dqlearn.envs.model_faults import check_transition
from dqlearn.envs.tabular import TabularEnv
from dqlearn.jit.atomics import NAPS
from dqlearn.jit.fingerprint import fingerprint
from dqlearn.kernels.buffers import copy, empty
from dqlearn.kernels.crew import board, fail, phase_of
from dqlearn.kernels.summary import action_dtype, unroll
from dqlearn.kernels.ties import empty_sets
from dqlearn.kernels.update import learn_by
from dqlearn.random import STEPS, exploration_threshold, streams
from dqlearn.schedules import Constant, Schedule, VisitCount
from dqlearn.stages.fused.reports import RoundReports
from dqlearn.stages.plan import Plan
from dqlearn.stages.policy import Policy
from dqlearn.stages.rollout import BLOCK, CompiledShard, state_dtype
from dqlearn.stages.route import TILE
from dqlearn.statistics import RoundStats, no_episodes
from dqlearn.table.chunk import Chunk, Stamp
from dqlearn.table.grid import owner_dtype

__all__ = ["Rounds", "make_rounds"]

_TEMPLATE = Path(__file__).parents[2] / "kernels" / "templates" / "rounds_template.py"
_OFFSETS = np.int32


@dataclass(frozen=True)
class Rounds:
    """What fused rounds made.

    Attributes
    ----------
    chunks : tuple of Chunk
        The chunks after the last round that was made.
    shards : tuple of CompiledShard
        The environments after it.
    policy : Policy
        The policy after it, with the numbers that its summaries are made of.
    reports : RoundReports
        Reports of all rounds that were made.
    """

    chunks: tuple[Chunk, ...]
    shards: tuple[CompiledShard, ...]
    policy: Policy
    reports: RoundReports


def make_rounds(
    plan: Plan,
    state: tuple[Sequence[CompiledShard], Sequence[Chunk], Policy],
    round_: int,
    n_rounds: int,
    threads: int,
    in_place: tuple[bool, bool],
) -> Rounds:
    """Make successive rounds.

    Parameters
    ----------
    plan : Plan
        The plan of the run, in which one memory has everything.
    state : tuple
        The shards, the chunks and the policy of round `round_`.
    round_ : int
        The first round.
    n_rounds : int
        Number of rounds, at least 1.
    threads : int
        Threads that may share the work.
    in_place : (bool, bool)
        Whether the chunks, and the policy, may be written to, where nobody else holds them.

    Returns
    -------
    Rounds
        At least one round, and fewer than `n_rounds` if the next one meets a fault of the model.

    Raises
    ------
    EnvironmentFault
        If the first round meets a fault; nothing is changed then.
    """
    work = _Work(plan, state, round_, n_rounds, in_place)
    threads, began = work.crew(threads), time.monotonic()
    made = work.run(threads)
    if made == 0:
        work.raise_fault()
    policy, columns = work.told(made)
    reports = RoundReports(columns, threads, time.monotonic() - began)
    return Rounds(work.chunks_after(made), work.shards_after(made), policy, reports)


class _Work:
    """The arrays of some rounds, as the kernel takes them."""

    def __init__(
        self,
        plan: Plan,
        state: tuple[Sequence[CompiledShard], Sequence[Chunk], Policy],
        round_: int,
        n_rounds: int,
        in_place: tuple[bool, bool],
    ) -> None:
        self._plan, self._round, self._n = plan, round_, n_rounds
        self._env = cast("TabularEnv", plan.env)
        self._shards, self._chunks, policy = state
        self._made_before = policy.timesteps
        self._owned = [self._own(chunk, in_place[0]) for chunk in self._chunks]
        self._values, self._tied = _summaries(plan, self._chunks, policy, in_place[1])
        self._edges = np.array(plan.first_envs, np.int64)
        self._envs = tuple(
            np.concatenate([getattr(shard, name) for shard in self._shards])
            for name in ("state", "elapsed", "returns")
        )
        self._before = tuple(np.empty_like(array) for array in self._envs)
        n, n_chunks = len(self._shards), plan.grid.n_chunks
        self._begun = np.full(n, -1, np.int64)
        self._episodes = np.tile(no_episodes(), (n_rounds, n, 1))
        self._faults, self._fault_reward = np.full((n, 4), -1, np.int64), np.zeros(n)
        self._td_abs_sum = np.zeros((n_rounds, n_chunks))
        self._changed = np.zeros(n_chunks, np.int64)

    def _own(self, chunk: Chunk, in_place: bool) -> Chunk:
        """Return a chunk whose arrays may be written to."""
        writable = in_place and chunk.stamp is not None and chunk.q.flags.writeable
        if writable:
            return chunk.at(self._round)
        columns = {"q": copy(chunk.q), "visits": copy(chunk.visits)}
        return chunk.with_columns(columns, stamp=Stamp(self._round))

    @cached_property
    def _timesteps(self) -> npt.NDArray[np.int64]:
        """Transitions made before each round."""
        per_round = self._plan.num_envs * self._plan.steps_per_round
        return self._made_before + per_round * np.arange(self._n + 1, dtype=np.int64)

    @cached_property
    def _epsilons(self) -> npt.NDArray[np.float64]:
        return _along(self._plan.epsilon, self._timesteps[:-1])

    @cached_property
    def _rates(self) -> npt.NDArray[np.float64]:
        """The learning rate of each round; NaN where each pair has its own."""
        rate = self._plan.learning_rate
        if isinstance(rate, VisitCount):
            return np.full(self._n, np.nan)
        return _along(rate, self._timesteps[:-1])

    def crew(self, threads: int) -> int:
        """Return how many of some threads find work."""
        return min(threads, max(len(self._shards), len(self._owned))) if NAPS else 1

    def run(self, threads: int) -> int:
        """Make the rounds; return how many were made."""
        kernels, numbers = _kernels(self._env, self._plan.algorithm), board()
        sizes = len(self._shards), len(self._owned)
        run = self._arguments()
        # A call that does nothing: what may fail to compile does so before the first write.
        kernels.work(board(closed=True), 0, False, sizes, run)
        self._stamp(-1)  # until the arrays are whole again
        crew = [_helpers().submit(_help, kernels, numbers, sizes, run) for _ in range(threads - 1)]
        try:
            made: int = kernels.work(numbers, self._n, True, sizes, run)
            if made < 0:
                raise next(error for error in map(_error_of, crew) if error)
        except Exception:
            made = self._whole_rounds(kernels, numbers, crew)
            if made == 0:
                raise
        self._stamp(self._round + made)
        return made

    def _stamp(self, round_: int) -> None:
        for chunk in self._owned:
            cast("Stamp", chunk.stamp).round = round_

    def _whole_rounds(
        self, kernels: ModuleType, numbers: npt.NDArray[np.int64], crew: Sequence[Future[None]]
    ) -> int:
        """Take back the steps of a round in which a model raised an error; return those before it.

        Raises
        ------
        Exception
            The error, if it was raised by a rule, while the table was written to.
        """
        round_, updating = divmod(phase_of(numbers), 2)
        kernels.close(numbers)
        wait([it for it in crew if not it.cancel()])
        if updating:
            raise
        for w in np.flatnonzero(self._begun == round_).tolist():
            kernels.keep(self._before, self._envs, self._edges[w], self._edges[w + 1])
        self._stamp(self._round + round_)
        return round_

    def _arguments(self) -> tuple[Any, ...]:
        plan, env = self._plan, self._env
        keys = streams(np.uint64(plan.seed), STEPS, 0, plan.num_envs)
        envs = (keys, *self._envs)
        steps = self._shards[0].steps, plan.steps_per_round, BLOCK, self._tile
        dtype = self._values.dtype
        thresholds = exploration_thresholds(self._epsilons)
        rates = np.nan_to_num(self._rates).astype(dtype)
        told = (
            *(self._episodes, self._faults, self._fault_reward),
            *(self._td_abs_sum, self._changed, self._begun),
        )
        return (
            self._edges,
            envs,
            self._before,
            (env.params, env.limits),
            (self._values, self._tied),
            (*steps, thresholds, self._epsilons, rates),
            self._table(),
            self._batch(),
            told,
        )

    @property
    def _tile(self) -> int:
        """Environments in a tile, as :func:`dqlearn.stages.rollout.walk_and_route` has them."""
        tile = max(1, TILE // (self._plan.steps_per_round * BLOCK)) * BLOCK
        return min(tile, int(np.diff(self._edges).max()))

    def _table(self) -> tuple[Any, ...]:
        plan, grid, rate = self._plan, self._plan.laid_out, self._plan.learning_rate
        by_visits = None
        if isinstance(rate, VisitCount):
            by_visits = rate.omega, rate.offset, rate.scale
        axes = (locator.arrays for locator in grid.locators)
        shape = grid.bases, grid.widths, grid.members, grid.shape[1]
        addresses = np.array(
            [[array.ctypes.data for array in (it.q, it.visits)] for it in self._owned], np.int64
        )
        gamma, tie_key = self._values.dtype.type(plan.gamma), plan.extent().tie_key
        return gamma, by_visits, (*axes, *shape), addresses, grid.row_edges, tie_key

    def _batch(self) -> tuple[Any, ...]:
        plan, dtype, n_shards = self._plan, self._values.dtype, len(self._shards)
        members, n_chunks = plan.grid.members, plan.grid.n_chunks
        size = self._tile * plan.steps_per_round
        state = state_dtype(self._env.n_states)
        walked = tuple(
            empty((n_shards, size), kind)
            for kind in (state, action_dtype(plan.n_actions * members), dtype, state)
        )
        room = tuple(
            empty((n_shards, size if n_chunks > 1 else 0), kind)
            for kind in (owner_dtype(n_chunks), _OFFSETS, dtype)
        )
        tiles = -(-np.diff(self._edges) // self._tile)
        first_tile = np.concatenate([[0], np.cumsum(tiles)]).astype(np.int64)
        n = plan.num_envs * plan.steps_per_round
        starts = np.zeros((int(first_tile[-1]), n_chunks + 1), np.int64)
        return walked, room, (empty(n, _OFFSETS), empty(n, dtype), starts), first_tile

    def raise_fault(self) -> None:
        """Raise the error of the first environment that met a fault."""
        w = int(np.flatnonzero(self._faults[:, 0] >= 0)[0])
        e, s, a, after = self._faults[w].tolist()
        check_transition(self._env, f"environment {e}", s, a, after, float(self._fault_reward[w]))

    def shards_after(self, made: int) -> tuple[CompiledShard, ...]:
        """Return the environments after so many rounds."""
        steps = self._shards[0].steps + made * self._plan.steps_per_round
        state, elapsed, returns = self._envs
        return tuple(
            CompiledShard(first, state[first:last], elapsed[first:last], returns[first:last], steps)
            for first, last in pairwise(self._edges.tolist())
        )

    def chunks_after(self, made: int) -> tuple[Chunk, ...]:
        """Return the chunks after so many rounds."""
        tally = self._tally(made - 1)
        return tuple(
            replace(
                chunk,
                tally=tally,
                td_abs_sum=float(self._td_abs_sum[made - 1, c]),
                changed=int(self._timesteps[r]) if r else chunk.changed,
                answers=(),
            )
            for c, (chunk, r) in enumerate(zip(self._owned, self._changed.tolist(), strict=True))
        )

    def _tally(self, r: int) -> RoundStats:
        """Return the counts of the r-th of the rounds."""
        shares = np.diff(self._edges) * self._plan.steps_per_round
        return reduce(
            add,
            (
                RoundStats.of_kernel(
                    self._episodes[r, w].tolist(),
                    timesteps=int(self._timesteps[r]),
                    epsilon=float(self._epsilons[r]),
                    n_transitions=int(shares[w]),
                )
                for w in range(len(shares))
            ),
        )

    def told(self, made: int) -> tuple[Policy, dict[str, npt.NDArray[Any]]]:
        """Return the policy after so many rounds, and their reports as columns."""
        plan, columns = self._plan, self._reports(made)
        timesteps = int(self._timesteps[made])
        worth = plan.algorithm.worth(self._values, plan.epsilon(timesteps), plan.n_actions)
        policy = Policy(
            worth,
            self._tied,
            timesteps,
            self._tally(made - 1),
            plan.extent(),
            float(columns["td_abs_sum"][-1]),
            numbers=self._values,
        )
        return policy, columns

    def _reports(self, made: int) -> dict[str, npt.NDArray[Any]]:
        per_round = self._plan.num_envs * self._plan.steps_per_round
        return {
            "round": self._round + np.arange(made),
            "timesteps": self._timesteps[1 : made + 1],
            "epsilon": self._epsilons[:made],
            "learning_rate": self._rates[:made],
            "n_transitions": np.full(made, per_round),
            "td_abs_sum": _in_order(self._td_abs_sum[:made]),
            "n_restarts": np.zeros(made, np.int64),
            "wall_time": np.full(made, np.nan),
            **RoundStats.pooled(self._episodes[:made]),
        }


def _along(schedule: Schedule, timesteps: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return a schedule's values before each round."""
    if isinstance(schedule, Constant):
        return np.full(len(timesteps), schedule.value)
    return np.array([schedule(t) for t in timesteps.tolist()], np.float64)


def exploration_thresholds(epsilons: npt.NDArray[np.float64]) -> npt.NDArray[np.uint64]:
    """Return the bound of each epsilon; see :func:`dqlearn.random.exploration_threshold`."""
    found, where = np.unique(epsilons, return_inverse=True)
    return np.array([exploration_threshold(float(it)) for it in found], np.uint64)[where]


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
        found = rule.find(chunk.q, plan.extent(c))
        tied[own] = rule.tied(found)
        for k, (field, columns) in enumerate(zip(rule.summary, found, strict=True)):
            values[own, k] = field.value_of(columns)
    return values, tied


@cache
def _helpers() -> ThreadPoolExecutor:
    """Return the threads of this process that help; one that comes late finds nothing to do."""
    return ThreadPoolExecutor(thread_name_prefix="dqlearn-helper")


def _help(
    kernels: ModuleType, numbers: npt.NDArray[np.int64], sizes: tuple[int, int], run: Any
) -> None:
    try:
        kernels.work(numbers, 0, False, sizes, run)
    except BaseException:
        fail(numbers)
        raise


def _error_of(helper: Future[None]) -> BaseException | None:
    """Return the error of a helper that has failed; None of one that has not, or not yet begun."""
    return helper.exception() if helper.done() and not helper.cancelled() else None


def _kernels(env: TabularEnv, rule: Algorithm) -> ModuleType:
    """Return the compiled rounds of a model and a rule."""
    width = unroll(env.n_actions)
    fields = tuple(
        (it.score, it.value) if isinstance(it, Best) else (it.term,) for it in rule.summary
    )
    learn, sum_up = learn_by(rule.step, width, fields, rule.behaviour)
    functions = {
        "walk": env.kernels.walk_alone,
        "target": rule.target,
        "learn": learn,
        "sum_up": sum_up,
    }
    return env.specialised(_TEMPLATE, functions, f"_{_token(rule, width)}")


@cache
def _token(rule: Algorithm, width: int) -> str:
    """Return a name for a rule and the number of actions that its kernels are unrolled for."""
    mark = fingerprint(rule.functions) or uuid.uuid4().hex
    return f"{mark}_{width}"
