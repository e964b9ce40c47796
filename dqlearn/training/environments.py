"""Python environments of a run, which are stepped where they are and live outside of the table.

::

    open ─► rounds ─► restart, at a checkpoint     new episodes, as a resumed run begins them
              ├─────► copies                       as bytes; None of those that have no copy
              ├─────► close                        the next round makes new ones
              └─ left in mid-round ─► rebuild      all of them anew; the table is whole

Invariant: when a round is submitted, its environments are open and at the end of the round before.
Compiled environments are data, and need none of this.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from dqlearn.engine.graph import Key
from dqlearn.engine.lifecycle import close_graph, freeze_graph, restart_graph
from dqlearn.errors import ClusterError
from dqlearn.text import warn_caller
from dqlearn.training.ownership import Ownership
from dqlearn.training.placement import NOWHERE, Placement

__all__ = ["Environments"]


class Environments:
    """The Python environments of one run, in the shards of its collected state.

    Parameters
    ----------
    placement : Placement
        Where they are.
    ownership : Ownership
        The holder of the state whose shards they are.
    """

    def __init__(self, placement: Placement, ownership: Ownership) -> None:
        self._placement, self._ownership = placement, ownership
        self._broken: BaseException | None = None  # left them in mid-round
        self._closed = False

    @property
    def here(self) -> bool:
        """Whether there are any, in a state that is somewhere."""
        return self._placement.plan.donated and self._ownership.state is not NOWHERE

    @property
    def stranded(self) -> bool:
        """Whether some of them have died with their worker."""
        return self._placement.plan.donated and not self._placement.executor.intact

    def prepare(self) -> None:
        """Make those of the next round, if they were closed, or are still to be made anew."""
        if self._broken is not None:
            self.rebuild(self._broken)
        if self._closed:
            self._make_anew()

    def rebuild(self, error: BaseException) -> None:
        """Make all of them anew: the table is whole, but an error left them in mid-round."""
        warn_caller(
            f"round {self._ownership.state.round} failed ({error!r}): the table is that of the "
            "round before, and all environments are built and reset anew",
        )
        self._broken = error  # tried again if it fails
        self._make_anew()
        self._broken = None

    def _make_anew(self) -> None:
        self._ownership.rename(self._placement.rebuild(self._ownership.state))
        self._closed = False

    def note_placed(self) -> None:
        """Note that a state was placed with environments that are open."""
        self._closed = False

    def restart(self) -> None:
        """Begin new episodes, from seeds of the round."""
        if self._placement.plan.donated:
            before, memories = self._ownership.state, self._placement.executor.memories
            drawn = restart_graph(self._placement.plan, before, memories)
            self._ownership.rename(self._placement.lead_on(drawn, before))

    def copies(self) -> dict[Key, Any]:
        """Copy their shards to the client, by the keys of those that they are copies of."""
        state = self._ownership.state
        if not self._placement.plan.donated:
            return {}
        frozen = freeze_graph(self._placement.plan, state)
        copies = self._placement.fetch(frozen, frozen.state.shards)
        return dict(zip(state.shards, copies, strict=True))

    def close(self) -> None:
        """Close them; the next round makes new ones. What was learned stays."""
        if self.here and not self._closed:
            self._closed = True
            with suppress(ClusterError):  # where a worker has gone, so have its environments
                self._placement.fetch(*close_graph(self._ownership.state))
