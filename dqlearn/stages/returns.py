r"""Returns: what a shard did becomes what is learned, once windows of n transitions are whole.

::

    rows that wait ─┐
                    ├─► rows of each block, in the order of time ─┬─► whole: Transitions (s, a, y)
    rows just made ─┘                                             └─► the rows that wait on

.. math::

    G_t = r_{t+1} + \gamma \, [(1 - l_{t+1}) \, v_r(s_{t+1}) + l_{t+1} \, G_{t+1}]

All values of a return are those of the round in which its window is whole; what a trace l is,
:mod:`dqlearn.algorithms.returns` says. A window is whole when n transitions are there, or its
episode is over: terminated, which is worth nothing more, truncated, or left by an environment that
was built anew. The rows that wait, at most n - 1 of each environment, are the batch of a state:
data, and part of checkpoints. Invariant: each transition is learned once, in the order in which its
environment made it, and its window does not depend on where rounds end.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from dqlearn.algorithms.returns import Returns
from dqlearn.algorithms.rule import Algorithm
from dqlearn.kernels.buffers import empty
from dqlearn.kernels.codes import NO_BOOTSTRAP
from dqlearn.kernels.summary import action_dtype
from dqlearn.kernels.windows.links import edges_of_walk, link, merge
from dqlearn.kernels.windows.returns import find_returns, greedy_traces
from dqlearn.stages.rollout import BLOCK, state_dtype
from dqlearn.statistics import RoundStats
from dqlearn.table.transitions import TRACED, Transitions

__all__ = ["joined", "nothing_waits", "returned", "traced", "waiting", "worth_of"]

Array = npt.NDArray[Any]


def traced(
    batch: Transitions, elapsed: npt.NDArray[np.int64], n_steps: int, most: int
) -> Transitions:
    """Add to a walk of compiled environments where its episodes begin and end.

    Parameters
    ----------
    batch : Transitions
        The transitions, in the order of a batch.
    elapsed : int64 (n_envs,)
        Steps of each environment's episode before the walk.
    n_steps : int
        Steps that each environment took.
    most : int
        Steps after which an episode is truncated.

    Returns
    -------
    Transitions
        The same, with `lane` and `edge`.
    """
    n = len(batch.state)
    lane, edge = empty(n, np.int32), empty(n, np.uint8)
    edges_of_walk(elapsed, n_steps, BLOCK, most, batch.next_state, lane, edge)
    return replace(batch, lane=lane, edge=edge)


def nothing_waits(n_states: int, n_columns: int, dtype: np.dtype[Any]) -> Transitions:
    """Return no transitions: those that wait when a run begins.

    Parameters
    ----------
    n_states, n_columns : int
        States of the table, and actions times members.
    dtype : dtype
        Type of the table's values.

    Returns
    -------
    Transitions
    """
    state = state_dtype(n_states)
    kinds = state, action_dtype(n_columns), dtype, state, np.int32, np.uint8
    state_, action, reward, next_state, lane, edge = (np.empty(0, kind) for kind in kinds)
    tally = RoundStats(0, 0.0)
    return Transitions(state_, action, reward, next_state, tally, lane=lane, edge=edge)


def joined(waiting: Transitions, made: Transitions) -> Transitions:
    """Put transitions behind those of the same environments that wait, block by block.

    Parameters
    ----------
    waiting, made : Transitions
        The transitions of a shard, both in the order of a batch.

    Returns
    -------
    Transitions
        Both, in the order of a batch, with the statistics of those just made.
    """
    if not len(waiting.state):
        return made
    first, second = _columns(waiting), _columns(made)
    n = len(waiting.state) + len(made.state)
    both = tuple(empty(n, column.dtype) for column in second)
    merge(first, second, BLOCK, both)
    columns: dict[str, Any] = dict(zip(TRACED, both, strict=True))
    return replace(made, **columns)


def waiting(batch: Transitions, n_envs: int, rule: Algorithm) -> Transitions:
    """Return the transitions of a batch whose windows are not whole.

    Parameters
    ----------
    batch : Transitions
        A shard's transitions that are not learned from yet.
    n_envs : int
        Environments of the shard.
    rule : Algorithm
        A rule with returns.

    Returns
    -------
    Transitions
        They are in the order of the batch.
    """
    return _some(batch, ~_links(batch, n_envs, _returns_of(rule).n_steps)[1])


def returned(
    batch: Transitions,
    n_envs: int,
    known: tuple[Array, Array],
    gamma: float,
    rule: Algorithm,
    n_actions: int,
) -> tuple[Transitions, Transitions]:
    """Make the targets of the transitions whose windows are whole.

    Parameters
    ----------
    batch : Transitions
        A shard's transitions that are not learned from yet.
    n_envs : int
        Environments of the shard.
    known : tuple of arrays
        What the next state of each transition is worth to each member, (n, members), and the sets
        of greedy actions of all states, both in the round in which the transitions are learned.
    gamma : float
        Discount factor.
    rule : Algorithm
        A rule with returns.
    n_actions : int
        Number of actions of the table.

    Returns
    -------
    Transitions
        Those transitions, in the order of the batch. Their rewards are the targets, with nothing
        to bootstrap from.
    Transitions
        The others, as `waiting` returns them.
    """
    (worth, tied), returns = known, _returns_of(rule)
    after, whole = _links(batch, n_envs, returns.n_steps)
    trace = _traces(batch, tied, n_actions, returns)
    y = empty(int(np.count_nonzero(whole)), batch.reward.dtype)
    over = batch.next_state == NO_BOOTSTRAP
    discount, worth = np.where(over, 0, y.dtype.type(gamma)), np.where(over[:, None], 0, worth)
    rows = batch.reward, discount, batch.action // n_actions
    find_returns(rows, worth, trace, after, whole, returns.n_steps, y)
    nowhere = np.full(len(y), NO_BOOTSTRAP, batch.next_state.dtype)
    learned = replace(_some(batch, whole), reward=y, next_state=nowhere)
    return learned, _some(batch, ~whole)


def worth_of(next_state: Array, value: Array, members: int) -> Array:
    """Return what next states are worth to each member, as `returned` takes it.

    Parameters
    ----------
    next_state : int (n,)
        The states; -1 where an episode terminated.
    value : float (n_states * members,)
        The bootstrap of each state for each member.
    members : int
        Number of members.

    Returns
    -------
    float (n, members)
    """
    worth: Array = value.reshape(-1, members)[np.maximum(next_state, 0)]
    return worth


def _returns_of(rule: Algorithm) -> Returns:
    return cast("Returns", rule.returns)


def _links(batch: Transitions, n_envs: int, n_steps: int) -> tuple[Array, Array]:
    """Return the next row of each row's episode, and whether its window is whole."""
    n = len(batch.state)
    after, whole = empty(n, np.int64), empty(n, np.bool_)
    link(batch.lane, batch.edge, n_envs, n_steps, after, whole)
    return after, whole


def _traces(batch: Transitions, tied: Array, n_actions: int, returns: Returns) -> Array:
    """Return the trace of each row's action."""
    n, dtype = len(batch.state), batch.reward.dtype
    lambda_ = dtype.type(returns.lambda_)
    if returns.trace == "every":
        return np.full(n, lambda_)
    trace, shared = empty(n, dtype), returns.trace == "shared"
    greedy_traces(tied, batch.state, batch.action, n_actions, lambda_, shared, trace)
    return trace


def _columns(batch: Transitions) -> tuple[Array, ...]:
    return tuple(getattr(batch, name) for name in TRACED)


def _some(batch: Transitions, which: Array) -> Transitions:
    some: dict[str, Any] = {name: getattr(batch, name)[which] for name in TRACED}
    return replace(batch, **some)
