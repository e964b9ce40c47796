"""What a graph of tasks is: where its state is kept, and what draws it.

Invariant: a task's key is (name, run, round, ..., the shard or chunk it is about), and never names
two things; its arguments that are keys are references.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dqlearn.engine.tasks import asking, learning, looking
from dqlearn.table.keys import List, Task, TaskRef

__all__ = ["Draw", "Drawn", "Key", "State", "beside"]

Key = tuple[Any, ...]


@dataclass(frozen=True)
class State:
    """Keys of everything that round `round` starts from.

    Attributes
    ----------
    round : int
        The round that comes next.
    plan : Key
        The run's plan.
    policy : tuple of Key
        Keys of the policy of Q_round, or of its parts (:class:`~dqlearn.stages.policy.Part`), one
        for each memory that has chunks; ``()`` on the gather path, and of federated members, which
        need no policy of all.
    chunks, shards : tuple of Key
        Keys of the table's chunks, and of the shards of environments.
    batches : tuple of Key
        Keys of transitions that were made but not yet learned from: with lag 1 those of the round;
        where a rule looks several steps ahead also those that wait for others; else empty.
    """

    round: int
    plan: Key
    policy: tuple[Key, ...]
    chunks: tuple[Key, ...]
    shards: tuple[Key, ...]
    batches: tuple[Key, ...] = ()

    @property
    def keys(self) -> tuple[Key, ...]:
        """All keys but the plan's."""
        return (*self.policy, *self.chunks, *self.shards, *self.batches)

    def renamed(self, run: str) -> State:
        """Return this state with the keys of another run."""
        moved = self.mapped(lambda key: (key[0], run, *key[2:]))
        return replace(moved, plan=(self.plan[0], run))

    def mapped(self, rename: Callable[[Key], Key]) -> State:
        """Return this state with other keys, and the same plan."""

        def each(keys: tuple[Key, ...]) -> tuple[Key, ...]:
            return tuple(map(rename, keys))

        parts = (self.policy, self.chunks, self.shards, self.batches)
        return State(self.round, self.plan, *map(each, parts))


@dataclass(frozen=True)
class Drawn:
    """A graph, and the state that it makes.

    Attributes
    ----------
    tasks : dict
        Tasks by key; they refer to the keys of the state before.
    pinned : frozenset of Key
        Tasks on donated shards, which must not leave their worker.
    state : State
        The state that the graph makes.
    report : Key
        Key of the :class:`~dqlearn.events.RoundReport` of the round, or of the
        :class:`~dqlearn.stages.fused.reports.RoundReports` of the rounds; ``()`` for other graphs.
    given : tuple of Key
        Keys of data that was placed for this graph alone.
    serial : bool
        Whether one task does all the work: then threads of this process are of no use, and handing
        a task to one costs more than a task of a few transitions.
    """

    tasks: dict[Key, Task]
    pinned: frozenset[Key]
    state: State
    report: Key = ()
    given: tuple[Key, ...] = ()
    serial: bool = False

    def reads(self, keys: Iterable[Key]) -> bool:
        """Whether a task refers to one of these keys."""
        wanted = set(keys)
        return any(not wanted.isdisjoint(task.dependencies) for task in self.tasks.values())


def beside(round_: int) -> str:
    """Return a name for tasks that are drawn besides those of a round, as often as needed."""
    return f"{round_}-{uuid.uuid4().hex[:8]}"


class Draw:
    """Collects the tasks of one round. The last part of a key is the shard or chunk it is about.

    Tasks run in `memories` separate memories, and those about number n in ``n % memories``. Data
    for another memory is put together by memory, not by chunk: fewer messages mean fewer tasks.
    """

    def __init__(
        self, plan: Key, round_: int | str, *, donated: bool = False, memories: int = 1
    ) -> None:
        self.plan, self.round, self.donated, self.memories = plan, round_, donated, memories
        self.tasks: dict[Key, Task] = {}
        self.pinned: set[Key] = set()

    def to(self, state: State, report: Key = ()) -> Drawn:
        """Return the graph that makes a state."""
        return Drawn(self.tasks, frozenset(self.pinned), state, report)

    def task(self, name: str, function: Any, *args: Any, at: tuple[int, ...] = (0,)) -> Key:
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
        self, shards: Sequence[Key], policy: Sequence[Key], round_: int, before: Sequence[Key] = ()
    ) -> tuple[list[Key], list[Key]]:
        """Add the rollouts of a round; return the batches and the shards after it.

        What waits in the batches before it for further transitions becomes part of the new ones.
        """
        made = []
        for w, shard in enumerate(shards):
            args = (self.plan, shard, list(policy), round_, *before[w : w + 1])
            made.append(self.shard_task("rollout", learning.rollout_task, *args, w=w))
        return self.split(made)

    def split(self, made: Sequence[Key]) -> tuple[list[Key], list[Key]]:
        """Add tasks that pick the batches and the shards out of the rollouts' results."""
        batches = [
            self.task("batch", learning.first_task, key, at=(w,)) for w, key in enumerate(made)
        ]
        return batches, self.second(made)

    def second(self, made: Sequence[Key]) -> list[Key]:
        """Add tasks that pick the shards out of the rollouts' results."""
        return [
            self.shard_task("shard", learning.second_task, key, w=w) for w, key in enumerate(made)
        ]

    def sent(self, name: str, function: Any, made: Sequence[Key], n: int) -> list[list[Key]]:
        """Add tasks that send what each shard made to `n` chunks; return what each chunk receives.

        Chunks in one memory receive the same; where there is one memory only, nothing is sent.
        """
        if self.memories == 1:
            return [list(made)] * n
        parcels = [
            [
                self.task(name, function, self.plan, key, m, self.memories, w, at=(m, w))
                for w, key in enumerate(made)
            ]
            for m in range(min(self.memories, n))
        ]
        return [parcels[c % self.memories] for c in range(n)]

    def best(self, chunks: Sequence[Key], round_: int) -> tuple[Key, ...]:
        """Add the policy of chunks that hold their summaries: whole, or one part per memory."""
        n = self.memories
        if n == 1:
            return (self.task("policy", learning.policy_task, self.plan, list(chunks), round_),)
        return tuple(
            self.task(
                "best", learning.best_task, self.plan, list(chunks[m::n]), m, n, round_, at=(m,)
            )
            for m in range(min(n, len(chunks)))
        )

    def policy(self, chunks: Sequence[Key], round_: int) -> tuple[Key, ...]:
        """Add the policy of chunks that do not hold their summaries."""
        best = [
            self.task("summary", learning.summary_task, self.plan, chunk, c, round_, at=(c,))
            for c, chunk in enumerate(chunks)
        ]
        return (self.task("policy", learning.reduce_task, self.plan, best, round_),)

    def known_policy(self, chunks: Sequence[Key], round_: int) -> Key:
        """Add the policy of sparse chunks."""
        known = [
            self.task("known", looking.known_task, self.plan, chunk, round_, at=(c,))
            for c, chunk in enumerate(chunks)
        ]
        return self.task("policy", looking.known_policy_task, self.plan, known)

    # Gather: shards ask, and chunks answer.

    def turns(self, state: State) -> tuple[list[Key], list[Key], list[Key]]:
        """Add the shards' turns on the answers of a state; return batches, shards and parcels."""
        made = []
        for w, shard in enumerate(state.shards):
            said, batch = self.said(state.chunks, w), state.batches[w : w + 1]
            args = (self.plan, w, shard, said, state.round, *batch)
            made.append(self.shard_task("turn", asking.turn_task, *args, w=w))
        return *self.split(made), made

    def asked(self, state: State) -> State:
        """Add the answers to a state's shards, which its chunks do not hold yet."""
        parcels = []
        for w, shard in enumerate(state.shards):
            args = (self.plan, shard, state.round, *state.batches[w : w + 1])
            parcels.append(self.shard_task("ask", asking.ask_task, *args, w=w))
        return self.answered("answer", asking.answer_task, state, parcels)

    def answered(
        self, name: str, task: Any, state: State, parcels: Sequence[Key], *args: Any
    ) -> State:
        """Add what chunks do with parcels: learn from them, or only answer."""
        sent = self.sent(f"{name}-parcel", asking.parcels_task, parcels, len(state.chunks))
        chunks = []
        for c, chunk in enumerate(state.chunks):
            given = (self.plan, c, chunk, sent[c], state.round, *args)
            chunks.append(self.task(name, task, *given, at=(c,)))
        return replace(state, chunks=tuple(chunks))

    def learned(
        self, state: State, routed: Sequence[Key], in_place: bool
    ) -> tuple[tuple[Key, ...], tuple[Key, ...], Key]:
        """Add the updates of a round's batches; return the policy, the chunks and the report."""
        r, sent = state.round, self.sent("parcel", learning.pieces_task, routed, len(state.chunks))
        chunks = []
        for c, chunk in enumerate(state.chunks):
            args = (self.plan, c, chunk, sent[c], r + 1, in_place)
            chunks.append(self.task("update", learning.update_task, *args, at=(c,)))
        best = self.best(chunks, round_=r + 1)
        report = self.task("report", learning.report_task, self.plan, list(best), r)
        return best, tuple(chunks), report

    def noted(self, chunks: Sequence[Key], round_: int) -> Key:
        """Add the report of a round, from what the chunks counted."""
        notes = [self.task("note", asking.note_task, key, at=(c,)) for c, key in enumerate(chunks)]
        return self.task("report", asking.notes_task, self.plan, notes, round_)

    def said(self, chunks: Sequence[Key], w: int) -> list[Key]:
        """Add what chunks answer to shard w; return it, by memory where there are several."""
        n = self.memories
        if n == 1:
            return list(chunks)
        return [
            self.task("told", asking.told_task, list(chunks[m::n]), m, n, w, at=(w, m))
            for m in range(min(n, len(chunks)))
        ]


def _argument(arg: Any) -> Any:
    if isinstance(arg, tuple):
        return TaskRef(arg)
    if isinstance(arg, list):
        return List(*(TaskRef(key) for key in arg))
    return arg
