r"""A rule: everything in which one tabular algorithm differs from another, as a declaration.

::

    summary     what a chunk says of a state      find, merge        a row of numbers a state
    target      v(s') for each member             summary ─► value   y = r + gamma v(s')
    returns     how far a target looks ahead      window ─► y, if it is more than one step
    step        how a value moves to its target   (q, y, alpha) ─► q
    behaviour   which field's action is greedy    summary ─► action

A table has one or more *members*, tables of the same shape that learn from each other. Their values
of one state stand side by side. Each transition teaches one of them, which a counter-based draw
chooses. Invariant: a declaration has no state, and knows neither Dask, nor chunks, nor a file.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.algorithms.fields import Best, Columns, Extent, Field
from dqlearn.algorithms.returns import Returns
from dqlearn.checks import check_count
from dqlearn.errors import ConfigurationError
from dqlearn.kernels.buffers import empty
from dqlearn.kernels.summary import find_worth
from dqlearn.kernels.update import Step, td

__all__ = ["Algorithm", "Found", "Target", "largest"]

Found = tuple[Columns, ...]
"""What is known of some states: the columns of each field of a summary."""


Target = Callable[[Any, Any, Any, Any], Any]
"""A function (value of each field, epsilon, number of actions, member) -> value, to be compiled."""


def largest(values: Any, epsilon: Any, n_actions: Any, member: Any) -> Any:
    """Return the value of the first field: in Q-learning, the greatest of a state."""
    return values[0]


@dataclass(frozen=True)
class Algorithm:
    """The declaration of a rule.

    Parameters
    ----------
    name : str
        Name in stored tables; for a user's rule ``"module:NAME"``, the place of its definition.
    summary : tuple of Best or Sum
        Fields that hold what is known of a state before the next round.
    target : callable
        ``target(values, epsilon, n_actions, member)``: what a state is worth to a member, from the
        value of each field of the summary. It is compiled.
    behaviour : int
        The field of the summary whose action is greedy; epsilon-greedy actions are drawn around it.
    members : int
        Number of tables that learn beside each other. Each transition teaches one of them.
    step : callable
        ``step(q, y, alpha)``: the value after a transition whose target is y. It is compiled.
    by_env : bool
        Which one it teaches: environment e member ``e % members``, always; by default, whichever a
        fair draw says.
    returns : Returns, optional
        How a target is made of several transitions in a row; by default of one.

    Raises
    ------
    ConfigurationError
        If `behaviour` is not the number of a `Best`, or `target` has other arguments.

    Examples
    --------
    >>> from dqlearn.algorithms import Algorithm, Best
    >>> def least(q, s, a):
    ...     return min(q[s, 0, a], q[s, 1, a])
    >>> def worst(values, epsilon, n_actions, member):
    ...     return values[0]
    >>> maxmin = Algorithm("my.rules:MAXMIN", (Best(least),), worst, members=2)
    """

    name: str
    summary: tuple[Field, ...]
    target: Target
    behaviour: int = 0
    members: int = 1
    step: Step = td
    by_env: bool = False
    returns: Returns | None = None

    def __post_init__(self) -> None:
        """Check for parameters that can never work."""
        check_count("members", self.members)
        fields = dict(enumerate(self.summary))
        if not isinstance(fields.get(self.behaviour), Best):
            raise ConfigurationError(
                f"behaviour must be the number of a Best of the summary, got {self.behaviour!r} of "
                f"{self.summary!r}"
            )
        if len(inspect.signature(self.target).parameters) != 4:
            raise ConfigurationError(
                "target must be a function (values, epsilon, n_actions, member) -> value, got "
                f"{self.target.__name__}{inspect.signature(self.target)}"
            )

    @property
    def splits_actions(self) -> bool:
        """Whether chunks may split the actions of a state."""
        return all(field.splits for field in self.summary)

    @property
    def functions(self) -> dict[str, Any]:
        """The parts of the rule, by their roles, which tell it from another version."""
        fields = {
            f"{i}.{name}": function
            for i, field in enumerate(self.summary)
            for name, function in vars(field).items()
        }
        plain: dict[str, Any] = {"behaviour": self.behaviour, "members": self.members}
        if self.by_env:  # rules from before it was there keep their fingerprints
            plain["by_env"] = True
        if self.returns is not None:
            plain["returns"] = repr(self.returns)
        return {**fields, **plain, "target": self.target, "step": self.step}

    def bytes_of_state(self, dtype: np.dtype[Any]) -> int:
        """Return the bytes of a state's summary, if its actions are few.

        Parameters
        ----------
        dtype : dtype
            Type of the table's values.

        Returns
        -------
        int
        """
        return sum(field.bytes_of_state(dtype) for field in self.summary)

    def find(self, q: npt.NDArray[Any], extent: Extent) -> Found:
        """Find what a block of values says of its states.

        Parameters
        ----------
        q : float (states, actions) or (states, members, actions)
            Values of a chunk.
        extent : Extent
            States and actions of the block.

        Returns
        -------
        tuple
            The columns of each field.
        """
        block = q.reshape(len(q), self.members, q.shape[-1])
        return tuple(field.find(block, extent) for field in self.summary)

    def merge(self, mine: Found, others: Found, extent: Extent) -> None:
        """Take what was found of other actions into what was found of the same states, in place.

        Parameters
        ----------
        mine, others : tuple
            What `find` returns; `mine` is written to.
        extent : Extent
            States that both are about.
        """
        for field, own, more in zip(self.summary, mine, others, strict=True):
            field.merge(own, more, extent)

    def bootstrap(self, found: Found, epsilon: float, n_actions: int) -> npt.NDArray[Any]:
        """Return what states are worth to each member.

        Parameters
        ----------
        found : tuple
            What `find` returns, for all actions.
        epsilon : float
            Probability that the policy that acts explores.
        n_actions : int
            Number of actions of the table.

        Returns
        -------
        float (states * members,)
            Values state by state, and within a state member by member.
        """
        values = [f.value_of(columns) for f, columns in zip(self.summary, found, strict=True)]
        if self.takes_largest:
            return values[0]
        return self.worth(np.stack(values, axis=-1), epsilon, n_actions)

    def worth(self, numbers: npt.NDArray[Any], epsilon: float, n_actions: int) -> npt.NDArray[Any]:
        """Return what states are worth to each member, as :meth:`bootstrap` does.

        Parameters
        ----------
        numbers : float (states, fields)
            The value of each field of the summary.
        epsilon : float
            Probability that the policy that acts explores.
        n_actions : int
            Number of actions of the table.

        Returns
        -------
        float (states * members,)
        """
        if self.takes_largest and len(self.summary) == 1:
            return numbers.reshape(len(numbers))
        worth = empty(self.members * len(numbers), numbers.dtype)
        find_worth(self.target)(numbers, float(epsilon), n_actions, self.members, worth)
        return worth

    @property
    def takes_largest(self) -> bool:
        """Whether a state is worth what its first field says, as in Q-learning."""
        return self.target is largest and self.members == 1

    def tied(self, found: Found) -> npt.NDArray[Any]:
        """Return the greedy actions of each state, as sets.

        Parameters
        ----------
        found : tuple
            What `find` returns, for all actions.

        Returns
        -------
        unsigned int (states,) or uint64 (states, words)
            See :mod:`dqlearn.kernels.ties`.
        """
        return found[self.behaviour][1]

    def greedy(self, found: Found, extent: Extent) -> npt.NDArray[Any]:
        """Return the greedy action of each state; of several, the one that stands for them.

        Parameters
        ----------
        found : tuple
            What `find` returns, for all actions.
        extent : Extent
            The states that it was found for.

        Returns
        -------
        unsigned int (states,)
        """
        return extent.pick(self.tied(found))

    def value(self, found: Found, extent: Extent) -> npt.NDArray[Any]:
        """Return the score of each state's greedy action.

        Parameters
        ----------
        found : tuple
            What `find` returns, for all actions.
        extent : Extent
            The states that it was found for.

        Returns
        -------
        float (states,)
        """
        return found[self.behaviour][0]
