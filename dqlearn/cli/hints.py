"""Hints: likely meanings of an unknown environment or argument name.

Invariant: a hint is added to an error that is raised anyway; nothing is refused because of one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from typing import Any

import gymnasium

from dqlearn.envs.registry import arguments
from dqlearn.errors import EnvironmentFault

__all__ = ["hints"]

_NO_SUCH_ID = (gymnasium.error.UnregisteredEnv, gymnasium.error.DeprecatedEnv)


@contextmanager
def hints(env: str, kwargs: Mapping[str, Any]) -> Iterator[None]:
    """Add a hint to the error of an environment that cannot be made.

    Raises
    ------
    EnvironmentFault
        The original error, with a hint if there is one.
    """
    try:
        yield
    except EnvironmentFault as error:
        unknown = isinstance(error.__cause__, _NO_SUCH_ID)
        hint = _of_id(env) if unknown else _of_arguments(env, kwargs)
        if hint is None:
            raise
        raise EnvironmentFault(hint) from error


def _of_id(env: str) -> str | None:
    known: dict[str, str] = {}
    for name, spec in gymnasium.registry.items():
        known |= {name.lower(): name, name.rpartition("/")[2].lower(): name}
        if spec.namespace:
            known.setdefault(f"{spec.namespace}/{spec.name}".lower(), name)
        known[spec.name.lower()] = name  # the last of several versions is the newest
    near = _near(env.rpartition(":")[2].lower(), known)
    return near and f"there is no environment {env!r}: {near}"


def _of_arguments(env: str, kwargs: Mapping[str, Any]) -> str | None:
    known: list[str] = []
    with suppress(Exception):  # of a module, or an entry point, that cannot be imported
        known = arguments(env)
    unknown = [name for name in kwargs if known and name not in known]
    if not unknown:
        return None
    near = _near(unknown[0], {name: name for name in known})
    return (
        f"{env!r} has no argument {unknown[0]!r}{f', {near}' if near else ';'} "
        f"it takes {', '.join(known)}"
    )


def _near(word: str, known: Mapping[str, str]) -> str | None:
    """Ask whether one of some words was meant, that are known by others."""
    found: Collection[str] = dict.fromkeys(
        known[near] for near in get_close_matches(word, known, n=3, cutoff=0.7)
    )
    return f"did you mean {' or '.join(map(repr, found))}?" if found else None
