"""Looking: how well a stored table plays, and what it is.

::

    q.zarr, run ──► evaluate   greedy episodes: makes the environment
                └─► info       arrays and JSON: makes nothing, runs nothing

Invariant: what is looked at is not changed, and a run that goes on is not disturbed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
import xarray as xr
from dask.utils import format_bytes

from dqlearn.cli.options import Whole, format_schedule
from dqlearn.cli.places import at_option, expecting_table, opened, size, trust_option, whole
from dqlearn.cli.saying import QUANTILES, echo_json, echo_lines, echo_mean, json_option, played
from dqlearn.envs.arguments import texts
from dqlearn.errors import DQLearnError, IncompatibleTableError
from dqlearn.learner.q_learner import QLearner
from dqlearn.learner.reopen import load, resume
from dqlearn.schedules import Schedule, VisitCount
from dqlearn.stages.settings import HYPERPARAMETERS, loaded
from dqlearn.storage.attributes import nested, understood
from dqlearn.storage.names import LATEST
from dqlearn.storage.origin import read_attributes

__all__ = ["contents", "evaluate", "info", "learner_of", "lines", "settings"]

_CONTENTS = ("chunks", "dtype")  # which the arrays tell, too
_SCHEDULES = (Schedule, VisitCount)


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
@json_option
def evaluate(
    path: str,
    at: str | int,
    episodes: int,
    seed: int | None,
    max_steps: int,
    trust: tuple[str, ...],
    as_json: bool,
) -> None:
    """Play greedy episodes with a stored TABLE, or with a checkpoint of a RUN."""
    result = learner_of(path, at, trust).evaluate(episodes, seed, max_steps)
    if as_json:
        echo_json(played(result))
        return
    echo_mean(result)
    quantiles = "   ".join(f"{q:.0%}: {result.quantile(q):.6g}" for q in QUANTILES)
    click.echo(f"Quantiles of the return: {quantiles}")
    click.echo(f"Mean length: {result.mean_length:.6g} transitions")


@click.command()
@click.argument("path", metavar="TABLE")
@json_option
def info(path: str, as_json: bool) -> None:
    """Say what a stored TABLE is and what it was learned with; makes no environment.

    For a run there is dqlearn runs info.
    """
    with expecting_table(path):
        attrs = read_attributes(path)
    with xr.open_zarr(whole(path)) as dataset, understood(path):
        facts, learned_with = contents(dataset) | size(whole(path)), settings(attrs)
        said = lines(facts, learned_with)
    if as_json:
        echo_json(facts | learned_with)
    else:
        echo_lines(said)


def learner_of(path: str, at: str | int, trust: tuple[str, ...]) -> QLearner:
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


def contents(dataset: xr.Dataset) -> dict[str, Any]:
    """Return what the arrays of a table hold."""
    q, attrs, visited = dataset["q"], dataset.attrs, dataset["visits"] > 0
    pairs = visited.any("member") if "member" in visited.dims else visited
    return {
        "states": q.shape[0],
        "actions": q.shape[-1],
        "dtype": str(q.dtype),
        "chunks": q.data.chunksize,
        "visited_pairs": int(pairs.sum()),
        "timesteps": attrs["timesteps"],
        "rounds": attrs["round"],
    }


def settings(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a table was learned with, schedules as `train` reads them."""
    values = loaded(attrs, [name for name in HYPERPARAMETERS if name not in _CONTENTS])
    texts = {k: format_schedule(v) for k, v in values.items() if isinstance(v, _SCHEDULES)}
    return (
        {"environment": nested(attrs, "environment")}
        | values
        | texts
        | {"algorithm": values["algorithm"].name}
        | {"versions": nested(attrs, "versions")}
    )


def lines(facts: Mapping[str, Any], learned_with: Mapping[str, Any]) -> dict[str, str]:
    """Return the same for people to read."""
    rows, columns = facts["states"], facts["actions"]
    chunk, pairs = facts["chunks"], rows * columns
    spec = learned_with["environment"]
    arguments = [f"{name}={text}" for name, text in texts(spec).items()]
    compiled = ["(compiled from its table)"] if spec.get("compiled") else []
    said = {
        "table": f"{rows:,} states x {columns:,} actions, {facts['dtype']}",
        "chunks": f"{chunk[0]:,} states x {chunk[-1]:,} actions",
        "visited pairs": f"{100 * facts['visited_pairs'] / max(pairs, 1):.4g}% of {pairs:,}",
        "learned from": f"{facts['timesteps']:,} transitions in {facts['rounds']:,} rounds",
    }
    if "size_on_disk" in facts:
        said["size on disk"] = format_bytes(facts["size_on_disk"])
    return (
        said
        | {name: str(value) for name, value in learned_with.items() if value is not None}
        | {
            "environment": " ".join([spec.get("id") or spec["name"], *arguments, *compiled]),
            "versions": ", ".join(f"{k} {v}" for k, v in learned_with["versions"].items()),
        }
    )
