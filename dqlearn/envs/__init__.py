"""Environments: compiled models, the ones that come with dqlearn, and their Gymnasium faces.

Invariant: a family is imported when it is first asked for; to Python and to type checkers its name
is one like the others.
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

if not TYPE_CHECKING:  # a checker would take any name then

    def __getattr__(name: str) -> Any:
        """Import a family."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found = family(name)
        return found


def __dir__() -> list[str]:
    """Return the families' names too."""
    return sorted({*globals(), *__all__})
