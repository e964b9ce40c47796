"""The graph of one round; the only place that draws it.

Lag 0: round r acts on Q_r::

    shard w, policy r ─► rollout + route w ─► pieces (c, w) ─► update c ─► maxima c ─► policy r+1
                               └─► shard w of round r+1                                   └─► report

Lag 1: round r's transitions are there already, and the rollout of round r + 1 acts on Q_r beside
the updates that make Q_{r+1}::

    batch w, policy r ─► route w ─► pieces (c, w) ─► update c ─► maxima c ─► policy r+1
    shard w, policy r ─► rollout w ─► batch w, shard w of round r+1

The bootstrap reads policy r in both. W shards and C chunks make 2 W + W C + 2 C + 2 tasks; in one
memory there are no pieces, and W C fewer.
Invariant: every task is a pure function of its inputs, donated shards excepted, which check theirs.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from dask._task_spec import List, Task, TaskRef

from dqlearn import tasks
from dqlearn.envs.python import (
    freeze,
)
from dqlearn.evaluation import EpisodePlan
from dqlearn.plan import Plan

__all__ = [
    "Drawn",
    "Key",
    "State",
    "begin_graph",
    "evaluation_graph",
    "freeze_graph",
    "rebuild_graph",
    "round_graph",
    "thaw_graph",
]

Key = tuple[Any, ...]


@dataclass(frozen=True)
class State:
    """Keys of all that round `round` starts from.

    Attributes
    ----------
    round : int
        The round that comes next.
    plan, policy : Key
        The run's plan, and the policy of Q_round.
    chunks, shards : tuple of Key
        The table and the environments.
    batches : tuple of Key
        Lag 1: the round's transitions, made but not yet learned from; else empty.
    """

    round: int
    plan: Key
    policy: Key
    chunks: tuple[Key, ...]
    shards: tuple[Key, ...]
    batches: tuple[Key, ...] = ()

    @property
    def keys(self) -> tuple[Key, ...]:
        """All of them but the plan."""
        return (self.policy, *self.chunks, *self.shards, *self.batches)

    def renamed(self, run: str) -> State:
        """Return the same state under the keys of another run."""

        def each(keys: tuple[Key, ...]) -> tuple[Key, ...]:
            return tuple((key[0], run, *key[2:]) for key in keys)

        (plan, policy) = each((self.plan, self.policy))
        parts = (each(self.chunks), each(self.shards), each(self.batches))
        return State(self.round, plan, policy, *parts)


@dataclass(frozen=True)
class Drawn:
    """A graph, and what it leads to.

    Attributes
    ----------
    tasks : dict
        Tasks by key; they refer to the keys of the state before.
    pinned : frozenset of Key
        Tasks on donated shards, which must not leave their worker.
    state : State
        What the graph makes.
    report : Key
        Of a small task: the round's :class:`~dqlearn.events.RoundReport`; ``()`` without a round.
    """

    tasks: dict[Key, Task]
    pinned: frozenset[Key]
    state: State
    report: Key = ()


def begin_graph(plan: Plan, run: str) -> Drawn:
    """Draw what makes the state that a run begins with: of round 0, or of its stored origin.

    Parameters
    ----------
    plan : Plan
        Of the run; must be at ``("plan", run)``.
    run : str
        Name of the run, part of every key.

    Returns
    -------
    Drawn
        To that state.
    """
    draw = _Draw(("dqlearn-plan", run), -1, plan.donated)
    shards = [
        draw.shard_task("open", tasks.open_task, draw.plan, w, w=w) for w in range(plan.shards)
    ]
    chunks = [
        draw.task("fill", tasks.fill_task, draw.plan, c, at=(c,)) for c in range(plan.grid.n_chunks)
    ]
    begun = plan.origin.round if plan.origin else 0
    policy = draw.policy(plan, chunks, begun)
    batches: list[Key] = []
    if plan.policy_lag:
        batches, shards = draw.rollouts(shards, policy, begun)
    return draw.to(State(begun, draw.plan, policy, tuple(chunks), tuple(shards), tuple(batches)))


def round_graph(plan: Plan, state: State, spread: bool) -> Drawn:
    """Draw the round that a state comes before.

    Parameters
    ----------
    plan : Plan
        Of the run.
    state : State
        Of round r.
    spread : bool
        Whether tasks run in several memories, so that what chunks receive has to be cut out and
        sent; else they read it where it is.

    Returns
    -------
    Drawn
        To the state of round r + 1.
    """
    r = state.round
    draw = _Draw(state.plan, r, plan.donated)
    if plan.policy_lag:
        routed = [
            draw.task("route", tasks.route_task, draw.plan, batch, state.policy, at=(w,))
            for w, batch in enumerate(state.batches)
        ]
        batches, shards = draw.rollouts(state.shards, state.policy, round_=r + 1)
    else:
        made = [
            draw.shard_task(
                "rollout", tasks.rollout_and_route_task, draw.plan, shard, state.policy, r, w=w
            )
            for w, shard in enumerate(state.shards)
        ]
        routed, shards, batches = made, draw.second(made), []
    chunks = [
        draw.task(
            "update", tasks.update_task, draw.plan, c, chunk, draw.sent(routed, c, spread), at=(c,)
        )
        for c, chunk in enumerate(state.chunks)
    ]
    policy = draw.policy(plan, chunks, round_=r + 1)
    report = draw.task("report", tasks.report_task, draw.plan, policy, r)
    after = State(r + 1, state.plan, policy, tuple(chunks), tuple(shards), tuple(batches))
    return draw.to(after, report)


def freeze_graph(plan: Plan, state: State, stay: bool) -> Drawn:
    """Draw the copying of donated shards; the state it leads to holds copies in their places."""
    draw = _Draw(state.plan, state.round, plan.donated)
    copies = [
        draw.shard_task("freeze", freeze, shard, stay, w=w) for w, shard in enumerate(state.shards)
    ]
    return draw.to(replace(state, shards=tuple(copies)))


def thaw_graph(plan: Plan, state: State, placed: int) -> Drawn:
    """Draw what makes donated shards of their copies; `placed` counts how often that was done."""
    draw = _Draw(state.plan, state.round, plan.donated)
    shards = [
        draw.shard_task("thaw", tasks.thaw_task, draw.plan, copy, w, state.round, placed, w=w)
        for w, copy in enumerate(state.shards)
    ]
    return draw.to(replace(state, shards=tuple(shards)))


def rebuild_graph(plan: Plan, state: State, run: str, placed: int) -> Drawn:
    """Draw the making of all Python environments anew, for a table that stays as it is.

    `run` is the name of the plan's new place, and `placed` gives the environments other seeds.
    """
    draw = _Draw(("dqlearn-plan", run), -1, plan.donated)
    shards = [
        draw.shard_task("open", tasks.reopen_task, draw.plan, w, state.round, placed, w=w)
        for w in range(plan.shards)
    ]
    batches: list[Key] = []
    if plan.policy_lag:
        batches, shards = draw.rollouts(shards, state.policy, state.round)
    fresh = replace(state, plan=draw.plan, shards=tuple(shards), batches=tuple(batches))
    return draw.to(fresh)


def evaluation_graph(
    plan: Plan, state: State, episodes: EpisodePlan, parts: int
) -> tuple[Drawn, list[Key]]:
    """Draw the playing of greedy episodes, in parts; return the graph and the keys of the parts."""
    draw = _Draw(state.plan, f"{state.round}-{uuid.uuid4().hex[:8]}", donated=False)
    edges = [p * episodes.n_episodes // parts for p in range(parts + 1)]
    keys = [
        draw.task(
            "evaluate", tasks.evaluate_task, draw.plan, state.policy, episodes, first, last, at=(p,)
        )
        for p, (first, last) in enumerate(pairwise(edges))
        if last > first
    ]
    return draw.to(state), keys


class _Draw:
    """Collects the tasks of one round. The last part of a key is the shard or chunk it is about."""

    def __init__(self, plan: Key, round_: int | str, donated: bool) -> None:
        self.plan, self.round, self.donated = plan, round_, donated
        self.tasks: dict[Key, Task] = {}
        self.pinned: set[Key] = set()

    def to(self, state: State, report: Key = ()) -> Drawn:
        """Return the graph that leads to a state."""
        return Drawn(self.tasks, frozenset(self.pinned), state, report)

    def task(self, name: str, function: Any, *args: Any, at: tuple[int, ...] = ()) -> Key:
        """Add a task; keys among its arguments become references."""
        key = (f"dqlearn-{name}", self.plan[1], self.round, *at)
        self.tasks[key] = Task(key, function, *(_argument(arg) for arg in args))
        return key

    def shard_task(self, name: str, function: Any, *args: Any, w: int) -> Key:
        """Add a task that takes or makes shard w."""
        key = self.task(name, function, *args, at=(w,))
        if self.donated:
            self.pinned.add(key)
        return key

    def rollouts(
        self, shards: Sequence[Key], policy: Key, round_: int
    ) -> tuple[list[Key], list[Key]]:
        """Add the rollouts of a round; return the batches and the shards after it."""
        made = [
            self.shard_task("rollout", tasks.rollout_task, self.plan, shard, policy, round_, w=w)
            for w, shard in enumerate(shards)
        ]
        batches = [self.task("batch", tasks.first_task, key, at=(w,)) for w, key in enumerate(made)]
        return batches, self.second(made)

    def second(self, made: Sequence[Key]) -> list[Key]:
        """Add the picking of the shards out of rollouts' results."""
        return [self.shard_task("shard", tasks.second_task, key, w=w) for w, key in enumerate(made)]

    def sent(self, routed: Sequence[Key], c: int, spread: bool) -> list[Key]:
        """Add the sending of chunk c's transitions; in one memory there is nothing to send."""
        if not spread:
            return list(routed)
        return [
            self.task("piece", tasks.piece_task, key, c, at=(c, w)) for w, key in enumerate(routed)
        ]

    def policy(self, plan: Plan, chunks: Sequence[Key], round_: int) -> Key:
        """Add maxima and their reduction."""
        best = [
            self.task("maxima", tasks.maxima_task, self.plan, chunk, c, round_, at=(c,))
            for c, chunk in enumerate(chunks)
        ]
        return self.task("policy", tasks.reduce_task, self.plan, best, round_)


def _argument(arg: Any) -> Any:
    if isinstance(arg, tuple):
        return TaskRef(arg)
    if isinstance(arg, list):
        return List(*(TaskRef(key) for key in arg))
    return arg
