"""QLearner: the public face, and the loop over rounds.

::

    learn:  while transitions are missing:
                submit a round
                for every report that has come: history, progress bar
                if a callback is due: wait for this round, tell it; it may stop

Invariant: between two calls the learner is at the end of a round, whatever happened in the call
before: an error, a stop, Ctrl-C, a worker's death.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from html import escape
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from dqlearn.callbacks import CallbackLike, CallbackList, Stop, as_callbacks
from dqlearn.cluster import LostWork, current_executor
from dqlearn.envs.resolve import EnvLike, resolve
from dqlearn.errors import ConfigurationError
from dqlearn.evaluation import EpisodePlan, EvaluationResult
from dqlearn.events import Event, RoundEnd, RoundReport, TrainingEnd, TrainingStart
from dqlearn.grid import Chunks
from dqlearn.history import History
from dqlearn.interrupt import interruptible
from dqlearn.origin import Origin
from dqlearn.policy import Policy
from dqlearn.progress import ProgressBar
from dqlearn.rounds import Key, evaluation_graph
from dqlearn.runner import Runner, check_room
from dqlearn.schedules import Schedule, VisitCount
from dqlearn.settings import Settings, attributes
from dqlearn.spaces import BinsLike, SpaceIndex
from dqlearn.store import FORMAT, write
from dqlearn.stored import Stored, environment_of
from dqlearn.table import Labels, Table

__all__ = ["QLearner", "load"]


class QLearner:
    """Tabular Q-learning in rounds, on Dask.

    Runs on Dask's threaded scheduler, or, when there is an active ``distributed.Client``, on its
    cluster. The result has the same bits.

    Parameters
    ----------
    env : str, TabularEnv or callable
        A Gymnasium id, a compiled model, or a factory: ``make() -> gymnasium.Env``, or
        ``make(num_envs=n) -> gymnasium.vector.VectorEnv``.
    num_envs : int, optional
        Environments that are stepped together; 4096 of a compiled model, 64 of any other.
    shards : int, optional
        Tasks that they are divided over; the number of threads there are. For results that are
        equal on other machines, say it.
    steps_per_round : int, optional
        Steps of each environment in a round; about as many as make one transition per pair.
    gamma : float
        Discount factor, 0 .. 1.
    learning_rate : float, Schedule or VisitCount
        Alpha, 0 .. 1.
    epsilon : float or Schedule
        Probability of a random action, 0 .. 1.
    initial_value : float
        Q of every pair, in units of reward.
    policy_lag : int
        0: round r acts on Q_r. 1: it acts on Q_{r-1}, so that the rollouts of one round overlap
        the updates of the one before.
    chunks : "auto", int or tuple
        Chunks of the table, as ``dask.array`` takes them for (states, actions).
    dtype : "float32" or "float64"
        Of the table.
    seed : int
        Of all randomness.
    bins : Bins, int, tuple, mapping or sequence, optional
        How to cut `Box` observations: see :class:`dqlearn.spaces.Bins`.
    env_kwargs : mapping, optional
        Arguments of an environment that is named by its id.

    Raises
    ------
    ConfigurationError
        If a parameter can never work; `SpaceError`, `GridError` and `ScheduleError` are its kinds.
    EnvironmentFault
        If the environment cannot be made.

    References
    ----------
    Watkins and Dayan (1992), "Q-learning", Machine Learning 8.

    Examples
    --------
    >>> import dqlearn
    >>> learner = dqlearn.QLearner("FrozenLake-v1", env_kwargs={"is_slippery": False}, seed=1)
    >>> learner.learn(total_timesteps=50_000).evaluate(n_episodes=10).mean
    1.0
    """

    def __init__(
        self,
        env: EnvLike,
        *,
        num_envs: int | None = None,
        shards: int | None = None,
        steps_per_round: int | None = None,
        gamma: float = 0.99,
        learning_rate: float | Schedule | VisitCount = 0.1,
        epsilon: float | Schedule = 0.1,
        initial_value: float = 0.0,
        policy_lag: int = 0,
        chunks: Chunks = "auto",
        dtype: npt.DTypeLike = "float32",
        seed: int = 0,
        bins: BinsLike = None,
        env_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        settings = Settings(
            num_envs,
            shards,
            steps_per_round,
            gamma,
            learning_rate,
            epsilon,
            initial_value,
            policy_lag,
            chunks,
            dtype,
            seed,
        )
        self._resolved = resolve(env, env_kwargs, bins)
        self._prepare(settings, None)

    def _prepare(self, settings: Settings, origin: Origin | None) -> None:
        executor, shape = current_executor(), (self._resolved.states.n, self._resolved.actions.n)
        check_room(shape, settings.table_dtype, executor)  # before there is a grid of it
        self._plan = settings.plan(self._resolved, executor.width, origin)
        self._runner: Runner | None = None
        self._history = History()
        self._callbacks = CallbackList()
        self._policy: tuple[Key, Policy] | None = None
        self._sampler = np.random.default_rng(settings.seed)
        self._began = time.monotonic()

    # learning

    def learn(
        self,
        total_timesteps: int,
        callback: CallbackLike | CallbackList | Iterable[CallbackLike | CallbackList] | None = None,
        progress_bar: bool = False,
    ) -> Self:
        """Make rounds until there are `total_timesteps` transitions, counted from the beginning.

        Rounds are whole, so the last may go beyond. After ``learn(n)`` the same call does nothing,
        and ``learn(2 * n)`` does as much again.

        Parameters
        ----------
        total_timesteps : int
            Transitions, of all environments together.
        callback : Callback, callable, or iterable of these, optional
            Told of every round that they ask for; see :mod:`dqlearn.callbacks`.
        progress_bar : bool
            Show transitions, rate, epsilon and the mean return of the last 100 episodes.

        Returns
        -------
        QLearner
            Itself.

        Raises
        ------
        EnvironmentFault
            If an environment breaks its contract; the learner is then at an earlier round's end.
        ClusterError
            If the cluster is lost, and its workers do not come back.
        KeyboardInterrupt
            After Ctrl-C, when the round under way has ended. A second Ctrl-C does not wait.
        """
        if total_timesteps < 0:
            raise ConfigurationError(f"total_timesteps must not be negative, got {total_timesteps}")
        self._callbacks = as_callbacks(callback)
        runner = self._at_hand()
        self._began = time.monotonic()
        stop = self.emit(TrainingStart(self, total_timesteps))
        with self._bar(total_timesteps, progress_bar) as bar, interruptible() as interrupted:
            while stop is None and not interrupted.is_set():
                stop = self._advance(runner, total_timesteps, bar)
            self._finish(runner, bar)
        reason = stop.reason if stop else "interrupted"
        self.emit(TrainingEnd(self, reason, time.monotonic() - self._began))
        if interrupted.is_set():
            raise KeyboardInterrupt
        return self

    def _advance(self, runner: Runner, total_timesteps: int, bar: ProgressBar) -> Stop | None:
        """Submit a round, take in what is over, and tell the callbacks that are due."""
        try:
            if self._expected(runner) >= total_timesteps:
                self._take(runner, bar, wait=True)
                runner.keep()
                return Stop("all timesteps are made")
            due = self._callbacks.due(runner.submit())
            report = self._take(runner, bar, wait=due or not self._plan.steady)
        except LostWork as error:
            self._go_back(runner, error)
            return None
        except BaseException as error:
            self._go_back(runner, error)
            raise
        return self.emit(RoundEnd(self, report)) if due and report else None

    def _finish(self, runner: Runner, bar: ProgressBar) -> None:
        """Take in the rounds under way, and have what a cluster has learned here as well."""
        try:
            self._take(runner, bar, wait=True)
            runner.keep()
        except LostWork as error:
            self._go_back(runner, error)
        except BaseException as error:
            self._go_back(runner, error)
            raise

    def _expected(self, runner: Runner) -> int:
        """Transitions that there are when the rounds under way are over."""
        return self.timesteps + runner.under_way * self._plan.num_envs * self._plan.steps_per_round

    def _take(self, runner: Runner, bar: ProgressBar, *, wait: bool) -> RoundReport | None:
        """Take in reports; return the last."""
        report = None
        for arrived in runner.collect(wait=wait):
            report = replace(arrived, wall_time=time.monotonic() - self._began)
            self._history.append(report)
            bar.update(report)
        return report

    def _go_back(self, runner: Runner, error: BaseException) -> None:
        """Leave the learner at the end of a round that is whole."""
        runner.recover(error)
        self._history.truncate(runner.settled.round)

    def _bar(self, total_timesteps: int, shown: bool) -> ProgressBar:
        return ProgressBar(
            total_timesteps, self._history, initial=self.timesteps, disable=not shown
        )

    def _at_hand(self) -> Runner:
        """Return the run, where Dask would run now."""
        if self._runner is None:
            self._runner = Runner(self._plan)
        else:
            self._runner.move()
            self._history.truncate(self._runner.settled.round)
        return self._runner

    def emit(self, event: Event) -> Stop | None:
        """Tell the callbacks of the running `learn` of an event.

        Parameters
        ----------
        event : Event
            What happened.

        Returns
        -------
        Stop or None
            The first that a callback answers.
        """
        return self._callbacks.dispatch(event)

    # using what was learned

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[Any, None]:
        """Return the action for an observation, or for a batch of them.

        Parameters
        ----------
        observation : element of the observation space, or a batch of them
            A batch is laid out as a ``VectorEnv`` returns it.
        state, episode_start : object
            As in Stable-Baselines3; a table has no hidden state, so they are not used.
        deterministic : bool
            Greedy; else epsilon-greedy, at the present epsilon.

        Returns
        -------
        action : element of the action space, or a batch of them
            In the layout that ``step`` expects.
        state : None
            There is none.

        Raises
        ------
        SpaceError
            If the observation is outside the observation space.

        Examples
        --------
        >>> import dqlearn, numpy as np
        >>> learner = dqlearn.QLearner("FrozenLake-v1", initial_value=1.0)
        >>> action, _ = learner.predict(0)
        >>> actions, _ = learner.predict(np.array([0, 1, 2]))
        >>> actions.shape
        (3,)
        """
        states, actions = self._resolved.states, self._resolved.actions
        greedy = self._current_policy().action
        if states.is_element(observation):
            chosen = self._explore(
                np.array([greedy[states.encode_one(observation)]]), deterministic
            )
            return actions.decode_one(int(chosen[0])), None
        chosen = greedy[states.encode(observation)].astype(np.int64)
        return actions.decode(self._explore(chosen, deterministic)), None

    def _explore(self, chosen: npt.NDArray[Any], deterministic: bool) -> npt.NDArray[Any]:
        if deterministic:
            return chosen
        epsilon = self._plan.epsilon(self.timesteps)
        explored = self._sampler.integers(self._plan.n_actions, size=len(chosen))
        return np.where(self._sampler.random(len(chosen)) < epsilon, explored, chosen)

    def evaluate(
        self, n_episodes: int = 100, seed: int | None = None, max_steps: int = 100_000
    ) -> EvaluationResult:
        """Play greedy episodes, on the cluster if there is one.

        Parameters
        ----------
        n_episodes : int
            How many; all that are begun are counted.
        seed : int, optional
            Equal seeds draw equal numbers; by default a new one every round.
        max_steps : int
            Cut an episode off after so many steps: a greedy policy may never end one.

        Returns
        -------
        EvaluationResult
            Undiscounted returns and lengths; mean, standard error, quantiles.

        Raises
        ------
        EnvironmentFault
            If an environment raises.
        """
        runner = self._at_hand()
        fresh = self._plan.seed + 1 + runner.settled.round if seed is None else seed
        episodes = EpisodePlan(n_episodes, fresh, max_steps)
        parts = min(runner.executor.width, n_episodes)
        drawn, keys = evaluation_graph(self._plan, runner.settled, episodes, parts)
        runner.executor.submit(drawn, keys)
        try:
            played = runner.executor.gather(keys)
        finally:
            runner.executor.drop(keys)
        return EvaluationResult.of([played[key] for key in keys])

    @property
    def table(self) -> Table:
        """The table after the newest round collected: live Dask arrays, of one round."""
        state, nodes = self._at_hand().nodes()
        attrs = attributes(self._plan, self._resolved) | {
            "dqlearn_format": FORMAT,
            "round": state.round,
            "timesteps": self.timesteps,
        }
        labels = Labels(self._resolved.factors, self._resolved.action_labels, attrs)
        return Table(state.round, self._plan.grid, self._plan.dtype, labels, nodes, state.plan[1])

    @property
    def history(self) -> xr.Dataset:
        """What every round did, over the dimension ``round``."""
        return self._history.to_xarray()

    @property
    def timesteps(self) -> int:
        """Transitions that the table was learned from."""
        return self._history.timesteps or (self._plan.origin.timesteps if self._plan.origin else 0)

    @property
    def n_episodes(self) -> int:
        """Episodes that ended while this learner learned."""
        return self._history.n_episodes

    @property
    def observation_space(self) -> SpaceIndex:
        """The observation space, as indices of states."""
        return self._resolved.states

    @property
    def action_space(self) -> SpaceIndex:
        """The action space, as indices of actions."""
        return self._resolved.actions

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table as one plain Zarr v3 group, which ``xarray.open_zarr`` opens alone.

        Parameters
        ----------
        path : str or path-like
            A folder or URL that all workers see. A table that is there already is replaced.

        Raises
        ------
        IncompatibleTableError
            If something else is there.
        TableTooLargeError
            If the disk has no room for it.
        """
        write(self.table, os.fspath(path))

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        env: EnvLike | None = None,
        bins: BinsLike = None,
        **settings: Any,
    ) -> Self:
        """Make a learner of a stored table; it goes on from its counters, in fresh episodes.

        Parameters
        ----------
        path : str or path-like
            What :meth:`save` wrote.
        env : str, TabularEnv or callable, optional
            The environment; needed unless it was named by its id.
        bins : Bins, int, tuple, mapping or sequence, optional
            Its bins, if it has `Box` observations; by default those of the table.
        **settings
            Parameters of :class:`QLearner` to change, for example ``num_envs`` or ``epsilon``.

        Returns
        -------
        QLearner
            With the stored table.

        Raises
        ------
        IncompatibleTableError
            If there is no table, or its spaces are not the environment's.

        Examples
        --------
        >>> import dqlearn, tempfile
        >>> path = tempfile.mkdtemp() + "/q.zarr"
        >>> dqlearn.QLearner("Taxi-v4").learn(10_000).save(path)
        >>> dqlearn.load(path).timesteps
        12032
        """
        where = os.fspath(path)
        stored = Stored.at(where)
        learner = cls.__new__(cls)
        learner._resolved = environment_of(stored, env, bins)
        learner._prepare(replace(stored.settings, **settings), stored.origin)
        return learner

    def _current_policy(self) -> Policy:
        """Fetch the policy, once a round."""
        runner = self._at_hand()
        key = runner.settled.policy
        if self._policy is None or self._policy[0] != key:
            self._policy = (key, runner.executor.result(key))
        return self._policy[1]

    def __repr__(self) -> str:
        """Environment, table, counters."""
        n_states, n_actions = self._plan.grid.shape
        name = self._resolved.spec.get("id") or self._resolved.spec["name"]
        return (
            f"QLearner({name!r}: {n_states} states x {n_actions} actions, "
            f"{self._plan.num_envs} environments in {self._plan.shards} shards, "
            f"{self.timesteps} transitions made)"
        )

    def _repr_html_(self) -> str:
        """Return a table of what it is and how far it is."""
        plan = self._plan
        rows = {
            "environment": self._resolved.spec.get("id") or self._resolved.spec["name"],
            "table": "{:,} states x {:,} actions, {}".format(*plan.grid.shape, plan.dtype),
            "chunks": f"{plan.grid.n_chunks}",
            "environments": f"{plan.num_envs:,} in {plan.shards} shards",
            "round": f"{plan.num_envs * plan.steps_per_round:,} transitions",
            "learned from": f"{self.timesteps:,} transitions",
            "recent mean return": f"{self._history.recent_mean_return():.4g}",
            "runs on": self._runner.executor.name if self._runner else "not begun",
        }
        body = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>"
            for name, text in rows.items()
        )
        return f"<table><caption>dqlearn.QLearner</caption>{body}</table>"


def load(path: str | os.PathLike[str], env: EnvLike | None = None, **settings: Any) -> QLearner:
    """Make a learner of a stored table: see :meth:`QLearner.load`.

    Parameters
    ----------
    path : str or path-like
        What :meth:`QLearner.save` wrote.
    env : str, TabularEnv or callable, optional
        The environment; needed unless it was named by its id.
    **settings
        Parameters of :class:`QLearner` to change.

    Returns
    -------
    QLearner
        With the stored table.

    Raises
    ------
    IncompatibleTableError
        If there is no table, or its spaces are not the environment's.
    """
    return QLearner.load(path, env, **settings)
