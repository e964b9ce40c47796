"""Checks: what a network's parameters must be, and tuples made of what JSON can hold.

Invariant: what comes out is plain Python values; what cannot be meant raises a ConfigurationError.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from dqlearn.checks import check_choice, check_count, check_number
from dqlearn.envs.problems.defence.kernels import MAX_HOSTS
from dqlearn.envs.problems.topology import Edges, edges_of
from dqlearn.errors import ConfigurationError

__all__ = ["costs", "episode", "exposed_of", "isolable_of", "links_of", "names", "number"]

_RESERVED = {"state", "action"}  # dimensions that every table has


def names(hosts: Sequence[str]) -> tuple[str, ...]:
    """Check the hosts' names."""
    given = sequence("hosts", hosts)
    sound = all(isinstance(name, str) and name and name not in _RESERVED for name in given)
    if isinstance(hosts, str) or not sound or len(set(given)) < len(given):
        raise ConfigurationError(
            f"expected different names, none of them of {sorted(_RESERVED)}, got {hosts=}"
        )
    if not 2 <= len(given) <= MAX_HOSTS:
        raise ConfigurationError(
            f"a network has 2 .. {MAX_HOSTS} hosts, got {len(given)}: leave out or merge some"
        )
    return given


def costs(values: Sequence[float], n_hosts: int) -> tuple[float, ...]:
    """Check the hosts' values."""
    given = tuple(number("values", value) for value in sequence("values", values))
    if len(given) != n_hosts:
        raise ConfigurationError(f"expected a value for each of {n_hosts} hosts, got {values=}")
    return given


def links_of(edges: Any, n_hosts: int) -> Edges:
    """Check the links, which have no direction."""
    given = edges_of(edges, n_hosts)
    if len({frozenset(edge) for edge in given}) < len(given):
        raise ConfigurationError(f"a link goes either way and may be given once, got edges={given}")
    return given


def exposed_of(exposed: Sequence[int], n_hosts: int) -> tuple[int, ...]:
    """Check which hosts can be attacked from outside."""
    given = sequence("exposed", exposed)
    sound = all(type(host) is int and 0 <= host < n_hosts for host in given)
    if not given or not sound or len(set(given)) < len(given):
        raise ConfigurationError(
            f"expected at least one host of 0 .. {n_hosts - 1}, each once, got {exposed=}"
        )
    return given


def isolable_of(isolable: Iterable[Any], edges: Edges) -> Edges:
    """Check which links can be isolated, and return them as they stand in `edges`."""
    among = {frozenset(edge): edge for edge in edges}
    try:
        given = tuple(among[frozenset(edge)] for edge in isolable)
    except (KeyError, TypeError) as error:
        raise ConfigurationError(f"expected some of {edges=}, got {isolable=}") from error
    if len(set(given)) < len(given):
        raise ConfigurationError(f"a link may be given once, got {isolable=}")
    return given


def sequence(name: str, values: Any) -> tuple[Any, ...]:
    """Check that there may be several."""
    if not isinstance(values, Iterable):
        raise ConfigurationError(f"expected a sequence of {name}, got {values!r}")
    return tuple(values)


def number(name: str, value: Any, most: float = math.inf) -> float:
    """Check a number from 0 to `most`."""
    return check_number(name, value, 0, most)


def episode(start: str, max_episode_steps: int | None) -> None:
    """Check how episodes begin and end."""
    check_choice("start", start, ["uniform", "clean"])
    if max_episode_steps is not None:
        check_count("max_episode_steps, if it is not None,", max_episode_steps)
