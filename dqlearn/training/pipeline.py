"""A run: rounds submitted ahead, reports collected in order, and the way back when work is lost.

::

    submit ─► submit ─► submit          at most `depth` rounds under way
      └─► collect ─► collect ─► ...     reports, oldest first; what was before them is dropped
    every so many rounds: cut           the state copied to the client, or written to a store, and
                                        held where it is, without its history; what is lost later is
                                        made again from there
    in one process:                     in place, but for the round after a state that was lent: to
                                        a Table, a checkpoint, an evaluation

Invariant: rounds are pure, so whichever way the state of round r was come by, its bits are the
same; and the scheduler never holds more tasks than lie between two cuts.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.engine.cluster import LostWork, current_executor
from dqlearn.engine.executor import Executor
from dqlearn.engine.graph import Drawn, Key, State
from dqlearn.engine.lifecycle import close_graph, freeze_graph, restart_graph, write_graph
from dqlearn.engine.round import (
    policy_graph,
    round_graph,
    stamps_graph,
    visited_graph,
    visits_graph,
)
from dqlearn.envs.python.faults import given_up
from dqlearn.envs.python.gymnasium_env import PythonEnv
from dqlearn.envs.python.marks import Scene
from dqlearn.errors import ClusterError, ClusterLostError, TableTooLargeError
from dqlearn.events import RoundReport
from dqlearn.stages.plan import Plan
from dqlearn.stages.policy import KnownPolicy, Policy
from dqlearn.storage.protocol import Version, Writer, WriteResult
from dqlearn.table.grid import ChunkGrid
from dqlearn.table.keys import GraphNode, TaskRef
from dqlearn.table.rebalance import evener, load
from dqlearn.training.cuts import NOWHERE, Cut, Placer, check_left, fitted, granted, submit_new
from dqlearn.training.door import Door
from dqlearn.training.interrupt import uninterrupted

__all__ = ["Runner"]

_CUT_TASKS = 2_000
_CUT_TASKS_AT_MOST = 50_000
_CUT_SHARE = 0.03  # of the time, at most, goes into cuts
_PATIENCE = 15.0  # seconds for a worker that died to come back, before live environments share
_TIMEOUT = 60.0  # seconds for any worker to come
_FIRST_LOOK = 8  # rounds until the loads of chunks are compared
_ATTEMPTS = 5  # at getting further than ever


class Runner:
    """Makes the rounds of one run, wherever Dask would run now.

    Parameters
    ----------
    plan : Plan
        What the run does.
    cut : Cut, optional
        Where to begin; without one, at round 0.

    Raises
    ------
    TableTooLargeError
        If there is not memory enough for the table.
    ClusterError
        If there is a cluster that cannot be used.
    """

    def __init__(self, plan: Plan, cut: Cut | None = None) -> None:
        self.executor: Executor = current_executor()
        self._placer = Placer(fitted(plan, self.executor))
        self._pending: deque[Drawn] = deque()
        self._over: deque[RoundReport] = deque()
        self._cut = cut
        self._tasks = 0
        self.interrupted = threading.Event()  # somebody does not want to wait any longer
        self._losses, self._furthest = 0, 0  # since the run was further than ever; that round
        self._scenes: Counter[Scene] = Counter()  # where environments ended their processes
        self._adrift = False  # what was settled is lost, and there is nowhere to go back to it
        self._broken: BaseException | None = None  # left the shards in mid-round
        self._closed = False  # the shards
        self._lent: State | None = None  # whose chunks somebody else holds too
        self._door = Door()
        self._cut_at, self._cut_seconds = time.monotonic(), 0.0
        self._warned = False
        self._look_at = _FIRST_LOOK  # doubled at each look
        self._settled = NOWHERE
        with self._going_back():
            self._settled = self._place()

    @property
    def plan(self) -> Plan:
        """What the run does, where it is, in the chunks that it has now."""
        return self._placer.plan

    @property
    def state(self) -> State:
        """State of the newest round submitted."""
        return self._pending[-1].state if self._pending else self._settled

    @property
    def settled(self) -> State:
        """State of the newest round collected; all of it is kept."""
        return self._settled

    def nodes(self) -> tuple[ChunkGrid, State, list[GraphNode | TaskRef]]:
        """Return the grid, the settled state, and its chunks as graph nodes."""
        with self._lent_state() as state:
            return self.plan.laid_out, state, [self.executor.node(key) for key in state.chunks]

    def visited(self) -> tuple[State, list[GraphNode | TaskRef], list[npt.NDArray[np.int64]]]:
        """Return the same of a sparse table, and the states that each chunk has learned of."""
        with self._lent_state() as state:
            nodes = [self.executor.node(key) for key in state.chunks]
            states = self.executor.background(*visited_graph(state))
        return state, nodes, states()

    def policy(self) -> Policy | KnownPolicy:
        """Return the policy of the settled state, over all states."""
        made: Policy | KnownPolicy = self.ask(partial(policy_graph, self.plan))[0]
        return made

    def ask(self, draw: Callable[[State], tuple[Drawn, list[Key]]]) -> list[Any]:
        """Make something of the settled state beside the rounds, and return it.

        What needs no chunks, as all that a policy is enough for, lets the next round write to them.
        """
        with self._door.visit():
            state = self.whole_state()
            drawn, keys = draw(state)
            if drawn.reads(state.chunks):
                self._lent = state
            results = self.executor.background(drawn, keys)
        return results()

    @contextmanager
    def _lent_state(self) -> Iterator[State]:
        """Lend the settled state: the next round will not write to it, nor is it dropped inside.

        Another thread than the one that learns waits until no round is being written or settled.
        """
        with self._door.visit():
            self._lent = state = self.whole_state()
            yield state

    def whole_state(self) -> State:
        """Return the settled state; to another thread there is none while the run goes back.

        Raises
        ------
        LostWork
            If so.
        """
        if (state := self._settled) is NOWHERE:
            raise LostWork("the run is going back to its last cut")
        return state

    @property
    def under_way(self) -> int:
        """Rounds submitted and not collected."""
        return len(self._pending) + len(self._over)

    def move(self) -> None:
        """Go where Dask would run now, if that is elsewhere, with the state or the last cut."""
        self._losses = 0  # somebody tries again
        self._scenes.clear()
        here = self.executor
        target = current_executor(here)
        if not here.adopt(target):
            plan = fitted(self.plan, target)
            self._save_cut(plan.out_of_core)
            self.executor = target
            self._placer.plan = plan
            self._go_to_cut()
        elif self._settled is NOWHERE or self._stranded:
            here.rehome()
            self._go_to_cut()

    def submit(self) -> int:
        """Submit the next round; return its number."""
        if self._broken is not None:
            self._rebuild_shards(self._broken)
        if self._closed:
            self._open_shards()
        if self.plan.sparse and self.executor.shares_memory:
            check_left()
        state = self.state
        in_place = self._closed_for_writing(state)
        drawn = round_graph(self.plan, state, self.executor.memories, in_place)
        try:
            with uninterrupted() if in_place else nullcontext():
                self.executor.submit(drawn, [*drawn.state.keys, drawn.report])
                self._pending.append(drawn)
                if in_place:  # no interrupt may come between: there is no other state any more
                    self._over.append(self._settle_oldest())
        except BaseException:
            self._door.open()
            raise
        self._tasks += len(drawn.tasks)
        return drawn.state.round - 1

    @property
    def _in_place(self) -> bool:
        """Whether rounds may write to a table: on a cluster only bound ones, which wait anyway."""
        bound = self.executor.shares_memory or self.plan.exchange == "gather"
        return bound and self.plan.in_place

    def _closed_for_writing(self, state: State) -> bool:
        """Whether a round may write to a state's chunks; if so, nobody reads them any more."""
        if not self._in_place:
            return False
        self._door.close()
        return state is not self._lent

    def collect(self, *, wait: bool) -> Iterator[RoundReport]:
        """Yield the reports of rounds that are over: all when waiting, else those beyond depth."""
        wait = wait or self._cut_is_due() or self._look_is_due()
        yield from self.over()
        while self._pending and (wait or len(self._pending) >= self.executor.depth):
            yield self._settle_oldest()
        if self._look_is_due() and not self._pending:
            self._balance()
        if self._cut_is_due() and not self._pending:
            if self._cut and self._cut.version:
                self.hold()  # there is a checkpoint to go back to
            else:
                self.cut()

    def over(self) -> Iterator[RoundReport]:
        """Yield the reports of rounds that were settled before they were collected."""
        while self._over:
            yield self._over.popleft()

    def cut(self) -> None:
        """Copy the state to the client, and keep it where it is, without its history.

        A table out of core is not copied, and stays with its workers.
        """
        if self.plan.out_of_core:
            self.hold()
            return
        self._cut = self.copy()
        self.hold()
        if not self.executor.settled_in:
            self.spread_out()

    def hold(self) -> None:
        """Forget how the settled state was made; no round may be under way."""
        self._replace(self.executor.hold(self._settled))

    def spread_out(self) -> None:
        """Place the last cut, of the settled round, over the workers that there are now."""
        if self._live:
            return  # live environments stay where they are
        before = self._settled
        self.executor.rehome()
        self._settled = self._place()
        self.executor.drop([before.plan, *before.keys])

    def keep(self) -> None:
        """Copy what was learned on a cluster to the client, so that the cluster may go."""
        known = self._cut.round if self._cut else 0
        elsewhere = not (self.executor.shares_memory or self.plan.out_of_core)
        if elsewhere and self._settled.round > known:
            self._cut = self.copy()

    def close_environments(self) -> None:
        """Close Python environments; the next round makes new ones. What was learned stays."""
        if self.plan.donated and self._settled is not NOWHERE and not self._closed:
            self._closed = True
            with suppress(ClusterError):  # where a worker has gone, so have its environments
                self.fetch(*close_graph(self._settled))

    def warn_without_store(self) -> None:
        """Say once that a table which the client cannot hold is nowhere but on the cluster."""
        if self.plan.out_of_core and not (self.executor.shares_memory or self._warned):
            self._warned = True
            warnings.warn(
                "the table is out of core, and the client keeps no copy of it: if a worker dies, "
                f"the run goes back to round {self._cut.round if self._cut else 0}; pass store=",
                stacklevel=5,
            )

    def copy(self) -> Cut:
        """Copy the state to the client; no round may be under way. Live environments stay out."""
        began = time.monotonic()
        with self._lent_state() as state:
            values = self.copy_shards()
            rest = [key for key in state.keys if key not in values]
            values |= self.executor.gather(rest)
            cut = Cut(state.round, state, values, grid=self.plan.grid)
        self._cut_seconds = time.monotonic() - began
        return cut

    def copy_shards(self) -> dict[Key, Any]:
        """Copy donated shards to the client, by the keys of those that they are copies of."""
        state = self._settled
        if not self.plan.donated:
            return {}
        frozen = freeze_graph(self.plan, state)
        copies = frozen.state.shards
        return dict(zip(state.shards, self.fetch(frozen, copies), strict=True))

    def set_down(self, *, restart: bool) -> dict[Key, Any]:
        """Make the settled state one that a checkpoint and copies of donated shards can bring back.

        With `restart` Python environments begin new episodes, from seeds of the round, and no
        copies are needed.
        """
        if self.plan.donated and restart:
            drawn = restart_graph(self.plan, self._settled, self.executor.memories)
            submit_new(self.executor, drawn, self._settled)
            self._replace(drawn.state)
        self.hold()
        return {} if restart or self.executor.shares_memory else self.copy_shards()

    def write(self, writer: Writer, since: int) -> Callable[[], list[WriteResult]]:
        """Begin to write the settled state; return what waits until it is written."""
        with self._lent_state() as state:
            return self.executor.background(*write_graph(self.plan, state, writer, since))

    def cut_at(self, version: Version, state: State, copies: dict[Key, Any]) -> None:
        """Take a checkpoint of a state as what to go back to."""
        self._cut = Cut(version.round, state, copies, version)

    def _replace(self, state: State) -> None:
        """Go on from other keys of the settled state."""
        before, self._settled = self._settled, state
        self._lent = state if self._lent is before else self._lent
        self._tasks, self._cut_at = 0, time.monotonic()
        self.executor.drop(key for key in before.keys if key not in set(state.keys))

    def recover(self, error: BaseException) -> None:
        """Go back to a whole state after a round failed: the last collected one, or the last cut.

        Raises
        ------
        EnvironmentFault
            If environments end their processes again and again.
        ClusterLostError
            If work is lost again and again for another reason, or no worker comes.
        """
        self._drop_pending()
        if isinstance(error, ClusterError):
            self._adrift = True
            self._rehome(error)
            if isinstance(error, LostWork):
                self._count_loss(error)
            self._go_to_cut()
        elif self._torn():
            self._give_up_table(error)
        elif self.plan.donated and self._settled is not NOWHERE:
            self._rebuild_shards(error)

    def _rehome(self, error: ClusterError) -> None:
        """Find the workers there are; wait for some, unless that was done, or is interrupted."""
        none_came = isinstance(error, ClusterLostError)  # in the time there was
        patience = _PATIENCE if self._may_live and not none_came else 0.0
        try:
            self.executor.rehome(0.0 if none_came else _TIMEOUT, patience, self.interrupted)
        except ClusterLostError as lost:  # who starts workers may have given up before the run
            raise given_up(self._losses, self._scenes, self._furthest, lost) from error

    def _count_loss(self, error: LostWork) -> None:
        """Count what was lost since there was new ground; say why there is none, and give up."""
        self._losses += 1
        if isinstance(self.plan.env, PythonEnv):
            self._scenes.update(self.executor.scenes(self.plan.env.run))
        if self._losses >= _ATTEMPTS:
            before, self._settled = self._settled, NOWHERE
            self.executor.drop([before.plan, *before.keys])
            raise given_up(self._losses, self._scenes, self._furthest) from error

    @property
    def reached(self) -> int:
        """The round that the run is at, or will go back to when there are workers again."""
        begun = self.plan.origin.round if self.plan.origin else 0
        back = self._cut.round if self._cut else begun
        return back if self._adrift else self._settled.round

    @contextmanager
    def _going_back(self) -> Iterator[None]:
        """Go back, again if need be, if a worker dies inside."""
        try:
            yield
        except LostWork as error:
            self.recover(error)

    def _torn(self) -> bool:
        """Whether a round in place failed when it had begun to write."""
        if not self._in_place or self._settled is NOWHERE:
            return False
        rounds = self.ask(stamps_graph)
        return any(found not in (None, self._settled.round) for found in rounds)

    def _give_up_table(self, error: BaseException) -> None:
        """Go back from a table that is half of a round and half of the next."""
        torn = self._settled.round
        self._go_to_cut()
        warnings.warn(
            f"round {torn} failed while it wrote to the table ({error!r}): the run is back at "
            f"round {self._settled.round}; with store= that is its last checkpoint",
            stacklevel=6,
        )

    def fetch(self, drawn: Drawn, keys: Sequence[Key]) -> list[Any]:
        """Make what is not kept, and return it."""
        return self.executor.background(drawn, keys)()

    @property
    def _stranded(self) -> bool:
        """Whether donated shards died with their worker between two calls of the user."""
        return self.plan.donated and not self._pending and not self.executor.intact

    @property
    def _live(self) -> bool:
        """Whether the environments could not be copied."""
        return self._cut is not None and any(copy is None for copy in self._cut.copies)

    @property
    def _may_live(self) -> bool:
        return self.plan.donated and (self._cut is None or self._live)

    def _cut_is_due(self) -> bool:
        """Whether the lineage has grown, and the last cut has been paid for."""
        if self.executor.shares_memory or self._tasks < _CUT_TASKS:
            return False
        paid = time.monotonic() - self._cut_at > self._cut_seconds / _CUT_SHARE
        return paid or self._tasks > _CUT_TASKS_AT_MOST

    def _look_is_due(self) -> bool:
        """Whether the loads of chunks are to be compared."""
        return self.plan.balanced and self.state.round >= self._look_at

    def _balance(self) -> None:
        """Cut the chunks anew if some have a much larger load than others; see `balance`."""
        self._look_at, before = 2 * self._settled.round, self._settled
        grid = self._evener_grid()
        if grid is None:
            return
        plan = self.plan.recut(grid)
        after = self._placer.recut(self.executor, plan, before)
        with uninterrupted():  # the grid and the chunks change together
            self._door.close()
            self._placer.plan = plan
            self._settled, self._lent = after, after if self._lent is before else self._lent
            self._door.open()
        self.executor.drop(before.chunks + before.policy)

    def _evener_grid(self) -> ChunkGrid | None:
        """Look at the loads; return a grid that is worth it, and that there is room for."""
        plan, executor = self.plan, self.executor
        room = not plan.out_of_core and 2 * plan.nbytes <= granted(executor)
        of_blocks = plan.laid_out.locators[0].exact  # a stored grid may be any
        if not (room and of_blocks) or plan.grid.n_chunks == 1 or executor.width == 1:
            return None
        visits, maxima = self.fetch(*visits_graph(self._settled)), plan.exchange == "broadcast"
        n_transitions = plan.num_envs * plan.steps_per_round
        loads = load(np.concatenate(visits), plan.laid_out, n_transitions, maxima=maxima)
        return evener(plan.laid_out, plan.at_rest, loads, executor.uneven)

    def _settle_oldest(self) -> RoundReport:
        """Take the oldest round as done, drop what only rounds before it needed; return its report.

        It is waited for.
        """
        drawn = self._pending[0]
        report: RoundReport = self.executor.result(drawn.report)
        self._door.close()
        self._pending.popleft()
        before, self._settled = self._settled, drawn.state
        if self._settled.round > self._furthest:
            self._furthest, self._losses = self._settled.round, 0
            self._scenes.clear()
        kept = {key for d in self._pending for key in d.state.keys} | {*drawn.state.keys}
        self.executor.drop([drawn.report, *(key for key in before.keys if key not in kept)])
        self._door.open()
        return report

    def _drop_pending(self) -> None:
        kept = set(self._settled.keys)
        for drawn in self._pending:
            keys = (drawn.report, *drawn.state.keys)
            self.executor.drop(key for key in keys if key not in kept)
        self._pending.clear()
        self._door.open()

    def _save_cut(self, out_of_core: bool) -> None:
        """Take the state along, or what the last cut holds of it when its cluster has gone."""
        back = self._cut.round if self._cut else 0
        if self._settled is NOWHERE:
            return
        if self._cut and back == self._settled.round:
            self._copy_beside_a_checkpoint(self._cut)
            return
        try:
            if out_of_core or self.plan.out_of_core:
                self._stay()
            else:
                self._cut = self.copy()
        except ClusterError as error:
            warnings.warn(
                f"{self.executor.name} has gone with rounds {back} .. {self._settled.round - 1}: "
                f"going back to round {back} ({error})",
                stacklevel=5,
            )

    def _stay(self) -> None:
        """Refuse to take what was learned along if it does not fit into the client's memory.

        Raises
        ------
        TableTooLargeError
            If it is where it was; `ClusterLostError` if its cluster has gone.
        """
        origin = self.plan.origin
        if self._settled.round == (origin.round if origin else 0):
            return
        self.executor.gather([])
        raise TableTooLargeError(
            "a table that is out of core, here or there, goes elsewhere through a store: call "
            f"learn(store=...) where it is, at {self.executor.name}, or dqlearn.resume elsewhere"
        )

    def _copy_beside_a_checkpoint(self, cut: Cut) -> None:
        """Take donated shards along that one process kept without copies; a cluster has copies."""
        if self.executor.shares_memory and not cut.values:
            self._cut = replace(cut, state=self._settled, values=self.copy_shards())

    def _go_to_cut(self) -> None:
        """Place the last cut where its environments are not; live ones are built anew.

        What there was is let go first: a process may have room for one simulator only.
        """
        before, self._settled = self._settled, NOWHERE
        self.executor.drop([before.plan, *before.keys])
        with self._going_back():
            self._settled = self._place()
            if self.plan.donated and self._cut is None:
                with suppress(LostWork):  # the next round meets it again
                    self.cut()
            if self._live:
                warnings.warn(
                    f"the environments cannot be copied: at round {self._settled.round} all of "
                    "them were built and reset anew; the table is that of the round",
                    stacklevel=6,
                )

    def _place(self) -> State:
        """Place the last cut, or make the state of round 0."""
        self._tasks, self._cut_at = 0, time.monotonic()
        grid = self._cut.grid if self._cut else None
        if grid is not None and grid != self.plan.grid:
            self._placer.plan = self.plan.recut(grid)
            self._look_at = _FIRST_LOOK
        if self.plan.out_of_core or self._in_place:
            self.executor.bind()
        placed = self._placer.place(self.executor, self._cut)
        if self._cut and self._cut.values:
            self._lent = placed  # to the cut, whose copies these may be
        self._adrift = self._closed = False
        return placed

    def _rebuild_shards(self, error: BaseException) -> None:
        """Make all environments anew: the table is whole, but shards were left in mid-round."""
        warnings.warn(
            f"round {self._settled.round} failed ({error!r}): the table is that of the round "
            "before, and all environments are built and reset anew",
            stacklevel=6,
        )
        self._broken = error  # tried again if it fails
        self._open_shards()
        self._broken = None

    def _open_shards(self) -> None:
        """Make all environments of the settled state anew."""
        before = self._settled
        self._settled = self._placer.rebuild(self.executor, before)
        self._closed = False
        self._lent = self._settled if self._lent is before else self._lent
        self.executor.drop({*before.keys}.difference(self._settled.keys))
