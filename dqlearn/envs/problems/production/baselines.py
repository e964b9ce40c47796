"""Policies to beat: what a plant does without a model.

::

    stock, health, t ──► the mode that each machine wants ──► the nearest decision there is

``rule(problem, states, t) -> actions``, many states at once. Whatever else a rule does, it repairs
machines that are down before all else, nearest to the customer first where crews are short.

Preventive maintenance goes by the clock or by age (Barlow and Proschan 1965). A machine's age is in
the state: how long it has been good says nothing about how long it will be, nor does it of a worn
one, as their times are geometric; so the age that matters is its health, and :func:`by_health` is
the rule by age.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dqlearn.envs.play import play
from dqlearn.envs.problems.production.kernels import IDLE, MAINTAIN, RUN
from dqlearn.random import EVALUATION, streams

if TYPE_CHECKING:
    from dqlearn.envs.problems.family import Baseline
    from dqlearn.envs.problems.production.model import ProductionLine
    from dqlearn.envs.tabular import TabularEnv

__all__ = ["best_of", "by_clock", "by_health", "conwip", "kanban", "run_to_failure"]

States = npt.NDArray[np.int64]
Modes = npt.NDArray[np.int64]

DOWN, WORN = 0, 1
EPISODES, MAX_SLOTS, SEED = 400, 200, 271_828  # of a search; no evaluation's own


def run_to_failure(problem: ProductionLine, states: States, t: int) -> States:
    """Run always, and repair what is down.

    Parameters
    ----------
    problem : ProductionLine
        The line.
    states : int64 (n,)
        Where episodes are.
    t : int
        Slots since they began.

    Returns
    -------
    int64 (n,)
        Actions.
    """
    _, health = problem.parts_of(states)
    return _decide(problem, np.full(health.shape, RUN), health)


def by_clock(problem: ProductionLine, states: States, t: int, period: int | None) -> States:
    """Run, repair what is down, and service each machine every so many slots (block replacement).

    Machines take turns, a like time apart, and one that is down when its turn comes is repaired.

    Parameters
    ----------
    problem : ProductionLine
        The line.
    states : int64 (n,)
        Where episodes are.
    t : int
        Slots since they began.
    period : int, optional
        Slots from one service of a machine to the next; None: there are none.

    Returns
    -------
    int64 (n,)
        Actions.
    """
    if period is None:
        return run_to_failure(problem, states, t)
    _, health = problem.parts_of(states)
    turns = np.arange(problem.machines) * period // problem.machines
    due = (t + turns) % period == period - 1
    return _decide(problem, np.where(due, MAINTAIN, np.full(health.shape, RUN)), health)


def by_health(problem: ProductionLine, states: States, t: int, ratio: float) -> States:
    """Run, repair what is down, and service what is worn, where that is quick (age replacement).

    Parameters
    ----------
    problem : ProductionLine
        The line.
    states : int64 (n,)
        Where episodes are.
    t : int
        Slots since they began.
    ratio : float
        Machines are serviced if ``service / repair`` is at least this: 0, all; infinity, none.

    Returns
    -------
    int64 (n,)
        Actions.
    """
    return kanban(problem, states, t, problem.buffer, ratio)


def kanban(problem: ProductionLine, states: States, t: int, cards: int, ratio: float) -> States:
    """Let a machine run only while its store has a free card.

    That is also the base-stock rule of each store by itself: orders that find nothing are lost, so
    no card is ever owed (Liberopoulos and Dallery 2000, "A unified framework for pull control
    mechanisms in multi-stage manufacturing systems", Annals of Operations Research 93).

    Parameters
    ----------
    problem : ProductionLine
        The line.
    states : int64 (n,)
        Where episodes are.
    t : int
        Slots since they began.
    cards : int
        Of every store, 1 .. buffer: the level up to which it is filled.
    ratio : float
        Which machines are serviced when worn, as in :func:`by_health`.

    Returns
    -------
    int64 (n,)
        Actions.
    """
    stock, health = problem.parts_of(states)
    # A full store may have room by the time that its machine's turn comes.
    free = (stock < cards) | (cards == problem.buffer)
    return _decide(problem, np.where(free, RUN, IDLE), health, ratio)


def conwip(problem: ProductionLine, states: States, t: int, level: int, ratio: float) -> States:
    """Let raw parts in only while few are in the line (constant work in process).

    Spearman, Woodruff and Hopp (1990), "CONWIP: a pull alternative to kanban", Int. J. Production
    Research 28. That is also the base-stock rule of the first machines for their echelon, the whole
    line; the others run whenever they can.

    Parameters
    ----------
    problem : ProductionLine
        The line.
    states : int64 (n,)
        Where episodes are.
    t : int
        Slots since they began.
    level : int
        Parts in all stores at which no more are let in.
    ratio : float
        Which machines are serviced when worn, as in :func:`by_health`.

    Returns
    -------
    int64 (n,)
        Actions.
    """
    stock, health = problem.parts_of(states)
    full = stock.sum(axis=1, keepdims=True) >= level
    first = [not problem.inputs(i) for i in range(problem.machines)]
    return _decide(problem, np.where(full & first, IDLE, RUN), health, ratio)


def _decide(problem: ProductionLine, modes: Modes, health: Modes, ratio: float = np.inf) -> States:
    """Repair what is down; then service what is worn, where that is asked; else as wanted."""
    down = health == DOWN
    maintained = down | ((health == WORN) & (problem.service_ratios() >= ratio))
    return problem.decisions.fit(np.where(maintained, MAINTAIN, modes), urgent=down)


def best_of(
    problem: ProductionLine, rule: Callable[..., States], **values: Iterable[float | None]
) -> Baseline:
    """Return a rule with those values of its parameters that do best in simulated episodes.

    Parameters
    ----------
    problem : ProductionLine
        The line.
    rule : callable
        One of this module's.
    **values
        What to try, all combinations, by the parameters' names.

    Returns
    -------
    callable
        ``policy(states, t) -> actions``.
    """
    model = problem.model()
    tried = [dict(zip(values, some, strict=True)) for some in product(*values.values())]
    policies = [partial(rule, problem, **some) for some in tried]
    return max(policies, key=lambda policy: _mean_return(model, policy))


def _mean_return(model: TabularEnv, policy: Baseline) -> float:
    """Play some episodes; the same ones for every policy."""
    keys = streams(np.uint64(SEED), EVALUATION, 0, EPISODES)
    return float(play(model, keys, policy, MAX_SLOTS).returns.mean())
