"""The command ``dqlearn``: learn a table, play with it, look at it.

::

    train ENV ──► QLearner.learn ──► save ──► q.zarr ──► evaluate   greedy episodes
                        │ Ctrl-C       ▲          └────► info       arrays and JSON, nothing is run
                        └──────────────┘

Invariant: the table is on disk before anything is said about it. Exit codes: 0 done; 1 an error, in
one line on stderr; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from inspect import signature
from pathlib import Path
from typing import Any

import click
import xarray as xr
from dask.utils import format_bytes
from distributed import Client

from dqlearn.errors import (
    ClusterLostError,
    ConfigurationError,
    DQLearnError,
    EnvironmentFault,
    IncompatibleTableError,
)
from dqlearn.evaluation import EvaluationResult
from dqlearn.learner import QLearner, load
from dqlearn.options import (
    BINS,
    CHUNKS,
    EPSILON,
    LEARNING_RATE,
    PAIR,
    Whole,
    format_schedule,
)
from dqlearn.schedules import from_spec
from dqlearn.store import nested, read_attributes

__all__ = ["main"]

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_INTERRUPTED = 130

_SCHEDULES = """\b
Schedules are functions of the transitions made so far:
  0.1                                the same for ever
  linear:START:END:OVER              a straight line, over so many transitions
  exponential:START:END:OVER         geometric
  piecewise:T=V,T=V,...              straight lines through points
  visits[:OMEGA[:OFFSET[:SCALE]]]    learning rate only: of a pair updated n times
                                     before, min(1, SCALE / (n + OFFSET)^OMEGA)

\b
Example:
  dqlearn train FrozenLake8x8-v1 --env is_slippery=false --timesteps 1e6
      --epsilon linear:1.0:0.05:5e5 --learning-rate visits:0.8 --out lake.zarr
"""


_DEFAULTS = {name: it.default for name, it in signature(QLearner).parameters.items()}


class _Commands(click.Group):
    """Turns errors that are made for people into one line, and Ctrl-C into its exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # somebody's `| head` has seen enough: Click leaves in silence
        except (DQLearnError, OSError) as error:
            raise click.ClickException(" ".join(str(error).split())) from error
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(_INTERRUPTED)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dqlearn")
def main() -> None:
    """Tabular Q-learning on Dask."""


def _setting(name: str, kind: Any, text: str) -> Callable[[Any], Any]:
    """Make the option of one of QLearner's parameters, with the default it has there."""
    default = _DEFAULTS[name]
    return click.option(
        f"--{name.replace('_', '-')}",
        type=kind,
        default=default,
        show_default=default is not None,
        help=text,
    )


@main.command(epilog=_SCHEDULES)
@click.argument("env")
@click.option("--timesteps", type=Whole(1), required=True, help="Transitions to learn from.")
@click.option("--out", required=True, help="Where the table goes: a folder, or a URL.")
@click.option("--overwrite", is_flag=True, help="Replace a table that is there.")
@click.option(
    "--env",
    "env_kwargs",
    type=PAIR,
    multiple=True,
    help="An argument of ENV; repeatable.",
)
@_setting("bins", BINS, "Bins of real observations: of all dimensions, or of each.")
@_setting("num_envs", Whole(1), "Environments that are stepped together.")
@_setting("steps_per_round", Whole(1), "Steps of each of them in a round.")
@_setting("shards", Whole(1), "Tasks they are divided over; as many as there are threads.")
@_setting("gamma", click.FloatRange(0, 1), "Discount factor.")
@_setting("learning_rate", LEARNING_RATE, "See below.")
@_setting("epsilon", EPSILON, "Probability of a random action: see below.")
@_setting("initial_value", click.FLOAT, "Q of every pair, at the beginning.")
@_setting("policy_lag", Whole(0, 1), "1: act on the table of the round before, to overlap rounds.")
@_setting("chunks", CHUNKS, "Chunks of the table: auto, N, or STATES,ACTIONS.")
@_setting("dtype", click.Choice(["float32", "float64"]), "Of the table.")
@_setting("seed", Whole(0, 2**64 - 1), "Of all randomness.")
@click.option("--workers", type=Whole(1), help="Run on so many processes, not on threads.")
@click.option("--scheduler", metavar="ADDRESS", help="Run on the Dask cluster at this address.")
@click.option(
    "--evaluate",
    "episodes",
    type=Whole(0),
    default=100,
    show_default=True,
    help="Greedy episodes to play at the end.",
)
@click.option("--quiet", is_flag=True, help="Say nothing but errors, and play no episodes.")
def train(
    env: str, timesteps: int, out: str, overwrite: bool, episodes: int, quiet: bool, **rest: Any
) -> None:
    """Learn the Q-table of ENV, a Gymnasium id, and save it.

    An id such as module:Name-v0 imports the module first. Ctrl-C saves what was learned so far.
    """
    out = out if "://" in out else os.path.realpath(out)
    workers, scheduler = rest.pop("workers"), rest.pop("scheduler")
    if workers and scheduler:
        raise click.UsageError("--workers starts a cluster, --scheduler joins one: choose")
    _check_out(out, overwrite)
    rest["env_kwargs"] = dict(rest["env_kwargs"])
    with _cluster(workers, scheduler):
        learner = QLearner(env, **rest)
        seconds = _learn(learner, timesteps, out, show_bar=not quiet and sys.stderr.isatty())
        if not quiet:
            _echo_rate(learner.timesteps, seconds)
            if episodes:
                _echo_mean(learner.evaluate(episodes))
            n_states, n_actions = learner.table.grid.shape
            click.echo(f"Table: {out} ({n_states:,} states x {n_actions:,} actions)")


@main.command()
@click.argument("path", metavar="TABLE")
@click.option("--episodes", type=Whole(1), default=1000, show_default=True, help="How many.")
@click.option("--seed", type=Whole(0, 2**64 - 1), help="Equal seeds draw equal numbers.")
@click.option(
    "--max-steps",
    type=Whole(1),
    default=100_000,
    show_default=True,
    help="Cut an episode off after so many.",
)
def evaluate(path: str, episodes: int, seed: int | None, max_steps: int) -> None:
    """Play greedy episodes with a stored TABLE."""
    result = load(path).evaluate(episodes, seed, max_steps)
    _echo_mean(result)
    quantiles = "   ".join(f"{q:.0%}: {result.quantile(q):.6g}" for q in _QUANTILES)
    click.echo(f"Quantiles of the return: {quantiles}")
    click.echo(f"Mean length: {result.mean_length:.6g} transitions")


@main.command()
@click.argument("path", metavar="TABLE")
def info(path: str) -> None:
    """Say what a stored TABLE is and what it was learned with; makes no environment."""
    lines = _contents(path) | _settings(read_attributes(path))
    width = max(map(len, lines))
    for name, text in lines.items():
        click.echo(f"{name:<{width}}  {text}")


def _contents(path: str) -> dict[str, str]:
    """Say what the arrays hold."""
    attrs = read_attributes(path)
    with xr.open_zarr(path) as dataset:
        q, visits = dataset["q"], dataset["visits"]
        seen = float((visits > 0).mean())
        (rows, columns), chunk = q.shape, q.encoding["chunks"]
        lines = {
            "table": f"{rows:,} states x {columns:,} actions, {q.dtype}",
            "chunks": f"{chunk[0]:,} states x {chunk[1]:,} actions",
            "visited pairs": f"{100 * seen:.4g}% of {rows * columns:,}",
            "learned from": f"{attrs['timesteps']:,} transitions in {attrs['round']:,} rounds",
        }
    if "://" not in path:
        size = sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())
        lines["size on disk"] = format_bytes(size)
    return lines


def _settings(attrs: dict[str, Any]) -> dict[str, str]:
    """Say what it was learned with, schedules as `train` reads them."""
    spec = nested(attrs, "environment")
    arguments = [f"{key}={json.dumps(value)}" for key, value in spec.get("kwargs", {}).items()]
    plain = ("num_envs", "steps_per_round", "shards", "gamma", "initial_value", "policy_lag")
    return (
        {"environment": " ".join([spec.get("id") or spec["name"], *arguments])}
        | {name: str(attrs[name]) for name in (*plain, "seed")}
        | {
            name: format_schedule(from_spec(nested(attrs, name)))
            for name in ("learning_rate", "epsilon")
        }
        | {"versions": ", ".join(f"{k} {v}" for k, v in nested(attrs, "versions").items())}
    )


def _check_out(out: str, overwrite: bool) -> None:
    """Refuse a place for the table before the work is done, not after."""
    if "://" not in out and not os.path.lexists(out):
        folder = os.path.dirname(out)
        os.makedirs(folder, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(
                f"choose another --out: expected a folder to write to at {folder!r}"
            )
        return
    try:
        read_attributes(out)
    except IncompatibleTableError as error:
        if "://" in out:
            return
        raise IncompatibleTableError(f"choose another --out: {error}") from error
    if not overwrite:
        raise ConfigurationError(f"there is a table at {out!r}: pass --overwrite to replace it")


def _cluster(workers: int | None, scheduler: str | None) -> AbstractContextManager[Any]:
    """Make a cluster the place where Dask runs, if one is asked for."""
    if workers:
        return _started(workers)
    return _joined(scheduler) if scheduler else nullcontext()


def _started(workers: int) -> Client:
    """Start processes that ignore Ctrl-C: a terminal sends it to all, and it is for this one."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is ignored, a child ignores too
    try:
        return Client(n_workers=workers, threads_per_worker=1, dashboard_address="127.0.0.1:0")  # type: ignore[no-untyped-call]
    finally:
        signal.signal(signal.SIGINT, before)


def _joined(scheduler: str) -> Client:
    try:
        return Client(scheduler)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise ClusterLostError(
            f"expected a Dask scheduler at {scheduler!r}, such as tcp://host:8786: {error}"
        ) from error


def _learn(learner: QLearner, timesteps: int, out: str, *, show_bar: bool) -> float:
    """Learn and save, also when learning ends before its time; return the seconds it took."""
    began = time.monotonic()
    try:
        learner.learn(timesteps, progress_bar=show_bar)
    except (KeyboardInterrupt, EnvironmentFault):
        if learner.timesteps:
            learner.save(out)
            click.echo(f"Saved the table of {learner.timesteps:,} transitions: {out}", err=True)
        raise
    seconds = time.monotonic() - began
    learner.save(out)
    return seconds


def _echo_rate(timesteps: int, seconds: float) -> None:
    rate = timesteps / seconds
    click.echo(f"Learned from {timesteps:,} transitions in {seconds:.1f} s: {rate:,.0f} a second")


def _echo_mean(result: EvaluationResult) -> None:
    click.echo(
        f"Mean return of {result.n_episodes:,} greedy episodes: "
        f"{result.mean:.4g} +- {result.standard_error:.2g} (standard error)"
    )
    if result.cut:
        click.echo(f"Cut off before their end: {result.cut:,} episodes")
