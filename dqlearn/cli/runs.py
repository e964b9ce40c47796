"""Runs: what checkpoints there are, their names, those that may go, and one as a table.

::

    list, info             read
    tag, untag             names point to checkpoints; what has a name stays
    expire                 the others go
    export ──► q.zarr      one checkpoint as a plain table

Invariant: no environment is made, and a run that goes on is not disturbed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import click
from dask.utils import format_bytes

from dqlearn.cli.looking import contents, echo_lines, settings
from dqlearn.cli.places import at_option, check_apart, check_out, opened, size, whole
from dqlearn.errors import DamagedChunkError, NoCheckpointError
from dqlearn.every import Every
from dqlearn.options import DURATION, TAG, Whole, format_every
from dqlearn.runs import CheckpointInfo, checkpoints
from dqlearn.runs import expire as expire_checkpoints
from dqlearn.runs import tag as give_name
from dqlearn.runs import untag as take_name
from dqlearn.runs.reading import history_of, table_of
from dqlearn.runs.repository import LATEST, Repository
from dqlearn.store import nested, understood, write_dataset
from dqlearn.text import printable

__all__ = ["runs"]

_RUN = click.argument("run", metavar="RUN")
_COLUMNS = ("number", "round", "transitions", "written", "names")


@click.group()
def runs() -> None:
    """Look at the checkpoints of a run, and keep them in order."""


@runs.command("list")
@_RUN
def list_(run: str) -> None:
    """List the checkpoints of RUN, the newest first.

    The latest is the one that the run goes on from; those with higher numbers were given up.
    """
    repository = opened(run)
    latest = _latest(repository)
    rows = [
        (
            str(it.number),
            f"{it.round:,}",
            f"{it.timesteps:,}",
            _local(it.written),
            ", ".join(_names(it, latest)),
        )
        for it in repository.checkpoints()
    ]
    _echo_table([_COLUMNS, *rows])


@runs.command()
@_RUN
@at_option("Which checkpoint: latest, previous, best, a number, or a tag.")
def info(run: str, at: str | int) -> None:
    """Say what RUN is and what it is learned with; makes no environment."""
    repository = opened(run)
    version, found = repository.version(at), repository.checkpoints()
    here = next((it for it in found if it.snapshot == version.snapshot), None)
    if here is None:
        raise NoCheckpointError(f"checkpoint {version.number} of {run!r} was deleted just now")
    dataset = table_of(version)
    names = "".join(f", {name}" for name in _names(here, _latest(repository)))
    checkpoint = {"checkpoint": f"{here.number}, written {_local(here.written)}{names}"}
    with understood(run):
        lines = contents(dataset) | checkpoint | {"checkpoints": f"{len(found):,}"}
        lines |= size(whole(run)) | settings(dataset.attrs) | _saving(dataset.attrs)
    echo_lines(lines)


@runs.command()
@_RUN
@click.argument("name", type=TAG)
@at_option("Which checkpoint: latest, previous, best, a number, or another tag.")
def tag(run: str, name: str, at: str | int) -> None:
    """Give a checkpoint of RUN a NAME: it does not expire, and --at NAME finds it."""
    give_name(run, name, at)
    click.echo(f"Checkpoint {opened(run).version(name).number} is {name}")


@runs.command()
@_RUN
@click.argument("name")
def untag(run: str, name: str) -> None:
    """Take a NAME away; it cannot be given again."""
    take_name(run, name)
    click.echo(f"No checkpoint is {name} any more")


@runs.command()
@_RUN
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
@_RUN
@click.argument("out")
@at_option("Which checkpoint: latest, previous, best, a number, or a tag.")
@click.option("--overwrite", is_flag=True, help="Replace a table that is at OUT.")
def export(run: str, out: str, at: str | int, overwrite: bool) -> None:
    """Write a checkpoint of RUN to OUT, as a table like those that `train --out` writes."""
    run, out = whole(run), whole(out)
    check_apart(out, run)
    version = opened(run).version(at)
    dataset, history = table_of(version), history_of(version).saved(version.round)
    check_out(out, overwrite)
    write_dataset(dataset, out, history, overwrite)
    n_states, n_actions = dataset["q"].shape
    click.echo(f"Table: {out} ({n_states:,} states x {n_actions:,} actions)")


def _latest(repository: Repository) -> str:
    """Return the snapshot that a run goes on from; nothing if it is damaged."""
    with suppress(DamagedChunkError):
        return repository.version().snapshot
    return ""


def _names(info: CheckpointInfo, latest: str) -> list[str]:
    """Return what `--at` may call a checkpoint, besides its number."""
    return [*([LATEST] if info.snapshot == latest else []), *info.tags]


def _local(written: datetime) -> str:
    return written.astimezone().isoformat(timespec="seconds")


def _echo_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows, numbers to the right and texts to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        numbers = (text.rjust(width) for text, width in zip(row[:3], widths, strict=False))
        texts = (text.ljust(width) for text, width in zip(row[3:], widths[3:], strict=True))
        click.echo(printable("  ".join([*numbers, *texts]).rstrip()))


def _saving(attrs: dict[str, Any]) -> dict[str, str]:
    """Say how checkpoints are made, as `train` reads it."""
    keep = attrs["keep_checkpoints"]
    return {
        "checkpoint_every": format_every(Every(**nested(attrs, "checkpoint_every"))),
        "keep_checkpoints": "all" if keep is None else str(keep),
        "restart_envs": str(attrs["restart_envs"]),
    }
