"""`Policy`: the greedy policy of a stored table.

::

    Policy.open(table) ──► every greedy action, found once
    policy(observation) ─► number of the state ─► number of the action ─► action
                                 └─ never visited ─► fallback, if there is one

Invariant: a policy is of one version of a table and never changes: what happens to the store after
`open` does not matter, and any number of threads may ask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Discrete

from dqlearn.errors import SpaceError
from dqlearn.policy.choices import ChoicesLike
from dqlearn.policy.decision import Decision, TableVersion
from dqlearn.spaces import SpaceIndex
from dqlearn.storage.names import LATEST, At

__all__ = ["Policy"]


class Policy:
    """The greedy policy of a stored table, read-only. Make one with `open`.

    It needs neither Dask nor Numba, nor the environment. Threads may share it.

    Parameters
    ----------
    states, actions : SpaceIndex
        Observations and actions as numbers.
    choices : Choices or SparseChoices
        The greedy action of every state.
    version : TableVersion
        The version of the table.
    fallback : object or callable, optional
        An action, or a function of an observation that returns one, for states that were never
        visited.

    Raises
    ------
    SpaceError
        If `fallback` is neither an action nor a function.

    Examples
    --------
    >>> import dqlearn, tempfile
    >>> path = tempfile.mkdtemp() + "/q.zarr"
    >>> learner = dqlearn.QLearner("Taxi-v4", seed=0).learn(100_000)
    >>> learner.save(path)
    >>> policy = dqlearn.Policy.open(path)
    >>> policy(328) == int(learner.predict(328)[0])
    True
    """

    def __init__(
        self,
        states: SpaceIndex,
        actions: SpaceIndex,
        choices: ChoicesLike,
        version: TableVersion,
        fallback: Any = None,
    ) -> None:
        self._states, self._actions, self._choices = states, actions, choices
        self._version = version
        self._fallback = None if fallback is None else _Fallback(actions, states, fallback)
        space = actions.space
        self._first = int(space.start) if isinstance(space, Discrete) else None
        self._dtype = space.dtype

    @classmethod
    def open(cls, table: Any, at: At = LATEST, fallback: Any = None) -> Self:
        """Open the greedy policy of a saved table, or of a run's checkpoint.

        Every greedy action is found now, one stored chunk after another. It takes the smallest
        unsigned integer and a bit a state to keep them; more than 64 MiB of these lie in a
        temporary file without a name, which goes away with the policy. Nothing is read later.

        Parameters
        ----------
        table : str, path-like, icechunk.Storage or CheckpointStore
            What :meth:`QLearner.save` wrote, or the store of a run, which may go on learning.
        at : str or int
            Which checkpoint of a run: "latest", "previous", "best", its number, or a tag.
        fallback : object or callable, optional
            An action, or a function of an observation that returns one, for states that were never
            visited. By default what a hash draws, as :meth:`QLearner.predict` has it.

        Returns
        -------
        Policy
            Its actions are those of :meth:`QLearner.predict`.

        Raises
        ------
        NoCheckpointError
            If nothing is there, or there is no such checkpoint.
        IncompatibleTableError
            If something else is there, or it is replaced meanwhile, or the module that declares its
            rule is not imported.
        DamagedChunkError
            If what is stored is not what was written.
        TableTooLargeError
            If the temporary folder has no room for the actions.
        ConfigurationError
            If a checkpoint of a saved table is asked for; `SpaceError` if `fallback` is no action.
        """
        from dqlearn.policy.opening import find_choices, find_table  # brings Zarr

        found = find_table(table, at)
        if fallback is not None:  # refused before the table is read
            _Fallback(found.actions, found.states, fallback)
        return cls(found.states, found.actions, find_choices(found), found.version, fallback)

    def __call__(self, observation: Any) -> Any:
        """Return the action for one observation.

        Parameters
        ----------
        observation : object
            An element of the observation space.

        Returns
        -------
        object
            An element of the action space; of a `Discrete` an int.

        Raises
        ------
        SpaceError
            If the observation is outside the observation space.
        """
        return self._action_in(self._states.encode_one(observation), observation)

    def decide(self, observation: Any) -> Decision:
        """Return the action for one observation, with what is known about it.

        Parameters
        ----------
        observation : object
            An element of the observation space.

        Returns
        -------
        Decision
            The action, whether the state was ever visited, and the version of the table.

        Raises
        ------
        SpaceError
            If the observation is outside the observation space.
        """
        state = self._states.encode_one(observation)
        action = self._action_in(state, observation)
        return Decision(action, self._choices.is_known(state), self._version)

    def batch(self, observations: Any) -> Any:
        """Return the actions for a batch of observations.

        Parameters
        ----------
        observations : array, tuple or dict of arrays
            A batch as a ``VectorEnv`` returns it: the first axis of every array is the
            environments.

        Returns
        -------
        array, tuple or dict of arrays
            The actions, as ``VectorEnv.step`` expects them: of a `Discrete` shape ``(n_envs,)``.

        Raises
        ------
        SpaceError
            If an observation is outside the observation space.
        """
        states = self._states.encode(observations)
        chosen = self._choices.actions_of(states)
        if self._fallback is not None:
            unknown = np.flatnonzero(~self._choices.are_known(states))
            chosen[unknown] = self._fallback.actions_of(observations, unknown)
        if self._first is None:
            return self._actions.decode(chosen)
        chosen += self._first
        return chosen.astype(self._dtype, copy=False)

    def _action_in(self, state: int, observation: Any) -> Any:
        """Return the action in a state, whose observation a fallback may want to see."""
        if self._fallback is None or self._choices.is_known(state):
            number = self._choices.action_of(state)
        else:
            number = self._fallback.action_of(observation)
        return self._actions.decode_one(number) if self._first is None else number + self._first

    @property
    def version(self) -> TableVersion:
        """The version of the table."""
        return self._version

    @property
    def observation_space(self) -> gymnasium.Space[Any]:
        """The space of what it takes."""
        return self._states.space

    @property
    def action_space(self) -> gymnasium.Space[Any]:
        """The space of what it returns."""
        return self._actions.space

    def __repr__(self) -> str:
        """Return the table's name, its version and its shape."""
        it = self._version
        checkpoint = "" if it.checkpoint is None else f"checkpoint {it.checkpoint}, "
        return (
            f"<dqlearn.Policy of {it.name!r}: {checkpoint}{it.timesteps} transitions, "
            f"{self._states.n} states x {self._actions.n} actions>"
        )


class _Fallback:
    """What decides in states that were never visited."""

    def __init__(self, actions: SpaceIndex, states: SpaceIndex, given: Any) -> None:
        self._actions, self._states = actions, states
        self._decide: Callable[[Any], Any] | None = given if callable(given) else None
        self._action = -1 if self._decide else self._checked(given)

    def _checked(self, action: Any) -> int:
        """Return the number of an action."""
        try:
            return self._actions.encode_one(action)
        except SpaceError as error:
            raise SpaceError(
                f"fallback must be an action, or a function of an observation that returns one, "
                f"got {action!r}: {error}"
            ) from error

    def action_of(self, observation: Any) -> int:
        """Return the number of the action for an observation."""
        return self._action if self._decide is None else self._checked(self._decide(observation))

    def actions_of(self, batch: Any, chosen: npt.NDArray[np.int64]) -> Any:
        """Return the numbers of the actions for some observations of a batch."""
        if self._decide is None:
            return self._action
        return [self.action_of(self._states.pick(batch, int(i))) for i in chosen]
