"""The Gymnasium ids ``dqlearn/...``: which there are, and how Gymnasium comes to know them.

::

    import dqlearn ──► register ──► "dqlearn/Torus-v0": "dqlearn.envs.registry:make"
                                                         imported when one is made

Invariant: entry points are strings, so registering imports no environment, and neither Numba nor
Dask: whoever only decides, or only looks at a table, does not wait for them.
"""

from __future__ import annotations

import gymnasium

__all__ = ["FAMILIES", "FUNCTIONS", "own_limit", "register"]

FUNCTIONS = ("Torus", "Garnet")
"""Models that functions make."""

FAMILIES = {
    "NetworkDefence": ("dqlearn.envs.problems.defence:NetworkDefence", 100),
    "PacketDispatch": ("dqlearn.envs.problems.packets:PacketDispatch", 200),
    "PacketRouting": ("dqlearn.envs.problems.packets:PacketRouting", 200),
    "PowerGrid": ("dqlearn.envs.problems.power:PowerGrid", 168),
    "ProductionLine": ("dqlearn.envs.problems.production:ProductionLine", 200),
    "TrafficGrid": ("dqlearn.envs.problems.traffic:TrafficGrid", 200),
}
"""The class of each family, and its own time limit."""

_REGISTRY = "dqlearn.envs.registry"


def register() -> None:
    """Register dqlearn's environments with Gymnasium; a second call does nothing.

    Examples
    --------
    >>> import gymnasium
    >>> from dqlearn.envs.registry import register
    >>> register()
    >>> spec = gymnasium.spec("dqlearn/TrafficGrid-v0")
    >>> spec.vector_entry_point, spec.max_episode_steps
    ('dqlearn.envs.registry:make_vec', 200)
    """
    for model in (*FUNCTIONS, *FAMILIES):
        if f"dqlearn/{model}-v0" not in gymnasium.registry:
            gymnasium.register(
                f"dqlearn/{model}-v0",
                entry_point=f"{_REGISTRY}:make",
                vector_entry_point=f"{_REGISTRY}:make_vec",
                max_episode_steps=own_limit(model),
                kwargs={"model": model},
            )


def own_limit(model: str) -> int | None:
    """Return a family's own time limit; None for the models that functions make.

    Parameters
    ----------
    model : str
        Name of a model, the middle of its id.

    Returns
    -------
    int or None

    Examples
    --------
    >>> own_limit("PowerGrid"), own_limit("Torus")
    (168, None)
    """
    return FAMILIES[model][1] if model in FAMILIES else None
