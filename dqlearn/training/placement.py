"""The place of a run: its plan, its executor, and the states that are placed there.

::

    RecoveryPoint: keys, and values in the client's memory ─┐
                   or a checkpoint                          ├──► place ──► State, under new keys
    none: round 0, or a stored table                       ─┘
    State ──► rebuild: other environments      State ──► recut: other chunks

Invariant: what is placed has a name that was never used before, so that no key ever means two
things, whatever became of the tasks that had it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dqlearn.engine.executor import Executor
from dqlearn.engine.fusing import fuses
from dqlearn.engine.graph import Drawn, Key, State
from dqlearn.engine.lifecycle import begin_graph, load_graph, rebuild_graph, recut_graph, thaw_graph
from dqlearn.stages.observed.sources import Sources
from dqlearn.stages.plan import Plan
from dqlearn.storage.protocol import Version
from dqlearn.table.hash_grid import Grid

__all__ = ["NOWHERE", "Placement", "RecoveryPoint"]

NOWHERE = State(0, (), (), (), ())
"""The state of a run while it goes back: no state."""


@dataclass(frozen=True)
class RecoveryPoint:
    """A state that a run can go back to.

    Attributes
    ----------
    round : int
        The round that comes after the state.
    state : State
        The keys of the state.
    values : dict
        The values that are in the client's memory, by their keys; donated shards as bytes.
    version : Version, optional
        The checkpoint that holds the other values.
    grid : ChunkGrid or HashGrid, optional
        The grid of the chunks that are among the values.
    observed : Sources, optional
        The counters of observed sources; those of a checkpoint are in the checkpoint.
    """

    round: int
    state: State
    values: dict[Key, Any] = field(default_factory=dict)
    version: Version | None = None
    grid: Grid | None = None
    observed: Sources | None = None

    @classmethod
    def at(cls, version: Version) -> RecoveryPoint:
        """Return the recovery point that a checkpoint is by itself."""
        return cls(version.round, NOWHERE, version=version)

    @property
    def live(self) -> bool:
        """Whether the point lacks environments because they could not be copied."""
        copies = [self.values[key] for key in self.state.shards if key in self.values]
        return any(copy is None for copy in copies)


class Placement:
    """The place of one run.

    Parameters
    ----------
    plan : Plan
        The plan of the run, fitted to the room at this place.
    executor : Executor
        The executor that runs the tasks.

    Attributes
    ----------
    plan : Plan
        The plan of the run, with the chunks that the table has now.
    executor : Executor
        The executor that runs the tasks now.
    fused : bool
        Whether rounds are fused, in the one memory that holds the run then.
    """

    plan: Plan
    executor: Executor
    fused: bool

    def __init__(self, plan: Plan, executor: Executor) -> None:
        self.adopt(plan, executor)
        self._run, self._placed = uuid.uuid4().hex[:8], 0

    def adopt(self, plan: Plan, executor: Executor | None = None) -> None:
        """Go on with another plan, and on another executor if one is given."""
        self.plan, self.executor = plan, executor or self.executor
        self.fused = fuses(self.plan, self.executor)
        self.executor.spread = not self.fused

    @property
    def in_place(self) -> bool:
        """Whether rounds may write to the table in place; on a cluster only on the gather path."""
        bound = self.executor.shares_memory or self.plan.exchange == "gather"
        return bound and self.plan.in_place

    @property
    def in_place_without_steps(self) -> bool:
        """Whether rounds in which no environment steps may do so: no environment can fail then."""
        return self.in_place or self.executor.shares_memory

    def fetch(self, drawn: Drawn, keys: Sequence[Key]) -> list[Any]:
        """Run a graph whose results are not kept, and return them."""
        return self.executor.background(drawn, keys)()

    def place(self, point: RecoveryPoint | None) -> State:
        """Place a recovery point in its own chunks, or make the state of round 0."""
        if point and point.grid is not None and point.grid != self.plan.grid:
            self.adopt(self.plan.recut(point.grid))
        if self.plan.out_of_core or self.in_place:
            self.executor.bind()
        name = self._place_plan(self.plan)
        if point is None:
            return self._make(begin_graph(self.plan, name, self.executor.memories))
        if point.version is not None and not point.values:
            return self._load(name, point.version, fresh=True)
        return self._put(name, point)

    def rebuild(self, before: State) -> State:
        """Make all environments of a state anew; its table stays."""
        name = self._place_plan(self.plan)
        drawn = rebuild_graph(self.plan, before, name, self.executor.memories, self._placed)
        return self.lead_on(drawn, before)

    def recut(self, plan: Plan, before: State) -> State:
        """Split the table of a state into the chunks of another plan."""
        name = self._place_plan(plan)
        drawn = recut_graph(plan, self.plan.laid_out, before, name, self.executor.memories)
        return self.lead_on(drawn, before)

    def lead_on(self, drawn: Drawn, before: State) -> State:
        """Run a graph on a state, as far as its result is new; return the state that it makes."""
        self.executor.submit(drawn, list(_without(drawn.state.keys, before)))
        return drawn.state

    def _place_plan(self, plan: Plan) -> str:
        """Place a plan under a new name, which makes all keys of its tasks new."""
        self._placed += 1
        name = f"{self._run}-{self._placed}"
        self.executor.put({("dqlearn-plan", name): plan})
        return name

    def _put(self, name: str, point: RecoveryPoint) -> State:
        """Send the values of a recovery point; read the other values from its checkpoint."""
        moved = point.state.renamed(name)
        keys = zip(moved.keys, point.state.keys, strict=True)
        self.executor.put({new: point.values[old] for new, old in keys if old in point.values})
        if point.version is not None:
            moved = replace(self._load(name, point.version, fresh=False), shards=moved.shards)
        return self._thaw(moved) if self.plan.donated else moved

    def _load(self, name: str, version: Version, *, fresh: bool) -> State:
        return self._make(load_graph(self.plan, name, self.executor.memories, version, fresh))

    def _thaw(self, state: State) -> State:
        """Make shards from their copies, which are dropped."""
        drawn = thaw_graph(self.plan, state, self.executor.memories, self._placed)
        self.lead_on(drawn, state)
        self.executor.drop(_without(state.keys, drawn.state))
        return drawn.state

    def _make(self, drawn: Drawn) -> State:
        self.executor.submit(drawn, drawn.state.keys)
        return drawn.state


def _without(keys: Iterable[Key], state: State) -> Iterable[Key]:
    kept = {*state.keys}
    return (key for key in keys if key not in kept)
