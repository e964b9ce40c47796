"""Hyperparameters as arguments: one by one, where a class takes ``**settings`` of them.

::

    def __init__(self, env, **settings: Unpack[Hyperparameters])    what type checkers read
    __init__(self, env, *, num_envs=None, shards=None, ...)         what `inspect` and help() show

Invariant: both are made of the one declaration, :mod:`dqlearn.stages.settings.hyperparameters`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from inspect import Parameter, cleandoc, signature
from typing import Any, TypeVar, get_type_hints

from dqlearn.stages.settings import HYPERPARAMETERS, Hyperparameter, Hyperparameters

__all__ = ["shows_hyperparameters"]

Class = TypeVar("Class", bound=type[Any])

_ENTRY = "**settings"
_WIDTH = 92


def shows_hyperparameters(cls: Class) -> Class:
    """Show each hyperparameter in the signature and in the docstring of a class.

    Parameters
    ----------
    cls : type
        Its ``__init__`` takes ``**settings``, which is the last entry of its Parameters.

    Returns
    -------
    type
        The same.
    """
    init: Any = cls.__init__
    taken = signature(init)
    own = [it for it in taken.parameters.values() if it.kind is not Parameter.VAR_KEYWORD]
    init.__signature__ = taken.replace(parameters=[*own, *_parameters()])
    if cls.__doc__:  # python -OO has none
        entries = "\n".join(_entry(name, it) for name, it in HYPERPARAMETERS.items())
        before, _, after = cleandoc(cls.__doc__).partition(f"\n{_ENTRY}\n")
        _, _, others = after.partition("\n\n")
        cls.__doc__ = f"{before}\n{entries}\n\n{others}"
    return cls


def _parameters() -> Iterator[Parameter]:
    types = get_type_hints(Hyperparameters)
    for name, it in HYPERPARAMETERS.items():
        yield Parameter(
            name, Parameter.KEYWORD_ONLY, default=it.shown_default, annotation=types[name]
        )


def _entry(name: str, it: Hyperparameter) -> str:
    """Return what a numpydoc section says of a hyperparameter."""
    text = textwrap.fill(it.description, _WIDTH)
    return f"{name} : {it.label}\n{textwrap.indent(text, '    ')}"
