"""Family: a decision problem on a network, with its parameters, sizes, pictures and baselines.

::

    Family.of("medium", arrival=0.3) ──► parameters ──► model()      TabularEnv, events form
                                             ├────────► picture()    a network in a state
                                             └────────► baselines()  policies to beat

Invariant: a family's object is plain values and nothing else; two equal objects make equal models.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from dqlearn.envs.problems.picture import Picture
from dqlearn.envs.problems.recipe import Recipe
from dqlearn.envs.tabular import TabularEnv
from dqlearn.errors import ConfigurationError

__all__ = ["Baseline", "Family"]

Baseline = Callable[[npt.NDArray[np.int64], int], npt.NDArray[np.int64]]
"""``policy(states, t) -> actions``: of many episodes at once, t steps after they began."""


@dataclass(frozen=True)
class Family(ABC):
    """Parameters of one problem of a family; the families derive from it.

    Attributes
    ----------
    sizes : mapping
        Parameters of ``"small"``, ``"medium"`` and ``"large"``, by these names.
    recipes : mapping
        How these are learned, by the same names, where that is known.
    """

    sizes: ClassVar[Mapping[str, Mapping[str, Any]]]
    recipes: ClassVar[Mapping[str, Recipe]] = MappingProxyType({})

    @classmethod
    def of(cls, size: str = "small", **changes: Any) -> Self:
        """Return the problem of a size, with some parameters changed.

        Parameters
        ----------
        size : {"small", "medium", "large"}
            "small" can be solved exactly, "large" needs a cluster.
        **changes
            Parameters by their names.

        Returns
        -------
        Family
            An instance of the class on which this is called.

        Raises
        ------
        ConfigurationError
            If there is no such size or parameter, or a value does not fit.
        """
        if not isinstance(size, str) or size not in cls.sizes:
            raise ConfigurationError(f"size must be one of {list(cls.sizes)}, got {size!r}")
        known = [field.name for field in fields(cls)]
        if unknown := sorted(changes.keys() - set(known)):
            raise ConfigurationError(f"{cls.__name__} has the parameters {known}, got {unknown}")
        return cls(**{**cls.sizes[size], **changes})

    @classmethod
    def make(cls, size: str = "small", **changes: Any) -> TabularEnv:
        """Return the model of :meth:`of`.

        Parameters
        ----------
        size : {"small", "medium", "large"}
            As there.
        **changes
            As there.

        Returns
        -------
        TabularEnv
            In events form.
        """
        return cls.of(size, **changes).model()

    @abstractmethod
    def model(self) -> TabularEnv:
        """Return the compiled model.

        Returns
        -------
        TabularEnv
            In events form, labelled, with pictures.
        """

    @abstractmethod
    def picture(self, state: int, action: int | None) -> Picture:
        """Return the network in a state.

        Parameters
        ----------
        state : int
            Index of the state.
        action : int, optional
            The decision that led there.

        Returns
        -------
        Picture
            To be drawn or printed.
        """

    @abstractmethod
    def baselines(self) -> dict[str, Baseline]:
        """Return the policies that a learned one is compared with.

        Returns
        -------
        dict of str to callable
            By name; see :func:`dqlearn.evaluate_policy`.
        """
