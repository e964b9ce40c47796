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
"""Exceptions of environments that count as faults; an environment's exit never ends the program."""

OPENING, CLOSING = -1, -2
"""Values in place of a step while environments are made and reset, or are closed."""

_WORK = {OPENING: "made or reset", CLOSING: "closed"}


@dataclass(frozen=True)
class Faults:
    """What a run does about Python environments that raise, or never return.

    Attributes
    ----------
    on_error : str
        ``"raise"`` ends the run with an error; ``"restart"`` builds the environment that raised
        anew.
    timeout : float, optional
        Seconds that a vector step may take; without it, there is no limit.
    """

    on_error: str = "raise"
    timeout: float | None = None


RAISE = Faults()
"""The default: stop at the first fault, and wait for environments for ever."""


@dataclass
class Watch:
    """A record of what a shard's environments are doing, for the thread that waits for them.

    Attributes
    ----------
    mark : Mark
        The number of the shard, its vector step under way, and the environment at work.
    first_env, n_envs : int
        Index in the run of the shard's first environment, and the number of its environments.
    seed : int
        Seed of the run.
    faults : Faults
        What to do about environments that fail.
    beat : float
        When the piece of work under way began, by the monotonic clock.
    given_up : bool
        Whether the waiting thread has given up the working one.
    lost : list of int
        Positions in the shard of environments that made no transition in this step.
    restarts : list of str
        A message for each environment that was built anew since the last :meth:`tell`.
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
        """The number of the shard."""
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
        """The environment at work; None where that cannot be known."""
        at = int(self.mark.environment[0])
        return None if at < 0 else at

    @environment.setter
    def environment(self, environment: int | None) -> None:
        self.mark.environment[0] = -1 if environment is None else environment

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Mark that environments are at work in this block, in case they end the process."""
        self.mark.at_work[0] = 1
        try:
            yield
        finally:
            self.mark.at_work[0] = 0

    def enter(self, environment: int | None = None) -> None:
        """Note that a piece of work begins; raise if this thread has been given up."""
        if self.given_up:
            raise EnvironmentFault(f"{self.who(environment)} came back too late")
        self.environment, self.beat = environment, time.monotonic()

    def who(self, environment: int | None = None) -> str:
        """Name one environment of the shard, or all of them, for messages."""
        last = self.first_env + self.n_envs - 1
        which = f"s {self.first_env} .. {last}" if environment is None else f" {environment}"
        return f"environment{which} of shard {self.shard}"

    def fault(self, error: BaseException, environment: int | None = None) -> EnvironmentFault:
        """Return the error which says that an environment, or one of the shard's, raised."""
        who = self.who(environment)
        if isinstance(error, EnvironmentFault):  # its message already says what is wrong
            when = f" at step {self.step}" if self.step >= 0 else ""
            return type(error)(f"{who} broke its contract{when}: {error}")
        if self.step < 0:
            return EnvironmentFault(f"{who} could not be {_WORK[self.step]}: {error!r}")
        cure = "" if environment is None else ", or build such ones anew: on_env_error='restart'"
        return EnvironmentFault(f"{who} failed at step {self.step}: {error!r}; correct it{cure}")

    def hang(self) -> EnvironmentFault:
        """Return the error which says that an environment did not return in time."""
        work = f"step {self.step}" if self.step >= 0 else f"being {_WORK[self.step]}"
        return EnvironmentFault(
            f"{self.who(self.environment)} did not come back from {work} within "
            f"{self.faults.timeout} s: its thread was given up; correct it, or pass a longer "
            "env_timeout"
        )

    def tell(self) -> int:
        """Log in one record the restarts since the last call; return their number."""
        n = len(self.restarts)
        if n:
            more = f" ({n - 1} more in this round)" if n > 1 else ""
            logging.getLogger("dqlearn").warning("%s%s", self.restarts[0], more)
        self.restarts.clear()
        return n


def given_up(
    losses: int, scenes: Counter[Scene], round_: int, lost: ClusterLostError | None = None
) -> DQLearnError:
    """Return the error which says why a run on a cluster makes no more progress.

    Parameters
    ----------
    losses : int
        Number of workers that died since the run last reached a new round.
    scenes : Counter of Scene
        The scenes of those deaths at which environments were at work.
    round_ : int
        The furthest round that the run reached.
    lost : ClusterLostError, optional
        The error that ended the run, if not the number of its losses.

    Returns
    -------
    EnvironmentFault or ClusterLostError
        An EnvironmentFault if most deaths have the same scene.
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
