"""Progress where there is no terminal to draw a bar on: a line on stderr every ten seconds.

::

    12% of 100,000,000 transitions, 3,912,000 a second, return 0.4812

Invariant: learning waits for nothing; a thread of its own looks at what the learner says anyway.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from dqlearn.learner.q_learner import QLearner

__all__ = ["progress_lines"]


@contextmanager
def progress_lines(learner: QLearner, total: int, every: float = 10.0) -> Iterator[None]:
    """Print how far a learner is, every so many seconds.

    Parameters
    ----------
    learner : QLearner
        The learner, which learns meanwhile.
    total : int
        Number of transitions at the end.
    every : float
        Seconds between two lines.
    """
    over = threading.Event()
    teller = threading.Thread(target=_tell, args=(learner, total, every, over), daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def _tell(learner: QLearner, total: int, every: float, over: threading.Event) -> None:
    before, then = learner.num_timesteps, time.monotonic()
    while not over.wait(every):
        made, now = learner.num_timesteps, time.monotonic()
        rate = max(0, made - before) / (now - then)  # fewer when the run has gone back
        returns = learner.history["mean_return"].dropna("round")
        last = f", return {float(returns[-1]):.4g}" if len(returns) else ""
        click.echo(
            f"{made / total:.0%} of {total:,} transitions, {rate:,.0f} a second{last}", err=True
        )
        before, then = made, now
