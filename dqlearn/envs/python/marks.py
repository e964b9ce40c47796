"""Marks: where the environments of a process are at work, for when they end the process.

::

    shard, step, environment ──► a few numbers in a mapped file ──► a crash, os._exit, SIGKILL
                                                                       └─► the file stays: `left`

Only worker processes that a nanny keeps write files: the next one there reads what a dead one has
left. Elsewhere a mark is an array as any other. Invariant: to set a mark asks nothing of the
operating system; files go with their shards, and those of dead processes when they are read, or
when a worker is set up an hour later.
"""

from __future__ import annotations

import mmap
import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

__all__ = ["Mark", "Scene", "left", "live_in"]

_NAME = re.compile(r"dqlearn-[0-9a-f]+-(?P<process>\d+)-[0-9a-f]+\.mark")

_OLD = 3600.0  # seconds after which nobody asks any more

_folder: Path | None = None


@dataclass(frozen=True)
class Scene:
    """Where a process has ended.

    Attributes
    ----------
    shard, step : int
        The shard that was at work, and its vector step; -1 while its environments were made.
    environment : int
        The environment; -1 where that cannot be known.
    """

    shard: int
    step: int
    environment: int


class Mark:
    """The mark of one shard.

    Parameters
    ----------
    run : str
        Hexadecimal digits that tell its run from others.
    shard : int
        Which shard of it.

    Attributes
    ----------
    at_work, shard, step, environment : int64 (1,) each
        Written to in place.
    """

    def __init__(self, run: str, shard: int) -> None:
        self.run, self.path = run, _path_for(run)
        numbers = np.array([0, shard, -1, -1])
        if self.path is not None:
            with suppress(OSError):  # a mark is worth no failure
                numbers = _mapped(self.path, numbers)
        self.at_work, self.shard, self.step, self.environment = numbers.reshape(4, 1)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process has a file of its own."""
        return Mark, (self.run, int(self.shard[0]))

    def remove(self) -> None:
        """Remove the file, if there is one."""
        if self.path is not None:
            with suppress(OSError):
                self.path.unlink()


def live_in(folder: str) -> None:
    """Let this process have its marks in a folder, where others of this machine find them."""
    global _folder
    _folder = Path(folder)
    for _ in _dead(_folder, older_than=_OLD):
        pass


def _path_for(run: str) -> Path | None:
    return _folder and _folder / f"dqlearn-{run}-{os.getpid()}-{uuid.uuid4().hex[:8]}.mark"


def _mapped(path: Path, numbers: Any) -> Any:
    path.write_bytes(numbers.tobytes())
    with path.open("rb+") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0), numbers.dtype)


def left(run: str) -> list[Scene]:
    """Return where processes of this machine have ended while environments of a run were at work.

    What was returned is forgotten.
    """
    return list(_dead(_folder, run)) if _folder else []


def _dead(folder: Path, run: str = "*", older_than: float = 0.0) -> Iterator[Scene]:
    """Take away a run's marks of dead processes, or all runs'; yield those that were at work."""
    for path in folder.glob(f"dqlearn-{run}-*.mark"):
        named = _NAME.fullmatch(path.name)
        if named and not psutil.pid_exists(int(named["process"])):
            with suppress(OSError, ValueError):
                if time.time() - path.stat().st_mtime < older_than:
                    continue
                at_work, *numbers = np.frombuffer(path.read_bytes(), np.int64).tolist()
                path.unlink()
                if at_work and len(numbers) == 3:
                    yield Scene(*numbers)
