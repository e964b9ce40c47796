"""Marks: records of what a process's environments are doing, in case they end the process.

::

    shard, step, environment ──► a few numbers in a mapped file ──► a crash, os._exit, SIGKILL
                                                                       └─► the file stays: `left`

Only worker processes that a nanny restarts write files, and the next process there reads what the
dead one has left. Elsewhere a mark is an ordinary array. Invariant: setting a mark makes no system
call. A file is removed with its shard; the files of dead processes are removed when they are read,
or when a worker is set up more than an hour later.
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

_OLD = 3600.0  # seconds after which nobody reads a dead process's files any more

_folder: Path | None = None


@dataclass(frozen=True)
class Scene:
    """What the environments of a process were doing when it ended.

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
        Hexadecimal digits that identify the run.
    shard : int
        Number of the shard in the run.

    Attributes
    ----------
    at_work, shard, step, environment : int64 (1,) each
        The fields of the mark, which are written to in place.
    """

    def __init__(self, run: str, shard: int) -> None:
        self.run, self.path = run, _path_for(run)
        numbers = np.array([0, shard, -1, -1])
        if self.path is not None:
            with suppress(OSError):  # a run must not fail for want of a mark
                numbers = _mapped(self.path, numbers)
        self.at_work, self.shard, self.step, self.environment = numbers.reshape(4, 1)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what makes a new mark: another process has a file of its own."""
        return Mark, (self.run, int(self.shard[0]))

    def remove(self) -> None:
        """Remove the file, if there is one."""
        if self.path is not None:
            with suppress(OSError):
                self.path.unlink()


def live_in(folder: str) -> None:
    """Let this process keep its marks in a folder where other processes of this machine look."""
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
    """Return the scenes at which processes of this machine ended while a run's environments worked.

    The files read are removed, so each scene is returned once.
    """
    return list(_dead(_folder, run)) if _folder else []


def _dead(folder: Path, run: str = "*", older_than: float = 0.0) -> Iterator[Scene]:
    """Remove the marks of dead processes of a run, or all runs; yield those that were at work."""
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
