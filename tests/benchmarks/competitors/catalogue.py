"""Who takes part: the module of each competitor, what it needs, what it can learn, its target.

Invariant: nothing here imports a competitor, so that one whose packages are missing can be named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from problems import Problem

MODELS = ("torus", "garnet")
ALL = (*MODELS, "taxi")


class Learner(Protocol):
    """What all competitors do."""

    def advance(self, transitions: int) -> int:
        """Learn from at least so many transitions more; return how many they were."""

    def value(self) -> npt.NDArray[np.floating[Any]]:
        """Return the largest Q-value of each state."""


@dataclass(frozen=True)
class Competitor:
    """How a competitor is found, and what is asked of dqlearn against it.

    Attributes
    ----------
    module : str
        Of this package; it defines ``Learner``.
    problems : tuple of str
        Those that it can learn.
    at_least : mapping
        Target of the ratio dqlearn / competitor, by problem.
    needs : tuple of str
        Packages that must be importable.
    install : str
        The command that installs them.
    options : mapping
        Further arguments of ``Learner``.
    """

    module: str
    problems: tuple[str, ...]
    at_least: Mapping[str, float] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    install: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def missing(self) -> list[str]:
        """Packages that are not installed."""
        return [name for name in self.needs if find_spec(name) is None]

    def learner(self, problem: Problem, seed: int) -> Learner:
        """Make one."""
        make: Callable[..., Learner] = import_module(f"competitors.{self.module}").Learner
        return make(problem, seed, **self.options)


def _loop(module: str, way: str, torus: float, garnet: float) -> Competitor:
    targets = {"torus": torus, "garnet": garnet}
    return Competitor(module, (*MODELS, "big"), targets, options={"way": way})


def _both(target: float) -> dict[str, float]:
    return dict.fromkeys(MODELS, target)


OURS = Competitor("on_dask", (*ALL, "big"))

PEERS: Mapping[str, Competitor] = {
    "plain-loop": _loop("one_core", "plain", 1.3, 4.0),
    "tuned-loop": _loop("one_core", "tuned", 1.3, 4.0),
    "plain-threads": _loop("prange", "plain", 1.0, 2.5),
    "tuned-threads": _loop("prange", "tuned", 1.0, 2.5),
    "numpy": Competitor("vectorised", ALL, _both(5.0)),
    "jax": Competitor("jax_scan", MODELS, _both(4.0), ("jax",), "pip install -e '.[benchmark]'"),
    "ray": Competitor("ray_actors", ALL, _both(8.0), ("ray",), "pip install -e '.[benchmark]'"),
    "dask-array": Competitor("dask_array", ALL, _both(40.0)),
    "dist_classicrl": Competitor(
        "dist_classicrl_parallel",
        ALL,
        _both(250.0),
        ("dist_classicrl",),
        "pip install -e '.[benchmark]' with Python 3.13 or later",
    ),
    "queues": Competitor("queues", ALL, _both(5000.0)),
}
