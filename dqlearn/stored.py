"""What a stored table says of the run that made it, and the environment to go on with.

Invariant: what is read is data; an environment is made only by its id, or is the user's own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from dqlearn.envs.resolve import EnvLike, Resolved, resolve
from dqlearn.errors import IncompatibleTableError
from dqlearn.origin import Origin
from dqlearn.settings import Settings, from_attributes
from dqlearn.spaces import BinsLike, SpaceIndex
from dqlearn.store import nested, read_attributes

__all__ = ["Stored", "environment_of"]


@dataclass(frozen=True)
class Stored:
    """What the attributes of a stored table say."""

    path: str
    environment: dict[str, Any]
    spaces: dict[str, dict[str, Any]]
    bins: BinsLike
    settings: Settings
    origin: Origin

    @classmethod
    def at(cls, path: str) -> Stored:
        """Read them.

        Raises
        ------
        IncompatibleTableError
            If there is no table, or its attributes are not those that dqlearn writes.
        """
        attrs = read_attributes(path)
        try:
            kinds = ("observation", "action")
            spaces = {kind: nested(attrs, f"{kind}_space") for kind in kinds}
            seen, _ = (SpaceIndex.from_spec(spaces[kind]) for kind in kinds)
            where = path if "://" in path else os.path.abspath(path)
            return cls(
                path,
                dict(nested(attrs, "environment")),
                spaces,
                seen.bins,
                from_attributes(attrs),
                Origin(where, int(attrs["round"]), int(attrs["timesteps"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise IncompatibleTableError(
                f"expected the attributes that dqlearn saved, got others at {path!r}: {error!r}; "
                "were they edited?"
            ) from error


def environment_of(stored: Stored, env: EnvLike | None, bins: BinsLike) -> Resolved:
    """Make the environment of a stored table, and check that the table fits it."""
    spec, kwargs = stored.environment, None
    if env is None:
        if "id" not in spec:
            raise IncompatibleTableError(
                f"the table at {stored.path!r} is of {spec.get('name')!r}, which has no id: "
                "pass env="
            )
        env, kwargs = spec["id"], spec.get("kwargs")
    resolved = resolve(env, kwargs, stored.bins if bins is None else bins)
    for name, index in (("observation", resolved.states), ("action", resolved.actions)):
        if index.spec() != stored.spaces[name]:
            raise IncompatibleTableError(
                f"the {name} space of {env!r} must be the one that the table at {stored.path!r} "
                f"was learned with, {stored.spaces[name]}; got {index.spec()}"
            )
    return resolved
