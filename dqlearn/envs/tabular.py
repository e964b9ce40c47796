"""A model whose states are integers, given as scalar functions and compiled into the rollout.

It is in the spirit of Gymnasium's ``FuncEnv``, and has one of two forms:

*events* (recommended)
    ``events(s, a, params) -> (p_1, .., p_K)``, probabilities of K independent events, and a
    deterministic ``transition(s, a, happened, params) -> (s', r, terminated)``, `happened` a bit
    mask. One definition both simulates (K draws) and enumerates (2^K weighted outcomes), so the
    exact solution can never disagree with the simulator.
*key*
    ``transition(s, a, key, params)`` draws any random numbers it needs from :mod:`dqlearn.random`.

Both forms have ``initial(key, params) -> s``, and may have a mask of the actions,
``valid(s, a, params) -> bool``. Invariant: the functions are pure, so the state of an environment
is its integer, and copying an environment is copying that.
"""

from __future__ import annotations

import math
import types
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.checks import check_count, check_whole, is_whole
from dqlearn.envs.contract import check_params, check_signatures, check_types
from dqlearn.envs.model_faults import check_events, check_outcome
from dqlearn.envs.problems.picture import Picture
from dqlearn.errors import ConfigurationError, SpaceError
from dqlearn.jit.fingerprint import fingerprint
from dqlearn.jit.specialise import specialise
from dqlearn.spaces import Factor
from dqlearn.text import html_table, shortened

__all__ = ["TabularEnv"]

_TEMPLATE = Path(__file__).parents[1] / "kernels" / "templates" / "rollout_template.py"
MAX_EVENTS = 16


@dataclass(frozen=True, eq=False, repr=False)
class TabularEnv:
    """A Markov decision process with integer states, compiled.

    Parameters
    ----------
    n_states, n_actions : int
        States are ``0 .. n_states - 1``, actions ``0 .. n_actions - 1``.
    initial : callable
        ``initial(key, params) -> state``, an integer.
    transition : callable
        ``transition(state, action, happened, params) -> (next_state, reward, terminated)``, which
        are an integer, a real number and a bool; without `events`, the third argument is the key
        of the step.
    events : callable, optional
        ``events(state, action, params) -> tuple`` of `n_events` probabilities, as floats.
    n_events : int
        Length of that tuple, 1 .. 16.
    params : tuple
        Scalars, arrays and tuples of these, passed on to the functions.
    max_episode_steps : int, optional
        Number of steps after which an episode is truncated.
    state_dims : mapping of str to int or sequence of str, optional
        Names and sizes of the state's factors, which are the digits of the state in mixed radix,
        the most significant first. In place of a size, a label for each value.
    action_labels : sequence of str, optional
        A label for each action.
    picture : callable, optional
        ``picture(state, action) -> Picture``, what `render` shows; action is None before the first.
    name : str, optional
        Name of the model; by default that of its `transition`.
    valid : callable, optional
        ``valid(state, action, params) -> bool``: whether an action can be taken. Only valid actions
        are tried, are greedy, and count in targets; the others are never passed to the functions
        above, and have the value of minus infinity. By default all are valid.

    Raises
    ------
    ConfigurationError
        If sizes are not positive or do not agree, or a function does not take the arguments above.
        When the model is first used, as by making a `QLearner` of it: if Numba cannot compile a
        function, or a function returns something else than said above.

    Notes
    -----
    The functions may be plain ones or have ``numba.njit``; functions that they call must have it.
    Leave out ``cache=True``: dqlearn keeps their machine code, and notices when something that they
    call has changed, which Numba's own cache does not.

    Examples
    --------
    A walk on five states that ends at the right one:

    >>> from dqlearn import TabularEnv
    >>> def initial(key, params):
    ...     return 0
    >>> def events(state, action, params):
    ...     return (0.9,)
    >>> def transition(state, action, happened, params):
    ...     move = (1 if action else -1) if happened else 0
    ...     state = min(max(state + move, 0), 4)
    ...     return state, -1.0, state == 4
    >>> walk = TabularEnv(5, 2, initial, transition, events, n_events=1)
    >>> walk.outcomes(3, 1)
    [(0.1, 3, -1.0, False), (0.9, 4, -1.0, True)]
    """

    n_states: int
    n_actions: int
    initial: Callable[..., Any]
    transition: Callable[..., Any]
    events: Callable[..., Any] | None = None
    n_events: int = 0
    params: tuple[Any, ...] = ()
    max_episode_steps: int | None = None
    state_dims: Mapping[str, int | Sequence[str]] | None = None
    action_labels: Sequence[str] | None = None
    picture: Callable[[int, int | None], Picture] | None = None
    name: str | None = None
    valid: Callable[..., Any] | None = None
    digest: str | None = field(init=False, repr=False)
    _token: str = field(init=False, repr=False)
    _checked: bool = field(init=False, repr=False, default=False)

    def __post_init__(self) -> None:
        """Check that the sizes agree."""
        for name in ("n_states", "n_actions"):
            check_whole(name, getattr(self, name), 1, 2**62)
        _check_events(self.events, self.n_events)
        if self.max_episode_steps is not None:
            check_count("max_episode_steps, if it is not None,", self.max_episode_steps)
        if self.picture is not None and not callable(self.picture):
            raise ConfigurationError(
                f"picture must be a function picture(state, action), got {self.picture!r}"
            )
        if not isinstance(self.name, str | None) or self.name == "":
            raise ConfigurationError(f"name must be a text that is not empty, got {self.name!r}")
        check_params(self.params)
        check_signatures(self)
        _check_labels(self)
        digest = fingerprint(self.functions)
        object.__setattr__(self, "digest", digest)
        object.__setattr__(self, "_token", digest or uuid.uuid4().hex)

    @property
    def called(self) -> str:
        """Its name, or that of its `transition`."""
        return self.name or str(self.transition.__qualname__)

    def __repr__(self) -> str:
        """Return its name and its size."""
        form = f"{self.n_events} events" if self.events else "key form"
        return (
            f"TabularEnv({self.called!r}: {self.n_states} states x {self.n_actions} actions, "
            f"{form})"
        )

    def _repr_html_(self) -> str:
        """Return a table of its name, its size and its parts."""
        return html_table(
            "dqlearn.TabularEnv",
            {
                "name": self.called,
                "size": f"{self.n_states:,} states x {self.n_actions:,} actions",
                "state": ", ".join(f"{f.name} ({f.size:,})" for f in self.factors),
                "actions": shorten(", ".join(self.action_labels or ["not named"]), 200),
                "form": f"{self.n_events} events" if self.events else "key",
                "episode": f"at most {self.max_episode_steps:,} steps"
                if self.max_episode_steps
                else "without a time limit",
            },
        )

    @property
    def factors(self) -> tuple[Factor, ...]:
        """The factors of a state, the most significant first."""
        dims = self.state_dims or {"state": self.n_states}
        return tuple(
            Factor(name, int(values), None)
            if isinstance(values, int | np.integer)
            else Factor(name, len(values), tuple(values))
            for name, values in dims.items()
        )

    @property
    def functions(self) -> dict[str, Callable[..., Any] | None]:
        """The user's functions, by the names that kernels call them by."""
        mask = {} if self.valid is None else {"valid": self.valid}  # models without keep theirs
        return {
            "initial": self.initial,
            "events": self.events,
            "transition": self.transition,
            **mask,
        }

    @property
    def kernels(self) -> types.ModuleType:
        """The compiled module of this model, one per process, whose functions were checked."""
        kernels = self.specialised(_TEMPLATE, {"valid": None, **self.functions})
        if not self._checked:
            check_types(self, vars(kernels), self._token)
            object.__setattr__(self, "_checked", True)
        return kernels

    def specialised(
        self, template: Path, functions: Mapping[str, Callable[..., Any] | None], more: str = ""
    ) -> types.ModuleType:
        """Compile another kernel template for this model, in the way of :attr:`kernels`.

        Parameters
        ----------
        template : Path
            Python source; see :func:`dqlearn.jit.specialise.specialise`.
        functions : mapping of str to callable or None
            The functions that its free names stand for.
        more : str
            What they depend on besides the model, as a name; by default nothing.

        Returns
        -------
        module
            The compiled module, one per process.
        """
        return specialise(template, functions, f"{self._token}{more}")

    @property
    def limits(self) -> tuple[int, int, int]:
        """Sizes for the kernel: (n_states, n_actions, steps before truncation)."""
        steps = self.max_episode_steps
        return int(self.n_states), int(self.n_actions), 2**62 if steps is None else int(steps)

    def masks(self, states: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Return which actions are valid.

        Parameters
        ----------
        states : int (m,)
            States.

        Returns
        -------
        bool (m, n_actions)

        Raises
        ------
        SpaceError
            If a state is out of range.
        """
        asked = np.atleast_1d(np.asarray(states))
        if asked.dtype.kind not in "iu" or ((asked < 0) | (asked >= self.n_states)).any():
            raise SpaceError(
                f"expected states, integers in 0 .. {self.n_states - 1}, got {shortened(states)}"
            )
        found = np.empty((len(asked), self.n_actions), np.bool_)
        self.kernels.find_valid(asked.astype(np.int64), self.n_actions, self.params, found)
        return found

    def outcomes(self, state: int, action: int) -> list[tuple[float, int, float, bool]]:
        """Enumerate what may follow a pair, as Gymnasium's ``P[state][action]`` does.

        Parameters
        ----------
        state, action : int
            The pair.

        Returns
        -------
        list of (probability, next_state, reward, terminated)
            The outcomes of positive probability; none of a pair that is not valid.

        Raises
        ------
        ConfigurationError
            If the model is in key form, whose outcomes cannot be enumerated.
        SpaceError
            If the state or the action is out of range.
        EnvironmentFault
            If a state is outside the model's, a reward is not finite, or a probability of events is
            outside 0 .. 1.
        """
        if self.events is None:
            raise ConfigurationError(
                "only a model in events form can be enumerated, got one in key form: "
                "pass events= and n_events="
            )
        for name, index, size in (
            ("state", state, self.n_states),
            ("action", action, self.n_actions),
        ):
            check_whole(name, index, 0, size - 1, error=SpaceError)
        if self.valid is not None and not self.masks([state])[0, action]:
            return []
        n = 1 << self.n_events
        p, s = np.empty(n), np.empty(n, np.int64)
        r, t = np.empty(n), np.empty(n, np.bool_)
        self.kernels.enumerate_outcomes(state, action, self.n_events, self.params, p, s, r, t)
        check_events(self, state, action)
        rows = zip(p.round(15).tolist(), s.tolist(), r.tolist(), t.tolist(), strict=True)
        possible = [row for row in rows if row[0] > 0.0]
        for row in possible:
            check_outcome(state, action, row, self.n_states)
        return possible


def _check_events(events: Callable[..., Any] | None, n_events: int) -> None:
    counted = is_whole(n_events) and 0 <= n_events <= MAX_EVENTS
    if not counted or (events is None) != (n_events == 0):
        raise ConfigurationError(
            f"events= and n_events= go together, n_events in 1 .. {MAX_EVENTS}; "
            f"got {events=} and {n_events=}"
        )


def _check_labels(env: TabularEnv) -> None:
    if env.state_dims is not None:
        _check_dims(env, env.state_dims)
    if env.action_labels is not None:
        _check_names("action_labels", env.action_labels)
        if len(env.action_labels) != env.n_actions:
            raise ConfigurationError(
                f"action_labels must name n_actions={env.n_actions} actions, "
                f"got {len(env.action_labels)}"
            )


def _check_dims(env: TabularEnv, dims: Mapping[str, int | Sequence[str]]) -> None:
    if not isinstance(dims, Mapping) or not all(isinstance(name, str) for name in dims):
        raise ConfigurationError(
            'state_dims must map names to sizes or labels, such as {"row": 8, "column": 8}, '
            f"got {dims!r}"
        )
    for name, values in dims.items():
        if isinstance(values, int | float | np.number):
            check_count(f"the size of state_dims[{name!r}]", values)
        else:
            _check_names(f"state_dims[{name!r}], if it is no size,", values)
    if math.prod(factor.size for factor in env.factors) != env.n_states:
        raise ConfigurationError(
            f"the sizes of state_dims must multiply to n_states={env.n_states}, got {dict(dims)}"
        )


def _check_names(name: str, labels: Any) -> None:
    """Raise unless labels are different strings; one string is not several."""
    single = isinstance(labels, str)
    if single or not isinstance(labels, Sequence | np.ndarray):
        cure = f": write list({labels!r}) for one a letter" if single else ""
        raise ConfigurationError(f"{name} must be a sequence of strings, got {labels!r}{cure}")
    if not all(isinstance(label, str) for label in labels) or len(set(labels)) < len(labels):
        raise ConfigurationError(f"{name} must be different strings, got {labels!r}")
