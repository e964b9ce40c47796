"""Codes: what kernels write in place of a state or an action where there is none.

Invariant: no code is the index of a state or of an action.
"""

from __future__ import annotations

__all__ = ["BEGINNING", "IMPOSSIBLE", "NO_ACTION", "NO_BOOTSTRAP"]

NO_BOOTSTRAP = -1
"""In place of a next state: the episode terminated here, so the future is worth nothing."""

BEGINNING = -1
"""In place of an action: the state is one that an episode should have begun in."""

NO_ACTION = -2
"""In place of an action: the state has no valid one, or another than these was chosen."""

IMPOSSIBLE = -(2**63)
"""In place of a next state: a probability is outside 0 .. 1."""
