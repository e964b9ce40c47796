"""The problems that speed is measured on, and dqlearn as a competitor in them.

torus
    1024 x 1024 cells, 10 % slip: steps stay near, so the part of the table in use may stay cached.
garnet
    131,072 states, 8 actions, 4 successors each, drawn anywhere: every step misses the cache.
taxi
    Taxi-v4, a Gymnasium environment of 500 states in Python: a step costs more than learning does.
big
    125,000,000 states, 8 actions: a table of 10^9 entries. Only :mod:`peers` asks for these two.

Epsilon and the learning rate are constant and the same for all competitors. Invariant: learners are
advanced through ``learn`` alone, as a user would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial, wraps
from typing import Any

import click
import dask
import gymnasium
import numpy as np
import numpy.typing as npt
from distributed import Client, LocalCluster
from hashed import hashed

from dqlearn import QLearner
from dqlearn.envs.problems.garnet import garnet
from dqlearn.envs.problems.torus import torus

EPSILON = 0.3
LEARNING_RATE = 0.2

# Settings of QLearner, tuned for two cores.
TORUS = {"num_envs": 65_536, "steps_per_round": 64, "shards": 2, "policy_lag": 0, "chunks": 2**17}
GARNET = {"num_envs": 16_384, "steps_per_round": 128, "shards": 2, "policy_lag": 0, "chunks": 2**14}
TAXI = {"num_envs": 64, "steps_per_round": 256, "shards": 2, "policy_lag": 1, "chunks": 500}
BIG = {"num_envs": 2**21, "steps_per_round": 1, "shards": 2, "policy_lag": 1, "chunks": 2**22}
TINY = {"num_envs": 64, "steps_per_round": 8, "chunks": 128}

THREADS = {"scheduler": "threads", "num_workers": 2}


@dataclass(frozen=True, eq=False)
class Problem:
    """An environment, and how dqlearn is set up for it.

    Attributes
    ----------
    env : TabularEnv or callable
        The model, for dqlearn, the hand-written loops and the exact solution alike; of Taxi, what
        makes an environment.
    gamma : float
        Discount.
    settings : mapping
        Of QLearner; ``chunks`` counts states.
    """

    name: str
    env: Any
    gamma: float
    settings: Mapping[str, Any]

    def learner(self, scheduler: Mapping[str, Any], **settings: Any) -> OnDask:
        """Set dqlearn up for it; `settings` go before the tuned ones."""
        chosen = {"gamma": self.gamma, "learning_rate": LEARNING_RATE, "epsilon": EPSILON}
        chosen |= self.settings | settings
        return OnDask(self.env, scheduler, **chosen | {"chunks": (chosen["chunks"], -1)})


def torus_problem(side: int = 1024) -> Problem:
    """Return the torus; reward -0.01 a step, +1 for the goal, where the episode ends."""
    return Problem("torus", torus(side, slip=0.1), 0.9, TORUS)


def garnet_problem(n_states: int = 131_072) -> Problem:
    """Return the Garnet; rewards uniform on [0, 1), no end."""
    return Problem("garnet", garnet(n_states, n_actions=8, branching=4), 0.95, GARNET)


def taxi_problem() -> Problem:
    """Return Taxi without a time limit: its episodes end only where they terminate."""
    return Problem("taxi", partial(gymnasium.make, "Taxi-v4", max_episode_steps=-1), 0.95, TAXI)


def big_problem(n_states: int = 125_000_000) -> Problem:
    """Return the process of hashes; rewards uniform on [0, 1), no end."""
    return Problem("big", hashed(n_states), 0.95, BIG)


def problem_named(name: str, tiny: bool) -> Problem:
    """Make one problem, very small if `tiny`."""
    makers: Mapping[str, Callable[[], Problem]] = {
        "torus": partial(torus_problem, 32) if tiny else torus_problem,
        "garnet": partial(garnet_problem, 256) if tiny else garnet_problem,
        "taxi": taxi_problem,
        "big": partial(big_problem, 512) if tiny else big_problem,
    }
    problem = makers[name]()
    return replace(problem, settings={**problem.settings, **TINY}) if tiny else problem


def chosen_problems(which: str, tiny: bool) -> list[Problem]:
    """Make the problems that the options of :func:`problem_options` name."""
    names = ("torus", "garnet") if which == "both" else (which,)
    return [problem_named(name, tiny) for name in names]


def settings_of(problems: list[Problem], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in force for each problem, for a report."""
    return {problem.name: {**problem.settings, **settings} for problem in problems}


def problem_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--problem`` and ``--tiny``; the command receives ``problems``."""

    @click.option(
        "--problem", type=click.Choice(["torus", "garnet", "both"]), default="both", help="Which."
    )
    @click.option("--tiny", is_flag=True, help="Very small problems, to try the script out.")
    @wraps(command)
    def wrapped(*args: Any, problem: str, tiny: bool, **kwargs: Any) -> Any:
        return command(*args, problems=chosen_problems(problem, tiny), **kwargs)

    return wrapped


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the settings of QLearner that one tunes; the command receives ``settings``."""
    names = ("num_envs", "steps_per_round", "shards", "policy_lag", "chunks")

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        given = {name: kwargs.pop(name) for name in names}
        settings = {name: value for name, value in given.items() if value is not None}
        return command(*args, settings=settings, **kwargs)

    for name in reversed(names):
        text = "States in a chunk." if name == "chunks" else f"{name} of QLearner."
        wrapped = click.option(f"--{name.replace('_', '-')}", type=int, help=text)(wrapped)
    return wrapped


class OnDask:
    """A QLearner on one of Dask's schedulers.

    Parameters
    ----------
    env
        As QLearner takes it.
    scheduler : mapping
        Dask configuration: :data:`THREADS`, or what :func:`two_workers` yields.
    **settings
        Of QLearner.
    """

    def __init__(self, env: Any, scheduler: Mapping[str, Any], **settings: Any) -> None:
        self.scheduler = scheduler
        self.learn_options: dict[str, Any] = {}
        with dask.config.set(scheduler):
            # No peer has masks.
            self.learner = QLearner(env, action_masks=False, **settings)

    def advance(self, transitions: int) -> int:
        """Learn from so many transitions more, in whole rounds; return how many they were."""
        before = self.learner.num_timesteps
        with dask.config.set(self.scheduler):
            self.learner.learn(before + transitions, **self.learn_options)
        return self.learner.num_timesteps - before

    def value(self) -> npt.NDArray[np.floating[Any]]:
        """Return the largest Q-value of each state."""
        with dask.config.set(self.scheduler):
            return self.learner.table.value.compute()


def smallest_rounds(scheduler: Mapping[str, Any], policy_lag: int) -> OnDask:
    """Return a learner whose rounds are all overhead: 2 transitions, 2 shards, 4 chunks."""
    return OnDask(
        torus(side=64),
        scheduler,
        num_envs=2,
        shards=2,
        steps_per_round=1,
        chunks=(1024, -1),
        policy_lag=policy_lag,
    )


def cluster_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--cluster``, for :func:`two_workers`."""
    text = "Scheduler of a running cluster, in place of two local worker processes."
    return click.option("--cluster", metavar="ADDRESS", help=text)(command)


@contextmanager
def two_workers(cluster: str | None = None) -> Iterator[dict[str, Any]]:
    """Start two worker processes of one thread, or connect to a cluster; yield the scheduler.

    Runs are spread over the workers, and each round has a graph of its own, on threads, too.
    """
    if cluster is not None:
        with (
            dask.config.set({"dqlearn.fuse": False}),
            Client(cluster, set_as_default=False) as client,
        ):
            yield {"scheduler": client}
        return
    with (
        dask.config.set({"dqlearn.fuse": False}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as local,
        Client(local, set_as_default=False) as client,
    ):
        yield {"scheduler": client}
