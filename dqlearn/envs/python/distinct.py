"""Distinct environments: a factory makes a new one each time.

::

    make() ──► environment ──► its base ──► met before, and still alive?  ──► SharedEnvironmentError
               vector environment ──► its base, and those of its parts

Two environments with one base share their state: to reset or step one resets or steps the other.
Invariant: no two environments that were made in this process have the same base.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from typing import Any

import gymnasium
from gymnasium.vector import SyncVectorEnv, VectorEnv

from dqlearn.errors import SharedEnvironmentError

__all__ = ["FACTORY", "check_new"]

Made = gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any]

FACTORY = (
    "write a factory that makes one each time, such as "
    'lambda: gymnasium.make("FrozenLake-v1"), or def make(): return MyEnv(...)'
)
"""The advice that error messages give."""

_met: weakref.WeakValueDictionary[int, Made] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def check_new(made: Made) -> None:
    """Refuse an environment whose base is already that of another one in this process.

    Raises
    ------
    SharedEnvironmentError
        If it is.
    """
    for base in _bases(made):
        with _lock:
            if id(base) in _met:
                raise SharedEnvironmentError(
                    f"a factory must make a new environment each time, got {base} again: two that "
                    f"share their state would reset and step each other; {FACTORY}"
                )
            _met[id(base)] = base


def _bases(made: Made) -> Iterator[Made]:
    yield made.unwrapped
    if isinstance(made.unwrapped, SyncVectorEnv):
        for part in made.unwrapped.envs:
            yield part.unwrapped
