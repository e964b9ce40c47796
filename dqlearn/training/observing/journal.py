"""The journal of a run: the rounds that were observed, and how far each source is.

::

    write(round r, batch) ─► the run learns it ─► learned(r): the counters of its sources
            ▲                                          │
            └── the run has gone back before r ◄───────┘    it is learned again, in its place

Environments make a lost round again by themselves; a batch was somebody else's, so it is kept until
no loss can reach it. Invariant: the counters are those of the collected state: whatever a
checkpoint, a recovery point or a saved table holds, its counters say what was learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dqlearn.stages.observed.batch import Batch
from dqlearn.stages.observed.sources import Sources
from dqlearn.storage.attributes import understood

__all__ = ["Journal", "sources_of"]

_NAME = "observed"  # of the attribute that holds the counters


def sources_of(attributes: Mapping[str, Any], name: str) -> Sources:
    """Return the counters that a stored table or checkpoint says it has.

    Parameters
    ----------
    attributes : mapping
        Attributes of the table.
    name : str
        Name of the table, for the error.

    Returns
    -------
    Sources
        The counters; none, if nothing was observed.

    Raises
    ------
    IncompatibleTableError
        If they are not written as dqlearn writes them.
    """
    if _NAME not in attributes:
        return Sources()
    with understood(name):
        return Sources.from_json(attributes[_NAME])


class Journal:
    """The observed rounds that may have to be learned again.

    Parameters
    ----------
    sources : Sources
        The counters that the run begins with.

    Attributes
    ----------
    sources : Sources
        The counters of the collected state.
    nbytes : int
        Bytes of the batches.
    """

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self._rounds: dict[int, Batch] = {}
        self.nbytes = 0

    def write(self, round_: int, batch: Batch) -> None:
        """Write down what a round is to learn."""
        self.cancel(round_)
        self._rounds[round_] = batch
        self.nbytes += batch.nbytes

    def at(self, round_: int) -> Batch | None:
        """Return what a round is to learn; None if environments make it."""
        return self._rounds.get(round_)

    def until(self, round_: int, most: int) -> int:
        """Return how many rounds from `round_` on environments make, at most `most`."""
        return min([most, *(later - round_ for later in self._rounds if later > round_)])

    def end(self, round_: int) -> int:
        """Return the round after all that are to be learned, if the run is at `round_`."""
        return max([round_, *(later + 1 for later in self._rounds)])

    def learned(self, round_: int) -> None:
        """Note that a round was learned."""
        if batch := self._rounds.get(round_):
            self.sources.advance(batch.marks)

    def cancel(self, round_: int) -> None:
        """Forget what a round is to learn."""
        if batch := self._rounds.pop(round_, None):
            self.nbytes -= batch.nbytes

    def forget_before(self, round_: int) -> None:
        """Forget the rounds that the run cannot go back before."""
        for known in [it for it in self._rounds if it < round_]:
            self.cancel(known)

    def go_back(self, sources: Sources) -> None:
        """Go back to the counters of an earlier state."""
        self.sources = sources

    @property
    def attributes(self) -> dict[str, str]:
        """The counters, as an attribute of what is stored; none, if nothing was observed."""
        return {_NAME: self.sources.to_json()} if self.sources.marks else {}
