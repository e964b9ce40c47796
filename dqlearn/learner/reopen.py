"""From what is stored to a learner again.

::

    saved table ──► load    its values and counters, in fresh episodes
    checkpoint  ──► resume  the whole run, as it was at the end of a round

Invariant: what is read is data; environments are made as :mod:`dqlearn.storage.description` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from dqlearn.envs.resolve import EnvLike
from dqlearn.learner.q_learner import QLearner
from dqlearn.stages.settings import Hyperparameters
from dqlearn.storage.description import Stored, Trust, check_fingerprint, environment_of
from dqlearn.storage.location import StoreLike, store_of
from dqlearn.storage.names import LATEST, At
from dqlearn.storage.paths import PathLike
from dqlearn.storage.reading import history_of
from dqlearn.training.checkpointer import Checkpointer
from dqlearn.training.every import Saving

__all__ = ["load", "resume"]


def load(
    path: PathLike,
    /,
    env: EnvLike | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    trust: Trust = (),
    **settings: Unpack[Hyperparameters],
) -> QLearner:
    """Make a learner of a stored table: see :meth:`QLearner.load`.

    Parameters
    ----------
    path : str or path-like
        What :meth:`QLearner.save` wrote.
    env : str, TabularEnv or callable, optional
        The environment; needed unless it was named by its id.
    env_kwargs : mapping, optional
        Arguments of an environment that is named by its id, if they could not be stored.
    trust : str or iterable of str
        Modules that may be imported because the table names them, and what is in them.
    **settings
        Hyperparameters to change, as :class:`QLearner` takes them.

    Returns
    -------
    QLearner
        With the stored table.

    Raises
    ------
    IncompatibleTableError
        If there is no table, its spaces are not the environment's, or it names a module that is
        neither imported nor trusted.
    """
    return QLearner.load(path, env, env_kwargs=env_kwargs, trust=trust, **settings)


def resume(
    store: StoreLike,
    at: At = LATEST,
    env: EnvLike | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    trust: Trust = (),
) -> QLearner:
    """Make the learner that a run's checkpoint is of, in a new process too.

    It goes on as the run would have, with the same bits: counters, schedules, environments and
    history are those of the checkpoint. :meth:`QLearner.learn` writes to the same repository again;
    the same call as before does what is left.

    Parameters
    ----------
    store : str, path-like, icechunk.Storage or CheckpointStore
        The run's repository.
    at : str or int
        "latest", "previous", "best", a checkpoint's number, or a tag. When one learns from an
        earlier checkpoint, the later ones are given up, but for those that have a name. What
        another run writes after this call is not: then learning is refused.
    env : str, TabularEnv or callable, optional
        The environment; needed unless it was named by its id, or is a `TabularEnv` that stands in a
        module under a name of its own.
    env_kwargs : mapping, optional
        Arguments of an environment that is named by its id, if they could not be stored; see
        :doc:`/how-to/runs`.
    trust : str or iterable of str
        Modules that may be imported because the run names them, and what is in them. Others must be
        imported already.

    Returns
    -------
    QLearner
        At the end of the checkpoint's round. Python environments are no data: they begin new
        episodes; with ``restart_envs`` they did so in the undisturbed run as well.

    Raises
    ------
    NoCheckpointError
        If there is no such checkpoint.
    IncompatibleTableError
        If something else is there, the environment is another one, or the run names a module that
        is neither imported nor trusted.

    Examples
    --------
    >>> import dqlearn, tempfile
    >>> run = tempfile.mkdtemp()
    >>> _ = dqlearn.QLearner("dqlearn/Torus-v0", seed=1).learn(50_000, store=run)
    >>> dqlearn.resume(run).learn(100_000).num_timesteps >= 100_000
    True
    """
    opened = store_of(store)
    tip = None if at == LATEST else opened.tip()  # before: what comes after it is another run's
    version = opened.find(at)
    attrs = version.attributes
    stored = Stored.of(attrs, version.name)
    resolved = environment_of(stored, env, None, env_kwargs, trust)
    check_fingerprint(stored, resolved)
    checkpointer = Checkpointer(opened, Saving.from_attributes(attrs, version.name), version, tip)
    history = history_of(version)
    return QLearner.made(resolved, stored.settings, stored.origin, history, checkpointer)
