"""The kind of hyperparameter that says how tables learn apart.

::

    None, Federated, "4:16:importance" ── check ──► value ── dump ──► "4:16:importance", "" of None

Invariant: as of all kinds, see :mod:`dqlearn.stages.settings.kinds`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dqlearn.algorithms.federated import Federated
from dqlearn.errors import ConfigurationError
from dqlearn.text import shortened

__all__ = ["Federation"]


@dataclass(frozen=True)
class Federation:
    """How tables that learn apart are merged; None means that there is one table."""

    label = "Federated or str"

    def check(self, name: str, value: Any) -> Federated:
        """Return what a text describes."""
        if isinstance(value, Federated):
            return value
        if isinstance(value, str):
            return Federated.of(value)
        raise ConfigurationError(
            f"{name} must be a dqlearn.Federated, its text MEMBERS:LOCAL_ROUNDS:MERGE, or None, "
            f"got {shortened(value)}"
        )

    def dump(self, value: Federated | None) -> str:
        """Return the text; an empty one of None."""
        return value.text if value else ""

    def load(self, stored: Any) -> Federated | None:
        """Read the text."""
        return Federated.of(stored) if stored else None
