"""Looking: how well a stored table plays, and what it is.

::

    q.zarr, run ──► evaluate   greedy episodes: makes the environment
                └─► info       arrays and JSON: makes nothing, runs nothing

Invariant: what is looked at is not changed, and a run that goes on is not disturbed.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import click
import xarray as xr

from dqlearn.cli.places import at_option, opened, size, trust_option, whole
from dqlearn.envs.arguments import texts
from dqlearn.errors import DQLearnError, IncompatibleTableError
from dqlearn.evaluation import EvaluationResult
from dqlearn.learner import QLearner
from dqlearn.options import Whole, format_schedule
from dqlearn.reopen import load, resume
from dqlearn.runs.repository import LATEST
from dqlearn.schedules import from_spec
from dqlearn.store import nested, read_attributes, understood
from dqlearn.text import printable

__all__ = ["contents", "echo_lines", "echo_mean", "evaluate", "info", "settings"]

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@click.command()
@click.argument("path", metavar="TABLE|RUN")
@at_option("Of a RUN: the checkpoint to play with: latest, previous, best, a number, or a tag.")
@click.option("--episodes", type=Whole(1), default=1000, show_default=True, help="How many.")
@click.option("--seed", type=Whole(0, 2**64 - 1), help="Equal seeds draw equal numbers.")
@click.option(
    "--max-steps",
    type=Whole(1),
    default=100_000,
    show_default=True,
    help="Cut an episode off after so many.",
)
@trust_option
def evaluate(
    path: str,
    at: str | int,
    episodes: int,
    seed: int | None,
    max_steps: int,
    trust: tuple[str, ...],
) -> None:
    """Play greedy episodes with a stored TABLE, or with a checkpoint of a RUN."""
    result = _learner(path, at, trust).evaluate(episodes, seed, max_steps)
    echo_mean(result)
    quantiles = "   ".join(f"{q:.0%}: {result.quantile(q):.6g}" for q in _QUANTILES)
    click.echo(f"Quantiles of the return: {quantiles}")
    click.echo(f"Mean length: {result.mean_length:.6g} transitions")


@click.command()
@click.argument("path", metavar="TABLE")
def info(path: str) -> None:
    """Say what a stored TABLE is and what it was learned with; makes no environment.

    Of a run: dqlearn runs info.
    """
    try:
        attrs = read_attributes(path)
    except IncompatibleTableError:
        _check_no_run(path)
        raise
    with xr.open_zarr(whole(path)) as dataset, understood(path):
        lines = contents(dataset) | size(whole(path)) | settings(attrs)
    echo_lines(lines)


def _learner(path: str, at: str | int, trust: tuple[str, ...]) -> QLearner:
    """Make the learner of a run or of a table, whichever it is."""
    try:
        opened(path)
    except DQLearnError as no_run:
        if at != LATEST:
            raise click.UsageError(f"--at is of runs: {no_run}") from no_run
        try:
            read_attributes(path)
        except IncompatibleTableError as no_table:
            raise IncompatibleTableError(f"{no_table}; nor is it a run: {no_run}") from no_table
        return load(path, trust=trust)
    return resume(path, at, trust=trust)


def _check_no_run(path: str) -> None:
    """Show the way to a run's own command."""
    with suppress(DQLearnError):
        opened(path)
        raise click.UsageError(f"there is a run at {path!r}: look at it by dqlearn runs info")


def contents(dataset: xr.Dataset) -> dict[str, str]:
    """Say what the arrays of a table hold."""
    q, attrs = dataset["q"], dataset.attrs
    seen = float((dataset["visits"] > 0).mean())
    (rows, columns), chunk = q.shape, q.data.chunksize
    return {
        "table": f"{rows:,} states x {columns:,} actions, {q.dtype}",
        "chunks": f"{chunk[0]:,} states x {chunk[1]:,} actions",
        "visited pairs": f"{100 * seen:.4g}% of {rows * columns:,}",
        "learned from": f"{attrs['timesteps']:,} transitions in {attrs['round']:,} rounds",
    }


def settings(attrs: Mapping[str, Any]) -> dict[str, str]:
    """Say what a table was learned with, schedules as `train` reads them."""
    spec = nested(attrs, "environment")
    arguments = [f"{name}={text}" for name, text in texts(spec).items()]
    plain = ("num_envs", "steps_per_round", "shards", "gamma", "initial_value", "policy_lag")
    path = attrs.get("path", "broadcast")  # tables of earlier versions do not say it
    return (
        {"environment": " ".join([spec.get("id") or spec["name"], *arguments])}
        | {name: str(attrs[name]) for name in plain}
        | {"path": str(path), "seed": str(attrs["seed"])}
        | {
            name: format_schedule(from_spec(nested(attrs, name)))
            for name in ("learning_rate", "epsilon")
        }
        | {"versions": ", ".join(f"{k} {v}" for k, v in nested(attrs, "versions").items())}
    )


def echo_lines(lines: Mapping[str, str]) -> None:
    """Print names and what they stand for, in two columns."""
    width = max(map(len, lines))
    for name, text in lines.items():
        click.echo(f"{name:<{width}}  {printable(text)}")


def echo_mean(result: EvaluationResult) -> None:
    """Print what greedy episodes returned."""
    click.echo(
        f"Mean return of {result.n_episodes:,} greedy episodes: "
        f"{result.mean:.4g} +- {result.standard_error:.2g} (standard error)"
    )
    if result.cut:
        click.echo(f"Cut off before their end: {result.cut:,} episodes")
