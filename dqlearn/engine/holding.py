"""Results that stand for themselves: handed from one key to another inside a worker.

::

    chunk of round r, with all tasks that led to it ──► hold ──► take ──► the same chunk, alone

A Dask key remembers the tasks it came from, for as long as it lives. `hold` puts a value aside in
its process, and `take`, which has no inputs, hands it out under a new key, so that the scheduler
may forget what was before. Nothing is copied. What Dask remembers of the keys themselves is let go
then, too: ``key_split`` keeps the last 100,000, some 40 MiB, and no key of a round comes again.

Invariant: a value is taken once; asked for again, because its worker died, `take` says so, and the
run goes back to its last recovery point.
"""

from __future__ import annotations

from typing import Any

from dask.utils import key_split

from dqlearn.errors import StaleShardError

__all__ = ["hold", "take"]

_held: dict[tuple[str, str, str], Any] = {}


def hold(value: Any, run: str, ticket: str, name: str) -> None:
    """Put a value aside, and have Dask forget the keys that led to it.

    Parameters
    ----------
    value : object
        Whatever it is.
    run : str
        Whose.
    ticket : str
        Common to the values that are handed over together. What the run holds for other tickets
        was left behind by a hand-over that failed, and is let go.
    name : str
        Of the value.
    """
    for left in [held for held in tuple(_held) if held[0] == run and held[1] != ticket]:
        _held.pop(left, None)
    key_split.cache_clear()
    _held[run, ticket, name] = value


def take(run: str, ticket: str, name: str) -> Any:
    """Hand a value out, once.

    Parameters
    ----------
    run, ticket, name : str
        As it was put aside.

    Returns
    -------
    object
        The same.

    Raises
    ------
    StaleShardError
        If it is not here.
    """
    try:
        return _held.pop((run, ticket, name))
    except KeyError:
        raise StaleShardError(
            f"{name} is no longer in this process: the run goes back to its last recovery point"
        ) from None
