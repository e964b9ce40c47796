"""What commands say on stderr, apart from the lines of a machine that is busy."""

from __future__ import annotations

import re

__all__ = ["said"]


def said(stderr: str) -> str:
    """Leave out the lines of progress, which a command that takes ten seconds prints."""
    return re.sub(r"(?m)^\d+% of [\d,]+ transitions, [\d,]+ a second.*\n", "", stderr)
