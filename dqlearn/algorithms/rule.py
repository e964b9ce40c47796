r"""A rule: everything in which one tabular algorithm differs from another, as a declaration.

::

    summary     what a chunk says of a state      find, merge        a row of numbers a state
    target      v(s'), one for each member        summary ─► value   y = r + gamma v(s')
    step        how a value moves to its target   (q, y, alpha) ─► q
    behaviour   which field's action is greedy    summary ─► action

A table has one or more *members*, tables of the same shape that learn from each other. Their values
of one state stand side by side. Each transition teaches one of them, which a counter-based draw
chooses. Invariant: a declaration has no state, and knows neither Dask, nor chunks, nor a file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dqlearn.algorithms.fields import Best, Columns, Extent, Field
from dqlearn.checks import check_count
from dqlearn.errors import ConfigurationError
from dqlearn.kernels.update import Step, td

__all__ = ["Algorithm", "Found", "Target"]

Found = tuple[Columns, ...]
"""What is known of some states: the columns of each field of a summary."""


Target = Callable[[Sequence[npt.NDArray[Any]], float, int], npt.NDArray[Any]]
"""(value of each field, epsilon, number of actions) -> values (states,) or (states, members)."""


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
        ``target(values, epsilon, n_actions)``: what a state is worth to each member, from the value
        of every field of the summary, arrays of shape (states,). An array of shape (states,), or
        (states, members) if there is more than one member.
    behaviour : int
        The field of the summary whose action is greedy; epsilon-greedy actions are drawn around it.
    members : int
        Number of tables that learn beside each other. Each transition teaches one of them.
    step : callable
        ``step(q, y, alpha)``: the value after a transition whose target is y. It is compiled.

    Raises
    ------
    ConfigurationError
        If `behaviour` is not the number of a `Best`.

    Examples
    --------
    >>> from dqlearn.algorithms import Algorithm, Best
    >>> def least(q, s, a):
    ...     return min(q[s, 0, a], q[s, 1, a])
    >>> def worst(values, epsilon, n_actions):
    ...     return np.stack((values[0], values[0]), axis=-1)
    >>> maxmin = Algorithm("my.rules:MAXMIN", (Best(least),), worst, members=2)
    """

    name: str
    summary: tuple[Field, ...]
    target: Target
    behaviour: int = 0
    members: int = 1
    step: Step = td

    def __post_init__(self) -> None:
        """Check for parameters that can never work."""
        check_count("members", self.members)
        fields = dict(enumerate(self.summary))
        if not isinstance(fields.get(self.behaviour), Best):
            raise ConfigurationError(
                f"behaviour must be the number of a Best of the summary, got {self.behaviour!r} of "
                f"{self.summary!r}"
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
        plain = {"behaviour": self.behaviour, "members": self.members}
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

        Raises
        ------
        ConfigurationError
            If the target returns an array of another shape.
        """
        values = [f.value_of(columns) for f, columns in zip(self.summary, found, strict=True)]
        worth = np.asarray(self.target(values, epsilon, n_actions), values[0].dtype)
        if worth.shape != (shape := (len(values[0]), *[self.members] * (self.members > 1))):
            raise ConfigurationError(
                f"the target of {self.name!r} must return an array of shape {shape}, (states,) or "
                f"(states, members), got {worth.shape}"
            )
        return worth.ravel()

    def greedy(self, found: Found) -> npt.NDArray[Any]:
        """Return the greedy action of each state.

        Parameters
        ----------
        found : tuple
            What `find` returns, for all actions.

        Returns
        -------
        unsigned int (states,)
        """
        return found[self.behaviour][1]

    def value(self, found: Found) -> npt.NDArray[Any]:
        """Return the score of each state's greedy action.

        Parameters
        ----------
        found : tuple
            What `find` returns, for all actions.

        Returns
        -------
        float (states,)
        """
        return found[self.behaviour][0]
