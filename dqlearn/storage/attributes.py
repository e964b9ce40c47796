"""Attributes at rest: JSON within JSON, which anybody may have edited.

Invariant: what cannot be understood is an error that names where it was found.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dqlearn.errors import IncompatibleTableError
from dqlearn.text import shortened

__all__ = ["RUN_FORMAT", "nested", "understood"]

RUN_FORMAT = 1
"""Version of the layout of a run in its store; another layout has another number."""


def nested(attrs: Mapping[str, Any], name: str) -> Any:
    """Return a nested attribute as data."""
    return json.loads(attrs[name])


@contextmanager
def understood(where: str) -> Iterator[None]:
    """Turn whatever is raised by attributes that dqlearn did not write into a named error.

    Parameters
    ----------
    where : str
        Name of the table, for the error.

    Raises
    ------
    IncompatibleTableError
        If anything is raised inside.
    """
    try:
        yield
    except Exception as error:  # attributes may say anything
        raise IncompatibleTableError(
            f"expected the attributes that dqlearn saved, got others at {where!r}: "
            f"{shortened(error)}; were they edited?"
        ) from error
