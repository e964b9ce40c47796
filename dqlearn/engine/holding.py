"""Results without a history: values handed over from one key to another inside a worker.

::

    chunk of round r, with all tasks that led to it ──► hold ──► take ──► the same chunk, alone

A Dask key remembers the tasks it came from, for as long as it lives. `hold` pins a value in its
process, and `take`, which has no inputs, hands it over under a new key, so that the scheduler may
forget the tasks before. Nothing is copied. Dask's memory of the keys themselves is freed then,
too: ``key_split`` keeps the last 100,000, some 40 MiB, and no key of a round comes again.

Invariant: a value is handed over once; asked for again, because its worker died, `take` raises,
and the run goes back to its last recovery point.
"""

from __future__ import annotations

from typing import Any

from dask.utils import key_split

from dqlearn.errors import StaleShardError

__all__ = ["hold", "take"]

_held: dict[tuple[str, str, str], Any] = {}


def hold(value: Any, run: str, ticket: str, name: str) -> None:
    """Pin a value, and make Dask forget the keys that led to it.

    Parameters
    ----------
    value : object
        Any value.
    run : str
        Name of the run that the value belongs to.
    ticket : str
        Common to the values that are handed over together. Values that the run pinned under other
        tickets were left behind by a hand-over that failed, and are freed.
    name : str
        Name of the value.
    """
    for left in [held for held in tuple(_held) if held[0] == run and held[1] != ticket]:
        _held.pop(left, None)
    key_split.cache_clear()
    _held[run, ticket, name] = value


def take(run: str, ticket: str, name: str) -> Any:
    """Hand a pinned value over, once.

    Parameters
    ----------
    run, ticket, name : str
        As they were given to :func:`hold`.

    Returns
    -------
    object
        The value.

    Raises
    ------
    StaleShardError
        If the value is not in this process.
    """
    try:
        return _held.pop((run, ticket, name))
    except KeyError:
        raise StaleShardError(
            f"{name} is no longer in this process: the run goes back to its last recovery point"
        ) from None
