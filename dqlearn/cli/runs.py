"""Runs: what checkpoints there are, their names, those that may go, and one as a table.

::

    list, info             read
    tag, untag             names point to checkpoints; what has a name stays
    expire                 the others go
    export ──► q.zarr      one checkpoint as a plain table

Invariant: no environment is made, and a run that goes on is not disturbed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import wraps
from typing import Any

import click
from dask.utils import format_bytes

from dqlearn.cli.looking import contents, lines, settings
from dqlearn.cli.options import DURATION, TAG, Whole, format_every
from dqlearn.cli.places import (
    at_option,
    check_apart,
    check_out,
    expecting_run,
    opened,
    size,
    whole,
)
from dqlearn.cli.saying import echo_json, echo_lines, echo_rows, json_option
from dqlearn.errors import DamagedChunkError, NoCheckpointError
from dqlearn.runs import CheckpointInfo, checkpoints
from dqlearn.runs import expire as expire_checkpoints
from dqlearn.runs import tag as give_name
from dqlearn.runs import untag as take_name
from dqlearn.storage.attributes import nested, understood
from dqlearn.storage.names import LATEST
from dqlearn.storage.protocol import CheckpointStore
from dqlearn.storage.reading import history_of, table_of
from dqlearn.storage.zarr_table import write_dataset
from dqlearn.training.every import Every

__all__ = ["runs"]


def _of_run(command: Callable[..., None]) -> Any:
    """Make a command of a function of a run, which says so if a table is there."""

    @wraps(command)
    def checked(run: str, **options: Any) -> None:
        with expecting_run(run):
            command(run, **options)

    return click.argument("run", metavar="RUN")(checked)


_COLUMNS = ("number", "round", "transitions", "written", "names")


@click.group()
def runs() -> None:
    """Look at the checkpoints of a run, and keep them in order."""


@runs.command("list")
@_of_run
@json_option
def list_(run: str, as_json: bool) -> None:
    """List the checkpoints of RUN, the newest first.

    The latest is the one that the run goes on from; those with higher numbers were given up.
    """
    repository = opened(run)
    latest, found = _latest(repository), repository.checkpoints()
    if as_json:
        echo_json({"checkpoints": [_document(it, latest) for it in found]})
        return
    rows = [
        (
            str(it.number),
            f"{it.round:,}",
            f"{it.timesteps:,}",
            _local(it.written),
            ", ".join(_names(it, latest)),
        )
        for it in found
    ]
    echo_rows([_COLUMNS, *rows], numbers=3)


@runs.command()
@_of_run
@at_option("Which checkpoint: latest, previous, best, a number, or a tag.")
@json_option
def info(run: str, at: str | int, as_json: bool) -> None:
    """Say what RUN is and what it is learned with; makes no environment."""
    repository = opened(run)
    version, found = repository.find(at), repository.checkpoints()
    here = next((it for it in found if it.snapshot == version.snapshot), None)
    if here is None:
        raise NoCheckpointError(f"checkpoint {version.number} of {run!r} was deleted just now")
    dataset, latest = table_of(version), _latest(repository)
    with understood(run):
        facts, learned_with = contents(dataset) | size(whole(run)), settings(dataset.attrs)
        said, saving = lines(facts, learned_with), _saving(dataset.attrs)
    if as_json:
        kept = {"checkpoint": _document(here, latest), "checkpoints": len(found)}
        echo_json(facts | kept | learned_with | saving)
        return
    names = "".join(f", {name}" for name in _names(here, latest))
    checkpoint = {"checkpoint": f"{here.number}, written {_local(here.written)}{names}"}
    texts = {name: "all" if it is None else str(it) for name, it in saving.items()}
    echo_lines(said | checkpoint | {"checkpoints": f"{len(found):,}"} | texts)


@runs.command()
@_of_run
@click.argument("name", type=TAG)
@at_option("Which checkpoint: latest, previous, best, a number, or another tag.")
def tag(run: str, name: str, at: str | int) -> None:
    """Give a checkpoint of RUN a NAME: it does not expire, and --at NAME finds it."""
    give_name(run, name, at)
    click.echo(f"Checkpoint {opened(run).find(name).number} is {name}")


@runs.command()
@_of_run
@click.argument("name")
def untag(run: str, name: str) -> None:
    """Take a NAME away; it cannot be given again."""
    take_name(run, name)
    click.echo(f"No checkpoint is {name} any more")


@runs.command()
@_of_run
@click.option("--keep", type=Whole(1), help="Keep so many of the newest.")
@click.option("--older-than", type=DURATION, help="Keep the younger ones: 36h, 7d.")
def expire(run: str, keep: int | None, older_than: timedelta | None) -> None:
    """Delete old checkpoints of RUN, while nothing learns there.

    The latest and the one before it stay, and so do those that have a name.
    """
    if (keep is None) == (older_than is None):
        raise click.UsageError("give one of --keep and --older-than")
    before = len(checkpoints(run))
    freed = expire_checkpoints(run, keep_last=keep, older_than=older_than)
    left = len(checkpoints(run))
    click.echo(f"Checkpoints deleted: {before - left:,}, left: {left:,}")
    click.echo(f"Freed {freed:,} bytes ({format_bytes(freed)})")


@runs.command()
@_of_run
@click.argument("out")
@at_option("Which checkpoint: latest, previous, best, a number, or a tag.")
@click.option("--overwrite", is_flag=True, help="Replace a table that is at OUT.")
def export(run: str, out: str, at: str | int, overwrite: bool) -> None:
    """Write a checkpoint of RUN to OUT, as a table like those that `train --out` writes."""
    run, out = whole(run), whole(out)
    check_apart(out, run)
    version = opened(run).find(at)
    dataset, history = table_of(version), history_of(version).saved(version.round)
    check_out(out, overwrite)
    write_dataset(dataset, out, history, overwrite)
    n_states, *_, n_actions = dataset["q"].shape
    click.echo(f"Table: {out} ({n_states:,} states x {n_actions:,} actions)")


def _latest(repository: CheckpointStore) -> str:
    """Return the snapshot that a run goes on from; nothing if it is damaged."""
    with suppress(DamagedChunkError):
        return repository.find().snapshot
    return ""


def _names(info: CheckpointInfo, latest: str) -> list[str]:
    """Return what `--at` may call a checkpoint, besides its number."""
    return [*([LATEST] if info.snapshot == latest else []), *info.tags]


def _local(written: datetime) -> str:
    return written.astimezone().isoformat(timespec="seconds")


def _document(it: CheckpointInfo, latest: str) -> dict[str, Any]:
    return {
        "number": it.number,
        "round": it.round,
        "timesteps": it.timesteps,
        "written": it.written.isoformat(),
        "names": _names(it, latest),
    }


def _saving(attrs: dict[str, Any]) -> dict[str, Any]:
    """Return how checkpoints are made, as `train` reads it."""
    return {
        "checkpoint_every": format_every(Every(**nested(attrs, "checkpoint_every"))),
        "keep_checkpoints": attrs.get("keep_checkpoints"),
        "restart_envs": bool(attrs["restart_envs"]),
    }
