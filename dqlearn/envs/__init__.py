"""Environments: compiled models, the ones that come with dqlearn, and their Gymnasium faces.

Invariant: a family of problems is imported when its name is first asked for; for Python and for
type checkers that name is a name of this module like any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dqlearn.envs.faces.gym_view import TabularGymEnv
from dqlearn.envs.faces.vector_view import TabularVectorEnv
from dqlearn.envs.from_tables import from_table
from dqlearn.envs.problems.family import Family
from dqlearn.envs.problems.garnet import garnet
from dqlearn.envs.problems.picture import Link, Node, Picture
from dqlearn.envs.problems.torus import torus
from dqlearn.envs.registry import family

if TYPE_CHECKING:
    from dqlearn.envs.problems.defence import NetworkDefence
    from dqlearn.envs.problems.packets import PacketDispatch, PacketRouting
    from dqlearn.envs.problems.power import PowerGrid
    from dqlearn.envs.problems.production import ProductionLine
    from dqlearn.envs.problems.traffic import TrafficGrid

__all__ = [
    "Family",
    "Link",
    "NetworkDefence",
    "Node",
    "PacketDispatch",
    "PacketRouting",
    "Picture",
    "PowerGrid",
    "ProductionLine",
    "TabularGymEnv",
    "TabularVectorEnv",
    "TrafficGrid",
    "from_table",
    "garnet",
    "torus",
]

if not TYPE_CHECKING:  # with __getattr__, a type checker would accept any name

    def __getattr__(name: str) -> Any:
        """Import a family of problems."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found = family(name)
        return found


def __dir__() -> list[str]:
    """Return the names of this module, those of the families too."""
    return sorted({*globals(), *__all__})
