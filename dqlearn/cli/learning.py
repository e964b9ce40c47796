"""Learning: ``dqlearn train`` begins, ``dqlearn resume`` goes on.

::

    learner ─► learn ─► checkpoint, table ─► what was learned, how well it plays, where it is
                 │ Ctrl-C, an error   ▲
                 └────────────────────┴─► how to go on

Invariant: whatever ends the learning, what there is of it is kept where it was asked for.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, fields
from typing import Any

import click

from dqlearn.cli.comparing import compared, echo_comparison
from dqlearn.cli.hints import hints
from dqlearn.cli.hyperparameters import hyperparameter_options
from dqlearn.cli.options import BINS, EVERY, PAIR, Whole
from dqlearn.cli.places import (
    at_option,
    check_apart,
    check_out,
    cluster,
    expecting_run,
    opened,
    trust_option,
    whole,
)
from dqlearn.cli.progress_lines import progress_lines
from dqlearn.cli.saying import echo_json, echo_mean, json_option, played
from dqlearn.envs.registry import recipe
from dqlearn.errors import ClusterError, DQLearnError
from dqlearn.learner.q_learner import QLearner
from dqlearn.learner.reopen import resume as resumed
from dqlearn.stages.evaluation import EvaluationResult
from dqlearn.storage.attributes import nested

__all__ = ["resume", "train"]

_SCHEDULES = """\b
Schedules are functions of the transitions made so far:
  0.1                                the same for ever
  linear:START:END:OVER              a straight line, over so many transitions
  exponential:START:END:OVER         geometric
  piecewise:T=V,T=V,...              straight lines through points
  visits[:OMEGA[:OFFSET[:SCALE]]]    learning rate only: of a pair updated n times
                                     before, min(1, SCALE / (n + OFFSET)^OMEGA)

\b
Examples:
  dqlearn train FrozenLake8x8-v1 --env is_slippery=false --timesteps 1e6
      --epsilon linear:1.0:0.05:5e5 --learning-rate visits:0.8 --out lake.zarr
  dqlearn train dqlearn/Torus-v0 --timesteps 1e9 --store runs/torus
      --checkpoint-every 1e8 --keep-checkpoints 5
"""

_SAVING = ("checkpoint_every", "keep_checkpoints")

Decorator = Callable[[Any], Any]


@dataclass(frozen=True)
class _Task:
    """The options of a command that learns.

    Attributes
    ----------
    timesteps : int
        Number of transitions, counted from the run's beginning.
    out, store : str, optional
        Places of the table and of the run.
    overwrite : bool
        Whether a table may be replaced.
    episodes : int
        Number of episodes to play at the end.
    quiet : bool
        Whether to say nothing.
    as_json : bool
        Whether to print one JSON document.
    workers : int, optional
        Number of processes to start.
    scheduler : str, optional
        Address of a cluster to join.
    saving : dict
        Arguments of `QLearner.learn` about checkpoints.
    """

    timesteps: int
    out: str | None
    store: str | None
    overwrite: bool
    episodes: int
    quiet: bool
    as_json: bool
    workers: int | None
    scheduler: str | None
    saving: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def take(cls, options: dict[str, Any]) -> _Task:
        """Separate the task's options from those of a command."""
        if options["workers"] and options["scheduler"]:
            raise click.UsageError("--workers starts a cluster, --scheduler joins one: choose")
        saving = {name: options.pop(name) for name in _SAVING}
        names = {it.name for it in fields(cls)} - {"saving"}
        if options["timesteps"] is None:
            raise click.UsageError("Missing option '--timesteps': how many transitions to make")
        given = {name: options.pop(name) for name in names}
        places = {name: given[name] and whole(given[name]) for name in ("out", "store")}
        return cls(**{**given, **places}, saving=saving)

    def check(self) -> None:
        """Refuse places for the results before the work is done, not after."""
        if self.out and self.store:
            check_apart(self.out, self.store)
        if self.out:
            check_out(self.out, self.overwrite)


_ENDS = (
    click.option(
        "--timesteps",
        type=Whole(1),
        help="Transitions to learn from, counted from the run's beginning; a new run of a network "
        "environment may do without.",
    ),
    click.option("--out", help="Where the table goes at the end: a folder, or a URL."),
    click.option("--overwrite", is_flag=True, help="Replace a table that is at --out."),
)
_CHECKPOINTS = (
    click.option(
        "--checkpoint-every",
        type=EVERY,
        help="Transitions (1e6), rounds (100r) or time (60s, 5min); by default 60s, or as before.",
    ),
    click.option(
        "--keep-checkpoints",
        type=Whole(1),
        help="Keep so many, and those that have a name; by default all, or as before.",
    ),
)
_WAYS = (
    click.option("--workers", type=Whole(1), help="Run on so many processes, not on threads."),
    click.option("--scheduler", metavar="ADDRESS", help="Run on the Dask cluster at this address."),
    click.option(
        "--evaluate",
        "episodes",
        type=Whole(0),
        default=100,
        show_default=True,
        help="Greedy episodes to play at the end.",
    ),
    click.option("--quiet", is_flag=True, help="Say nothing but errors, and play no episodes."),
    json_option,
)


def _all(options: tuple[Decorator, ...]) -> Decorator:
    """Make one decorator of several, in the order in which the help shows them."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@click.command(epilog=_SCHEDULES)
@click.argument("env")
@_all(_ENDS)
@click.option("--store", metavar="RUN", help="Where checkpoints go: a new folder, or a URL.")
@_all(_CHECKPOINTS)
@click.option(
    "--restart-envs",
    is_flag=True,
    help="Begin new episodes of Python environments at each checkpoint: see the guide.",
)
@click.option(
    "--env",
    "env_kwargs",
    type=PAIR,
    multiple=True,
    help="An argument of ENV; repeatable.",
)
@click.option(
    "--compile/--no-compile",
    default=True,
    show_default=True,
    help="Compile ENV if it is a table, as Gymnasium's toy texts are.",
)
@click.option(
    "--bins",
    type=BINS,
    help="Bins of real observations, of all dimensions or of each: see the guide.",
)
@hyperparameter_options
@_all(_WAYS)
def train(env: str, restart_envs: bool, **options: Any) -> None:
    """Learn the Q-table of ENV, a Gymnasium id, and save it.

    An id such as module:Name-v0 imports the module first. With --store, checkpoints are written
    while it learns, and `dqlearn resume` can go on from them. Ctrl-C keeps what was learned so far.
    """
    if options["timesteps"] is None and (known := recipe(env, dict(options["env_kwargs"]))):
        options["timesteps"] = known.timesteps
    task = _Task.take(options)
    task.saving["restart_envs"] = restart_envs or None
    if not (task.out or task.store):
        raise click.UsageError("Missing option '--out' or '--store': say where the table goes")
    given = [name for name, value in task.saving.items() if value is not None]
    if given and not task.store:
        raise click.UsageError(f"--{given[0].replace('_', '-')} is of checkpoints: give --store")
    kwargs = options["env_kwargs"] = dict(options["env_kwargs"])

    def make() -> QLearner:
        with hints(env, kwargs):
            return QLearner(env, **options)

    def others(learner: QLearner) -> dict[str, EvaluationResult]:
        return compared(learner.model, env, kwargs, task.episodes)

    _run(task, make, others)


@click.command()
@click.argument("store", metavar="RUN")
@_all(_ENDS)
@at_option("Go on from this checkpoint: latest, previous, best, a number, or a tag.")
@trust_option
@_all(_CHECKPOINTS)
@_all(_WAYS)
def resume(at: str | int, trust: tuple[str, ...], **options: Any) -> None:
    """Go on with RUN from a checkpoint, until there are --timesteps transitions in all.

    The run ends as it would have without a stop, and writes to the same place. Its environment
    is made by its id, or found by its name in a module that --trust allows. From an earlier
    checkpoint than the latest, the later ones are given up, but for those that have a name.
    """
    task = _Task.take(options)
    _run(task, lambda: resumed(str(task.store), at, trust=trust))


def _nothing(learner: QLearner) -> dict[str, EvaluationResult]:
    return {}


def _run(
    task: _Task,
    make: Callable[[], QLearner],
    others: Callable[[QLearner], dict[str, EvaluationResult]] = _nothing,
) -> None:
    """Learn, and say what came of it, beside what others make of it."""
    task.check()
    place = expecting_run(task.store) if task.store else nullcontext()
    with cluster(task.workers, task.scheduler):
        with place:
            learner = make()
            before = learner.num_timesteps
            seconds = _learn(learner, task)
        plays = task.episodes and not task.quiet
        result = learner.evaluate(task.episodes) if plays else None
        beside = others(learner) if plays else {}
        if task.as_json:
            means = {name: played(other) for name, other in beside.items()}
            echo_json(_document(learner, task, before, seconds, result) | {"compared": means})
        elif not task.quiet:
            _echo_rate(learner.num_timesteps, before, seconds)
            if result:
                echo_mean(result)
                echo_comparison(result, beside)
            _echo_places(learner, task)


def _learn(learner: QLearner, task: _Task) -> float:
    """Learn and save, also when learning ends before its time; return the seconds it took."""
    before, began = learner.num_timesteps, time.monotonic()
    bar = not task.quiet and sys.stderr.isatty()
    silent = task.quiet or bar
    shown = nullcontext() if silent else progress_lines(learner, task.timesteps)
    try:
        with shown:
            learner.learn(task.timesteps, progress_bar=bar, store=task.store, **task.saving)
    except (KeyboardInterrupt, DQLearnError) as error:
        learned = learner.num_timesteps > before
        if task.store and (learned or isinstance(error, KeyboardInterrupt)):
            _echo_way_on(task.store, task.timesteps)
        if task.out and learned and not isinstance(error, ClusterError):
            learner.save(task.out, task.overwrite)
            _echo_saved(learner, task.out)
        raise
    seconds = time.monotonic() - began
    if task.out:
        learner.save(task.out, task.overwrite)
    return seconds


def _document(
    learner: QLearner,
    task: _Task,
    before: int,
    seconds: float,
    result: EvaluationResult | None,
) -> dict[str, Any]:
    """Return what came of it as a document."""
    n_states, n_actions = learner.table.grid.shape
    checkpoint = opened(task.store).find().number if task.store else None
    return {
        "timesteps": learner.num_timesteps,
        "learned": learner.num_timesteps - before,
        "seconds": seconds,
        "states": n_states,
        "actions": n_actions,
        "evaluation": result and played(result),
        "run": task.store,
        "checkpoint": checkpoint,
        "table": task.out,
    }


def _echo_way_on(store: str, timesteps: int) -> None:
    """Say how to go on from the newest checkpoint, if there is one."""
    with suppress(DQLearnError):
        version = opened(store).find()
        module, colon, _ = nested(version.attributes, "environment").get("id", "").rpartition(":")
        trust = f" --trust {shlex.quote(module)}" if colon else ""
        click.echo(
            f"Checkpoint {version.number} has {version.timesteps:,} transitions; go on with: "
            f"dqlearn resume {shlex.quote(store)} --timesteps {timesteps}{trust}",
            err=True,
        )


def _echo_saved(learner: QLearner, out: str) -> None:
    click.echo(f"Saved the table of {learner.num_timesteps:,} transitions: {out}", err=True)


def _echo_rate(timesteps: int, before: int, seconds: float) -> None:
    made = timesteps - before
    if not made:
        click.echo(f"Nothing was left to learn: there are {timesteps:,} transitions")
        return
    rate = f"{made / seconds:,.0f} a second" + (f", {timesteps:,} in all" if before else "")
    click.echo(f"Learned from {made:,} transitions in {seconds:.1f} s: {rate}")


def _echo_places(learner: QLearner, task: _Task) -> None:
    n_states, n_actions = learner.table.grid.shape
    shape = f"{n_states:,} states x {n_actions:,} actions"
    if task.store:
        click.echo(f"Run: {task.store} ({shape}, checkpoint {opened(task.store).find().number})")
    if task.out:
        click.echo(f"Table: {task.out} ({shape})")
