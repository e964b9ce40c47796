"""Threads that a timeout of environments gave up, and that may go on at the end of a test."""

from __future__ import annotations

import re
import threading

__all__ = ["join_given_up"]


def join_given_up() -> None:
    """Wait until they are over; threads that fused rounds keep (``dqlearn-helper``) are not."""
    for thread in threading.enumerate():
        if re.fullmatch(r"dqlearn-\d+", thread.name):
            thread.join(60)
            assert not thread.is_alive(), thread.name
