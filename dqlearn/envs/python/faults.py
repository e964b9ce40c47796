"""Faults of environments: what a run does about them.

::

    an environment ─┬─ raises ─────────► "raise": an EnvironmentFault   "restart": it is built anew
                    ├─ never returns ──► after `timeout` seconds: an EnvironmentFault
                    └─ breaks its contract (a NaN reward, a state outside its space) ──► always one

Invariant: kernels, shards and guards only notice that something is wrong; the message is made here,
and says where.
"""

from __future__ import annotations

import logging
import time
from asyncio import CancelledError
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from dqlearn.envs.python.marks import Mark, Scene
from dqlearn.errors import (
    ClusterLostError,
    DQLearnError,
    EnvironmentFault,
)

__all__ = ["CLOSING", "OPENING", "RAISE", "RAISED", "Faults", "Watch", "given_up"]

RAISED = (Exception, SystemExit, CancelledError)
"""What environments raise: an exit of theirs is a fault, and never the program's end."""

OPENING, CLOSING = -1, -2
"""Instead of a step: environments are made and reset, or closed."""

_WORK = {OPENING: "made or reset", CLOSING: "closed"}


@dataclass(frozen=True)
class Faults:
    """What a run does about Python environments that raise, or never return.

    Attributes
    ----------
    on_error : str
        ``"raise"``, or ``"restart"`` the environment that raised.
    timeout : float, optional
        Seconds that a vector step may take; without it, as long as it likes.
    """

    on_error: str = "raise"
    timeout: float | None = None


RAISE = Faults()
"""Stop at the first fault, and wait for ever: what is done unless something else is said."""


@dataclass
class Watch:
    """Where a shard's environments are at work, for whoever waits for them.

    Attributes
    ----------
    mark : Mark
        Which shard it is, its vector step under way, and the environment at work.
    first_env, n_envs : int
        The environments it has.
    seed : int
        Seed of the run.
    faults : Faults
        What to do about those that fail.
    beat : float
        When the piece of work under way began, by the monotonic clock.
    given_up : bool
        Nobody waits any more.
    lost : list of int
        Places in the shard whose row of this step is no transition.
    restarts : list of str
        What has been built anew since the last :meth:`tell`.
    """

    mark: Mark
    first_env: int
    n_envs: int
    seed: int
    faults: Faults
    beat: float = 0.0
    given_up: bool = False
    lost: list[int] = field(default_factory=list)
    restarts: list[str] = field(default_factory=list)

    @property
    def shard(self) -> int:
        """Which shard it is."""
        return int(self.mark.shard[0])

    @property
    def step(self) -> int:
        """The vector step under way; -1 while environments are made and reset, -2 while closed."""
        return int(self.mark.step[0])

    @step.setter
    def step(self, step: int) -> None:
        self.mark.step[0] = step

    @property
    def environment(self) -> int | None:
        """The one at work; None where that cannot be known."""
        at = int(self.mark.environment[0])
        return None if at < 0 else at

    @environment.setter
    def environment(self, environment: int | None) -> None:
        self.mark.environment[0] = -1 if environment is None else environment

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Mark that the environments are at work inside, for when they end the process."""
        self.mark.at_work[0] = 1
        try:
            yield
        finally:
            self.mark.at_work[0] = 0

    def enter(self, environment: int | None = None) -> None:
        """Note that a piece of work begins; in a thread that was given up, end here."""
        if self.given_up:
            raise EnvironmentFault(f"{self.who(environment)} came back too late")
        self.environment, self.beat = environment, time.monotonic()

    def who(self, environment: int | None = None) -> str:
        """Name an environment, or all of the shard."""
        last = self.first_env + self.n_envs - 1
        which = f"s {self.first_env} .. {last}" if environment is None else f" {environment}"
        return f"environment{which} of shard {self.shard}"

    def fault(self, error: BaseException, environment: int | None = None) -> EnvironmentFault:
        """Return what says that one raised, or that one of all did."""
        who = self.who(environment)
        if isinstance(error, EnvironmentFault):  # which says already what is wrong
            when = f" at step {self.step}" if self.step >= 0 else ""
            return type(error)(f"{who} broke its contract{when}: {error}")
        if self.step < 0:
            return EnvironmentFault(f"{who} could not be {_WORK[self.step]}: {error!r}")
        cure = "" if environment is None else ", or build such ones anew: on_env_error='restart'"
        return EnvironmentFault(f"{who} failed at step {self.step}: {error!r}; correct it{cure}")

    def hang(self) -> EnvironmentFault:
        """Return what says that one did not come back."""
        work = f"step {self.step}" if self.step >= 0 else f"being {_WORK[self.step]}"
        return EnvironmentFault(
            f"{self.who(self.environment)} did not come back from {work} within "
            f"{self.faults.timeout} s: its thread was given up; correct it, or pass a longer "
            "env_timeout"
        )

    def tell(self) -> int:
        """Log what was built anew since the last time, in one record; return how many."""
        n = len(self.restarts)
        if n:
            more = f" ({n - 1} more in this round)" if n > 1 else ""
            logging.getLogger("dqlearn").warning("%s%s", self.restarts[0], more)
        self.restarts.clear()
        return n


def given_up(
    losses: int, scenes: Counter[Scene], round_: int, lost: ClusterLostError | None = None
) -> DQLearnError:
    """Return what says why a run on a cluster does not get any further.

    Parameters
    ----------
    losses : int
        Deaths of workers since it was further than ever.
    scenes : Counter of Scene
        Where environments were at work then.
    round_ : int
        How far it was.
    lost : ClusterLostError, optional
        What ended the run, if that was not the number of its losses.

    Returns
    -------
    EnvironmentFault or ClusterLostError
        The former if it was at the same place in most cases.
    """
    for scene, n in scenes.most_common(1):
        if 2 * n > losses:
            which = "one" if scene.environment < 0 else f"environment {scene.environment}"
            when = f"at step {scene.step}" if scene.step >= 0 else f"while {_WORK[OPENING]}"
            return EnvironmentFault(
                f"{which} of shard {scene.shard} ended its process {when}, {n} times: the run goes "
                "back and makes the step again, but not for ever; correct it, so that it raises"
            )
    return lost or ClusterLostError(
        f"workers died {losses} times while the run tried to get further than round {round_}: "
        "see their logs (are they too short of memory?), and call learn again"
    )
