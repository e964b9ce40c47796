"""A door between the thread that learns in place and those that read what it learned.

::

    the thread that learns    close ─► a round, which writes to the table ─► open ─► close ─► ...
    another one                    waits at the door ······················► in, out

Invariant: nobody is inside while it is closed, and whoever waits goes in before it is closed again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Door"]


class Door:
    """Open at first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._closed, self._visitors = False, 0

    def close(self) -> None:
        """Close it, when all who wait have been inside; closing it twice is closing it once."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._visitors)
            self._closed = True

    def open(self) -> None:
        """Open it."""
        with self._changed:
            self._closed = False
            self._changed.notify_all()

    @contextmanager
    def visit(self) -> Iterator[None]:
        """Be inside, when it is open."""
        with self._changed:
            self._visitors += 1
            self._changed.wait_for(lambda: not self._closed)
        try:
            yield
        finally:
            with self._changed:
                self._visitors -= 1
                self._changed.notify_all()
