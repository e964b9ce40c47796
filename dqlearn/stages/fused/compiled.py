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
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from types import ModuleType
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from dqlearn.envs.model_faults import check_transition
from dqlearn.envs.tabular import TabularEnv
from dqlearn.jit.atomics import NAPS
from dqlearn.kernels.crew import board, fail, phase_of
from dqlearn.stages.fused.kernels import rounds_of_model
from dqlearn.stages.fused.reports import RoundReports
from dqlearn.stages.fused.rounds import Rounds
from dqlearn.stages.fused.walks import Walks
from dqlearn.stages.plan import Plan
from dqlearn.stages.policy import Policy
from dqlearn.stages.rollout import CompiledShard
from dqlearn.table.chunk import Chunk

__all__ = ["make_all", "make_rounds"]


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
    arrays, began = Walks(plan, state, round_, n_rounds, in_place), time.monotonic()
    threads = min(threads, max(arrays.sizes)) if NAPS else 1
    made = _run(plan, arrays, n_rounds, threads)
    if made == 0:
        _raise_fault(plan, arrays)
    table = arrays.table
    reports = RoundReports(table.reports(made), threads, time.monotonic() - began)
    shards = arrays.shards_after(made)
    return Rounds(table.chunks_after(made), shards, table.policy_after(made), reports)


def make_all(plan: Plan, arrays: Walks, n_rounds: int) -> None:
    """Make rounds on one thread, and no fewer than are asked for.

    Raises
    ------
    EnvironmentFault
        If any of the rounds meets a fault.
    """
    if _run(plan, arrays, n_rounds, 1, whole=True) < n_rounds:
        _raise_fault(plan, arrays)


def _run(plan: Plan, arrays: Walks, n_rounds: int, threads: int, whole: bool = False) -> int:
    """Make rounds; return how many were made. An error is raised before the first, or `whole`."""
    kernels, numbers = rounds_of_model(cast("TabularEnv", plan.env), plan.algorithm), board()
    sizes, run = arrays.sizes, arrays.arguments()
    # A call that does nothing: what may fail to compile does so before the first write.
    kernels.work(board(closed=True), 0, False, sizes, run)
    arrays.table.stamp(None)  # until they are whole again
    crew = [_helpers().submit(_help, kernels, numbers, sizes, run) for _ in range(threads - 1)]
    try:
        made: int = kernels.work(numbers, n_rounds, True, sizes, run)
        if made < 0:
            raise next(error for error in map(_error_of, crew) if error)
    except Exception:
        phase = phase_of(numbers)
        kernels.close(numbers)
        wait([it for it in crew if not it.cancel()])
        if phase & 1:
            raise  # a rule's own error, while the table was written to
        made = phase >> 1
        _take_back(kernels, arrays, made)
        arrays.table.stamp(made)
        if made == 0 or whole:
            raise
    arrays.table.stamp(made)
    return made


def _take_back(kernels: ModuleType, arrays: Walks, r: int) -> None:
    """Take back the steps of the r-th round, in which a model raised an error."""
    for w in np.flatnonzero(arrays.begun == r).tolist():
        kernels.keep(arrays.before, arrays.envs, arrays.edges[w], arrays.edges[w + 1])


def _raise_fault(plan: Plan, arrays: Walks) -> None:
    """Raise the error of the first environment that met a fault."""
    env = cast("TabularEnv", plan.env)
    w = int(np.flatnonzero(arrays.faults[:, 0] >= 0)[0])
    e, s, a, after = arrays.faults[w].tolist()
    check_transition(
        env, f"environment {plan.first_env + e}", s, a, after, float(arrays.fault_reward[w])
    )


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
