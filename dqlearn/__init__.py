"""Distributed tabular Q-learning on Dask.

>>> import dqlearn
>>> learner = dqlearn.QLearner("dqlearn/Torus-v0", env_kwargs={"side": 16}, seed=0)
>>> learner.learn(total_timesteps=200_000).table.q.shape
(256, 4)
"""

from __future__ import annotations

import lazy_loader

from dqlearn.ids import register

__version__ = "0.1.0"

# What is public stands in ``__init__.pyi``, and is imported when it is first asked for: whoever
# steps an environment does not wait for Dask.
__getattr__, _, __all__ = lazy_loader.attach_stub(__name__, __file__)

register()


def __dir__() -> list[str]:
    """Return the public names, and those that every module has."""
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
