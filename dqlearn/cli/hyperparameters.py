"""Hyperparameters as options of ``dqlearn train``.

::

    gamma: kind, default, doc ──► --gamma FLOAT RANGE   Discount factor, 0 .. 1.

Invariant: there is an option for each that is declared, and what it makes of its text is what
`QLearner` checks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import click

from dqlearn.cli.options import Parsed, Whole, parse_chunks, parse_schedule
from dqlearn.stages.settings import HYPERPARAMETERS, Hyperparameter
from dqlearn.stages.settings.federation import Federation
from dqlearn.stages.settings.kinds import (
    ChunkSizes,
    Flag,
    FloatType,
    Integer,
    Kind,
    Number,
    OneOf,
    Rule,
    Scheduled,
    Seconds,
    Values,
)

__all__ = ["hyperparameter_options"]

_TEXTS: dict[type[Kind], tuple[str, Callable[[str], Any]]] = {
    Scheduled: ("schedule", parse_schedule),
    Federation: ("members:rounds:merge", str),
    ChunkSizes: ("auto|n|states,actions", parse_chunks),
}
"""What the help calls a value, and how its text is read, of kinds that Click does not know."""


def hyperparameter_options(command: Any) -> Any:
    """Give a command one option for each hyperparameter, in their order."""
    for name, it in reversed([*HYPERPARAMETERS.items()]):
        command = _option(name, it)(command)
    return command


def _option(name: str, it: Hyperparameter) -> Callable[[Any], Any]:
    flag, default = f"--{name.replace('_', '-')}", it.shown_default
    if isinstance(it.kind, Flag):
        flag = f"{flag}/--no-{flag[2:]}" if default else flag
        return click.option(flag, is_flag=True, default=default, help=it.summary)
    return click.option(
        flag,
        type=_type(name, it.kind),
        default=default,
        show_default=default is not None,
        help=it.summary,
    )


def _type(name: str, kind: Kind) -> Any:
    match kind:
        case Integer(least, most):
            return Whole(least, most)
        case Number(least, most):
            return click.FloatRange(least, most) if math.isfinite(least + most) else click.FLOAT
        case Values():
            return click.FLOAT
        case Seconds():
            return click.FloatRange(0, min_open=True)
        case OneOf() | FloatType() | Rule():
            return click.Choice(kind.names)
    called, read = _TEXTS.get(type(kind), ("text", str))
    return Parsed(called, lambda text: kind.check(name, read(text)))
