"""Environments: compiled models, the ones that come with dqlearn, and their Gymnasium faces."""

from __future__ import annotations

from dqlearn.envs.garnet import garnet
from dqlearn.envs.gym_view import TabularGymEnv
from dqlearn.envs.table_model import from_table
from dqlearn.envs.torus import torus
from dqlearn.envs.vector_view import TabularVectorEnv

__all__ = ["TabularGymEnv", "TabularVectorEnv", "from_table", "garnet", "torus"]
