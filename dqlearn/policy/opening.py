"""Opening a stored table: which kind there is, which version of it is asked for, what it chooses.

::

    a folder with zarr.json, a URL ──► a saved table ─┐
    a run, at="latest"             ──► a checkpoint ──┴─► StoredTable ─► Choices

Importing this module brings Zarr and Icechunk, which takes as long as all else that a policy needs.
Invariant: no lock is taken and nothing is written, so a run that learns is not disturbed.
"""

from __future__ import annotations

import os
from pathlib import Path

from dqlearn.algorithms.scores import score_of
from dqlearn.checks import check_amount
from dqlearn.errors import ConfigurationError, IncompatibleTableError, NoCheckpointError
from dqlearn.policy.choices import ChoicesLike
from dqlearn.policy.greedy import choices_of, finder
from dqlearn.policy.stored import StoredTable
from dqlearn.storage.attributes import understood
from dqlearn.storage.icechunk.commits import Commits
from dqlearn.storage.icechunk.place import place_of
from dqlearn.storage.names import LATEST, At
from dqlearn.storage.origin import Origin, read_attributes
from dqlearn.storage.paths import PathLike, is_url, located
from dqlearn.storage.protocol import CheckpointStore
from dqlearn.table.snapshot import Snapshot

__all__ = ["find_choices", "find_table"]


def find_table(table: object, at: At = LATEST) -> StoredTable:
    """Find a version of a stored table.

    Parameters
    ----------
    table : str, path-like, icechunk.Storage or CheckpointStore
        A saved table, or a run.
    at : str or int
        Which checkpoint of a run.

    Returns
    -------
    StoredTable

    Raises
    ------
    NoCheckpointError
        If nothing is there, or no such checkpoint.
    IncompatibleTableError
        If something else is there.
    ConfigurationError
        If a checkpoint is asked for of a saved table.
    """
    return StoredTable.of(_snapshot(table, at))


def _snapshot(table: object, at: At) -> Snapshot:
    if isinstance(table, CheckpointStore):
        return table.find(at)
    if not isinstance(table, str | os.PathLike):
        return Commits(place_of(table)).find(at)
    where = located(table)
    if is_url(where):
        return _behind(table, at)
    if not os.path.lexists(where):
        raise NoCheckpointError(
            f"expected a table that save wrote, or a run's repository, got nothing at {where!r}"
        )
    if (Path(where) / "zarr.json").exists():
        return _saved(table, at)
    return Commits(place_of(table)).find(at)


def _behind(url: PathLike, at: At) -> Snapshot:
    """Return what is behind a URL: a run or a table of an object store, a table of any other."""
    try:
        return Commits(place_of(url)).find(at)
    except ConfigurationError:
        return _saved(url, at)
    except (NoCheckpointError, IncompatibleTableError) as error:
        try:
            return _saved(url, at)
        except IncompatibleTableError:
            raise error from None


def _saved(path: PathLike, at: At) -> Origin:
    """Return a saved table, which has one version."""
    attrs, where = read_attributes(path), located(path)
    if at != LATEST:
        raise ConfigurationError(
            f"expected a run, got a saved table at {os.fspath(path)!r}, which has one version: "
            f"leave out {at=}"
        )
    with understood(os.fspath(path)):
        counters = [check_amount(name, attrs[name], 0) for name in ("round", "timesteps")]
    return Origin(where if is_url(where) else os.path.abspath(where), *counters)


def find_choices(table: StoredTable) -> ChoicesLike:
    """Read a table, and find its greedy actions.

    Parameters
    ----------
    table : StoredTable
        A stored table.

    Returns
    -------
    Choices or SparseChoices

    Raises
    ------
    IncompatibleTableError
        If its arrays are not those that its attributes speak of, or it is replaced meanwhile.
    DamagedChunkError
        If what is stored is not what was written.
    """
    if (ours := score_of(table.rule)) is not None:
        members, score = ours
        find = finder(score, table.key, table.actions.n)
    else:
        from dqlearn.policy.compiled import compiled_finder  # brings Numba

        members, find = compiled_finder(table)
    table.check(members)
    return choices_of(table, find)
