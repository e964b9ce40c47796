"""Hyperparameters as arguments: one by one, where a class takes ``**settings`` of them.

::

    def __init__(self, env, **settings: Unpack[Hyperparameters])    what type checkers read
    __init__(self, env, *, num_envs=None, shards=None, ...)         what `inspect` and help() show

Invariant: both are made of the one declaration, :mod:`dqlearn.stages.settings.hyperparameters`.
"""

from __future__ import annotations

from collections.abc import Iterator
from inspect import Parameter, signature
from typing import Any, TypeVar, get_type_hints

from dqlearn.stages.settings import HYPERPARAMETERS, Hyperparameters
from dqlearn.text import with_entries

__all__ = ["shows_hyperparameters"]

Class = TypeVar("Class", bound=type[Any])


def shows_hyperparameters(cls: Class) -> Class:
    """Show each hyperparameter in the signature and in the docstring of a class.

    Parameters
    ----------
    cls : type
        A class whose ``__init__`` accepts ``**settings``, the last entry of its Parameters.

    Returns
    -------
    type
        The same class.
    """
    init: Any = cls.__init__
    taken = signature(init)
    own = [it for it in taken.parameters.values() if it.kind is not Parameter.VAR_KEYWORD]
    init.__signature__ = taken.replace(parameters=[*own, *_parameters()])
    entries = [(name, it.label, it.description) for name, it in HYPERPARAMETERS.items()]
    cls.__doc__ = with_entries(cls.__doc__, "**settings", entries)
    return cls


def _parameters() -> Iterator[Parameter]:
    types = get_type_hints(Hyperparameters)
    for name, it in HYPERPARAMETERS.items():
        yield Parameter(
            name, Parameter.KEYWORD_ONLY, default=it.shown_default, annotation=types[name]
        )
