"""NetworkDefence: an intruder spreads over a network of hosts, and one host a slot can be cleaned.

::

    model.py      NetworkDefence       parameters, sizes, pictures
    kernels.py    events, transition   one slot, compiled
    baselines.py  rules to beat        react to the worst host, restore in turn, do nothing
"""

from __future__ import annotations

from dqlearn.envs.problems.defence.model import LEVELS, NetworkDefence

__all__ = ["LEVELS", "NetworkDefence"]
