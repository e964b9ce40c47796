"""The settings of a run as attributes of a stored table, and back.

Invariant: ``from_attributes(attributes(plan, ...))`` makes a plan that learns as that plan does. A
stored table leaves nothing open.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any, cast

from dqlearn.envs.resolve import Resolved
from dqlearn.stages.plan import Plan
from dqlearn.stages.settings.chosen import Settings
from dqlearn.stages.settings.hyperparameters import HYPERPARAMETERS, Hyperparameters
from dqlearn.stages.settings.kinds import whole_number

__all__ = ["attributes", "from_attributes", "loaded"]


def attributes(plan: Plan, resolved: Resolved) -> dict[str, Any]:
    """Return the attributes that a stored table has of its run; nested parts are JSON text."""
    return {
        **{name: it.kind.dump(getattr(plan, name)) for name, it in HYPERPARAMETERS.items()},
        "balanced": int(plan.balanced),
        "masked": int(resolved.masked),
        "environment": json.dumps(resolved.spec),
        "observation_space": json.dumps(resolved.states.spec()),
        "action_space": json.dumps(resolved.actions.spec()),
        "versions": json.dumps({name: version(name) for name in ("dqlearn", "numpy", "gymnasium")}),
    }


def from_attributes(attrs: Mapping[str, Any], changes: Mapping[str, Any] | None = None) -> Settings:
    """Return the settings that a stored table was learned with, except for checked changes.

    It may raise any exception for attributes that :func:`attributes` does not make.
    """
    changes = changes or {}
    kept = loaded(attrs, [name for name in HYPERPARAMETERS if name not in changes])
    balanced = None if "chunks" in changes else bool(attrs.get("balanced", False))
    return Settings(cast("Hyperparameters", {**kept, **changes}), balanced)


def loaded(attrs: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the values that a stored table has for some hyperparameters.

    It may raise any exception for attributes that :func:`attributes` does not make.

    Parameters
    ----------
    attrs : mapping
        The table's attributes, as this version or an earlier one wrote them.
    names : iterable of str
        Names of the hyperparameters.

    Returns
    -------
    dict
        The checked values, by these names.
    """
    today = _renamed(attrs)
    values = {name: HYPERPARAMETERS[name].load(name, today) for name in names}
    if {"chunks", "sparse"} <= values.keys():
        if values["sparse"] != isinstance(values["chunks"], int):
            raise ValueError("expected the number of chunks of a sparse table, else their sizes")
    return {name: HYPERPARAMETERS[name].check(name, value) for name, value in values.items()}


def _renamed(attrs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Translate earlier attributes: `path` is `exchange` now, and `sparse` held the block size."""
    earlier = {"exchange": attrs["path"]} if "path" in attrs else {}
    block = whole_number(attrs.get("sparse", 0)) or 1
    return {"sparse_block": block, **earlier, **attrs}
