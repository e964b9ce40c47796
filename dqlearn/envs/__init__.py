"""Environments: compiled models, the ones that come with dqlearn, and their Gymnasium faces."""

from __future__ import annotations

from dqlearn.envs.defence import NetworkDefence
from dqlearn.envs.family import Family
from dqlearn.envs.garnet import garnet
from dqlearn.envs.gym_view import TabularGymEnv
from dqlearn.envs.picture import Link, Node, Picture
from dqlearn.envs.power import PowerGrid
from dqlearn.envs.production import ProductionLine
from dqlearn.envs.routing import PacketDispatch, PacketRouting
from dqlearn.envs.table_model import from_table
from dqlearn.envs.torus import torus
from dqlearn.envs.traffic import TrafficGrid
from dqlearn.envs.vector_view import TabularVectorEnv

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
