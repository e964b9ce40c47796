r"""Hyperparameters that change during a run: the learning rate alpha and epsilon.

A `Schedule` is a pure function of t, the number of transitions made since the run began::

    Constant      Linear         Exponential     Piecewise

    ─────────     ╲              ╲               ──╮    ╭──
                   ╲              ╲_               ╲    │
                    ╲____           ╲_____          ╲──╯
                    over            over         points

`VisitCount` is not a function of t: it gives each pair (s, a) its own learning rate, as a function
of n, the number of updates of that pair so far::

    alpha(n) = max(floor, min(1, scale / (n + offset)^omega))

Invariants: a schedule is frozen data and evaluates to the same number wherever and whenever it is
asked; it never leaves the range of its breakpoints; `from_spec(s.spec()) == s`, through JSON too.
The kinds are a closed set, so that a stored run can be resumed without running anybody's code:
`Piecewise` comes as close as one likes to any other curve.
"""

from __future__ import annotations

from dqlearn.schedules.choose import as_learning_rate, as_schedule, from_spec
from dqlearn.schedules.of_transitions import Constant, Exponential, Linear, Piecewise, Schedule
from dqlearn.schedules.of_visits import VisitCount

__all__ = [
    "Constant",
    "Exponential",
    "Linear",
    "Piecewise",
    "Schedule",
    "VisitCount",
    "as_learning_rate",
    "as_schedule",
    "from_spec",
]
