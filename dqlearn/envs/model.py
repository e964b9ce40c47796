"""The interface of a compiled model to the checks of what its functions take and return."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any, Protocol

__all__ = ["Model"]


class Model(Protocol):
    """The part of a :class:`~dqlearn.TabularEnv` that its checks use."""

    @property
    def n_states(self) -> int:
        """Number of states, which are numbered from 0."""

    @property
    def n_actions(self) -> int:
        """Number of actions, which are numbered from 0."""

    @property
    def n_events(self) -> int:
        """Number of events in the events form; 0 in the key form."""

    @property
    def events(self) -> Callable[..., Any] | None:
        """The function that returns the probabilities of the events; None in the key form."""

    @property
    def params(self) -> tuple[Any, ...]:
        """The parameters that are passed to every function."""

    @property
    def functions(self) -> Mapping[str, Callable[..., Any] | None]:
        """The functions by their roles."""

    @property
    def digest(self) -> str | None:
        """A hash that identifies the functions; None if they have none."""

    @property
    def kernels(self) -> types.ModuleType:
        """The compiled module."""
