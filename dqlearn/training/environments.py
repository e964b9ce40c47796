"""Python environments of a run, which are stepped where they are and live outside of the table.

::

    open ─► rounds ─► restart, at a checkpoint     new episodes, as in a run that was resumed
              ├─────► copies                       bytes; None for environments without a copy
              ├─────► close                        the next round makes new ones
              └─ left in mid-round ─► rebuild      all are made anew; the table is whole

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
        The place of the environments.
    ownership : Ownership
        The holder of the state whose shards they are in.
    """

    def __init__(self, placement: Placement, ownership: Ownership) -> None:
        self._placement, self._ownership = placement, ownership
        self._broken: BaseException | None = None  # the error that left them in mid-round
        self._closed = False

    @property
    def here(self) -> bool:
        """Whether there are Python environments, and a state that has them."""
        return self._placement.plan.donated and self._ownership.state is not NOWHERE

    @property
    def stranded(self) -> bool:
        """Whether some environments have died with their worker."""
        return self._placement.plan.donated and not self._placement.executor.intact

    def prepare(self) -> None:
        """Make the environments of the next round, if they were closed, or must be made anew."""
        if self._broken is not None:
            self.rebuild(self._broken)
        if self._closed:
            self._make_anew()

    def rebuild(self, error: BaseException) -> None:
        """Make all environments anew: the table is whole, but an error left them in mid-round."""
        warn_caller(
            f"round {self._ownership.state.round} failed ({error!r}): the table is that of the "
            "round before, and all environments are built and reset anew",
        )
        self._broken = error  # they are made again if this fails
        self._make_anew()
        self._broken = None

    def _make_anew(self) -> None:
        self._ownership.rename(self._placement.rebuild(self._ownership.state))
        self._closed = False

    def note_placed(self) -> None:
        """Note that a state was placed whose environments are open."""
        self._closed = False

    def restart(self) -> None:
        """Begin new episodes, from seeds of the round."""
        if self._placement.plan.donated:
            before, memories = self._ownership.state, self._placement.executor.memories
            drawn = restart_graph(self._placement.plan, before, memories)
            self._ownership.rename(self._placement.lead_on(drawn, before))

    def copies(self) -> dict[Key, Any]:
        """Copy the shards of environments to the client; return the copies by the shards' keys."""
        state = self._ownership.state
        if not self._placement.plan.donated:
            return {}
        frozen = freeze_graph(self._placement.plan, state)
        copies = self._placement.fetch(frozen, frozen.state.shards)
        return dict(zip(state.shards, copies, strict=True))

    def close(self) -> None:
        """Close the environments; the next round makes new ones. What was learned stays."""
        if self.here and not self._closed:
            self._closed = True
            with suppress(ClusterError):  # if a worker has gone, so have its environments
                self._placement.fetch(*close_graph(self._ownership.state))
