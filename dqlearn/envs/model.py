"""A compiled model, as those see it that check what its functions take and return."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any, Protocol

__all__ = ["Model"]


class Model(Protocol):
    """What a :class:`~dqlearn.TabularEnv` is to its checks."""

    @property
    def n_states(self) -> int:
        """States, numbered from 0."""

    @property
    def n_events(self) -> int:
        """Events of the events form; 0 in the key form."""

    @property
    def events(self) -> Callable[..., Any] | None:
        """The probabilities of the events; None in the key form."""

    @property
    def params(self) -> tuple[Any, ...]:
        """What the functions are given besides."""

    @property
    def functions(self) -> Mapping[str, Callable[..., Any] | None]:
        """The functions by their roles."""

    @property
    def digest(self) -> str | None:
        """What tells the functions from others, if anything does."""

    @property
    def kernels(self) -> types.ModuleType:
        """The compiled module."""
