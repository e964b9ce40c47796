"""QLearner: the public face, and the loop over rounds.

::

    QLearner(env) ──► learn ──► table, predict, evaluate, save
        ▲               └──► store
        └── load(path), resume(store)

Invariant: between two calls the learner is at the end of a round, whatever happened in the call
before: an error, a stop, Ctrl-C, a worker's death.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Literal, Self, TypeVar, Unpack

import gymnasium
import numpy as np
import numpy.typing as npt
import xarray as xr

from dqlearn.algorithms import as_algorithm
from dqlearn.algorithms.contract import check_compiles
from dqlearn.callbacks import CallbackLike, CallbackList, Stop, as_callbacks
from dqlearn.checks import check_amount, check_choice
from dqlearn.engine.cluster import LostWork, current_executor
from dqlearn.engine.graph import Key
from dqlearn.engine.round import evaluation_graph
from dqlearn.envs.play import playable, random_valid
from dqlearn.envs.resolve import EnvLike, Resolved, resolve
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import ClusterLostError, ConfigurationError
from dqlearn.events import Evaluation, Event, TrainingEnd, TrainingStart
from dqlearn.learner.arguments import shows_hyperparameters
from dqlearn.learner.masked import as_masks, best_valid
from dqlearn.spaces import BinsLike, SpaceIndex
from dqlearn.stages.evaluation import EpisodePlan, EvaluationResult
from dqlearn.stages.observed.outcome import Observed
from dqlearn.stages.plan import Plan
from dqlearn.stages.policy import KnownPolicy, Policy
from dqlearn.stages.settings import Hyperparameters, Settings, attributes, check_names
from dqlearn.storage.description import (
    Stored,
    Trust,
    environment_of,
    fingerprint_of,
    origin_of,
)
from dqlearn.storage.location import StoreLike, store_of
from dqlearn.storage.origin import FORMAT, Origin
from dqlearn.storage.paths import PathLike
from dqlearn.storage.zarr_table import read_history, write
from dqlearn.table.hash_grid import HashGrid
from dqlearn.table.history import History
from dqlearn.table.views.arrays import Labels, Table
from dqlearn.table.views.sparse import SparseTable
from dqlearn.text import html_table
from dqlearn.training.capacity import check_room, fitted
from dqlearn.training.checkpointer import Checkpointer
from dqlearn.training.every import EveryLike, Saving, as_every
from dqlearn.training.interrupt import interruptible
from dqlearn.training.loop import Loop
from dqlearn.training.observing.observer import Observer
from dqlearn.training.pipeline import Pipeline
from dqlearn.training.placement import RecoveryPoint
from dqlearn.training.progress import ProgressBar

__all__ = ["QLearner"]

_A_MOMENT = 0.05  # seconds

Answer = TypeVar("Answer")


@shows_hyperparameters
class QLearner:
    """Tabular Q-learning in rounds, on Dask.

    Runs on Dask's threaded scheduler, or, when there is an active ``distributed.Client``, on its
    cluster. The result has the same bits.

    Parameters
    ----------
    env : str, TabularEnv or callable
        A Gymnasium id, a compiled model, or a factory: ``make() -> gymnasium.Env``, or
        ``make(num_envs=n) -> gymnasium.vector.VectorEnv``.
    bins : Bins, int, tuple, mapping or sequence, optional
        Bins of `Box` observations: see :class:`dqlearn.spaces.Bins`.
    env_kwargs : mapping, optional
        Arguments of an environment that is named by its id. What they hold is copied. Those that
        have no form in JSON are not stored, and asked for again by :func:`dqlearn.load` and
        :func:`dqlearn.resume`.
    compile : bool
        Compile an environment that is named by its id, if it is one of Gymnasium's toy texts and
        its table ``P`` describes all of it: the same chances, ends and time limit, other random
        numbers, a hundred times as fast. False steps its code.
    **settings
        Hyperparameters: :class:`~dqlearn.stages.settings.Hyperparameters` says which there are.

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
    >>> learner.learn(total_timesteps=200_000).evaluate(n_episodes=10).mean
    1.0
    """

    def __init__(
        self,
        env: EnvLike,
        *,
        bins: BinsLike = None,
        env_kwargs: Mapping[str, Any] | None = None,
        compile: bool = True,
        **settings: Unpack[Hyperparameters],
    ) -> None:
        check_names(settings)
        masks = settings.get("action_masks", True) is not False
        self._resolved = resolve(env, env_kwargs, bins, compile, masks)
        self._prepare(Settings.of(settings, self._resolved.recipe), None)

    def _prepare(self, settings: Settings, origin: Origin | None) -> None:
        executor, shape = current_executor(), (self._resolved.states.n, self._resolved.actions.n)
        chosen = settings.values
        # Before there is a grid of it, which may choose the path.
        if not chosen["sparse"]:
            maxima = chosen["exchange"] == "broadcast"
            dtype, rule = np.dtype(chosen["dtype"]), as_algorithm(chosen["algorithm"])
            check_room(shape, dtype, executor, maxima=maxima, algorithm=rule)
        compiled = isinstance(self._resolved.env, TabularEnv)
        width = executor.width if compiled else executor.memories  # each has one interpreter
        self._plan = fitted(settings.plan(self._resolved, width, origin), executor)
        check_compiles(self._plan.algorithm, self._plan.dtype)
        self._run: Pipeline | None = None
        self._learner: threading.Thread | None = None  # which learns
        self._moving = threading.RLock()  # for as long as another thread may not move the run
        self._history = History()
        self._callbacks = CallbackList()
        self._policy: tuple[Key, Policy | KnownPolicy] | None = None
        self._checkpointer: Checkpointer | None = None
        self._sampler = np.random.default_rng(chosen["seed"])
        self._observer = Observer(self._resolved.states, self._resolved.actions)
        self._began = time.monotonic()

    # learning

    def learn(
        self,
        total_timesteps: int,
        callback: CallbackLike | CallbackList | Iterable[CallbackLike | CallbackList] | None = None,
        progress_bar: bool = False,
        store: StoreLike | None = None,
        checkpoint_every: EveryLike | None = None,
        keep_checkpoints: int | None = None,
        restart_envs: bool | None = None,
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
        store : str, path-like, icechunk.Storage or CheckpointStore, optional
            A folder, a URL such as ``s3://bucket/prefix``, or a storage of Icechunk, which all
            workers see; or a store of your own, see :mod:`dqlearn.runs`. It is the repository that
            checkpoints go to, for :func:`dqlearn.resume` and :func:`dqlearn.open_table`. By
            default that of the call before, or none.
        checkpoint_every : Every, int or timedelta, optional
            Interval; an int counts transitions. By default 60 seconds. There is one besides when
            a repository begins, and at the end of each call.
        keep_checkpoints : int, optional
            Number of checkpoints that stay, besides those that have a name, and the one before the
            latest. By default all stay.
        restart_envs : bool, optional
            Let Python environments begin new episodes at each checkpoint, so that a resumed run is
            equal to the undisturbed one; see :doc:`/how-to/runs`.

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
        StoreError
            If the repository cannot be used; `CheckpointError` if a checkpoint could not be
            written, `RunInUseError` if another run writes there.
        KeyboardInterrupt
            After Ctrl-C, when the round under way has ended. A second Ctrl-C does not wait, unless
            that would tear the table.
        """
        total_timesteps = check_amount("total_timesteps", total_timesteps, 0)
        changes = {
            "checkpoint_every": None if checkpoint_every is None else as_every(checkpoint_every),
            "keep_checkpoints": keep_checkpoints,
            "restart_envs": restart_envs,
        }
        self._callbacks = as_callbacks(callback)
        run, began = self._at_hand(), time.monotonic()
        with ExitStack() as stack:
            checkpointer = self._attach(store, changes)
            if checkpointer:
                stack.enter_context(self._opened(run, checkpointer))
            shown = ProgressBar(
                total_timesteps, self._history, initial=self.num_timesteps, disable=not progress_bar
            )
            bar = stack.enter_context(shown)
            interrupted = stack.enter_context(interruptible())
            loop = Loop(self, run, self._history, self._callbacks, bar, checkpointer)
            stop = self.emit(TrainingStart(self, total_timesteps))
            stack.enter_context(self._learn_in_progress())
            stack.enter_context(_interruptible(run, interrupted))
            stop = loop.run(total_timesteps, interrupted, stop)
        reason = stop.reason if stop else "interrupted"
        self.emit(TrainingEnd(self, reason, time.monotonic() - began))
        if interrupted.is_set():
            raise KeyboardInterrupt
        return self

    def observe(
        self,
        obs: Any,
        action: Any = None,
        reward: Any = None,
        next_obs: Any = None,
        terminated: Any = None,
        truncated: Any = None,
        *,
        source: Any = None,
        seq: Any = None,
        on_bad_row: Literal["raise", "skip"] = "raise",
        store: StoreLike | None = None,
        checkpoint_every: EveryLike | None = None,
        keep_checkpoints: int | None = None,
    ) -> Observed:
        """Learn transitions that your own code has made: one, or a batch of them in their order.

        One call is one round. All its targets are of the values before the call, as those of a
        shard's batch are; it counts in `num_timesteps`, in the schedules and in `history`. It may
        be called between calls of `learn`, and from several threads, which take turns.

        Parameters
        ----------
        obs : element of the observation space, batch of them, or frame
            Before the step; a batch is laid out as a ``VectorEnv`` returns it. A frame stands for
            all arguments: an `xarray.Dataset`, a data frame or a mapping with columns of their
            names. A part of an observation has a column ``obs_0``, ``obs_key``.
        action : element of the action space, or batch
            The action taken.
        reward : float or array (n,)
            What it paid.
        next_obs : element of the observation space, or batch
            After the step; at the end of an episode its last observation, not the next one's first.
            Where `terminated`, it is not looked at.
        terminated : bool or array (n,)
            Whether the episode ended, so that nothing comes after.
        truncated : bool or array (n,), optional
            Whether it was cut off; it bootstraps all the same.
        source : str, int or array of these (n,), optional
            Where the rows come from: a device, a log.
        seq : int or array (n,), optional
            Number of each row, which rises with each row of its source. A row whose number is not
            above all that were seen of its source is a duplicate, and is dropped.
        on_bad_row : {"raise", "skip"}
            What to do about a row that cannot be learned. "raise": learn nothing of the call;
            "skip": leave the row out, and count it.
        store, checkpoint_every, keep_checkpoints : optional
            As in :meth:`learn`. A checkpoint that is due is made after the call; it has the
            highest number of each source, so a log that is sent again is learned once.
            :meth:`checkpoint` makes one now.

        Returns
        -------
        Observed
            How many rows were learned, dropped and skipped, and how many numbers are missing.

        Raises
        ------
        BadRowError
            If a row is bad: not an element of its space, a reward that is not finite.
        ConfigurationError
            If the arguments are not laid out in rows, or the learner learns just now.
        StoreError
            If the repository cannot be used, or a checkpoint could not be written;
            `num_timesteps` and :attr:`sources` say whether the batch is learned.

        Examples
        --------
        >>> import dqlearn
        >>> learner = dqlearn.QLearner("FrozenLake-v1")
        >>> learner.observe(14, 2, 1.0, 15, True, False)
        Observed(learned=1, duplicates=0, gaps=0, skipped=0)
        >>> learner.observe([9, 13], [1, 2], [0, 0], [13, 14], [0, 0], source="a", seq=[7, 8])
        Observed(learned=2, duplicates=0, gaps=0, skipped=0)
        """
        given = dict(obs=obs, action=action, reward=reward, next_obs=next_obs)
        given |= dict(terminated=terminated, truncated=truncated, source=source, seq=seq)
        skip = check_choice("on_bad_row", on_bad_row, ["raise", "skip"]) == "skip"
        rows = self._observer.told(given)
        every = None if checkpoint_every is None else as_every(checkpoint_every)
        changes = {"checkpoint_every": every, "keep_checkpoints": keep_checkpoints}
        with self._observer.lock:
            if self._learner:
                raise ConfigurationError(
                    "observe() is for a learner that does not learn just now: call it before or "
                    "after learn()"
                )
            run = self._at_hand()
            known = self._attach(store, changes)
            self._callbacks = CallbackList()
            with self._learn_in_progress(), interruptible() as interrupted:
                with _interruptible(run, interrupted):
                    loop = partial(self._observing, run, known)
                    told = self._observer.observe(
                        rows, run, lambda: self.num_timesteps, loop, skip=skip
                    )
        if interrupted.is_set():
            raise KeyboardInterrupt
        return told

    @contextmanager
    def _observing(self, run: Pipeline, known: Checkpointer | None, n: int) -> Iterator[Loop]:
        """Make a loop for an observed round of `n` transitions, with the store, if it is due."""
        made = self.num_timesteps
        due = known and (not known.begun or known.passed(run.round, made, made + n))
        bar = ProgressBar(0, self._history, disable=True)
        told = self, run, self._history, self._callbacks, bar, known
        if not (known and due):
            yield Loop(*told, hold=True)
            return
        known.finish(at_once=True)  # opening it would hide an error
        with self._opened(run, known):
            yield Loop(*told)

    def checkpoint(self, store: StoreLike | None = None) -> Self:
        """Write a checkpoint of what was learned, now.

        It has what :meth:`observe` has counted of its sources.

        Parameters
        ----------
        store : str, path-like, icechunk.Storage or CheckpointStore, optional
            As in :meth:`learn`.

        Returns
        -------
        QLearner
            Itself.

        Raises
        ------
        ConfigurationError
            If there is no store.
        StoreError
            If the repository cannot be used.

        Examples
        --------
        >>> import dqlearn, tempfile
        >>> learner, run = dqlearn.QLearner("FrozenLake-v1"), tempfile.mkdtemp()
        >>> _ = learner.observe(14, 2, 1.0, 15, True, source="lake", seq=1)
        >>> _ = learner.checkpoint(store=run)
        >>> dqlearn.resume(run).observe(14, 2, 1.0, 15, True, source="lake", seq=1)
        Observed(learned=0, duplicates=1, gaps=0, skipped=0)
        """
        if store is None and self._checkpointer is None:
            raise ConfigurationError("checkpoint() needs a store=, got none so far")
        return self.learn(0, store=store)

    @property
    def sources(self) -> dict[str | int, int | None]:
        """The highest number of each source of :meth:`observe`: from there on, a log is new."""
        return dict(self._at_hand().journal.sources.marks)

    def _attach(self, store: StoreLike | None, changes: Mapping[str, Any]) -> Checkpointer | None:
        """Return the writer of checkpoints to a repository, if there is one."""
        where = None if store is None else store_of(store)
        known = self._checkpointer
        if where is not None and not (known and known.store == where):
            self._checkpointer = known = Checkpointer(where, Saving())
        if known is None:
            if given := [name for name, value in changes.items() if value is not None]:
                raise ConfigurationError(f"without a store= there are no checkpoints, got {given}")
            return None
        known.saving = known.saving.changed(changes)
        return known

    @contextmanager
    def _opened(self, run: Pipeline, known: Checkpointer) -> Iterator[None]:
        """Hold a repository open."""
        try:
            known.open(self._plan, self._described(), run.round)
        finally:
            run.points.adopt(known.hand_over())
        try:
            yield
        finally:
            known.close()

    def _described(self) -> dict[str, Any]:
        """Return what a repository says of the run, besides its counters."""
        return {
            **self._labels().attributes,
            "action_labels": json.dumps(self._resolved.action_labels),
            "fingerprint": json.dumps(fingerprint_of(self._resolved, self._plan.algorithm)),
            "origin": json.dumps(origin_of(self._plan.origin)),
        }

    def _labels(self, **counters: int | str) -> Labels:
        attrs = attributes(self._plan, self._resolved) | {"dqlearn_format": FORMAT} | counters
        return Labels(self._resolved.factors, self._resolved.action_labels, attrs)

    def _at_hand(self) -> Pipeline:
        """Return the run, where Dask would run now; where it is, while it learns."""
        with self._moving:
            if self._run is None:
                base = self._checkpointer.base if self._checkpointer else None
                self._run = Pipeline(self._plan, RecoveryPoint.at(base) if base else None)
            elif not self._learner:
                if self._checkpointer:
                    self._checkpointer.abandon()  # what an interrupted call left under way
                    self._run.points.adopt(self._checkpointer.hand_over())
                self._run.move()
                self._history.truncate(self._run.round)
            return self._run

    @contextmanager
    def _learn_in_progress(self) -> Iterator[None]:
        with self._observer.lock, self._moving:  # after whoever observes
            self._learner = threading.current_thread()
        try:
            yield
        finally:
            self._learner = None

    def _ask(self, question: Callable[[Pipeline], Answer]) -> Answer:
        """Ask the run; after a loss, where it has gone back to."""
        run = self._at_hand()
        while True:
            try:
                return question(run)
            except LostWork as error:
                if self._learner is threading.current_thread():
                    raise  # for the loop, which goes back and makes the round again
                self._go_back(run, error)

    def _go_back(self, run: Pipeline, error: LostWork) -> None:
        """Go back after a loss; where another thread learns, it does so."""
        with self._moving:
            if not self._learner:
                run.recover(error)
                self._history.truncate(run.round)
                return
        time.sleep(_A_MOMENT)

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
        if isinstance(event, Evaluation) and self._checkpointer:
            self._checkpointer.evaluated(event.round, event.result.mean)
        return self._callbacks.dispatch(event)

    # using what was learned

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
        action_masks: npt.ArrayLike | None = None,
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
        action_masks : bool (n_actions,) or (m, n_actions), optional
            The valid actions, as sb3-contrib has them: the action is the best of these. By default
            those of the model, if it says which are valid.

        Returns
        -------
        action : element of the action space, or a batch of them
            In the layout that ``step`` expects.
        state : None
            There is none.

        Raises
        ------
        SpaceError
            If the observation is outside the observation space, or masks have another shape.
        ActionMaskError
            If a mask has no valid action.

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
        if states.is_element(observation):
            asked = np.array([states.encode_one(observation)])
            chosen = self._choose(asked, deterministic, action_masks)
            return actions.decode_one(int(chosen[0])), None
        asked = states.encode(observation)
        return actions.decode(self._choose(asked, deterministic, action_masks)), None

    def _choose(
        self, states: npt.NDArray[Any], deterministic: bool, masks: npt.ArrayLike | None
    ) -> npt.NDArray[Any]:
        """Return the number of the action of each state."""
        policy, n_actions = self._current_policy(), self._plan.n_actions
        chosen, valid = policy.choose(states), None
        if masks is None and (model := self.model) is not None and model.valid is not None:
            masks = playable(model, states)
        if masks is not None:
            valid = as_masks(masks, len(states), n_actions)
            other = ~np.take_along_axis(valid, chosen[:, None], axis=1)[:, 0]
            if other.any():
                few = states[other], valid[other]
                chosen[other] = best_valid(self._plan, policy, self.table, *few)
        if deterministic:
            return chosen
        if valid is None:
            explored = self._sampler.integers(n_actions, size=len(chosen))
        else:
            explored = random_valid(self._sampler, valid)
        epsilon = self._plan.epsilon(self.num_timesteps)
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

        def play(run: Pipeline) -> EvaluationResult:
            round_ = run.ownership.whole().round
            fresh = (self._plan.seed + 1 + round_) % 2**64 if seed is None else seed
            episodes = EpisodePlan(n_episodes, fresh, max_steps)
            parts = min(run.executor.width, n_episodes)
            draw = partial(evaluation_graph, self._plan, episodes=episodes, parts=parts)
            return EvaluationResult.of(run.reader.ask(draw))

        return self._ask(play)

    @property
    def table(self) -> Table | SparseTable:
        """The table after the newest round collected: live Dask arrays, of one round."""
        plan = self._plan
        with self._observer.lock:  # its counters are those of this state
            if isinstance(plan.grid, HashGrid):
                state, nodes, visited = self._ask(lambda run: run.reader.visited())
            else:
                grid, state, nodes = self._ask(lambda run: run.reader.nodes())
            counted = self._at_hand().journal.attributes
            labels = self._labels(round=state.round, timesteps=self.num_timesteps, **counted)
        run = state.plan[1]
        if isinstance(plan.grid, HashGrid):
            told = (labels, nodes, run, plan.seed, visited, plan.algorithm)
            return SparseTable(state.round, plan.grid, plan.dtype, *told)
        rule = plan.algorithm, plan.columns
        return Table(state.round, grid, plan.dtype, labels, nodes, run, plan.seed, *rule)

    def make_env(self, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        """Make one of its environments, to watch what was learned.

        Parameters
        ----------
        render_mode : str, optional
            One of those that the environment has, such as "ansi" or "rgb_array".

        Returns
        -------
        gymnasium.Env
            The caller's own: the learner does not step it.

        Raises
        ------
        ConfigurationError
            If it has no such render mode, or a factory makes it, which has chosen one.

        Examples
        --------
        >>> import dqlearn
        >>> learner = dqlearn.QLearner("FrozenLake-v1")
        >>> env = learner.make_env(render_mode="ansi")
        >>> observation, _ = env.reset(seed=0)
        >>> action, _ = learner.predict(observation)
        >>> observation, reward, terminated, truncated, _ = env.step(action)
        >>> env.close()
        """
        return self._resolved.single(render_mode)

    @property
    def model(self) -> TabularEnv | None:
        """The compiled model that it learns; None of environments that are stepped in Python."""
        env = self._resolved.env
        return env if isinstance(env, TabularEnv) else None

    @property
    def history(self) -> xr.Dataset:
        """What every round did, over the dimension ``round``."""
        return self._history.to_xarray()

    @property
    def num_timesteps(self) -> int:
        """Transitions that the table was learned from."""
        return self._history.timesteps or (self._plan.origin.timesteps if self._plan.origin else 0)

    @property
    def n_episodes(self) -> int:
        """Episodes that ended in the rounds of :attr:`history`."""
        return self._history.n_episodes

    def close(self) -> None:
        """Close the environments, wherever they are; ``with QLearner(...)`` does so at its end.

        What was learned stays: the table, `predict`, `evaluate` and `save`. A further `learn` makes
        new environments. Without it they are closed when nothing refers to the learner any more,
        and at the end of the process.

        Raises
        ------
        ConfigurationError
            If it is called while the learner learns.

        Examples
        --------
        >>> import dqlearn
        >>> with dqlearn.QLearner("FrozenLake-v1", num_envs=2, shards=1) as learner:
        ...     table = learner.learn(total_timesteps=100).table
        >>> table.q.shape
        (16, 4)
        """
        if self._learner:
            raise ConfigurationError(
                "close() is for a learner that does not learn: to end learn(), let a callback "
                "return callbacks.Stop(reason)"
            )
        if self._run:
            self._run.environments.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the environments."""
        self.close()

    @property
    def observation_space(self) -> gymnasium.Space[Any]:
        """The space of what :meth:`predict` takes."""
        return self._resolved.states.space

    @property
    def action_space(self) -> gymnasium.Space[Any]:
        """The space of what :meth:`predict` returns."""
        return self._resolved.actions.space

    @property
    def state_index(self) -> SpaceIndex:
        """Observations as numbers of states, and back."""
        return self._resolved.states

    @property
    def action_index(self) -> SpaceIndex:
        """Actions as their numbers, and back."""
        return self._resolved.actions

    def save(self, path: PathLike, overwrite: bool = False) -> None:
        """Write the table as one plain Zarr v3 group, which ``xarray.open_zarr`` opens alone.

        Its group ``history`` holds the :attr:`history`: ``xarray.open_zarr(path,
        group="history")``.

        Parameters
        ----------
        path : str or path-like
            A folder or URL that all workers see. A table of the same environment that is there
            already is replaced.
        overwrite : bool
            Replace a table of another environment too.

        Raises
        ------
        IncompatibleTableError
            If a table of another environment is there, or something else.
        TableTooLargeError
            If the disk has no room for it.
        """

        def write_out(run: Pipeline) -> None:
            with run.executor.losses():
                write(self.table, path, self._history, overwrite)

        self._ask(write_out)

    @classmethod
    def load(
        cls,
        path: PathLike,
        /,
        env: EnvLike | None = None,
        bins: BinsLike = None,
        env_kwargs: Mapping[str, Any] | None = None,
        trust: Trust = (),
        **settings: Unpack[Hyperparameters],
    ) -> Self:
        """Make a learner of a stored table; it goes on from its counters, in fresh episodes.

        Its :attr:`history` is that which was saved with the table, and goes on too.

        Parameters
        ----------
        path : str or path-like
            What :meth:`save` wrote.
        env : str, TabularEnv or callable, optional
            The environment; needed unless it was named by its id.
        bins : Bins, int, tuple, mapping or sequence, optional
            Its bins, if it has `Box` observations; by default those of the table.
        env_kwargs : mapping, optional
            Arguments of an environment that is named by its id, if they could not be stored; see
            :doc:`/how-to/runs`.
        trust : str or iterable of str
            Modules that may be imported because the table names them, and what is in them. Others
            must be imported already.
        **settings
            Hyperparameters to change, as :class:`QLearner` takes them, for example ``num_envs`` or
            ``epsilon``.

        Returns
        -------
        QLearner
            With the stored table.

        Raises
        ------
        IncompatibleTableError
            If there is no table, its spaces are not the environment's, or it names a module that is
            neither imported nor trusted.

        Examples
        --------
        >>> import dqlearn, tempfile
        >>> path = tempfile.mkdtemp() + "/q.zarr"
        >>> dqlearn.QLearner("Taxi-v4").learn(10_000).save(path)
        >>> dqlearn.load(path).num_timesteps
        10240
        """
        stored = Stored.at(path, settings)
        learner = cls.__new__(cls)
        learner._resolved = environment_of(stored, env, bins, env_kwargs, trust)
        learner._prepare(stored.settings, stored.origin)
        if begun := stored.origin:
            learner._history = read_history(path, begun.round, begun.timesteps)
        return learner

    def _current_policy(self) -> Policy | KnownPolicy:
        """Fetch the policy, once a round."""

        def fetch(run: Pipeline) -> tuple[Key, Policy | KnownPolicy]:
            key, known = run.ownership.whole().chunks[0], self._policy
            if known and known[0] == key:
                return known
            return key, run.reader.policy()

        self._policy = self._ask(fetch)
        return self._policy[1]

    @classmethod
    def made(
        cls,
        resolved: Resolved,
        settings: Settings,
        origin: Origin | None,
        history: History,
        checkpointer: Checkpointer,
    ) -> Self:
        """Make the learner that a checkpoint is of; used by :func:`dqlearn.resume`."""
        learner = cls.__new__(cls)
        learner._resolved = resolved
        learner._prepare(settings, origin)
        learner._history, learner._checkpointer = history, checkpointer
        return learner

    @property
    def _placed_plan(self) -> Plan:
        """The plan where the run is: in which chunks its table is, and whether out of core."""
        return self._run.plan if self._run else self._plan

    def __repr__(self) -> str:
        """Environment, table, counters."""
        n_states, n_actions = self._plan.grid.shape
        return (
            f"QLearner({self._resolved.called}: {n_states} states x {n_actions} actions, "
            f"{self._plan.num_envs} environments in {self._plan.shards} shards, "
            f"{self._plan.round_size} transitions a round, "
            f"{self._plan.kind}, "
            f"{'out of core, ' if self._placed_plan.out_of_core else ''}"
            f"{self.num_timesteps} transitions made)"
        )

    def _repr_html_(self) -> str:
        """Return a table of what it is and how far it is."""
        plan = self._placed_plan
        return html_table(
            "dqlearn.QLearner",
            {
                "environment": self._resolved.called,
                "table": "{:,} states x {:,} actions, {}".format(*plan.grid.shape, plan.dtype),
                "table lies": "on disk" if plan.out_of_core else "in memory",
                "chunks": f"{plan.grid.n_chunks}",
                "environments": f"{plan.num_envs:,} in {plan.shards} shards",
                "algorithm": plan.algorithm.name,
                "gamma": f"{plan.gamma:g}",
                "learning rate": repr(plan.learning_rate),
                "epsilon": repr(plan.epsilon),
                "seed": f"{plan.seed}",
                "round": f"{plan.round_size:,} transitions, {plan.kind}",
                "learned from": f"{self.num_timesteps:,} transitions",
                "recent mean return": f"{self._history.recent_mean_return():.4g}",
                "runs on": self._run.executor.name if self._run else "not begun",
                "checkpoints": self._checkpointer.store.name if self._checkpointer else "none",
            },
        )


@contextmanager
def _interruptible(run: Pipeline, interrupted: threading.Event) -> Iterator[None]:
    """Wait for no workers once it is interrupted, which whoever did that is told of.

    The workers may have got the same Ctrl-C. The last recovery point is kept, and the store.
    """
    run.recovery.interrupted = interrupted
    try:
        yield
    except ClusterLostError as error:
        if interrupted.is_set():
            raise KeyboardInterrupt(f"the workers are gone, too: {error}") from error
        raise
    finally:
        run.recovery.interrupted = threading.Event()
