"""The sweep: two passes over a table, chunk by chunk, on Dask.

::

    chunk i ──► maxima of its states ──► join: V, one array of all states
    chunk i, V ──► work ──► what the certificate, or the estimate, needs of these states

No chunk is held from the first pass to the second, so that tables out of core stay there.
Invariant: V is the same array whatever the chunks are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import dask
import dask.array as da
import numpy as np
import numpy.typing as npt
from dask.base import compute, persist
from dask.delayed import delayed

from dqlearn.certificates.subject import Subject
from dqlearn.engine.cluster import ClusterExecutor, current_executor
from dqlearn.engine.executor import Executor, LocalExecutor
from dqlearn.envs.tabular import TabularEnv

__all__ = ["About", "Work", "swept"]

About = tuple[TabularEnv, float]
"""A model, and the discount factor."""

Work = Callable[..., Any]
"""What is done with each chunk; a function of a module, so that it can be sent to a worker."""


def swept(subject: Subject, work: Work) -> list[Any]:
    """Make both passes over a table, where Dask would run now.

    Parameters
    ----------
    subject : Subject
        The table and the model.
    work : callable
        ``work((model, gamma), value, first, q, policy)`` for each chunk: V of all states, the
        chunk's first state, its values, and its greedy actions or None.

    Returns
    -------
    list
        What it returned for each chunk, in order.

    Raises
    ------
    IncompatibleTableError
        If a value of a valid pair is not finite.
    """
    executor = current_executor()
    scheduler: AbstractContextManager[Any] = nullcontext()
    if isinstance(executor, LocalExecutor):
        scheduler = dask.config.set(scheduler=executor.get)
    with scheduler:
        return _both(subject, work, executor)


def _both(subject: Subject, work: Work, executor: Executor) -> list[Any]:
    """Make both passes; V stays where it was computed."""
    q, policy = subject.q, subject.policy
    blocks, rows = _pieces(q), q.chunks[0]
    (value,) = persist(delayed(_joined)([delayed(_maxima)(it) for it in blocks]))
    chosen = [None] * len(blocks) if policy is None else _pieces(policy.rechunk((rows,)))
    firsts = np.cumsum([0, *rows[:-1]]).tolist()
    about = _placed((subject.model, subject.gamma), executor)
    bound = delayed(work)
    pieces = zip(firsts, blocks, chosen, strict=True)
    return list(compute(*(bound(about, value, *piece) for piece in pieces)))


def _placed(about: About, executor: Executor) -> Any:
    """Send the model to a worker once, not with each task."""
    if isinstance(executor, ClusterExecutor):
        return executor.client.scatter([about], hash=False)[0]
    return delayed(about, traverse=False, pure=False)


def _pieces(array: da.Array) -> list[Any]:
    return list(array.to_delayed().ravel())


def _maxima(q: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the greatest value of each state; 0 where no action is valid."""
    best: npt.NDArray[Any] = q.max(axis=1)
    best[np.isneginf(best)] = 0.0
    return best


def _joined(maxima: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return np.concatenate(maxima)
